//! What the gateway, its helper and its compiling children have given up, according to the kernel and by trying.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tests::wat::{IDLE, component};
use tests::{Gateway, Protocol, Site, Tenant, checked, tollgate, until};

fn site() -> Site {
    Site::new().tenant("acme", &Tenant::new("acme.localhost", "echo"))
}

/// A field of proc_pid_status(5), for a process or a thread.
fn field(path: &str, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("{path}/status")).ok()?;
    let said = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    said.trim().parse().ok()
}

/// The number of seccomp filters of each thread. Each thread must run under a filter and have no_new_privs.
fn filters(process: u32) -> Vec<u64> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let threads = threads.map(|thread| thread.unwrap().path().to_string_lossy().into_owned());
    // The thread may have ended.
    let of = |thread: String| {
        let bound = [field(&thread, "NoNewPrivs")?, field(&thread, "Seccomp")?];
        assert_eq!(bound, [1, 2], "{thread}");
        field(&thread, "Seccomp_filters")
    };
    threads.filter_map(of).collect()
}

/// Child processes of this one, with their command lines.
pub(crate) fn children(of: u32) -> Vec<(u32, String)> {
    let processes =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let ours = processes.filter(|process: &u32| field(&format!("/proc/{process}"), "PPid") == Some(of.into()));
    ours.map(|process| (process, std::fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap_or_default()))
        .collect()
}

fn found(problems: &[Value]) -> String {
    problems.iter().map(|problem| problem["found"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_gateway_and_its_helper_are_confined_on_every_thread() {
    let gateway = Gateway::start(&site());
    assert_eq!(gateway.get("acme.localhost", "/head").await.status.as_u16(), 200);
    let of_threads = filters(gateway.process());
    // Three filters: unseen calls, the list, and new listening sockets.
    assert!(of_threads.len() > 5 && of_threads.iter().all(|count| *count == 3), "{of_threads:?}");
    let [(helper, started)] = <[_; 1]>::try_from(children(gateway.process())).unwrap();
    assert!(started.contains("compile-helper"), "{started}");
    assert_eq!(filters(helper), [1]);
    let environment = std::fs::read(format!("/proc/{helper}/environ")).unwrap();
    assert_eq!(environment, b"", "no secret of the gateway's is in it");
    let told = gateway.log("confine");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0]["message"].as_str().unwrap().contains("seccomp"), "{told:?}");

    gateway.signal("TERM");
    assert_eq!(gateway.wait(), Some(0));
    // A process that has exited but was not waited for has no command line.
    let line = || std::fs::read(format!("/proc/{helper}/cmdline")).unwrap_or_default();
    until("the helper's end", async || line().is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_file_outside_of_the_folders_named_at_the_start_needs_a_restart() {
    let elsewhere = tempfile::tempdir().unwrap();
    let (one, other) = (elsewhere.path().join("one"), elsewhere.path().join("other"));
    for dir in [&one, &other] {
        std::fs::create_dir(dir).unwrap();
        std::fs::write(dir.join("secret"), "s").unwrap();
    }
    let naming = |file: &std::path::Path| {
        let line = format!("[variables]\nword = {{ file = \"{}\" }}", file.display());
        Tenant::new("acme.localhost", "echo").with(&line)
    };
    let site = Site::new().tenant("acme", &naming(&one.join("secret")));
    let gateway = Gateway::start(&site);
    let reload = async || {
        assert_eq!(gateway.operate("POST", "/v1/reload", "").await.status.as_u16(), 200);
        found(&gateway.problems().await)
    };
    assert_eq!(reload().await, "");
    // A new file in a folder that was named: it can be read, and is found to be too large.
    std::fs::write(one.join("new"), vec![b'.'; (1 << 20) + 1]).unwrap();
    std::fs::rename(one.join("new"), one.join("secret")).unwrap();
    assert!(reload().await.contains("larger than 1 MiB"));

    let site = site.tenant("acme", &naming(&other.join("secret")));
    let told = reload().await;
    assert!(told.contains("Permission denied") && told.contains("restart the gateway"), "{told}");
    assert_eq!(gateway.get("acme.localhost", "/head").await.status.as_u16(), 200, "what was good is served");
    gateway.kill_9();

    let gateway = Gateway::start(&site);
    assert_eq!(found(&gateway.problems().await), "", "after a restart it is named");
    gateway.kill_9();
    let keys = format!("[sandbox]\nconfine_read = [\"{}\"]\n", elsewhere.path().display());
    let site = site.gateway(&keys).tenant("acme", &Tenant::new("acme.localhost", "echo"));
    let gateway = Gateway::start(&site);
    let site = site.tenant("acme", &naming(&other.join("secret")));
    assert_eq!(gateway.operate("POST", "/v1/reload", "").await.status.as_u16(), 200);
    assert_eq!(found(&gateway.problems().await), "", "it was foreseen");
    drop(site);
}

#[tokio::test]
async fn confinement_can_be_switched_off() {
    let site = site().gateway("[sandbox]\nconfine = false\n");
    let gateway = Gateway::start(&site);
    assert_eq!(gateway.get("acme.localhost", "/head").await.status.as_u16(), 200);
    let own = format!("/proc/{}", gateway.process());
    assert_eq!([field(&own, "Seccomp"), field(&own, "NoNewPrivs")], [Some(0); 2]);
    assert_eq!((children(gateway.process()), gateway.log("confine")), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn only_the_helper_compiles_new_components() {
    let site = site().gateway("[sandbox]\n");
    // A folder of its own, so that nobody has compiled it before.
    let text = std::fs::read_to_string(site.config()).unwrap();
    let text: Vec<_> = text.lines().filter(|line| !line.starts_with("compiled = ")).collect();
    let site = site.file("config/gateway.toml", text.join("\n"));
    let gateway = Gateway::start(&site);
    let deploy = async |id: &str| {
        let wasm = component(&format!("{IDLE} (func (export \"{id}\"))"));
        let site = site.clone().file(&format!("tenants/{id}/site.wasm"), wasm);
        let path = site.path(&format!("tenants/{id}/site.wasm"));
        drop(site.tenant(id, &Tenant::of(&format!("{id}.localhost"), &path)));
        assert_eq!(gateway.operate("POST", "/v1/reload", "").await.status.as_u16(), 200);
        found(&gateway.problems().await)
    };
    assert_eq!(deploy("first").await, "");
    let [(helper, _)] = <[_; 1]>::try_from(children(gateway.process())).unwrap();
    kill(helper);
    let told = deploy("second").await;
    assert!(told.contains("the helper that starts compilers is gone"), "{told}");
    let answer = gateway.client(Protocol::H2).get("acme.localhost", "/head").await;
    assert_eq!(answer.status.as_u16(), 200, "who is served does not notice");
}

fn kill(process: u32) {
    assert!(Command::new("kill").args(["-9", &process.to_string()]).status().unwrap().success());
}

fn compiling(out: &std::path::Path, confine: bool) -> Child {
    Command::new(tollgate())
        .args(["compile-component", "--memory", "1000000000", "--seconds", "60", "--metering", "true"])
        .args(["--confine", &confine.to_string(), "--nice", "0", "--parent", &std::process::id().to_string()])
        .arg("--out")
        .arg(out)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn a_compiling_child_is_confined_before_it_reads_a_byte() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("code");
    std::fs::write(&out, "").unwrap();
    let mut child = compiling(&out, true);
    let own = format!("/proc/{}", child.id());
    // No byte was sent: it waits for the first.
    until("its filters", async || (field(&own, "Seccomp_filters") == Some(2)).then_some(())).await;
    assert_eq!(filters(child.id()), [2]);
    child.stdin.take().unwrap().write_all(&component(IDLE)).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["handler"], "0.2", "{report}");
    let mut code = Vec::new();
    std::fs::File::open(&out).unwrap().read_to_end(&mut code).unwrap();
    assert!(code.starts_with(b"\x7fELF"), "it is compiled code");
    // Links are not followed.
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&out, &link).unwrap();
    let refused = compiling(&link, true).wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("cannot write"), "{refused:?}");
}

#[test]
fn check_reports_what_this_kernel_can_restrict() {
    let (_, text) = checked(&site(), &["--json"]);
    let value: Value = serde_json::from_str(&text).unwrap();
    let said = &value["confine"];
    assert!(said["by"].as_str().unwrap().contains("seccomp") && said["missing"].is_null(), "{said}");
    let (_, text) = checked(&site().gateway("[sandbox]\nconfine = false\n"), &["--json"]);
    let value: Value = serde_json::from_str(&text).unwrap();
    assert!(value["confine"]["by"].is_null(), "{value}");
}
