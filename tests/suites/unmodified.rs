//! Unmodified Spin applications: which route answers and what it is told, which grants apply, and names.

use tests::{Gateway, Protocol, Site, Storage, checked, guest, request};

/// A tenant with a manifest, and the rest of its own file.
fn site(manifest: &str, file: &str, guests: &[&str]) -> Site {
    let file = format!("schema = 1\nhosts = [\"app.localhost\"]\napp = \"spin.toml\"\n{file}");
    let site = Site::new().file("tenants/app/tenant.toml", file).file("tenants/app/spin.toml", manifest);
    guests
        .iter()
        .fold(site, |site, name| site.file(&format!("tenants/app/{name}.wasm"), std::fs::read(guest(name)).unwrap()))
}

const HEAD: &str = "spin_manifest_version = 2\n[application]\nname = \"a\"\n";

/// A manifest with these routes, each of its own component, which prints on `/head` what it was told.
fn routes(routes: &[&str]) -> String {
    let one = |(number, route): (usize, &&str)| {
        format!(
            "[[trigger.http]]\nroute = \"{route}\"\ncomponent = \"c{number}\"\n[component.c{number}]\nsource = \"echo.wasm\"\n"
        )
    };
    HEAD.to_owned() + &routes.iter().enumerate().map(one).collect::<String>()
}

async fn told(gateway: &Gateway, path: &str) -> Vec<String> {
    let text = gateway.get("app.localhost", path).await.text();
    text.lines().filter(|line| line.starts_with("spin-")).map(str::to_owned).collect()
}

#[tokio::test]
async fn routes_of_each_form_answer_and_tell_how_they_matched() {
    let manifest = routes(&["/head/:path_segment/x", "/head/api/*", "/head/:id.json", "/head", "/head/..."]);
    let gateway = Gateway::start(&site(&manifest, "", &["echo"]));
    for (path, wanted) in [
        (
            "/head/seven/x",
            &["spin-path-match-path-segment: seven", "spin-matched-route: /head/:path_segment/x", "spin-path-info: "][..],
        ),
        (
            "/head/api/a/b",
            &["spin-raw-component-route: /head/api/*", "spin-component-route: /head/api/*", "spin-path-info: /a/b"],
        ),
        ("/head/7.json", &["spin-path-match-id: 7", "spin-matched-route: /head/:id.json"]),
        ("/head//", &["spin-matched-route: /head", "spin-path-info: "]),
        ("/head/y/z/", &["spin-matched-route: /head/...", "spin-component-route: /head", "spin-path-info: /y/z/"]),
        ("/head/%73%2fx/x", &["spin-path-match-path-segment: s%2Fx"]),
    ] {
        let told = told(&gateway, path).await;
        for line in wanted {
            assert!(told.iter().any(|told| told.trim_end() == line.trim_end()), "{path}: {line:?} is not in {told:?}");
        }
        assert!(told.contains(&"spin-base-path: /".to_owned()), "{told:?}");
    }
    assert_eq!(gateway.get("app.localhost", "/other").await.status, 404);
}

#[tokio::test]
async fn the_later_of_two_equal_routes_answers_and_check_warns() {
    let manifest = format!(
        "{HEAD}[[trigger.http]]\nroute = \"/...\"\ncomponent = \"a\"\n[[trigger.http]]\nroute = \"/...\"\ncomponent = \"b\"\n\
         [component.a]\nsource = \"echo.wasm\"\nenvironment = {{ WHO = \"a\" }}\n[component.b]\nsource = \"echo.wasm\"\nenvironment = {{ WHO = \"b\" }}\n"
    );
    let site = site(&manifest, "", &["echo"]);
    let (is_good, text) = checked(&site, &[]);
    assert!(is_good && text.contains("W0406") && text.contains("spin.toml:5:9"), "{text}");
    let gateway = Gateway::start(&site);
    assert_eq!(gateway.get("app.localhost", "/env/WHO").await.text(), "b", "as Spin 4.0.2 has it");
}

#[tokio::test]
async fn a_base_of_version_1_has_no_effect_and_causes_a_warning() {
    let manifest = "spin_version = \"1\"\nname = \"a\"\ntrigger = { type = \"http\", base = \"/base\" }\n\
                    [[component]]\nid = \"a\"\nsource = \"echo.wasm\"\n[component.trigger]\nroute = \"/head/...\"\n";
    let site = site(manifest, "", &["echo"]);
    let (is_good, text) = checked(&site, &[]);
    assert!(is_good && text.contains("W0407") && text.contains("`trigger.base` has no effect"), "{text}");
    let gateway = Gateway::start(&site);
    let told = told(&gateway, "/head/x").await;
    for line in ["spin-base-path: /", "spin-matched-route: /head/...", "spin-path-info: /x"] {
        assert!(told.iter().any(|told| told == line), "{line} is not in {told:?}");
    }
    assert_eq!(gateway.get("app.localhost", "/base/head/x").await.status, 404);
}

/// A component that sends requests, and its grants.
fn fetching(grants: &str) -> String {
    format!(
        "{HEAD}[[trigger.http]]\nroute = \"/fetch/...\"\ncomponent = \"front\"\n[component.front]\nsource = \"hostile.wasm\"\n\
         allowed_outbound_hosts = [{grants}]\n\
         [[trigger.http]]\nroute = \"/head/...\"\ncomponent = \"echo\"\n[component.echo]\nsource = \"echo.wasm\"\n\
         [[trigger.http]]\nroute = {{ private = true }}\ncomponent = \"hidden\"\n[component.hidden]\nsource = \"echo.wasm\"\n"
    )
}

#[tokio::test]
async fn a_relative_url_with_only_a_port_is_the_applications_own() {
    let gateway = Gateway::start(&site(&fetching("\"http://self\""), "", &["hostile", "echo"]));
    for authority in [":80", ":443", "self.alt"] {
        let text = gateway.get("app.localhost", &format!("/fetch/http/{authority}/head/x")).await.text();
        assert!(text.starts_with("200 GET ") && text.contains("spin-path-info: /x"), "{authority}: {text}");
    }
    let text = gateway.get("app.localhost", "/fetch/http/hidden.spin.internal/head").await.text();
    assert_eq!(text, "HttpRequestDenied");
}

#[tokio::test]
async fn a_grant_of_everything_includes_the_applications_own_components() {
    let gateway = Gateway::start(&site(&fetching("\"*://*:*\""), "", &["hostile", "echo"]));
    for path in ["/fetch/http/hidden.spin.internal/head", "/fetch/http/:80/head"] {
        let text = gateway.get("app.localhost", path).await.text();
        assert!(text.starts_with("200 GET "), "{path}: {text}");
    }
    let nobody = gateway.get("app.localhost", "/fetch/http/nobody.spin.internal/head").await.text();
    assert!(nobody.starts_with("404 "), "{nobody}");
    assert_eq!(gateway.get("app.localhost", "/fetch/http/127.0.0.1:9/").await.text(), "DestinationIpProhibited");
}

/// A request without a grant is denied; a granted name with an internal address is prohibited; an address where nothing
/// listens refuses.
#[tokio::test]
async fn grants_may_name_any_depth_port_ranges_and_networks() {
    let grants =
        "\"http://*.deep.localhost:8000..8002\", \"http://127.0.0.0/8:9\", \"http://0.0.0.0/0:10\", \"mqtt://m:1883\"";
    let site = site(&fetching(grants), "[egress]\nallow = [\"http://127.0.0.1:11\"]\n", &["hostile", "echo"]);
    let (is_good, text) = checked(&site, &[]);
    assert!(is_good && text.contains("W0407") && text.contains("mqtt://m:1883"), "{text}");
    let gateway = Gateway::start(&site);
    for (authority, wanted) in [
        ("a.deep.localhost:8000", "DestinationIpProhibited"),
        ("a.b.deep.localhost:8001", "DestinationIpProhibited"),
        ("deep.localhost:8000", "HttpRequestDenied"),
        ("a.deep.localhost:8002", "HttpRequestDenied"),
        // Nothing listens there.
        ("127.0.0.1:9", "ConnectionRefused"),
        ("127.1.2.3:9", "ConnectionRefused"),
        ("127.0.0.1:10", "DestinationIpProhibited"),
        // The grants of tenant.toml are added to the manifest's.
        ("127.0.0.1:11", "ConnectionRefused"),
        ("127.0.0.1:12", "HttpRequestDenied"),
    ] {
        let text = gateway.get("app.localhost", &format!("/fetch/http/{authority}/")).await.text();
        assert_eq!(text, wanted, "{authority}");
    }
}

#[test]
fn an_undeclared_variable_is_reported() {
    let manifest = format!("{HEAD}[variables]\ngreeting = {{ default = \"x\" }}\n{}", &routes(&["/"])[HEAD.len()..]);
    let (is_good, text) = checked(&site(&manifest, "[variables]\ngreting = \"hello\"\n", &["echo"]), &[]);
    assert!(is_good && text.contains("tenant.toml:5") && text.contains("did you mean `greeting`?"), "{text}");
}

#[tokio::test]
async fn stores_keep_the_manifests_names_and_are_separate() {
    let manifest = format!(
        "{HEAD}[[trigger.http]]\nroute = \"/...\"\ncomponent = \"A_b\"\n[component.A_b]\nsource = \"spin-sdk-5.wasm\"\n\
         key_value_stores = [\"my_store\", \"my-store\", \"MY_STORE\", \"my%5Fstore\", \"My Store: 1\"]\n\
         [[trigger.http]]\nroute = \"/kv2/get/my-store\"\ncomponent = \"a-b\"\n[component.a-b]\nsource = \"spin-sdk-5.wasm\"\n\
         key_value_stores = [\"my-store\"]\n"
    );
    for storage in Storage::each() {
        let site = site(&manifest, "[store_ttl]\nMY_STORE = \"1h\"\n", &["spin-sdk-5"]);
        let gateway = Gateway::start_with(&site, &["--storage", &storage.url()]);
        gateway.storage().await;
        let client = gateway.client(Protocol::H2);
        let stores = ["my_store", "my-store", "MY_STORE", "my%5Fstore"];
        for store in stores {
            let body = tests::spin_words(&["key", store]);
            let path = format!("/kv2/set/{}", store.replace('%', "%25"));
            let said = client.call("POST", "app.localhost", &path, body).await.text();
            // The guest does not decode escapes in a path.
            let is_plain = !store.contains('%');
            assert_eq!(said == "set", is_plain, "{store}: {said}");
        }
        for store in &stores[..3] {
            let path = format!("/kv2/get/{store}");
            let got = client.call("POST", "app.localhost", &path, tests::spin_words(&["key"])).await.text();
            assert_eq!(got, tests::hex(store.as_bytes()), "{store}");
        }
        let kv = |arguments: &[&str]| {
            let (code, said) = gateway.tell(&site, &[&["kv"], arguments].concat());
            assert_eq!(code, Some(0), "{arguments:?}: {said}");
            said
        };
        assert_eq!(kv(&["get", "--tenant", "app", "--store", "my_store", "key"]), "my_store");
        for store in ["My Store: 1", "my%5Fstore"] {
            kv(&["set", "--tenant", "app", "--store", store, "key", store]);
            assert_eq!(kv(&["get", "--tenant", "app", "--store", store, "key"]), store);
        }
        let usage = kv(&["usage", "--tenant", "app"]);
        for store in stores.iter().chain(&["My Store: 1"]) {
            assert!(usage.contains(&format!("  store {store}\n")), "{store}: {usage}");
        }
        kv(&["purge", "--tenant", "app", "--store", "my_store", "--yes"]);
        assert_eq!(kv(&["list", "--tenant", "app", "--store", "my_store"]), "");
        assert_eq!(kv(&["list", "--tenant", "app", "--store", "my-store"]), "key\n");
        // Two ids with different spellings are two components.
        for (path, wanted) in [("/kv2/get/MY_STORE", "A_b"), ("/kv2/get/my-store", "a-b")] {
            let body = tests::spin_words(&["key"]);
            let request = request("POST", "app.localhost", path).body(tests::full(body)).unwrap();
            let answer = client.send("app.localhost", request).await;
            assert_eq!(gateway.record(&answer).await["component"].as_str(), Some(wanted));
        }
    }
}
