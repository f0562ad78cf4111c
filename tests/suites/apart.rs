//! The gateway's own checks of isolation: slots that are not clean, memory that may be swapped, and the canaries.

use std::path::Path;

use tests::{Gateway, Protocol, Site, Tenant, checked, until};

const LIMITS: &str = "[limits]\ntime = \"50s\"\nfuel = \"9000G\"";

fn site() -> Site {
    Site::new()
        .gateway("[isolation]\nwatch = true")
        .tenant("one", &Tenant::new("one.localhost", "hostile").with(LIMITS))
        .tenant("two", &Tenant::new("two.localhost", "async-hello").component("reuse = 100"))
}

/// Starts with a folder in place of the machine's files, which makes checks run every tenth of a second.
fn start_on(site: &Site, machine: &Path) -> Gateway {
    Gateway::start_in(site, &[], &[("TOLLGATE_TEST_MACHINE", machine.display().to_string())])
}

async fn count(gateway: &Gateway, check: &str, result: &str) -> f64 {
    gateway.metric(&format!("tollgate_isolation_checks_total{{check=\"{check}\",result=\"{result}\"}}")).await
}

/// Waits until the count exceeds this number.
async fn more(gateway: &Gateway, check: &str, result: &str, than: f64) {
    until("a look", async || (count(gateway, check, result).await > than).then_some(())).await;
}

/// How slots were reset, each time engines were created.
fn made(gateway: &Gateway) -> Vec<String> {
    let lines = gateway.log("isolation");
    let made = lines.iter().filter(|line| line["message"].as_str().is_some_and(|text| text.contains("were checked")));
    made.map(|line| line["slots"].as_str().unwrap().to_owned()).collect()
}

fn codes(gateway: &Gateway) -> Vec<String> {
    gateway.log("isolation").iter().filter_map(|line| Some(line["code"].as_str()?.to_owned())).collect()
}

#[tokio::test]
async fn checks_without_a_finding_are_counted_and_otherwise_invisible() {
    let (site, machine) = (site(), tempfile::tempdir().unwrap());
    let gateway = start_on(&site, machine.path());
    assert_eq!(gateway.get("two.localhost", "/count").await.text(), "1");
    more(&gateway, "canary", "clean", 5.0).await;
    more(&gateway, "slots", "clean", 3.0).await;
    // On a busy machine an instance may not come to rest, and then a check by the pair fails.
    for (check, result) in [("canary", "found"), ("slots", "found"), ("slots", "failed")] {
        assert!(count(&gateway, check, result).await == 0.0, "{check} {result}: {:?}", gateway.log("isolation"));
    }
    assert_eq!(gateway.get("two.localhost", "/count").await.text(), "2", "what rests is not disturbed");
    assert_eq!(made(&gateway), ["scanned"]);
    // Nobody sees the pair as tenants.
    let tenants = gateway.tenants().await;
    assert_eq!(tenants.iter().map(|row| row["id"].as_str().unwrap()).collect::<Vec<_>>(), ["one", "two"]);
    assert!(gateway.tenant("_canary-looks").await.is_null());
    for path in ["/metrics", "/v1/status", "/v1/faults"] {
        let told = gateway.admin(path).await;
        assert!(!told.contains("canary-l"), "{path}: {told}");
    }
    let lines = gateway.log("access");
    assert!(!lines.is_empty() && lines.iter().all(|line| line["tenant"] == "two"), "{lines:?}");
    assert!(gateway.metric("tollgate_requests_total{tenant=\"two\",status=\"2xx\"}").await == 2.0);
}

#[tokio::test]
async fn without_the_pair_only_slots_are_checked() {
    let (site, machine) = (site().gateway("[isolation]\nwatch = false"), tempfile::tempdir().unwrap());
    let gateway = start_on(&site, machine.path());
    more(&gateway, "slots", "clean", 5.0).await;
    assert!(count(&gateway, "canary", "clean").await + count(&gateway, "canary", "failed").await == 0.0);
}

#[tokio::test]
async fn a_finding_of_the_canaries_ends_all_requests_and_replaces_the_engines() {
    let (site, machine) = (site(), tempfile::tempdir().unwrap());
    let gateway = start_on(&site, machine.path());
    more(&gateway, "canary", "clean", 1.0).await;
    assert_eq!(gateway.get("two.localhost", "/count").await.text(), "1");
    let running: Vec<_> = ["/loop", "/sleep"]
        .map(|path| {
            let client = gateway.client(Protocol::H2);
            tokio::spawn(async move { client.get("one.localhost", path).await })
        })
        .into();
    until("two guests", async || (gateway.tenant("one").await["usage"]["in_flight"]["now"] == 2).then_some(())).await;

    // The secret is in a wrong place.
    std::fs::write(machine.path().join("plant"), "").unwrap();
    for task in running {
        let answer = task.await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (503, "renewed"));
        assert_eq!(answer.header("retry-after"), "1");
        assert_eq!(gateway.record(&answer).await["fault"], "renewed");
    }
    let found =
        until("an alarm", async || gateway.log("isolation").into_iter().find(|line| line["code"] == "E0506")).await;
    assert_eq!(found["level"], "ERROR");
    assert!(found["found"].as_str().unwrap().contains("its store"), "{found}");
    assert!(count(&gateway, "canary", "found").await >= 1.0);

    // Then everything is as before, in new engines.
    let client = gateway.client(Protocol::H2);
    until("a new engine", async || (client.get("one.localhost", "/ok").await.status == 200).then_some(())).await;
    until("another engine's instance", async || {
        (client.get("two.localhost", "/count").await.text() == "1").then_some(())
    })
    .await;
    let clean = count(&gateway, "canary", "clean").await;
    more(&gateway, "canary", "clean", clean + 2.0).await;
    assert!(made(&gateway).len() >= 2, "{:?}", gateway.log("isolation"));
    gateway.quiet().await;
}

#[tokio::test]
async fn slots_that_are_not_clean_are_reset_whole() {
    let (site, machine) = (site(), tempfile::tempdir().unwrap());
    std::fs::write(machine.path().join("unclean"), "").unwrap();
    let gateway = start_on(&site, machine.path());
    assert_eq!((made(&gateway), codes(&gateway)), (vec!["whole".to_owned()], vec!["W0505".to_owned()]));
    assert!(count(&gateway, "slots", "found").await == 1.0);
    more(&gateway, "slots", "clean", 2.0).await;
    assert_eq!(gateway.get("one.localhost", "/ok").await.status.as_u16(), 200);
}

#[tokio::test]
async fn slots_that_stop_being_clean_end_all_requests() {
    let (site, machine) = (site(), tempfile::tempdir().unwrap());
    let gateway = start_on(&site, machine.path());
    let client = gateway.client(Protocol::H2);
    let running = tokio::spawn(async move { client.get("one.localhost", "/loop").await });
    until("a guest", async || (gateway.tenant("one").await["usage"]["in_flight"]["now"] == 1).then_some(())).await;
    std::fs::write(machine.path().join("unclean"), "").unwrap();
    let answer = running.await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (503, "renewed"));
    let client = gateway.client(Protocol::H2);
    until("a new engine", async || (client.get("one.localhost", "/ok").await.status == 200).then_some(())).await;
    assert_eq!(made(&gateway), ["scanned", "whole"]);
}

#[tokio::test]
async fn swappable_memory_is_reported_and_slots_are_reset_whole() {
    let (site, machine) = (site(), tempfile::tempdir().unwrap());
    let proc = machine.path().join("proc");
    std::fs::create_dir(&proc).unwrap();
    let gateway = start_on(&site, machine.path());
    let client = gateway.client(Protocol::H2);
    let running = tokio::spawn(async move { client.get("one.localhost", "/sleep").await });
    until("a guest", async || (gateway.tenant("one").await["usage"]["in_flight"]["now"] == 1).then_some(())).await;

    // Swap that is added while the gateway runs ends no request.
    std::fs::write(proc.join("swaps"), "Filename Type Size\n/dev/vda2 partition 1000\n").unwrap();
    until("other engines", async || (made(&gateway) == ["scanned", "whole"]).then_some(())).await;
    assert_eq!(gateway.get("two.localhost", "/count").await.status.as_u16(), 200);
    assert!(!running.is_finished());
    assert_eq!(codes(&gateway), ["W0504"]);
    more(&gateway, "slots", "clean", count(&gateway, "slots", "clean").await + 2.0).await;
    running.abort();
    drop(gateway);

    let gateway = start_on(&site, machine.path());
    assert_eq!((made(&gateway), codes(&gateway)), (vec!["whole".to_owned()], vec!["W0504".to_owned()]));
    drop(gateway);

    // `check` reports the same; a test's environment variable replaces the machine for it too.
    let check = || {
        let output = std::process::Command::new(tests::tollgate())
            .arg("check")
            .current_dir(site.dir())
            .env("TOLLGATE_TEST_MACHINE", machine.path())
            .output()
            .unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let said = check();
    assert!(said.contains("W0504") && said.contains("swap at /dev/vda2") && said.contains("MemorySwapMax=0"), "{said}");
    let (_fine, said) = checked(&site, &[]);
    assert!(!said.contains("W0504"), "this machine has none: {said}");
    // A control group without swap is enough.
    std::fs::create_dir_all(proc.join("self")).unwrap();
    std::fs::write(proc.join("self/cgroup"), "0::/tollgate\n").unwrap();
    let group = machine.path().join("sys/fs/cgroup/tollgate");
    std::fs::create_dir_all(&group).unwrap();
    std::fs::write(group.join("memory.swap.max"), "0\n").unwrap();
    assert!(!check().contains("W0504"));
}

#[tokio::test]
async fn an_operator_may_configure_that_slots_are_reset_whole() {
    let (site, machine) =
        (site().gateway("[isolation]\nwatch = true\nslots = \"whole\""), tempfile::tempdir().unwrap());
    let gateway = start_on(&site, machine.path());
    assert_eq!(made(&gateway), ["whole"]);
    more(&gateway, "slots", "clean", 1.0).await;
    more(&gateway, "canary", "clean", 1.0).await;
    assert_eq!(codes(&gateway), [] as [&str; 0]);
}
