//! Certificates from a real ACME server, by either proof.

use tests::{Gateway, Pebble, Site, Tenant};
use tokio::net::TcpStream;

const NAME: &str = "one.example.com";

/// A site on ports that the CA knows, and the CA.
fn site(challenge: &str, seconds: u64) -> (Site, Pebble) {
    site_with(challenge, seconds, &serde_json::json!({}))
}

/// The same, with more in the CA's configuration.
fn site_with(challenge: &str, seconds: u64, more: &serde_json::Value) -> (Site, Pebble) {
    let (http, https) = (tests::free_address(), tests::free_address());
    let pebble = Pebble::start_with(http.port(), https.port(), seconds, more);
    let site = Site::new().tenant("one", &Tenant::new(NAME, "echo")).gateway(&pebble.tls(challenge));
    let text = std::fs::read_to_string(site.config()).unwrap();
    let text = text.replace("https = [\"127.0.0.1:0\"]", &format!("https = [\"{https}\"]"));
    site.write("config/gateway.toml", text.replace("http = [\"127.0.0.1:0\"]", &format!("http = [\"{http}\"]")));
    (site, pebble)
}

async fn issued(gateway: &Gateway, count: f64) {
    tests::until(&format!("certificate {count} of {:?}", gateway.log("tls")), async || {
        (gateway.metric("tollgate_certificates_issued_total").await >= count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_ca_gives_certificates_by_either_proof_and_they_are_kept() {
    for challenge in ["http-01", "tls-alpn-01"] {
        let (site, pebble) = site(challenge, 90 * 86_400);
        let gateway = Gateway::start(&site);
        // Nobody's host is never asked for, however often it is asked.
        for _ in 0..3 {
            let stranger = gateway.client(tests::Protocol::H1);
            let tcp = tokio::net::TcpStream::connect(gateway.https).await.unwrap();
            assert!(stranger.shake("other.example.com", tcp).await.is_err());
        }
        issued(&gateway, 1.0).await;
        let answer = pebble.client(gateway.https).await.get(NAME, "/head").await;
        assert_eq!(answer.status.as_u16(), 200, "{challenge}");
        assert_eq!(gateway.metric("tollgate_certificates_failed_total").await, 0.0);
        let expires = gateway.tenant("one").await["certificate_not_after_ms"].as_u64().unwrap() / 1000;
        assert!(expires > 1_700_000_000);
        gateway.kill_9();
        // What was kept is served after a restart, without another order.
        let orders = || pebble.said.lock().unwrap().iter().filter(|line| line.contains("Added order")).count();
        let before = orders();
        let again = Gateway::start(&site);
        assert_eq!(pebble.client(again.https).await.get(NAME, "/head").await.status.as_u16(), 200);
        // A tenant that comes later has its own; the account is the one that was kept.
        let later = "schema = 1\nhosts = [\"two.example.com\"]\n";
        let first = std::fs::read_to_string(site.path("tenants/one/tenant.toml")).unwrap();
        site.write("tenants/two/tenant.toml", first.replace(&first[..first.find("[[component").unwrap()], later));
        issued(&again, 1.0).await;
        assert_eq!(pebble.client(again.https).await.get("two.example.com", "/head").await.status.as_u16(), 200);
        assert_eq!(orders(), before + 1, "{:#?}", pebble.said.lock().unwrap());
        let said = pebble.said.lock().unwrap().join("\n");
        assert!(!said.contains("other.example.com"), "{said}");
        assert_eq!(said.matches("There are now 1 accounts").count(), 1, "{said}");
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(site.path("state/acme/one.pem")).unwrap().permissions(),
        );
        assert_eq!(mode & 0o077, 0, "the key is this user's alone");
    }
}

#[tokio::test]
async fn a_certificate_is_renewed_before_it_ends() {
    let (site, pebble) = site("tls-alpn-01", 9);
    let gateway = Gateway::start(&site);
    issued(&gateway, 1.0).await;
    let of = |text: String| text.split("-----BEGIN CERTIFICATE").nth(1).unwrap().to_owned();
    let kept = || of(std::fs::read_to_string(site.path("state/acme/one.pem")).unwrap());
    let first = kept();
    issued(&gateway, 2.0).await;
    assert_ne!(kept(), first);
    assert_eq!(pebble.client(gateway.https).await.get(NAME, "/head").await.status.as_u16(), 200);
}

#[tokio::test]
async fn a_ca_that_says_no_is_told_of_and_not_asked_at_once() {
    let (site, _pebble) = site("http-01", 3600);
    // Nobody answers where the proof is looked for.
    let gateway = Gateway::start_with(&site, &["--http", &tests::free_address().to_string()]);
    tests::until("a failure", async || {
        (gateway.metric("tollgate_certificates_failed_total").await >= 1.0).then_some(())
    })
    .await;
    let told = gateway.log("tls").iter().map(ToString::to_string).collect::<String>();
    assert!(told.contains("no certificate") && told.contains("\"tenant\":\"one\""), "{told}");
    assert!(told.contains("connection refused") || told.contains("onnect"), "what the CA said: {told}");
    assert!(told.contains("\"again_s\":6") || told.contains("\"again_s\":7"), "{told}");
}

#[tokio::test]
async fn gateways_on_one_redis_share_certificates_proofs_and_the_account() {
    for challenge in ["http-01", "tls-alpn-01"] {
        let redis = tests::Redis::start();
        // The CA asks the first one only, and the second one asks the CA.
        let (site, pebble) = site(challenge, 90 * 86_400);
        let first_only = std::fs::read_to_string(site.config()).unwrap();
        let storage = format!("[storage]\nbackend = \"redis\"\nurl = \"{}\"\n", redis.url());
        let shared = |text: &str| text.replace("[storage]\n", &storage);
        site.write("config/gateway.toml", shared(&first_only));
        let tenant = std::fs::read_to_string(site.path("tenants/one/tenant.toml")).unwrap();
        std::fs::remove_dir_all(site.path("tenants/one")).unwrap();
        let first = Gateway::start(&site);
        let second = Site::new().tenant("one", &Tenant::new(NAME, "echo")).gateway(&pebble.tls(challenge));
        let text = std::fs::read_to_string(second.config()).unwrap();
        second.write("config/gateway.toml", shared(&text));
        let second = Gateway::start(&second);
        issued(&second, 1.0).await;
        assert_eq!(pebble.client(second.https).await.get(NAME, "/head").await.status.as_u16(), 200, "{challenge}");
        // The first one gets the tenant too, and takes the certificate that there is.
        site.write("tenants/one/tenant.toml", tenant);
        tests::until("the certificate", async || {
            (first.tenant("one").await["certificate_not_after_ms"].as_u64() > Some(0)).then_some(())
        })
        .await;
        let client = pebble.client(first.https).await;
        // It is known a moment before it is in force.
        tests::until("the certificate to be in force", async || {
            let stream = TcpStream::connect(first.https).await.unwrap();
            client.shake(NAME, stream).await.is_ok().then_some(())
        })
        .await;
        assert_eq!(client.get(NAME, "/head").await.status.as_u16(), 200, "{challenge}");
        let issued = async |of: &Gateway| of.metric("tollgate_certificates_issued_total").await;
        assert_eq!((issued(&first).await, issued(&second).await), (0.0, 1.0), "{challenge}");
        // What comes later is asked for once as well, by the account that there is, whichever of them asks.
        let later =
            std::fs::read_to_string(site.path("tenants/one/tenant.toml")).unwrap().replace(NAME, "two.example.com");
        site.write("tenants/two/tenant.toml", later);
        tests::until("the second certificate", async || (issued(&first).await >= 1.0).then_some(())).await;
        let said = pebble.said.lock().unwrap().join("\n");
        assert_eq!(said.matches("There are now 1 accounts").count(), 1, "{said}");
        assert_eq!(said.matches("There are now 2 accounts").count(), 0, "{said}");
        assert_eq!(said.matches("Added order").count(), 2, "{said}");
        assert_eq!(redis.ask("KEYS *acme:proofs*").trim(), "*0", "nothing is left of the proofs");
        assert_eq!(redis.ask("KEYS *acme:lock*").trim(), "*0");
    }
}

#[tokio::test]
async fn a_ca_that_wants_to_know_whose_account_it_is_is_told() {
    const KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let more =
        serde_json::json!({ "externalAccountBindingRequired": true, "externalAccountMACKeys": { "kid-1": KEY } });
    let (site, pebble) = site_with("http-01", 90 * 86_400, &more);
    let plain = std::fs::read_to_string(site.config()).unwrap();
    let gateway = Gateway::start(&site);
    tests::until("a refusal", async || {
        (gateway.metric("tollgate_certificates_failed_total").await > 0.0).then_some(())
    })
    .await;
    drop(gateway);
    site.write("eab", format!("{KEY}\n"));
    let told = "agree_to_terms = true\neab_kid = \"kid-1\"\neab_key = { file = \"../eab\" }\n";
    site.write("config/gateway.toml", plain.replace("agree_to_terms = true\n", told));
    let gateway = Gateway::start(&site);
    issued(&gateway, 1.0).await;
    assert_eq!(pebble.client(gateway.https).await.get(NAME, "/head").await.status.as_u16(), 200);
}
