//! Components that are made to break whoever compiles or links them: each costs one child process and a refusal, and
//! nobody who is served notices.

use std::fmt::Write as _;

use tests::wat::{IDLE, component, handler, with};
use tests::{Gateway, Protocol, Site, Tenant, check};

/// One line of what `check` says of a tenant with this component: the kinds of its problems.
fn verdict(wasm: &[u8]) -> Vec<String> {
    let site = bounded().file("tenants/bomb/site.wasm", wasm);
    let site = site.file("tenants/bomb/tenant.toml", tenant());
    let output = check(&site, &["--json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    value["problems"].as_array().unwrap().iter().map(|problem| problem["kind"].as_str().unwrap().to_owned()).collect()
}

/// Bounds under which a bomb is found out soon; and a folder of its own for what is remembered.
fn bounded() -> Site {
    let site = Site::new();
    let compiled = site.path("state/compiled");
    let text = format!(
        "schema = 1\n[listen]\nhttps = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n\
         [sandbox]\ncompile_time = \"10s\"\ncompile_memory = \"1GiB\"\ncompiled = \"{}\"\n",
        compiled.display()
    );
    site.file("config/gateway.toml", text)
}

fn tenant() -> &'static str {
    "schema = 1\nhosts = [\"bomb.localhost\"]\n[[component]]\nname = \"site\"\nsource = \"site.wasm\"\n\
     [[route]]\npath = \"/...\"\ncomponent = \"site\"\n"
}

fn nested_types(depth: usize) -> Vec<u8> {
    let mut text = String::from("(component (type $t0 (list u8))");
    for n in 1..=depth {
        write!(text, "(type $t{n} (list $t{}))", n - 1).unwrap();
    }
    write!(text, "(export \"bomb\" (type $t{depth})))").unwrap();
    wat::parse_str(text).unwrap()
}

fn many_functions(count: usize) -> Vec<u8> {
    let function = "(func (param i64) (result i64) local.get 0 i64.const 7 i64.mul i64.const 3 i64.add)";
    component(&(IDLE.to_owned() + &function.repeat(count)))
}

fn giant_br_table(targets: usize) -> Vec<u8> {
    let table = "0 ".repeat(targets);
    component(&format!("{IDLE} (func (param i32) block local.get 0 br_table {table} 0 end)"))
}

/// A handler with so many bytes of a section that nobody reads.
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

/// Types that each name the one before twice: a few bytes a type, twice the size each time they are written out.
fn doubling_types(depth: usize) -> Vec<u8> {
    let mut text = String::from("(component (type $t0 (tuple u8 u8))");
    for n in 1..=depth {
        write!(text, "(type $t{n} (tuple $t{0} $t{0}))", n - 1).unwrap();
    }
    write!(text, "(export \"bomb\" (type $t{depth})))").unwrap();
    wat::parse_str(text).unwrap()
}

#[test]
fn nested_types_end_the_child_and_nobody_else() {
    for depth in [3000, 100_000] {
        let kinds = verdict(&nested_types(depth));
        assert!(["compile-limit", "not-a-component"].contains(&kinds[0].as_str()), "{depth}: {kinds:?}");
    }
    let kinds = verdict(&doubling_types(40));
    assert!(["compile-limit", "not-a-component", "no-handler"].contains(&kinds[0].as_str()), "{kinds:?}");
}

#[test]
fn what_is_merely_large_compiles_within_bounds_or_is_refused() {
    for (name, wasm) in [
        ("10,000 functions", many_functions(10_000)),
        ("a br_table of a million", giant_br_table(1_000_000)),
        ("64 MiB of nothing", with_custom_section(64 << 20)),
    ] {
        let kinds = verdict(&wasm);
        assert!(kinds.is_empty() || kinds == ["compile-limit"] || kinds == ["not-a-component"], "{name}: {kinds:?}");
    }
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

/// A start function that never ends runs under the limits of a request: they are armed before instantiation.
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

/// Tables count as memory, element by element, and a component of many small parts counts all of them.
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

/// While bombs are compiled, a served tenant is served; and what failed once is not tried again.
#[tokio::test]
async fn a_reload_with_bombs_holds_nobody_up_and_tries_each_once() {
    let site = bounded().tenant("good", &Tenant::new("good.localhost", "echo"));
    let gateway = Gateway::start(&site);
    for (name, wasm) in
        [("types", nested_types(3000)), ("more", nested_types(4000)), ("table", giant_br_table(2_000_000))]
    {
        site.write(&format!("tenants/{name}/site.wasm"), wasm);
        site.write(&format!("tenants/{name}/tenant.toml"), tenant().replace("bomb.", &format!("{name}.")));
    }
    // The same bomb again under another name: one digest, one child.
    site.write("tenants/again/site.wasm", nested_types(3000));
    site.write("tenants/again/tenant.toml", tenant().replace("bomb.", "again."));
    let reload = async || {
        let before = gateway.metric("tollgate_config_generation").await;
        gateway.signal("HUP");
        let mut served = 0;
        while gateway.metric("tollgate_config_generation").await == before {
            assert_eq!(gateway.get("good.localhost", "/head").await.status.as_u16(), 200);
            served += 1;
        }
        served
    };
    assert!(reload().await > 0);
    let compiled = gateway.metric("tollgate_compilations_total").await;
    assert_eq!(compiled, 4.0, "the good one and three bombs");
    assert_eq!(gateway.tenant("types").await["standing"], "broken");
    assert_eq!(gateway.tenant("again").await["standing"], "broken");
    reload().await;
    assert_eq!(gateway.metric("tollgate_compilations_total").await, compiled, "what failed is remembered");
}

#[tokio::test]
async fn two_tenants_with_one_digest_compile_once_and_share_no_data() {
    let site = bounded()
        .tenant("one", &Tenant::new("one.localhost", "kv").stores(&["default"]))
        .tenant("two", &Tenant::new("two.localhost", "kv").stores(&["default"]));
    let gateway = Gateway::start(&site);
    assert_eq!(gateway.metric("tollgate_compilations_total").await, 1.0);
    let client = gateway.client(Protocol::H2);
    client.call("POST", "one.localhost", "/-/set/key", "of one").await;
    assert_eq!(client.get("two.localhost", "/-/get/key").await.text(), "(none)");
    assert_eq!(client.get("one.localhost", "/-/get/key").await.text(), "of one");
}
