//! `tollgate check` on invalid configurations: its output is a golden text in `check/`, one for each mistake.
//!
//! To renew them after a change of texts, run `TOLLGATE_GOLDEN=write cargo nextest run -p tests check` and read the diff.

use tests::{Site, Tenant, check, guest, top};

/// Removes what depends on the machine: whether the defaults fit it.
fn of_any_machine(text: &str) -> String {
    let of_machine = |block: &&str| ["warning[W0501 ", "warning[W0502 "].iter().any(|code| block.starts_with(code));
    let count = text.split("\n\n").filter(of_machine).count();
    let text = text.split("\n\n").filter(|block| !of_machine(block)).collect::<Vec<_>>().join("\n\n");
    if count == 1 { text.replace(", 1 warning", "") } else { text.replace(", 2 warnings", "") }
}

/// Runs `check`, which must find a problem, and compares the output with the golden text of this name.
fn golden(name: &str, site: &Site) {
    golden_with(name, site, &[], 2);
}

/// The same for a warning.
fn golden_warning(name: &str, site: &Site) {
    golden_with(name, site, &["--strict"], 1);
    assert_eq!(check(site, &[]).status.code(), Some(0), "a warning keeps nobody from anything");
}

fn golden_with(name: &str, site: &Site, arguments: &[&str], code: i32) {
    let output = check(site, arguments);
    let text = String::from_utf8(output.stdout).unwrap();
    let text = if text.contains("[W0501 ") || text.contains("[W0502 ") { of_any_machine(&text) } else { text };
    let path = top().join(format!("tests/suites/check/{name}.txt"));
    if std::env::var_os("TOLLGATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{} is out of date, or `check` is wrong", path.display());
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
    for part in ["-->", "wanted: ", "hint: "] {
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
fn a_misspelt_key_is_reported() {
    let tenant = acme().with("[limits]\nmemroy = \"64MiB\"\ntime = \"10s\"");
    golden("misspelt-key", &Site::new().tenant("acme", &tenant));
}

#[test]
fn a_missing_unit_is_reported() {
    let tenant = acme().with("[limits]\nmemory = 64\ntime = 10\nfuel = \"lots\"");
    golden("missing-unit", &Site::new().tenant("acme", &tenant));
}

#[test]
fn a_host_in_two_files_is_reported() {
    let site = Site::new().tenant("acme", &acme()).tenant("rival", &Tenant::new("ACME.localhost.", "echo"));
    golden("host-conflict", &site);
}

#[test]
fn a_bracket_that_is_not_closed_is_reported() {
    let tenant = "schema = 1\nhosts = [\"acme.localhost\"]\nlimits = { memory = \"64MiB\", time = \"10s\"\n\n\
                  [[component]]\nname = \"site\"\nsource = \"site.wasm\"\n\n[[route]]\npath = \"/...\"\ncomponent = \"site\"\n";
    golden("not-closed", &Site::new().file("tenants/acme/tenant.toml", tenant));
}

#[test]
fn a_missing_component_is_reported() {
    let text = "schema = 1\nhosts = [\"acme.localhost\"]\n\n[[component]]\nname = \"site\"\nsource = \"site.wasm\"\n\n\
                [[route]]\npath = \"/...\"\ncomponent = \"sight\"\n";
    golden("missing-wasm", &Site::new().file("tenants/acme/tenant.toml", text));
}

#[test]
fn a_core_module() {
    golden("core-module", &with_wasm("(module)"));
}

#[test]
fn an_unserved_import_is_reported() {
    let wat = r#"(component
        (import "acme:queue/send@1.0.0" (instance))
        (import "wasi:keyvalue/watcher@0.2.0-draft2" (instance (export "watch" (func))))
        (instance $handler)
        (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#;
    golden("unserved-import", &with_wasm(wat));
}

/// Minutes of compiling would gain nothing: no code is created, and all unserved imports are named. Types link without an
/// implementation.
#[test]
fn imports_are_checked_before_a_component_is_compiled() {
    let wat = r#"(component
        (import "acme:one/x@1.0.0" (instance (export "f" (func))))
        (import "acme:types/x@1.0.0" (instance (type (record (field "n" u32))) (export "t" (type (eq 0)))))
        (import "acme:two/x@1.0.0" (instance (export "r" (type (sub resource)))))
        (import "three" (func))
        (component (import "inner" (func)))
        (core module (func (export "f")))
    )"#;
    let site = with_wasm(wat);
    let text = std::fs::read_to_string(site.config()).unwrap();
    let old = text.lines().find(|line| line.starts_with("compiled")).unwrap().to_owned();
    site.write("config/gateway.toml", text.replace(&old, "compiled = \"../compiled\""));
    let (is_good, said) = tests::checked(&site, &[]);
    assert!(!is_good && said.contains("acme:one/x@1.0.0, acme:two/x@1.0.0, three"), "{said}");
    assert!(!said.contains("acme:types") && !said.contains("inner"), "{said}");
    let mut code = std::fs::read_dir(site.path("compiled")).unwrap().map(|entry| entry.unwrap());
    let code = code.find(|entry| entry.file_name().to_string_lossy().ends_with(".cwasm")).unwrap();
    assert_eq!(code.metadata().unwrap().len(), 0, "it was not compiled");
}

#[test]
fn a_component_that_answers_no_http_is_reported() {
    golden("no-handler", &with_wasm("(component)"));
}

#[test]
fn a_store_that_is_not_granted_is_reported() {
    golden("store-not-granted", &with_guest("kv", ""));
}

#[test]
fn a_limit_above_its_ceiling_is_reported() {
    let tenant = acme().with("[limits]\nmemory = \"2GiB\"\ntime = \"10m\"\n\n[quota]\nin_flight = 5000");
    let ceilings = "[ceilings.limits]\nmemory = \"512MiB\"\ntime = \"60s\"\n\n[ceilings.quota]\nin_flight = 256";
    golden("above-ceiling", &Site::new().gateway(ceilings).tenant("acme", &tenant));
}

#[test]
fn a_key_of_another_certificate_is_reported() {
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

/// A tenant whose file names a Spin manifest of version 2 with these triggers and this component.
fn with_manifest(file: &str, text: &str) -> Site {
    let file = format!("schema = 1\nhosts = [\"acme.localhost\"]\napp = \"spin.toml\"\n{file}");
    let text = format!("spin_manifest_version = 2\n[application]\nname = \"site\"\n\n{text}");
    let wasm = std::fs::read(guest("echo")).unwrap();
    Site::new()
        .file("tenants/acme/tenant.toml", file)
        .file("tenants/acme/spin.toml", text)
        .file("tenants/acme/site.wasm", wasm)
}

#[test]
fn two_triggers_for_the_same_paths_are_reported() {
    let trigger = |route: &str| format!("[[trigger.http]]\nroute = \"{route}\"\ncomponent = \"site\"\n\n");
    let text = [&*trigger("/a/:x"), &trigger("/b"), &trigger("/a/:y"), &trigger("/b")].concat();
    golden_warning("shadowed-route", &with_manifest("", &(text + "[component.site]\nsource = \"site.wasm\"\n")));
}

#[test]
fn settings_without_effect_are_reported() {
    let text = "[variables]\ngreeting = { default = \"hello\" }\n\n[[trigger.http]]\nroute = \"/...\"\ncomponent = \"site\"\n\n\
                [component.site]\nsource = \"site.wasm\"\nallowed_outbound_hosts = [\n    \"https://api.example.com\",\n    \"mqtt://broker:1883\",\n]\n";
    golden_warning("without-effect", &with_manifest("\n[variables]\ngreting = \"good day\"\n", text));
}

#[test]
fn an_application_without_a_tenants_file_is_reported() {
    let site = Site::new().tenant("acme", &acme()).file("tenants/shop/spin.toml", "spin_manifest_version = 2\n");
    golden_warning("no-tenant-file", &site);
}

#[test]
fn unsupported_parts_of_a_manifest_are_reported() {
    let text = "[application.trigger.http]\nbase = \"/base\"\n\n[[trigger.http]]\nroute = \"/a/*/b\"\ncomponent = \"site\"\n\n\
                [[trigger.sqs]]\nqueue_url = \"x\"\ncomponent = \"site\"\n\n\
                [component.site]\nsource = { registry = \"ttl.sh\", package = \"a:b\", version = \"1.0.0\" }\n\
                ai_models = [\"llama2-chat\"]\nallowed_outbound_hosts = [\"unix:///run/x.sock\"]\n";
    golden("not-served", &with_manifest("", text));
}

#[test]
fn a_file_that_is_not_toml_is_reported() {
    let site = Site::new().file("tenants/acme/tenant.toml", "{ \"schema\": 1,\n  \"hosts\": [\"acme.localhost\"] }\n");
    golden("not-toml", &site);
}

#[test]
fn a_memory_limit_that_no_instance_fits_in_is_reported() {
    golden("memory-limit", &with_guest("echo", "[limits]\nmemory = \"512KiB\"\n"));
}

#[test]
fn all_mistakes_are_reported_at_once() {
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
fn limits_above_the_machines_resources_cause_a_warning() {
    let site = Site::new().tenant("acme", &acme()).gateway("[sandbox]\nmemory = \"100TiB\"");
    let output = check(&site, &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("warning[W0501 memory-budget]") && text.contains("^^^^^^^^ 204813GiB in all"), "{text}");
    assert!(text.contains("lower sandbox.memory first"), "{text}");
    assert_eq!(output.status.code(), Some(0), "it keeps nobody from being served");
    assert_eq!(check(&site, &["--strict"]).status.code(), Some(1));
    let output = check(&site, &["--json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(value["bounds"].as_array().unwrap().len() > 5, "{value}");
    let warned = &value["problems"][0];
    assert_eq!((&warned["severity"], &warned["code"]), (&"warning".into(), &"W0501".into()), "{value}");
}

#[test]
fn problems_can_be_printed_as_json() {
    let tenant = acme().with("[limits]\nmemroy = \"64MiB\"");
    let output = check(&Site::new().tenant("acme", &tenant), &["--json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let problem = &value["problems"][0];
    assert_eq!((&problem["kind"], &problem["tenant"]), (&"unknown-key".into(), &"acme".into()));
    assert_eq!((&problem["code"], &problem["severity"]), (&"E0102".into(), &"error".into()));
    assert_eq!((&problem["file"], &problem["line"]), (&"tenants/acme/tenant.toml".into(), &4.into()));
    assert_eq!(problem["column"], 1);
}

#[test]
fn misuse_has_its_own_exit_code() {
    let misused = std::process::Command::new(tests::tollgate()).arg("sevre").output().unwrap();
    assert_eq!(misused.status.code(), Some(2));
    let missing = std::process::Command::new(tests::tollgate()).args(["check", "--config", "/nowhere.toml"]).output();
    let missing = missing.unwrap();
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stdout).contains("/nowhere.toml"));
}

#[test]
fn the_version_names_the_release_the_commit_and_the_profile() {
    let said = std::process::Command::new(tests::tollgate()).arg("--version").output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    // Tests build without `make build`, so the commit is unknown.
    let rest = said.strip_prefix(concat!("tollgate ", env!("CARGO_PKG_VERSION"), " (commit ")).unwrap_or_default();
    assert!(rest.ends_with(", no profile)\n") || rest.contains(", profile "), "{said}");
}

#[test]
fn help_matches_the_documentation() {
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

/// A certificate for these names that expires in this many days.
fn certificate(names: &[&str], days: i64) -> [String; 2] {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut parameters = rcgen::CertificateParams::new(names).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    // An hour more, so that whole days are left while the test runs.
    let ends = i64::try_from(now).unwrap() + days * 86_400 + 3600;
    let date =
        |seconds: i64| rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(seconds.try_into().unwrap());
    (parameters.not_before, parameters.not_after) = (date(ends - 90 * 86_400), date(ends));
    let key = rcgen::KeyPair::generate().unwrap();
    [parameters.self_signed(&key).unwrap().pem(), key.serialize_pem()]
}

fn with_certificate([cert, key]: [String; 2]) -> Site {
    let tenant = acme().with("tls = { cert = \"cert.pem\", key = \"key.pem\" }");
    let site = Site::new().tenant("acme", &tenant);
    site.file("tenants/acme/cert.pem", cert).file("tenants/acme/key.pem", key)
}

#[test]
fn an_expired_certificate_is_reported() {
    golden("certificate-expired", &with_certificate(certificate(&["acme.localhost"], -3)));
}

#[test]
fn a_certificate_that_expires_soon_causes_a_warning() {
    golden_warning("certificate-expires", &with_certificate(certificate(&["acme.localhost"], 5)));
}

#[test]
fn a_certificate_for_other_hosts_is_reported() {
    golden("host-not-covered", &with_certificate(certificate(&["www.acme.localhost", "*.acme.localhost"], 60)));
}

#[test]
fn a_tenant_without_a_certificate_is_reported() {
    let site = Site::new().gateway("[tls]\ncertificates = \"files\"").tenant("acme", &acme());
    golden("no-certificate", &site);
}

#[test]
fn a_wildcard_that_acme_cannot_prove_is_reported() {
    let gateway = "[tls]\ncertificates = \"acme\"\n[tls.acme]\nagree_to_terms = true";
    golden("acme-wildcard", &Site::new().gateway(gateway).tenant("acme", &Tenant::new("*.acme.example", "echo")));
}

#[test]
fn acme_terms_without_agreement_are_reported() {
    golden("acme-terms", &Site::new().gateway("[tls]\ncertificates = \"acme\"").tenant("acme", &acme()));
}

#[test]
fn a_missing_secret_is_reported() {
    golden("unreadable-secret", &Site::new().tenant("acme", &acme().with("[secrets]\nKEY = { file = \"key.txt\" }")));
}

#[test]
fn a_folder_with_an_invalid_name_is_reported() {
    golden("bad-name", &Site::new().file("tenants/Acme_Shop/tenant.toml", "schema = 1\n"));
}

/// A tenant with these routes to a component called `site`, and another component if a name is given.
fn with_routes(routes: &str, more: Option<&str>) -> Site {
    let more = more.map(|name| format!("[[component]]\nname = \"{name}\"\nsource = \"site.wasm\"\n\n"));
    let text = format!(
        "schema = 1\nhosts = [\"acme.localhost\"]\n\n[[component]]\nname = \"site\"\nsource = \"site.wasm\"\n\n{}{routes}",
        more.unwrap_or_default()
    );
    let wasm = std::fs::read(guest("echo")).unwrap();
    Site::new().file("tenants/acme/tenant.toml", text).file("tenants/acme/site.wasm", wasm)
}

fn route(path: &str, component: &str) -> String {
    format!("[[route]]\npath = \"{path}\"\ncomponent = \"{component}\"\n\n")
}

#[test]
fn two_routes_for_the_same_paths_are_reported() {
    golden("duplicate-route", &with_routes(&(route("/users/:id", "site") + &route("/users/:name", "site")), None));
}

#[test]
fn a_route_to_an_unknown_component_is_reported() {
    golden("unknown-component", &with_routes(&route("/...", "sitte"), None));
}

#[test]
fn two_components_with_one_name_are_reported() {
    golden("duplicate-component", &with_routes(&route("/...", "site"), Some("site")));
}

#[test]
fn a_component_that_nothing_starts_is_reported() {
    golden_warning("idle-component", &with_routes(&route("/...", "site"), Some("spare")));
}

#[test]
fn too_many_routes_are_reported() {
    let routes: String = (0..1001).map(|number| route(&format!("/{number}"), "site")).collect();
    golden("too-many-routes", &with_routes(&routes, None));
}

#[test]
fn a_manifest_beside_components_is_reported() {
    let site = with_routes(&route("/...", "site"), None);
    let text = std::fs::read_to_string(site.dir().join("tenants/acme/tenant.toml")).unwrap();
    let site = site.file("tenants/acme/tenant.toml", text.replace("hosts", "app = \"spin.toml\"\nhosts"));
    golden("keys-disagree", &site.file("tenants/acme/spin.toml", "spin_manifest_version = 2\n"));
}

#[test]
fn a_user_without_a_password_is_reported() {
    let gateway = "[[registry]]\nurl = \"https://registry.example\"\nuser = \"ci\"";
    golden("user-without-password", &Site::new().gateway(gateway).tenant("acme", &acme()));
}

#[test]
fn shards_that_are_too_small_are_reported() {
    let tenant = acme().with("[quota]\nstorage = { bytes = \"16MiB\", keys = 10000 }\nshards = 32");
    golden("small-shards", &Site::new().tenant("acme", &tenant));
}

#[test]
fn a_handler_of_another_type_is_reported() {
    let wat = r#"(component
        (core module $m (func (export "f")))
        (core instance $i (instantiate $m))
        (func $f (canon lift (core func $i "f")))
        (instance $handler (export "handle" (func $f)))
        (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#;
    golden("wrong-handler", &with_wasm(wat));
}

#[test]
fn a_subscription_of_a_component_without_a_listener_is_reported() {
    let subscription = "[[subscription]]\nchannel = \"orders\"\ncomponent = \"site\"\n";
    golden("no-listener", &with_routes(&(route("/...", "site") + subscription), None));
}

#[test]
fn once_delivery_on_the_embedded_store_is_reported() {
    let subscription = "[[subscription]]\nchannel = \"orders\"\ncomponent = \"site\"\ndelivery = \"once\"\n";
    golden("once-embedded", &with_routes(&(route("/...", "site") + subscription), None));
}

#[test]
fn redis_without_a_grant_is_reported() {
    golden("redis-not-granted", &with_guest("spin", ""));
}

#[test]
fn a_component_from_an_unknown_registry_is_reported() {
    let digest = "0".repeat(64);
    let text = format!(
        "schema = 1\nhosts = [\"acme.localhost\"]\n\n[[component]]\nname = \"site\"\n\
         source = {{ oci = \"ghcr.io/team/site@sha256:{digest}\" }}\n\n{}",
        route("/...", "site")
    );
    golden("not-fetched", &Site::new().file("tenants/acme/tenant.toml", text));
}

#[test]
fn a_missing_client_ca_is_reported() {
    let site = with_certificate(certificate(&["acme.localhost"], 60));
    let text = std::fs::read_to_string(site.dir().join("tenants/acme/tenant.toml")).unwrap();
    let text = text.replace("key = \"key.pem\" }", "key = \"key.pem\", clients = { ca = \"clients.pem\" } }");
    golden("unreadable-clients", &site.file("tenants/acme/tenant.toml", text));
}

#[test]
fn redis_without_an_address_is_reported() {
    golden("redis-without-url", &Site::new().gateway("[storage]\nbackend = \"redis\"").tenant("acme", &acme()));
}

#[test]
fn a_public_operators_listener_is_reported() {
    let text = "schema = 1\n[listen]\nadmin = \"0.0.0.0:9443\"\n";
    let site = Site::new().tenant("acme", &acme()).file("config/gateway.toml", text);
    golden_warning("admin-exposed", &site);
}

#[test]
fn an_origin_with_a_path_is_reported() {
    golden("bad-origin", &Site::new().tenant("acme", &acme().with("[egress]\nallow = [\"https://api.example/v1\"]")));
}

#[test]
fn a_rate_without_an_amount_is_reported() {
    golden("rate-without-amount", &Site::new().tenant("acme", &acme().with("[quota]\nrequests = { burst = 10 }")));
}

#[test]
fn missing_files_are_reported() {
    let site = with_component(&std::fs::read(guest("echo")).unwrap(), "");
    let text = std::fs::read_to_string(site.dir().join("tenants/acme/tenant.toml")).unwrap();
    let text =
        text.replace("\"site.wasm\"\n", "\"site.wasm\"\nfiles = [{ source = \"assets\", destination = \"/\" }]\n");
    golden("bad-files", &site.file("tenants/acme/tenant.toml", text));
}

#[test]
fn every_code_has_an_explanation() {
    let explain = |code: &str| std::process::Command::new(tests::tollgate()).args(["explain", code]).output().unwrap();
    let told = explain("e0104");
    assert!(told.status.success());
    let text = String::from_utf8(told.stdout).unwrap();
    assert!(text.starts_with("E0104 host-conflict\n") && text.contains("keeps it"), "{text}");
    assert_eq!(explain("host-conflict").stdout, text.as_bytes());
    let unknown = explain("E9999");
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("E0104  host-conflict"));
}

#[test]
fn values_in_effect_are_shown_with_their_lines() {
    let site =
        Site::new().tenant("acme", &acme().with("[limits]\ntime = \"7s\"")).gateway("[defaults.limits]\nfuel = \"7M\"");
    let show = |arguments: &[&str]| {
        let output = std::process::Command::new(tests::tollgate())
            .args(["config", "show"])
            .args(arguments)
            .current_dir(site.dir())
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let text = show(&["--tenant", "acme", "--origin"]);
    let line = |key: &str| text.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
    assert!(line("limits.time = \"7s\"").ends_with("# tenants/acme/tenant.toml:4"), "{text}");
    assert!(line("limits.fuel = \"7M\"").contains("# config/gateway.toml:"), "{text}");
    assert!(line("quota.in_flight = 64").ends_with("# built in"), "{text}");
    let text = show(&["--origin", "--admin", "127.0.0.1:7"]);
    assert!(text.contains("listen.admin = \"127.0.0.1:7\"") && text.contains("# --admin or TOLLGATE_ADMIN"), "{text}");
}
