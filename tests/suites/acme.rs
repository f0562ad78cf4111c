//! Certificates from a real ACME server, by either proof.

use std::net::SocketAddr;

use tests::{Gateway, Pebble, Site, Tenant};

const NAME: &str = "one.example.com";

/// A site on ports that the CA knows, and the CA.
fn site(challenge: &str, seconds: u64) -> (Site, Pebble) {
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (http, https): (SocketAddr, SocketAddr) = (free(), free());
    let pebble = Pebble::start(http.port(), https.port(), seconds);
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
        let expires = gateway.status().await["tenants"][0]["certificate_expires"].as_u64().unwrap();
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
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = Gateway::start_with(&site, &["--http", &free.to_string()]);
    tests::until("a failure", async || {
        (gateway.metric("tollgate_certificates_failed_total").await >= 1.0).then_some(())
    })
    .await;
    let told = gateway.log("tls").iter().map(ToString::to_string).collect::<String>();
    assert!(told.contains("no certificate") && told.contains("\"tenant\":\"one\""), "{told}");
    assert!(told.contains("connection refused") || told.contains("onnect"), "what the CA said: {told}");
    assert!(told.contains("\"again_s\":6") || told.contains("\"again_s\":7"), "{told}");
}
