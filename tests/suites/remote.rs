//! Remote components: fetched by digest from a real registry and by URL, stored, and never needed from there again.

use tests::{Gateway, Protocol, Registry, Site, checked};

fn tenant(host: &str, source: &str) -> String {
    format!(
        "schema = 1\nhosts = [\"{host}\"]\n[[component]]\nname = \"site\"\nsource = {source}\n\
         [[route]]\npath = \"/...\"\ncomponent = \"site\"\n"
    )
}

fn site(registry: &Registry, more: &str) -> Site {
    let known = format!(
        "[egress]\nca = \"ca.pem\"\n[[registry]]\nurl = \"https://{}\"\nuser = \"puller\"\n\
         password = {{ file = \"password\" }}\n{more}",
        registry.host()
    );
    Site::new().gateway(&known).file("config/ca.pem", &registry.ca_pem).file("config/password", "pull-me\n")
}

fn echo() -> Vec<u8> {
    std::fs::read(tests::guest("echo")).unwrap()
}

/// The status. Nothing while the host has no certificate either.
async fn answers(gateway: &Gateway, host: &'static str) -> Option<u16> {
    let client = gateway.client(Protocol::H2);
    let asked = tokio::spawn(async move { client.get(host, "/head").await });
    asked.await.ok().map(|answer| answer.status.as_u16())
}

#[tokio::test]
async fn an_image_is_fetched_once_and_serves_without_its_registry() {
    let mut registry = Registry::start().await;
    let digest = registry.push("team/echo", "application/wasm", &echo()).await;
    let source = format!("{{ oci = \"{}/team/echo:latest@sha256:{digest}\" }}", registry.host());
    let site = site(&registry, "").file("tenants/one/tenant.toml", tenant("one.localhost", &source));
    let gateway = Gateway::start(&site);
    assert_eq!(answers(&gateway, "one.localhost").await, Some(200));
    registry.stop();
    // A second tenant with the same image, a reload of everything, and a restart: nothing is fetched.
    site.write("tenants/two/tenant.toml", tenant("two.localhost", &source));
    tests::until("the second", async || (answers(&gateway, "two.localhost").await == Some(200)).then_some(())).await;
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), Some(0));
    let gateway = Gateway::start(&site);
    assert_eq!(
        (answers(&gateway, "one.localhost").await, answers(&gateway, "two.localhost").await),
        (Some(200), Some(200))
    );
}

#[tokio::test]
async fn a_failed_fetch_is_reported_and_retried_and_delays_nobody_else() {
    let mut registry = Registry::start().await;
    let digest = registry.push("echo", "application/vnd.wasm.content.layer.v1+wasm", &echo()).await;
    registry.stop();
    let source = format!("{{ oci = \"{}/echo@sha256:{digest}\" }}", registry.host());
    let site = site(&registry, "")
        .tenant("here", &tests::Tenant::new("here.localhost", "echo"))
        .file("tenants/away/tenant.toml", tenant("away.localhost", &source));
    let gateway = Gateway::start(&site);
    assert_eq!(answers(&gateway, "here.localhost").await, Some(200));
    let problems = gateway.admin("/v1/problems").await;
    assert!(problems.contains("not-fetched") && problems.contains("Connection refused"), "{problems}");
    registry.start_again().await;
    tests::until("the component", async || (answers(&gateway, "away.localhost").await == Some(200)).then_some(()))
        .await;
}

#[tokio::test]
async fn only_a_matching_digest_from_an_allowed_place_is_accepted() {
    let registry = Registry::start().await;
    let host = registry.host();
    let image = registry.push("echo", "text/plain", &echo()).await;
    let none = "0".repeat(64);
    for (source, expected) in [
        (
            format!("{{ oci = \"{host}/echo@sha256:{image}\" }}"),
            "wanted one layer of application/wasm; found [text/plain]",
        ),
        (format!("{{ oci = \"{host}/echo@sha256:{none}\" }}"), "404 Not Found"),
        (
            format!("{{ oci = \"elsewhere.example/echo@sha256:{image}\" }}"),
            "add url = \"https://elsewhere.example\" there",
        ),
        (
            format!("{{ url = \"http://{host}/x.wasm\", sha256 = \"{none}\" }}"),
            "is not among the gateway's [[registry]]",
        ),
        // The registry's answer shows that it is a registry.
        (format!("{{ url = \"https://{host}/v2/\", sha256 = \"{none}\" }}"), &format!("which is not {none}")),
        ("{ oci = \"ghcr.io/team/echo:latest\" }".to_owned(), "`component.source` has an invalid value"),
    ] {
        let site = site(&registry, "").file("tenants/it/tenant.toml", tenant("it.localhost", &source));
        let (is_good, said) = checked(&site, &[]);
        assert!(!is_good && said.contains(expected), "{source}: {said}");
        assert!(!said.contains("pull-me"), "{said}");
    }
    // By URL, with the right digest: a blob of the same registry.
    let layer = {
        let bytes = echo();
        tests::hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes).as_ref())
    };
    let source = format!("{{ url = \"https://{host}/v2/echo/blobs/sha256:{layer}\", sha256 = \"{layer}\" }}");
    let site = site(&registry, "").file("tenants/it/tenant.toml", tenant("it.localhost", &source));
    let gateway = Gateway::start(&site);
    assert_eq!(answers(&gateway, "it.localhost").await, Some(200));
    // A stored component that was changed on the disk is fetched again.
    let kept = site.path(&format!("state/components/{layer}.wasm"));
    std::fs::write(&kept, "no wasm").unwrap();
    gateway.signal("TERM");
    gateway.wait();
    let gateway = Gateway::start(&site);
    assert_eq!(answers(&gateway, "it.localhost").await, Some(200));
    assert_eq!(std::fs::read(&kept).unwrap(), echo());
}
