//! What Spin's HTTP trigger does beside routing: headers, static responses, files, private routes and chaining.

use tests::{Gateway, Protocol, Site, checked, empty, guest, request};

/// Tenants whose files name one manifest, each with the files beside it.
fn site(manifest: &str, ids: &[&str]) -> Site {
    ids.iter().fold(Site::new(), |site, id| {
        let file = format!("schema = 1\nhosts = [\"{id}.localhost\"]\napp = \"app/spin.toml\"\n");
        let site = site
            .file(&format!("tenants/{id}/tenant.toml"), file)
            .file(&format!("tenants/{id}/app/spin.toml"), manifest)
            .file(&format!("tenants/{id}/secret"), "beside the application");
        ["echo", "hostile"].iter().fold(site, |site, name| {
            site.file(&format!("tenants/{id}/app/{name}.wasm"), std::fs::read(guest(name)).unwrap())
        })
    })
}

const HEAD: &str = "spin_manifest_version = 2\n[application]\nname = \"a\"\n";

#[tokio::test]
async fn a_component_is_told_how_its_route_matched() {
    let manifest = format!(
        "{HEAD}[[trigger.http]]\nroute = \"/head/:userID/...\"\ncomponent = \"a\"\n\
         [[trigger.http]]\nroute = \"/head\"\ncomponent = \"a\"\n[component.a]\nsource = \"echo.wasm\"\n"
    );
    let gateway = Gateway::start(&site(&manifest, &["app"]));
    let client = gateway.client(Protocol::H2);
    let forged = [("spin-path-match-admin", "yes"), ("spin-client-addr", "10.0.0.1:1"), ("spin-full-url", "x")];
    let request = request("GET", "app.localhost", "/head/42/bar?k=v");
    let request = forged.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let text = client.send("app.localhost", request.body(empty()).unwrap()).await.text();
    let told: Vec<_> = text.lines().filter(|line| line.starts_with("spin-")).collect();
    let starts = |start: &str| told.iter().filter(|line| line.starts_with(start)).count();
    for line in [
        "spin-path-info: /bar",
        "spin-matched-route: /head/:userID/...",
        "spin-component-route: /head/:userID",
        "spin-raw-component-route: /head/:userID/...",
        "spin-base-path: /",
        "spin-path-match-userid: 42",
    ] {
        assert!(told.contains(&line), "{line} is not in {told:?}");
    }
    assert_eq!((starts("spin-full-url: https://app.localhost"), starts("spin-client-addr: 127.0.0.1:")), (1, 1));
    assert_eq!(told.len(), 8, "and nothing that the client made up: {told:?}");
    let text = client.get("app.localhost", "/head/").await.text();
    assert!(text.contains("spin-matched-route: /head\n"), "a slash at the end is nothing: {text}");
    gateway.quiet().await;
}

#[tokio::test]
async fn a_static_response_needs_no_component() {
    let manifest = format!(
        "{HEAD}[[trigger.http]]\nroute = \"/...\"\ncomponent = \"a\"\n[component.a]\nsource = \"echo.wasm\"\n\
         [[trigger.http]]\nroute = \"/gone\"\nstatic_response = {{ status_code = 410, headers = {{ x-why = \"old\" }}, body = \"gone for good\" }}\n\
         [[trigger.http]]\nroute = \"/empty\"\nstatic_response = {{}}\n"
    );
    let gateway = Gateway::start(&site(&manifest, &["app"]));
    for protocol in [Protocol::H1, Protocol::H2] {
        let client = gateway.client(protocol);
        let gone = client.get("app.localhost", "/gone").await;
        assert_eq!((gone.status.as_u16(), gone.text().as_str()), (410, "gone for good"));
        assert_eq!(gone.header("x-why"), "old");
        let record = gateway.record(&gone).await;
        assert_eq!((record["tenant"].as_str(), record["route"].as_str()), (Some("app"), Some("/gone")), "{record}");
        let head = client.call("HEAD", "app.localhost", "/gone", "").await;
        assert_eq!((head.status.as_u16(), head.text().as_str()), (410, ""));
        let blank = client.get("app.localhost", "/empty").await;
        assert_eq!((blank.status.as_u16(), blank.text().as_str()), (200, ""));
        assert_eq!(client.call("POST", "app.localhost", "/other", "echoed").await.text(), "echoed");
    }
    for (bad, wanted) in [
        ("{ status_code = 99 }", "a status from 200 to 599"),
        ("{ headers = { \"a b\" = \"c\" } }", "a valid header value"),
        ("{ body = 7 }", "a text"),
    ] {
        let manifest = format!("{HEAD}[[trigger.http]]\nroute = \"/\"\nstatic_response = {bad}\n");
        let (is_good, text) = checked(&site(&manifest, &["app"]), &[]);
        assert!(!is_good && text.contains(wanted) && text.contains("spin.toml:"), "{bad}: {text}");
    }
}

#[tokio::test]
async fn a_component_can_read_only_the_files_that_it_was_given() {
    let manifest = format!(
        "{HEAD}[[trigger.http]]\nroute = \"/...\"\ncomponent = \"a\"\n[component.a]\nsource = \"echo.wasm\"\n\
         files = [\"site/**/*\", {{ source = \"assets\", destination = \"/lib\" }}]\nexclude_files = [\"**/*.bak\"]\n\
         [[trigger.http]]\nroute = \"/none/...\"\ncomponent = \"none\"\n[component.none]\nsource = \"hostile.wasm\"\n"
    );
    let site = site(&manifest, &["app", "other"]);
    for (name, text) in [("site/index.html", "<p>1"), ("site/css/x.css", "x"), ("site/old.bak", "o"), ("assets/a", "A")]
    {
        site.write(&format!("tenants/app/app/{name}"), text);
    }
    site.write("tenants/other/app/site/theirs", "of the other tenant");
    site.write("tenants/other/app/assets/a", "B");
    let gateway = Gateway::start(&site);
    let client = gateway.client(Protocol::H2);
    let call = async |host: &str, what: &str, path: &str| {
        client.call("POST", &format!("{host}.localhost"), &format!("/files/{what}"), path.to_owned()).await.text()
    };
    for (what, path, wanted) in [
        ("list", "/", "lib site"),
        ("list", "/site", "css index.html"),
        ("read", "site/index.html", "<p>1"),
        ("read", "/site/css/../index.html", "<p>1"),
        ("read", "/lib/a", "A"),
        ("read", "/assets/a", "entity not found"),
        ("read", "/site/old.bak", "entity not found"),
        ("read", "/site/theirs", "entity not found"),
        ("read", "/spin.toml", "entity not found"),
        ("read", "/etc/passwd", "entity not found"),
    ] {
        assert_eq!(call("app", what, path).await, wanted, "{what} {path}");
    }
    for path in ["../secret", "/../secret", "site/../../../app/secret", "/site/../../other/x"] {
        let said = call("app", "read", path).await;
        assert!(
            ["operation not permitted", "permission denied", "entity not found"].contains(&said.as_str()),
            "{path}: {said}"
        );
    }
    for (what, path) in [
        ("write", "/new"),
        ("write", "/site/index.html"),
        ("append", "/site/index.html"),
        ("remove", "/site/index.html"),
        ("rename", "/site/index.html"),
        ("folder", "/x"),
    ] {
        let said = call("app", what, path).await;
        assert!(
            ["permission denied", "read-only filesystem or storage medium"].contains(&said.as_str()),
            "{what}: {said}"
        );
    }
    assert_eq!(call("other", "read", "/site/theirs").await, "of the other tenant");
    assert_eq!(call("other", "read", "/site/index.html").await, "entity not found");

    // A change is invisible until a reload, and then complete.
    site.write("tenants/app/app/site/index.html", "<p>2");
    site.write("tenants/app/app/site/more", "m");
    assert_eq!(call("app", "read", "/site/index.html").await, "<p>1");
    let before = gateway.metric("tollgate_config_generation").await;
    gateway.signal("HUP");
    while gateway.metric("tollgate_config_generation").await == before {}
    assert_eq!(call("app", "read", "/site/index.html").await, "<p>2");
    assert_eq!(call("app", "list", "/site").await, "css index.html more");
    gateway.quiet().await;
}

#[test]
fn files_outside_of_the_application_are_refused_with_their_place() {
    let said = |files: &str, link: Option<(&str, &str)>| {
        let manifest = format!(
            "{HEAD}[[trigger.http]]\nroute = \"/...\"\ncomponent = \"a\"\n[component.a]\nsource = \"echo.wasm\"\nfiles = {files}\n"
        );
        let site = site(&manifest, &["app"]).file("tenants/app/app/site/good", "g");
        if let Some((to, name)) = link {
            std::os::unix::fs::symlink(to, site.path(&format!("tenants/app/app/{name}"))).unwrap();
        }
        checked(&site, &[])
    };
    assert!(said("[\"site/**/*\"]", Some(("good", "site/inside"))).0);
    for (files, link) in [
        ("[\"site\"]", ("../../secret", "site/bad")),
        ("[\"site/*\"]", ("/etc/passwd", "site/bad")),
        ("[{ source = \"site\", destination = \"/\" }]", ("../..", "site/up")),
    ] {
        let (is_good, text) = said(files, Some(link));
        assert!(!is_good && text.contains("leads out of the application's folder"), "{files}: {text}");
        assert!(text.contains("spin.toml:"), "{text}");
    }
    for files in ["[\"../secret\"]", "[\"/etc/passwd\"]", "[{ source = \"site\" }]", "[7]"] {
        let (is_good, text) = said(files, None);
        assert!(!is_good && text.contains("a path or pattern below this folder"), "{files}: {text}");
    }
}

const CHAIN: &str = r#"
spin_manifest_version = 2
[application]
name = "a"
[[trigger.http]]
route = "/..."
component = "front"
[[trigger.http]]
route = { private = true }
component = "back_end"
[[trigger.http]]
route = "/fixed"
static_response = { status_code = 202, body = "fixed" }
[component.front]
source = "hostile.wasm"
allowed_outbound_hosts = ["http://back_end.spin.internal", "http://front.spin.internal", "http://self"]
[component.back_end]
source = "echo.wasm"
"#;

#[tokio::test]
async fn components_can_call_only_components_of_their_own_tenant() {
    let lonely = format!(
        "{HEAD}[[trigger.http]]\nroute = \"/...\"\ncomponent = \"front\"\n[component.front]\nsource = \"hostile.wasm\"\n\
         allowed_outbound_hosts = [\"http://back-end.spin.internal\", \"http://*.example.com:*\"]\n\
         [[trigger.http]]\nroute = {{ private = true }}\ncomponent = \"hidden\"\n[component.hidden]\nsource = \"echo.wasm\"\n"
    );
    let site = site(CHAIN, &["app"]);
    let site = ["echo", "hostile"].iter().fold(site, |site, name| {
        site.file(&format!("tenants/lonely/{name}.wasm"), std::fs::read(guest(name)).unwrap())
    });
    let file = "schema = 1\nhosts = [\"lonely.localhost\"]\napp = \"spin.toml\"\n";
    let site = site.file("tenants/lonely/tenant.toml", file).file("tenants/lonely/spin.toml", lonely);
    let gateway = Gateway::start(&site);
    let get = async |host: &str, path: &str| gateway.get(&format!("{host}.localhost"), path).await.text();
    let text = get("app", "/fetch/http/back_end.spin.internal/head/x").await;
    assert!(text.starts_with("200 GET ") && text.contains("spin-path-info: /head/x"), "{text}");
    assert!(text.contains("cdn-loop: tollgate; t="), "{text}");
    let of_inner = async || gateway.log("access").into_iter().find(|record| record["component"] == "back_end");
    let inner = tests::until("a record of its own", of_inner).await;
    assert_eq!((inner["tenant"].as_str(), inner["status"].as_u64()), (Some("app"), Some(200)), "{inner}");
    assert!(inner["fuel"].as_u64().is_some_and(|fuel| fuel > 0), "{inner}");

    let itself = get("app", "/fetch/http/self.alt/fixed").await;
    assert_eq!(itself, "202 fixed");
    let itself = get("app", "/fetch/http/self.alt/fetch/http/Back_End.spin.internal/head").await;
    assert!(itself.starts_with("200 200 GET "), "{itself}");
    // Without a grant, and for a component of another tenant.
    assert_eq!(get("lonely", "/fetch/http/hidden.spin.internal/head").await, "HttpRequestDenied");
    assert_eq!(get("lonely", "/fetch/http/self.alt/head").await, "HttpRequestDenied");
    let other = get("lonely", "/fetch/http/back-end.spin.internal/head").await;
    assert!(other.starts_with("404 "), "another tenant's is not found: {other}");
    assert!(get("app", "/fetch/http/back_end.spin.internal:81/head").await.starts_with("HttpRequestDenied"));
    // In a cycle, until the gateway refuses.
    let round = (0..12).fold("/fixed".to_owned(), |path, _| format!("/fetch/http/self.alt{path}"));
    let text = get("app", &round).await;
    assert!(text.contains("508 "), "{text}");
    gateway.quiet().await;
}
