//! `tollgate check` on broken configurations: what it prints is a golden text in `check/`, one a mistake.
//!
//! To renew them after a change of words: `TOLLGATE_GOLDEN=write cargo nextest run -p tests check`, and read the diff.

use tests::{Site, Tenant, check, guest, top};

/// Runs `check` and compares what it prints with the golden text of that name.
fn golden(name: &str, site: &Site) {
    let output = check(site, &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    // Whether the defaults fit the machine depends on the machine.
    let text: String = text.split_inclusive('\n').filter(|line| !line.starts_with("warning: ")).collect();
    let path = top().join(format!("tests/suites/check/{name}.txt"));
    if std::env::var_os("TOLLGATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{} is out of date, or `check` is wrong", path.display());
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    for part in ["-->", "wanted: "] {
        assert!(text.contains(part), "{name} says no {part}");
    }
}

fn acme() -> Tenant {
    Tenant::new("acme.localhost", "echo")
}

/// A tenant whose component is beside its file, so that the texts are the same on every machine.
fn with_component(wasm: &[u8], more: &str) -> Site {
    let text = format!(
        "schema = 1\nhosts = [\"acme.localhost\"]\n{more}\n[[component]]\nname = \"site\"\nsource = \"site.wasm\"\n\n\
         [[route]]\npath = \"/...\"\ncomponent = \"site\"\n"
    );
    Site::new().file("tenants/acme/tenant.toml", text).file("tenants/acme/site.wasm", wasm)
}

/// The same, from a text of WebAssembly.
fn with_wasm(wat: &str) -> Site {
    with_component(&wat::parse_str(wat).unwrap(), "")
}

/// The same, with a guest.
fn with_guest(name: &str, more: &str) -> Site {
    with_component(&std::fs::read(guest(name)).unwrap(), more)
}

#[test]
fn a_misspelt_key() {
    let tenant = acme().with("[limits]\nmemroy = \"64MiB\"\ntime = \"10s\"");
    golden("misspelt-key", &Site::new().tenant("acme", &tenant));
}

#[test]
fn a_missing_unit() {
    let tenant = acme().with("[limits]\nmemory = 64\ntime = 10\nfuel = \"lots\"");
    golden("missing-unit", &Site::new().tenant("acme", &tenant));
}

#[test]
fn a_host_in_two_files() {
    let site = Site::new().tenant("acme", &acme()).tenant("rival", &Tenant::new("ACME.localhost.", "echo"));
    golden("duplicate-host", &site);
}

#[test]
fn a_component_that_is_missing() {
    let text = "schema = 1\nhosts = [\"acme.localhost\"]\n\n[[component]]\nname = \"site\"\nsource = \"site.wasm\"\n\n\
                [[route]]\npath = \"/...\"\ncomponent = \"sight\"\n";
    golden("missing-wasm", &Site::new().file("tenants/acme/tenant.toml", text));
}

#[test]
fn a_core_module() {
    golden("core-module", &with_wasm("(module)"));
}

#[test]
fn an_import_that_nobody_serves() {
    let wat = r#"(component
        (import "acme:queue/send@1.0.0" (instance))
        (import "wasi:keyvalue/watcher@0.2.0-draft2" (instance (export "watch" (func))))
        (instance $handler)
        (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#;
    golden("unserved-import", &with_wasm(wat));
}

#[test]
fn a_component_that_answers_no_http() {
    golden("no-handler", &with_wasm("(component)"));
}

#[test]
fn a_store_that_was_not_granted() {
    golden("store-not-granted", &with_guest("kv", ""));
}

#[test]
fn a_limit_above_its_ceiling() {
    let tenant = acme().with("[limits]\nmemory = \"2GiB\"\ntime = \"10m\"\n\n[quota]\nin_flight = 5000");
    let ceilings = "[ceilings.limits]\nmemory = \"512MiB\"\ntime = \"60s\"\n\n[ceilings.quota]\nin_flight = 256";
    golden("above-ceiling", &Site::new().gateway(ceilings).tenant("acme", &tenant));
}

#[test]
fn a_key_of_another_certificate() {
    let made = |names: &[&str]| {
        rcgen::generate_simple_self_signed(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap()
    };
    let tenant = acme().with("tls = { cert = \"cert.pem\", key = \"key.pem\" }");
    let site = Site::new()
        .tenant("acme", &tenant)
        .file("tenants/acme/cert.pem", made(&["acme.localhost"]).cert.pem())
        .file("tenants/acme/key.pem", made(&["acme.localhost"]).signing_key.serialize_pem());
    golden("certificate-mismatch", &site);
}

#[test]
fn no_toml_at_all() {
    let site = Site::new().file("tenants/acme/tenant.toml", "{ \"schema\": 1,\n  \"hosts\": [\"acme.localhost\"] }\n");
    golden("not-toml", &site);
}

#[test]
fn a_memory_limit_that_no_instance_fits_in() {
    golden("memory-limit", &with_guest("echo", "[limits]\nmemory = \"512KiB\"\n"));
}

#[test]
fn many_mistakes_at_once_are_all_told() {
    let text = "hosts = [\"not a host\", \"acme.localhost\"]\nenabld = true\n\n[limits]\ntime = \"1 fortnight\"\n\n[secrets]\n\
                KEY = \"written here by mistake\"\n\n[[component]]\nname = \"Site\"\nsource = \"site.wasm\"\n\n[[route]]\n\
                path = \"no-slash\"\ncomponent = \"site\"\n";
    let site = Site::new().file("tenants/acme/tenant.toml", text);
    golden("many", &site);
    let output = check(&site, &[]);
    assert!(!String::from_utf8_lossy(&output.stdout).contains("found: written"), "a secret is not repeated as a value");
}

#[test]
fn the_gateways_own_file_is_checked_as_well() {
    let site = Site::new().file(
        "config/gateway.toml",
        "schema = 2\n[listen]\nhttps = [\"everywhere\"]\n[storage]\nbackend = \"postgres\"\n[sandbox]\ninstances = 0\n",
    );
    golden("gateway-file", &site);
}

#[test]
fn bounds_that_the_machine_has_not_got_are_warned_of() {
    let site = Site::new().tenant("acme", &acme()).gateway("[sandbox]\nmemory = \"100TiB\"");
    let output = check(&site, &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("warning: memory: the bounds add up to 2048"), "{text}");
    assert!(text.contains("lower sandbox.memory first"), "{text}");
    assert_eq!(output.status.code(), Some(0), "it is no problem of a file");
    let output = check(&site, &["--json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(value["bounds"].as_array().unwrap().len() > 5, "{value}");
    assert_eq!(value["warnings"].as_array().unwrap().len(), 1, "{value}");
}

#[test]
fn problems_can_be_had_as_json() {
    let tenant = acme().with("[limits]\nmemroy = \"64MiB\"");
    let output = check(&Site::new().tenant("acme", &tenant), &["--json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let problem = &value["problems"][0];
    assert_eq!((&problem["kind"], &problem["tenant"]), (&"unknown-key".into(), &"acme".into()));
    assert_eq!((&problem["file"], &problem["line"]), (&"tenants/acme/tenant.toml".into(), &4.into()));
    assert_eq!(problem["column"], 1);
}

/// What makes a naive host abort or burn for minutes costs one child process here.
#[test]
fn a_component_made_to_break_the_compiler_is_a_problem_like_any_other() {
    use std::fmt::Write as _;
    let mut wat = String::from("(component (type $t0 (list u8))");
    for n in 1..=3000 {
        write!(wat, "(type $t{n} (list $t{}))", n - 1).unwrap();
    }
    wat += "(export \"bomb\" (type $t3000)))";
    let output = check(&with_wasm(&wat), &["--json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let kind = value["problems"][0]["kind"].as_str().unwrap().to_owned();
    assert!(["compile-limit", "not-a-component"].contains(&kind.as_str()), "{value}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn misuse_has_an_exit_code_of_its_own() {
    let misused = std::process::Command::new(tests::tollgate()).arg("sevre").output().unwrap();
    assert_eq!(misused.status.code(), Some(2));
    let missing = std::process::Command::new(tests::tollgate()).args(["check", "--config", "/nowhere.toml"]).output();
    let missing = missing.unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stdout).contains("/nowhere.toml"));
}

#[test]
fn help_is_what_the_documentation_shows() {
    let help = |arguments: &[&str]| {
        let output =
            std::process::Command::new(tests::tollgate()).args(arguments).env("COLUMNS", "100").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let text = help(&["--help"]) + "\n$ tollgate serve --help\n" + &help(&["serve", "--help"]);
    let path = top().join("tests/suites/check/help.txt");
    if std::env::var_os("TOLLGATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap_or_default(), "check/help.txt is out of date");
}
