//! Components that break their compiler or delay others: each costs a child process and a refusal, and no served tenant
//! notices.
//!
//! Earlier versions of this suite had inputs that overflowed a stack in Wasmtime's validator, or used up its memory or
//! time. What matters are our guards, so a child now simulates such an input on demand (`TOLLGATE_COMPILER_PRETENDS`, which
//! only builds with debug assertions read), and the limits are tested with values on both sides.

use std::time::Duration;

use tests::wat::{IDLE, component, handler, with};
use tests::{Gateway, Protocol, Site, Tenant, check, sha256, tollgate};

/// Limits under which a child is stopped soon, and a separate folder for compiled code and refusals. No canaries, because
/// the gateway would compile their component too, ten seconds after a start.
fn bounded(time: &str) -> Site {
    let site = Site::new();
    let compiled = site.path("state/compiled");
    let text = format!(
        "schema = 1\n[listen]\nhttps = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n\
         [isolation]\nwatch = false\n\
         [sandbox]\ncompile_time = \"{time}\"\ncompile_memory = \"1GiB\"\ncompiled = \"{}\"\n",
        compiled.display()
    );
    site.file("config/gateway.toml", text)
}

/// A tenant with this many components, the first of which answers.
fn tenant(id: &str, components: usize) -> String {
    let one = |n| {
        format!(
            "[[component]]\nname = \"c{n}\"\nsource = \"{n}.wasm\"\n[[route]]\npath = \"/{n}/...\"\ncomponent = \"c{n}\"\n"
        )
    };
    format!("schema = 1\nhosts = [\"{id}.localhost\"]\n") + &(0..components).map(one).collect::<String>()
}

/// A unique component: its bytes contain this name without using it.
fn named(name: &str) -> Vec<u8> {
    component(&format!("{IDLE} (export \"{name}\" (func 0))"))
}

/// Tenants whose components' children behave as the names say, and the environment variable that causes it.
fn pretending(mut site: Site, what: &[&str]) -> (Site, (&'static str, String)) {
    for name in what {
        site = site.file(&format!("tenants/{name}/0.wasm"), named(name));
        site = site.file(&format!("tenants/{name}/tenant.toml"), tenant(name, 1));
    }
    let told: Vec<_> = what.iter().map(|name| format!("{name}={}", sha256(&named(name)))).collect();
    (site, ("TOLLGATE_COMPILER_PRETENDS", told.join(",")))
}

/// What `check` reports about each tenant.
fn verdicts(site: &Site, told: &(&str, String)) -> Vec<(String, String, String)> {
    let mut command = std::process::Command::new(tollgate());
    let output = command.args(["check", "--json"]).env(told.0, &told.1).current_dir(site.dir()).output().unwrap();
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |problem: &serde_json::Value, key: &str| problem[key].as_str().unwrap().to_owned();
    let problems = value["problems"].as_array().unwrap().iter();
    problems.map(|problem| (text(problem, "tenant"), text(problem, "kind"), text(problem, "found"))).collect()
}

/// The kinds of problems that `check` reports for a tenant with this component.
fn verdict(wasm: &[u8]) -> Vec<String> {
    let site = bounded("10s").file("tenants/one/0.wasm", wasm).file("tenants/one/tenant.toml", tenant("one", 1));
    let output = check(&site, &["--json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    value["problems"].as_array().unwrap().iter().map(|problem| problem["kind"].as_str().unwrap().to_owned()).collect()
}

fn refusals(site: &Site) -> usize {
    let files = std::fs::read_dir(site.path("state/compiled")).unwrap();
    files.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|end| end == "refused")).count()
}

/// Each kind of failure has its own refusal. Only what a component does to its compiler is remembered, not what the machine
/// may do.
#[test]
fn a_harmful_component_is_refused_for_what_it_did_to_its_compiler() {
    let wanted = [
        ("abort", "compile-limit", "signal: 6"),
        ("allocate", "compile-limit", "signal: 6"),
        ("burn", "compile-limit", "more than 4s of processor time"),
        ("complain", "compile-limit", "report has more than 1024 KiB"),
        ("die", "compile-failed", "signal: 9"),
        ("half", "compile-failed", "no whole report"),
        ("talk", "compile-limit", "report has more than 1024 KiB"),
    ];
    let (site, told) = pretending(bounded("4s"), &wanted.map(|(name, ..)| name));
    let began = std::time::Instant::now();
    let found = verdicts(&site, &told);
    assert_eq!(found.len(), wanted.len(), "{found:?}");
    for ((tenant, kind, why), wanted) in found.iter().zip(wanted) {
        assert_eq!((tenant.as_str(), kind.as_str()), (wanted.0, wanted.1), "{why}");
        assert!(why.contains(wanted.2), "{tenant}: {why}");
    }
    assert_eq!(refusals(&site), 5, "of the machine's nothing is remembered");
    // The remembered ones are not tried again and are refused in the same way for everybody; the others are good when
    // nothing makes their children fail.
    let nothing = ("TOLLGATE_COMPILER_PRETENDS", String::new());
    let again = verdicts(&site, &nothing);
    let kept: Vec<_> = found.iter().filter(|(_, kind, _)| kind == "compile-limit").cloned().collect();
    assert_eq!(again, kept);
    // Under other limits all of them are tried again.
    let text = std::fs::read_to_string(site.config()).unwrap();
    site.write("config/gateway.toml", text.replace("1GiB", "1025MiB"));
    assert_eq!(verdicts(&site, &nothing), []);
    assert!(began.elapsed() < Duration::from_secs(600), "nobody waited for a child that waits");
}

/// What a child may report about a component is limited at its source.
#[test]
fn a_component_with_too_many_names_is_refused() {
    let many = |count: usize, letters: usize| {
        let import = |n| format!("(import \"n{n}-{}\" (func))", "a".repeat(letters));
        let imports: String = (0..count).map(import).collect();
        tests::wat::parse(&format!("(component {imports})"))
    };
    assert_eq!(verdict(&many(1000, 10)), ["unserved-import", "no-handler"], "as many as may be");
    assert_eq!(verdict(&many(1001, 1)), ["not-a-component"], "one more");
    assert_eq!(verdict(&many(130, 500)), ["not-a-component"], "fewer, of 64 KiB together");
}

/// A child that stands still delays only its own tenant. All others, earlier and later ones, are served as soon as they are
/// ready.
#[tokio::test]
async fn a_compiling_child_that_hangs_delays_no_other_tenant() {
    let (site, told) = pretending(bounded("60s"), &["sleep"]);
    let site = site.tenant("good", &Tenant::new("good.localhost", "echo"));
    let gateway = Gateway::start_early(&site, &[], &[told]);
    let served = async |host: &str, path: &str| {
        let id = host.split('.').next().unwrap();
        tests::until(host, async || (gateway.tenant(id).await["standing"] == "serving").then_some(())).await;
        assert_eq!(gateway.get(host, path).await.status.as_u16(), 200);
    };
    served("good.localhost", "/head").await;
    let waiting = gateway.get("sleep.localhost", "/0/").await;
    assert_eq!((waiting.status.as_u16(), waiting.problem().as_str()), (503, "loading"));
    assert_eq!(waiting.header("retry-after"), "5");
    assert_eq!(gateway.record(&waiting).await["tenant"], "sleep", "with a certificate and a record of its own");
    let tenant = gateway.tenant("sleep").await;
    assert_eq!((&tenant["standing"], &tenant["hosts"][0]), (&"loading".into(), &"sleep.localhost".into()));
    assert_eq!(gateway.status().await["tenants"]["loading"], 1);
    assert_eq!(gateway.metric("tollgate_config_loading").await, 1.0);
    let ready = gateway.operate("GET", "/readyz", "").await;
    assert_eq!((ready.status.as_u16(), ready.text().as_str()), (503, "loading\n"));
    // Another tenant is deployed, by file events.
    let site = site.tenant("late", &Tenant::new("late.localhost", "hello-site"));
    served("late.localhost", "/").await;
    assert_eq!(gateway.get("sleep.localhost", "/0/").await.problem(), "loading");
    // While a new version compiles slowly, the old one stays in force; if the file stops the tenant, it stops at once.
    let good = std::fs::read_to_string(site.path("tenants/good/tenant.toml")).unwrap();
    let slow = good.replace("hosts", "# The same, with a component that is slow to compile.\nhosts");
    let path = slow.lines().find(|line| line.starts_with("source")).unwrap().to_owned();
    let slow = slow.replace(&path, "source = \"../sleep/0.wasm\"");
    let before = gateway.metric("tollgate_config_generation").await;
    site.write("tenants/good/tenant.toml", &slow);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(gateway.get("good.localhost", "/head").await.status.as_u16(), 200, "the old one");
    assert_eq!(gateway.tenant("good").await["standing"], "serving");
    site.write("tenants/good/tenant.toml", slow.replace("schema = 1", "schema = 1\nenabled = false"));
    tests::until("the end of it", async || {
        (gateway.get("good.localhost", "/head").await.problem() == "suspended").then_some(())
    })
    .await;
    assert!(gateway.metric("tollgate_config_generation").await > before);
    // Replacing the component that is being compiled ends its child.
    std::fs::copy(tests::guest("echo"), site.path("tenants/sleep/0.wasm")).unwrap();
    served("sleep.localhost", "/0/head").await;
    tests::until("a loaded gateway", async || (gateway.admin("/readyz").await == "ready\n").then_some(())).await;
}

/// A killed gateway leaves no child behind that would wait or compute for nobody.
#[tokio::test]
async fn a_killed_gateway_leaves_no_child_behind() {
    let (site, told) = pretending(bounded("60s"), &["sleep"]);
    let gateway = Gateway::start_early(&site, &[], &[told]);
    let folder = site.path("state/compiled").display().to_string();
    // The processes of this gateway: its helper and the compilers.
    let running = |what: &str| {
        let processes =
            std::fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path().join("cmdline")));
        // A process that has exited has no command line.
        let lines = processes.filter_map(|path| Some(String::from_utf8_lossy(&std::fs::read(path).ok()?).into_owned()));
        lines.filter(|line| line.contains(&folder) && line.contains(what)).count()
    };
    tests::until("a child", async || (running("compile-component") == 1).then_some(())).await;
    assert_eq!(running("compile-helper"), 1, "who started it");
    gateway.kill_9();
    tests::until("the end of both", async || (running("") == 0).then_some(())).await;
}

/// A tenant with more slow components than a day has minutes is compiled in its own place.
#[tokio::test]
async fn a_tenant_with_many_slow_components_delays_no_other_tenant() {
    let count = 30;
    let mut site = bounded("4s").file("tenants/slow/tenant.toml", tenant("slow", count));
    let mut told = Vec::new();
    for n in 0..count {
        let wasm = named(&format!("slow-{n}"));
        told.push(format!("burn={}", sha256(&wasm)));
        site = site.file(&format!("tenants/slow/{n}.wasm"), wasm);
    }
    let gateway = Gateway::start_early(&site, &[], &[("TOLLGATE_COMPILER_PRETENDS", told.join(","))]);
    for guest in ["echo", "hello-site", "kv"] {
        let tenant = Tenant::new(&format!("{guest}.localhost"), guest).stores(&["default"]);
        let _written = site.clone().tenant(guest, &tenant);
        tests::until(guest, async || {
            let standing = gateway.tenant(guest).await["standing"].clone();
            (standing == "serving").then_some(())
        })
        .await;
        assert_eq!(gateway.get("slow.localhost", "/0/").await.problem(), "loading", "{guest} came first");
    }
    let compiled = gateway.metric("tollgate_compilations_total").await;
    assert!(compiled < f64::from(u8::try_from(count).unwrap()), "{compiled}");
}

/// If the machine made a child fail, the component is tried again by itself.
#[tokio::test]
async fn a_component_that_the_machine_failed_is_retried_automatically() {
    let (site, told) = pretending(bounded("60s"), &["die"]);
    let gateway = Gateway::start_in(&site, &[], &[told]);
    let problem = gateway.problems().await[0].clone();
    assert_eq!((&problem["kind"], &problem["tenant"]), (&"compile-failed".into(), &"die".into()));
    assert_eq!(gateway.tenant("die").await["standing"], "broken");
    tests::until("another try", async || (gateway.metric("tollgate_compilations_total").await > 1.0).then_some(()))
        .await;
    assert_eq!(refusals(&site), 0);
    gateway.kill_9();
    let gateway = Gateway::start(&site);
    assert_eq!(gateway.tenant("die").await["standing"], "serving");
}

#[test]
fn a_large_component_compiles_within_its_limits_or_is_refused() {
    let function = "(func (param i64) (result i64) local.get 0 i64.const 7 i64.mul i64.const 3 i64.add)";
    for (name, wasm) in [
        ("10,000 functions", component(&(IDLE.to_owned() + &function.repeat(10_000)))),
        ("64 MiB of nothing", with_custom_section(64 << 20)),
    ] {
        let kinds = verdict(&wasm);
        assert!(kinds.is_empty() || kinds == ["compile-limit"] || kinds == ["not-a-component"], "{name}: {kinds:?}");
    }
}

/// A handler with a custom section of this size, which nobody reads.
fn with_custom_section(bytes: usize) -> Vec<u8> {
    let mut wasm = component(IDLE);
    let name = b"\x04junk";
    let size = bytes + name.len();
    wasm.push(0);
    let mut left = size;
    loop {
        let byte = u8::try_from(left & 0x7f).unwrap();
        left >>= 7;
        wasm.push(if left == 0 { byte } else { byte | 0x80 });
        if left == 0 {
            break;
        }
    }
    wasm.extend(name);
    wasm.resize(wasm.len() + bytes, 0);
    wasm
}

#[test]
fn more_core_instances_memories_or_tables_than_a_slot_has_are_refused_at_load() {
    // Components may be composed of 16 parts.
    let instances: String = (0..70).map(|n| format!("(core instance $x{n} (instantiate $m))")).collect();
    let many = with(IDLE, &(instances + "(core instance $i (instantiate $m))"));
    assert_eq!(verdict(&many), ["not-a-component"], "core instances");
    let memories = format!("{IDLE} {}", "(memory 1)".repeat(9));
    assert_eq!(verdict(&component(&memories)), ["not-a-component"], "memories");
    let tables = format!("{IDLE} {}", "(table 1 funcref)".repeat(17));
    assert_eq!(verdict(&component(&tables)), ["not-a-component"], "tables");
    assert_eq!(verdict(&component(&format!("{IDLE} (table 1000000 funcref)"))), ["not-a-component"], "elements");
    assert_eq!(verdict(&component(&format!("{IDLE} (memory i64 1)"))), ["not-a-component"], "memory64 is off");
    let kinds = verdict(&component(&format!("{IDLE} (memory 65536)")));
    assert_eq!(kinds, ["memory-limit"], "4 GiB from the start");
}

#[test]
fn a_handler_of_another_type_is_refused_at_load() {
    let instance = "(core instance $i (instantiate $m))";
    let request = "(param \"request\" (own $request))";
    for (parameters, module) in [
        (request.to_owned(), "(func (export \"handle\") (param i32))"),
        (format!("{request} (param \"response-out\" u32)"), IDLE),
        ("(param \"request\" (own $out)) (param \"response-out\" (own $request))".to_owned(), IDLE),
        (
            format!("{request} (param \"response-out\" (own $out)) (result u32)"),
            "(func (export \"handle\") (param i32 i32) (result i32) i32.const 0)",
        ),
    ] {
        assert_eq!(verdict(&handler(module, instance, &parameters)), ["wrong-handler"], "{parameters}");
    }
    let right = format!("{request} (param \"response-out\" (own $out))");
    assert_eq!(verdict(&handler(IDLE, instance, &right)), [""; 0]);
}

/// An endless start function runs under the limits of a request, which are set before instantiation.
#[tokio::test]
async fn a_start_function_that_loops_is_stopped_like_any_loop() {
    let looping = component(&format!("{IDLE} (func $start (loop $l (br $l))) (start $start)"));
    let site = Site::new().file("start.wasm", looping);
    let tenant = Tenant::of("start.localhost", &site.path("start.wasm"));
    let site = site
        .tenant("start", &tenant.with("[limits]\nfuel = \"50M\"\ntime = \"2s\""))
        .tenant("good", &Tenant::new("good.localhost", "echo"));
    let gateway = Gateway::start(&site);
    let answer = gateway.get("start.localhost", "/").await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (502, "fuel-exhausted"));
    assert_eq!(gateway.record(&answer).await["fuel"], 50_000_000);
    assert_eq!(gateway.get("good.localhost", "/head").await.status.as_u16(), 200);
    gateway.quiet().await;
}

/// Tables count as memory, element by element, and all parts of a component count.
#[tokio::test]
async fn tables_and_small_parts_are_memory_too() {
    let growing = component(
        "(table $t 0 funcref) (func (export \"handle\") (param i32 i32)
           (loop $l
             (if (i32.eq (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)) (then unreachable))
             (br $l)))",
    );
    let module = format!("{IDLE} (table 15000 funcref)");
    let parts: String = (0..9).map(|n| format!("(core instance $x{n} (instantiate $m))")).collect();
    let parts = with(&module, &(parts + "(core instance $i (instantiate $m))"));
    let site = Site::new().file("growing.wasm", growing).file("parts.wasm", parts);
    let limits = "[limits]\nmemory = \"100KiB\"";
    let tenant =
        |name: &str| Tenant::of(&format!("{name}.localhost"), &site.path(&format!("{name}.wasm"))).with(limits);
    let (growing, parts) = (tenant("growing"), tenant("parts"));
    let gateway = Gateway::start(&site.tenant("growing", &growing).tenant("parts", &parts));
    for host in ["growing.localhost", "parts.localhost"] {
        let answer = gateway.get(host, "/").await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (502, "memory-exhausted"), "{host}");
        assert!(gateway.record(&answer).await["memory_peak"].as_u64().unwrap() <= 100 << 10, "{host}");
    }
    gateway.quiet().await;
}

/// While children do harm, a served tenant is still served, and a refused component is not tried again.
#[tokio::test]
async fn a_reload_with_harmful_components_delays_nobody_and_tries_each_once() {
    let site = bounded("4s").tenant("good", &Tenant::new("good.localhost", "echo"));
    let (_, told) = pretending(Site::new(), &["abort", "burn", "talk"]);
    let gateway = Gateway::start_in(&site, &[], &[told]);
    let (site, _) = pretending(site, &["abort", "burn", "talk"]);
    // The same component under another name: one digest, one child.
    site.write("tenants/again/0.wasm", named("abort"));
    site.write("tenants/again/tenant.toml", tenant("again", 1));
    let reload = async || {
        let before = gateway.metric("tollgate_config_generation").await;
        gateway.signal("HUP");
        let mut served = 0;
        let is_done = async || {
            let generation = gateway.metric("tollgate_config_generation").await;
            generation > before && gateway.metric("tollgate_config_loading").await == 0.0
        };
        while !is_done().await {
            assert_eq!(gateway.get("good.localhost", "/head").await.status.as_u16(), 200);
            served += 1;
        }
        served
    };
    assert!(reload().await > 0);
    tests::until("four broken tenants", async || (gateway.status().await["tenants"]["broken"] == 4).then_some(()))
        .await;
    let compiled = gateway.metric("tollgate_compilations_total").await;
    assert_eq!(compiled, 4.0, "the good one and three others");
    reload().await;
    assert_eq!(gateway.metric("tollgate_compilations_total").await, compiled, "what was refused is remembered");
}

#[tokio::test]
async fn two_tenants_with_one_digest_compile_once_and_share_no_data() {
    let site = bounded("10s")
        .tenant("one", &Tenant::new("one.localhost", "kv").stores(&["default"]))
        .tenant("two", &Tenant::new("two.localhost", "kv").stores(&["default"]));
    let gateway = Gateway::start(&site);
    assert_eq!(gateway.metric("tollgate_compilations_total").await, 1.0);
    let client = gateway.client(Protocol::H2);
    client.call("POST", "one.localhost", "/-/set/key", "of one").await;
    assert_eq!(client.get("two.localhost", "/-/get/key").await.text(), "(none)");
    assert_eq!(client.get("one.localhost", "/-/get/key").await.text(), "of one");
}
