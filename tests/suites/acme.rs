//! Certificates from a real ACME server, by either challenge type.

use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tests::{Gateway, Pebble, Site, Tenant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const NAME: &str = "one.example.com";

/// A site on ports that the CA knows, and the CA.
fn site(challenge: &str, seconds: u64) -> (Site, Pebble) {
    site_with(challenge, seconds, &serde_json::json!({}))
}

/// The same, with additional configuration for the CA.
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
async fn a_ca_issues_certificates_by_either_challenge_and_they_are_stored() {
    for challenge in ["http-01", "tls-alpn-01"] {
        let (site, pebble) = site(challenge, 90 * 86_400);
        let gateway = Gateway::start(&site);
        // No certificate is ordered for a host that no tenant has, however often it is requested.
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
        // The stored certificate is served after a restart, without another order.
        let orders = || pebble.said.lock().unwrap().iter().filter(|line| line.contains("Added order")).count();
        let before = orders();
        let again = Gateway::start(&site);
        assert_eq!(pebble.client(again.https).await.get(NAME, "/head").await.status.as_u16(), 200);
        // A later tenant gets its own certificate, with the stored account.
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
async fn a_certificate_is_renewed_before_it_expires() {
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
async fn a_cas_refusal_is_reported_and_not_retried_at_once() {
    let (site, _pebble) = site("http-01", 3600);
    // Nobody answers where the proof is expected.
    let gateway = Gateway::start_with(&site, &["--http", &tests::free_address().to_string()]);
    tests::until("a failure", async || {
        (gateway.metric("tollgate_certificates_failed_total").await >= 1.0).then_some(())
    })
    .await;
    // The line is written a moment after the count.
    let told = tests::until("the failure's line", async || {
        let told = gateway.log("tls").iter().map(ToString::to_string).collect::<String>();
        told.contains("no certificate").then_some(told)
    })
    .await;
    assert!(told.contains("\"tenant\":\"one\""), "{told}");
    assert!(told.contains("connection refused") || told.contains("onnect"), "what the CA said: {told}");
    assert!(told.contains("\"again_s\":6") || told.contains("\"again_s\":7"), "{told}");
}

#[tokio::test]
async fn gateways_on_one_redis_share_certificates_proofs_and_the_account() {
    for challenge in ["http-01", "tls-alpn-01"] {
        let redis = tests::Redis::start();
        // The CA validates only at the first gateway, and the second one orders.
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
        // The first gateway gets the tenant too, and adopts the existing certificate.
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
        // A later certificate is also ordered once, with the existing account, by either gateway.
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
async fn external_account_binding_is_sent_to_a_ca_that_requires_it() {
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

/// Serves the CA's directory with one more entry: renewal information that says that the first certificate must be renewed
/// at once, and all others in a year. Returns what it was asked about.
async fn with_renewal_information(pebble: &Pebble) -> (u16, Arc<Mutex<Vec<String>>>) {
    let [cert, key] = pebble.pair();
    let chain = vec![CertificateDer::from_pem_slice(&cert).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(&key).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut directory = pebble.directory().await;
    directory["renewalInfo"] = format!("https://localhost:{port}/renewal").into();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let of = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(tls.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let path = head.split(' ').nth(1).unwrap();
            let body = match path.strip_prefix("/renewal/") {
                None => directory.to_string(),
                Some(id) => {
                    let mut asked = of.lock().unwrap();
                    if !asked.contains(&id.to_owned()) {
                        asked.push(id.to_owned());
                    }
                    let year = if asked[0] == id { 2020 } else { 2999 };
                    format!(
                        "{{\"suggestedWindow\":{{\"start\":\"{year}-01-01T00:00:00Z\",\"end\":\"{year}-01-02T00:00:00Z\"}}}}"
                    )
                }
            };
            let head = format!("HTTP/1.1 200 OK\r\nretry-after: 3600\r\ncontent-length: {}\r\n\r\n", body.len());
            tls.write_all((head + &body).as_bytes()).await.unwrap();
            tls.shutdown().await.unwrap();
        }
    });
    (port, asked)
}

#[tokio::test]
async fn a_certificate_is_renewed_when_its_ca_suggests_it() {
    let (site, pebble) = site("http-01", 90 * 86_400);
    let (port, asked) = with_renewal_information(&pebble).await;
    let text = std::fs::read_to_string(site.config()).unwrap();
    let own = text.lines().find(|line| line.starts_with("directory = ")).unwrap();
    site.write("config/gateway.toml", text.replace(own, &format!("directory = \"https://localhost:{port}/dir\"")));
    let gateway = Gateway::start(&site);
    issued(&gateway, 2.0).await;
    tests::until("a question of the second one", async || (asked.lock().unwrap().len() >= 2).then_some(())).await;
    assert_eq!(pebble.client(gateway.https).await.get(NAME, "/head").await.status.as_u16(), 200);
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(gateway.metric("tollgate_certificates_issued_total").await, 2.0, "the second one stays");
    let asked = asked.lock().unwrap();
    assert!(asked.len() == 2 && asked.iter().all(|id| id.contains('.')), "{asked:?}");
}
