//! Unmodified Spin applications: `app = "spin.toml"` in a tenant's file.

use tests::{Gateway, Protocol, Site, Tenant, checked, guest};

/// A tenant whose file names a manifest, and the files beside it.
fn site(file: &str, manifest: &str, guests: &[&str]) -> Site {
    let file = format!("schema = 1\nhosts = [\"app.localhost\"]\napp = \"spin.toml\"\n{file}");
    let mut site = Site::new().file("tenants/app/tenant.toml", file).file("tenants/app/spin.toml", manifest);
    for name in guests {
        site = site.file(&format!("tenants/app/target/{name}.wasm"), std::fs::read(guest(name)).unwrap());
    }
    site
}

/// The article's application, with its manifest of version 1.
const ROCK_PAPER_SCISSORS: &str = r#"
spin_version = "1"
authors = ["An Author <author@example.org>"]
description = "three components"
name = "rps"
trigger = { type = "http", base = "/" }
version = "0.1.0"

[[component]]
id = "rps_rock"
source = "target/rps-rock.wasm"
[component.trigger]
route = "/rock"
[component.build]
command = "cargo build --target wasm32-wasi --release"

[[component]]
id = "rps-paper"
source = "target/rps-paper.wasm"
environment = { WHO = "paper" }
[component.trigger]
route = "/paper"

[[component]]
id = "rps-scissors"
source = "target/rps-scissors.wasm"
[component.trigger]
route = "/scissors"
"#;

#[tokio::test]
async fn a_manifest_of_version_1_answers_on_its_routes() {
    let site = site("", ROCK_PAPER_SCISSORS, &["rps-rock", "rps-paper", "rps-scissors"]);
    let gateway = Gateway::start(&site);
    for name in ["rock", "paper", "scissors"] {
        let answer = gateway.get("app.localhost", &format!("/{name}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.text().to_lowercase().contains(name), "{}", answer.text());
    }
    assert_eq!(gateway.get("app.localhost", "/lizard").await.status, 404);
}

const SHOP: &str = r#"
spin_manifest_version = 2

[application]
name = "shop"
version = "1.0.0"
authors = []

[application.trigger.redis]
address = "redis://localhost:6379"

[variables]
greeting = { default = "hello" }
token = { required = true, secret = true }
channel = { default = "orders" }

[[trigger.http]]
route = "/..."
component = "five"

[[trigger.http]]
id = "seven"
route = "/variable/only"
component = "seven"

[[trigger.http]]
route = "/kv2/get/default"
component = "seven"

[[trigger.http]]
route = "/redis2/get/elsewhere"
component = "seven"

[[trigger.redis]]
channel = "{{ channel }}"
component = "on-order"

[component.five]
source = "target/spin-sdk-5.wasm"
allowed_outbound_hosts = ["redis://granted:6379"]
key_value_stores = ["default"]
[component.five.variables]
greeting = "{{ greeting }}, {{token}}!"
[component.five.build]
command = "cargo build"
watch = ["src/**/*.rs"]

[component.seven]
source = "target/spin-sdk-7.wasm"
key_value_stores = ["default"]
allowed_outbound_hosts = ["redis://*:*"]
variables = { only = "{{ token }}" }

[component.on-order]
source = "target/messages-5.wasm"
key_value_stores = ["default"]
allowed_outbound_hosts = ["redis://granted:6379"]
"#;

#[tokio::test]
async fn a_manifest_of_version_2_gets_its_grants_and_variables() {
    let site = site("[variables]\ntoken = { file = \"token\" }\n", SHOP, &["spin-sdk-5", "spin-sdk-7", "messages-5"]);
    let site = site.file("tenants/app/token", "s3cret\n");
    let gateway = Gateway::start(&site);
    let client = gateway.client(Protocol::H2);
    let call = async |path: &str, body: &str| client.call("POST", "app.localhost", path, body.to_owned()).await.text();
    assert_eq!(call("/variable/greeting", "").await, "hello, s3cret!");
    assert_eq!(call("/variable/only", "").await, "s3cret");
    for (path, wanted) in [
        ("/variable/token", "Undefined(\"no variable is called token\")"),
        ("/variable/channel", "Undefined(\"no variable is called channel\")"),
        ("/variable/NOT", "InvalidName"),
    ] {
        let said = call(path, "").await;
        assert!(said.contains(wanted), "{path}: {said}");
    }
    let set = tests::spin_words(&["k", "v"]);
    assert_eq!(call("/kv2/set/default", &set).await, "set");
    assert_eq!(call("/kv2/get/default", &tests::spin_words(&["k"])).await, tests::hex(b"v"));
    let said = call("/kv2/get/other", &tests::spin_words(&["k"])).await;
    assert!(said.contains("AccessDenied"), "not granted: {said}");
    assert_eq!(call("/redis2/set/granted", &set).await, "set");
    assert!(call("/redis2/set/elsewhere", &set).await.contains("InvalidAddress"));
    assert_eq!(call("/redis2/get/elsewhere", &tests::spin_words(&["k"])).await, tests::hex(b"v"), "any, and its own");
}

/// All problems of a manifest are reported at once, each with its place.
#[test]
fn unsupported_features_are_refused_by_name() {
    let said = |file: &str, manifest: &str| {
        let (is_good, text) = checked(&site(file, manifest, &["spin-sdk-5"]), &[]);
        assert!(!is_good);
        text
    };
    let head = "spin_manifest_version = 2\n[application]\nname = \"a\"\n";
    let trigger =
        "[[trigger.http]]\nroute = \"/...\"\ncomponent = \"a\"\n[component.a]\nsource = \"target/spin-sdk-5.wasm\"\n";
    for (more, wanted) in [
        ("sqlite_databases = [\"default\"]", "`component.a.sqlite_databases` is not served here"),
        ("ai_models = [\"llama\"]", "`component.a.ai_models` is not served here"),
        ("allowed_outbound_hosts = [\"unix:///run/db.sock\"]", "unix:///run/db.sock"),
        ("allowed_outbound_hosts = [\"http://10.0.0.0/33\"]", "http://10.0.0.0/33"),
        ("source_code = \"x\"", "`component.a.source_code` is not a key"),
        ("variables = { x = \"{{ nobody }}\" }", "\"nobody\""),
        ("variables = { x = \"{{ open\" }", "{{ without }}"),
        ("[variables]\ntoken = { required = true }", "the variable `token` has no value"),
        ("[variables]\ntoken = {}", "neither `required` nor a `default`"),
        ("[[trigger.http]]\nroute = { private = 1 }\ncomponent = \"a\"", "{ private = true }"),
        ("[[trigger.http]]\nroute = \"/b\"\ncomponent = \"b\"", "there is no such component"),
        ("[[trigger.redis]]\nchannel = \"c\"\ncomponent = \"a\"", "no message can start this component"),
        ("[[trigger.cron]]\ncomponent = \"a\"\nschedule = \"*\"", "`trigger.cron.cron_expression` is missing"),
        ("[[trigger.sqs]]\nqueue_url = \"x\"", "`trigger.sqs` is not served here"),
        ("[[trigger.whatever]]\nx = 1", "`trigger.whatever` is not served here"),
        ("[application.trigger.http]\nbase = \"/b\"", "`application.trigger.http.base` is not served here"),
    ] {
        let text = said("", &format!("{head}{trigger}{more}\n"));
        assert!(text.contains(wanted) && text.contains("spin.toml:"), "{more}: {text}");
    }
    assert!(said("", "name = \"x\"").contains("`spin_manifest_version` is missing"));
    assert!(
        said("[[route]]\npath = \"/...\"\ncomponent = \"x\"\n", &format!("{head}{trigger}"))
            .contains("exclude each other")
    );
    let (is_good, text) = checked(&site("", &format!("{head}{trigger}"), &["spin-sdk-5"]), &[]);
    assert!(is_good, "an import is no use of it, and a call says what is not granted: {text}");
}

/// Interfaces in an SDK's world that the gateway does not serve still link, and a call returns the interface's own error.
#[tokio::test]
async fn a_guest_can_continue_after_a_call_to_an_unserved_interface() {
    let manifest = "spin_manifest_version = 2\n[application]\nname = \"a\"\n[[trigger.http]]\nroute = \"/...\"\ncomponent = \"a\"\n\
                    [component.a]\nsource = \"target/spin-sdk-5.wasm\"\n";
    let site = site("", manifest, &["spin-sdk-5"]);
    let gateway = Gateway::start(&site);
    let answer = gateway.get("app.localhost", "/sqlite").await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "false".to_owned()));
    let path = site.path("state/logs/app.log");
    let wanted = "fermyon:spin/sqlite@2.0.0#[static]connection.open was called: this interface is not served here";
    let log = async || std::fs::read_to_string(&path).ok().filter(|text| text.contains(wanted));
    tests::until("the tenant's log", log).await;
    let said = gateway.get("app.localhost", "/kv2/get/default").await.text();
    assert!(said.contains("AccessDenied"), "and what is not granted is refused: {said}");
}

/// Values come from the tenant's file and the gateway's environment, and reach only their own tenant.
#[tokio::test]
async fn variables_come_from_the_tenants_file_and_the_gateways_environment() {
    let manifest = r#"
spin_manifest_version = 2
[application]
name = "a"
[variables]
one = { required = true }
two = { default = "two" }
[[trigger.http]]
route = "/..."
component = "a"
[component.a]
source = "target/spin-sdk-5.wasm"
key_value_stores = ["default"]
allowed_outbound_hosts = ["redis://granted:6379"]
[component.a.variables]
one = "{{ one }}"
two = "{{ two }}"
"#;
    let plain = Tenant::new("plain.localhost", "spin-sdk-5").stores(&["default"]).redis(&["redis://granted:6379"]);
    let plain = plain.with("[variables]\nown = \"of the tenant\"\n");
    let site = site("", manifest, &["spin-sdk-5"]).tenant("plain", &plain);
    let variables = [("TOLLGATE_VARIABLE__APP__ONE", "of the environment".to_owned())];
    let gateway = Gateway::start_in(&site, &[], &variables);
    assert_eq!(gateway.get("app.localhost", "/variable/one").await.text(), "of the environment");
    assert_eq!(gateway.get("app.localhost", "/variable/two").await.text(), "two");
    assert_eq!(gateway.get("plain.localhost", "/variable/own").await.text(), "of the tenant");
    assert!(gateway.get("plain.localhost", "/variable/one").await.text().contains("Undefined"));
}
