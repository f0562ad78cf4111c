//! Client certificates: who may use a tenant that asks for them, what its guest is told, and what nobody can borrow.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tests::{Gateway, Protocol, Site, Tenant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::client::TlsStream;

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca(name: &str) -> Ca {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate with its key.
fn client(ca: &Ca, name: &str, serial: u64) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from(serial));
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, ca).unwrap();
    (certificate.der().clone(), PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap())
}

/// A revocation list with these serial numbers.
fn revoked(ca: &Ca, serials: &[u64]) -> String {
    let revoked = |serial: &u64| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: date_time_ymd(2026, 1, 1),
        reason_code: Some(RevocationReason::KeyCompromise),
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2026, 1, 1),
        next_update: date_time_ymd(2066, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(ca).unwrap().pem().unwrap()
}

/// A client's TLS configuration, with or without a certificate.
fn config(
    gateway: &Gateway,
    own: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&gateway.ca_pem).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots);
    Arc::new(match own {
        Some((certificate, key)) => config.with_client_auth_cert(vec![certificate], key).unwrap(),
        None => config.with_no_client_auth(),
    })
}

/// Sends a request for `host` after a handshake for `name`. Returns the answer, and whether a session was resumed.
async fn ask(
    gateway: &Gateway,
    config: &Arc<rustls::ClientConfig>,
    name: &str,
    host: &str,
) -> std::io::Result<(String, bool)> {
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
    let tcp = tokio::net::TcpStream::connect(gateway.https).await.unwrap();
    let mut tls: TlsStream<_> = connector.connect(name.to_owned().try_into().unwrap(), tcp).await?;
    let request = format!(
        "GET /head HTTP/1.1\r\nhost: {host}\r\nx-forwarded-client-cert: Hash=forged\r\nclient-cert: :Zm9yZ2Vk:\r\n\
         connection: close\r\n\r\n"
    );
    tls.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    tls.read_to_end(&mut answer).await?;
    let resumed = tls.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
    Ok((String::from_utf8(answer).unwrap(), resumed))
}

fn status(answer: &std::io::Result<(String, bool)>) -> Option<&str> {
    answer.as_ref().ok().and_then(|(text, _)| text.split(' ').nth(1))
}

struct Fixture {
    ours: Ca,
    theirs: Ca,
    site: Site,
    gateway: Gateway,
}

/// `closed` requires client certificates of `ours`, `asked` accepts those of `theirs`, `open` asks for none.
fn fixture() -> Fixture {
    let (ours, theirs) = (ca("ours"), ca("theirs"));
    let closed = "[tls.clients]\nca = \"../../pki/ours.pem\"\nrevoked = \"../../pki/list.pem\"";
    let asked = "[tls.clients]\nca = \"../../pki/theirs.pem\"\nrequired = false";
    let site = Site::new()
        .tenant("closed", &Tenant::new("closed.localhost", "echo").with(closed))
        .tenant("asked", &Tenant::new("asked.localhost", "echo").with(asked))
        .tenant("open", &Tenant::new("open.localhost", "echo"))
        .file("pki/ours.pem", ours.pem())
        .file("pki/theirs.pem", theirs.pem())
        .file("pki/list.pem", revoked(&ours, &[13]));
    let gateway = Gateway::start(&site);
    Fixture { ours, theirs, site, gateway }
}

#[tokio::test]
async fn only_clients_with_a_certificate_are_accepted_and_the_guest_learns_which() {
    let Fixture { ours, theirs, gateway, .. } = fixture();
    let closed = "closed.localhost";
    let known = config(&gateway, Some(client(&ours, "Ada", 7)));
    let answer = ask(&gateway, &known, closed, closed).await.unwrap().0;
    let told = answer.lines().find_map(|line| line.strip_prefix("x-forwarded-client-cert: ")).unwrap();
    assert!(told.starts_with("Hash=") && told.contains(";Subject=\"CN=Ada\""), "{told}");
    assert!(!answer.contains("forged") && !answer.contains("Zm9yZ2Vk"), "{answer}");
    // No certificate, another CA's, and a revoked one: the handshake fails.
    for own in [None, Some(client(&theirs, "Ada", 7)), Some(client(&ours, "Eve", 13))] {
        assert!(ask(&gateway, &config(&gateway, own), closed, closed).await.is_err());
    }
    // A tenant that only asks accepts anybody, and tells its guest who it is if it knows.
    let asked = "asked.localhost";
    let answer = ask(&gateway, &config(&gateway, None), asked, asked).await.unwrap().0;
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("client-cert"), "{answer}");
    let answer = ask(&gateway, &config(&gateway, Some(client(&theirs, "Bob", 8))), asked, asked).await.unwrap().0;
    assert!(answer.contains(";Subject=\"CN=Bob\""), "{answer}");
    // A tenant that does not ask tells its guest nothing.
    let answer = ask(&gateway, &known, "open.localhost", "open.localhost").await.unwrap().0;
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("client-cert"), "{answer}");
}

#[tokio::test]
async fn the_certificate_requirement_cannot_be_bypassed() {
    let Fixture { ours, gateway, .. } = fixture();
    let (nobody, known) = (config(&gateway, None), config(&gateway, Some(client(&ours, "Ada", 7))));
    for name in ["open.localhost", "asked.localhost", "nobody.localhost", "127.0.0.1"] {
        for config in [&nobody, &known] {
            let answer = ask(&gateway, config, name, "closed.localhost").await;
            // The development CA's certificate for strangers names only `localhost`.
            let status = status(&answer);
            assert!(matches!(status, Some("421") | None), "by {name}: {status:?}");
        }
    }
    // Without a server name.
    let mut config = (*nobody).clone();
    config.enable_sni = false;
    config.dangerous().set_certificate_verifier(Arc::new(Anybody::default()));
    let answer = ask(&gateway, &Arc::new(config), "closed.localhost", "closed.localhost").await;
    assert_eq!(status(&answer), Some("421"), "{answer:?}");
    // A client that claims to be a CA validating a challenge.
    let mut config = (*nobody).clone();
    config.alpn_protocols = vec![b"acme-tls/1".to_vec(), b"http/1.1".to_vec()];
    let answer = ask(&gateway, &Arc::new(config), "closed.localhost", "closed.localhost").await;
    assert_eq!(status(&answer), Some("421"), "{answer:?}");
    // The same over HTTP/2 and HTTP/1.1.
    let answer = gateway.client(Protocol::H2).get("open.localhost", "/head").await;
    assert_eq!(answer.status.as_u16(), 200);
}

#[tokio::test]
async fn a_session_resumes_only_with_its_tenant_and_while_its_ca_is_trusted() {
    let Fixture { ours, theirs, site, gateway } = fixture();
    let closed = "closed.localhost";
    let known = config(&gateway, Some(client(&ours, "Ada", 7)));
    assert!(!ask(&gateway, &known, closed, closed).await.unwrap().1);
    let (answer, is_resumed) = ask(&gateway, &known, closed, closed).await.unwrap();
    assert!(is_resumed && answer.contains("CN=Ada"), "{answer}");
    // Editing something else keeps the sessions.
    let path = site.path("tenants/open/tenant.toml");
    std::fs::write(&path, std::fs::read_to_string(&path).unwrap() + "\n# edited\n").unwrap();
    let before = gateway.status().await["generation"].as_u64();
    tests::until("the edit", async || (gateway.status().await["generation"].as_u64() > before).then_some(())).await;
    assert!(ask(&gateway, &known, closed, closed).await.unwrap().1);
    // With another CA in force, neither the ticket nor the certificate is valid.
    site.write("pki/list.pem", revoked(&theirs, &[]));
    site.write("pki/ours.pem", theirs.pem());
    tests::until("the other CA", async || ask(&gateway, &known, closed, closed).await.is_err().then_some(())).await;
    let other = config(&gateway, Some(client(&theirs, "Bob", 8)));
    assert!(ask(&gateway, &other, closed, closed).await.unwrap().0.contains("CN=Bob"));
}

/// A certificate that is valid for this many more seconds.
fn short_lived(ca: &Ca, seconds: u64) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Ada");
    params.not_after = (std::time::SystemTime::now() + std::time::Duration::from_secs(seconds)).into();
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, ca).unwrap();
    (certificate.der().clone(), PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap())
}

#[tokio::test]
async fn a_client_is_served_only_while_its_certificate_is_valid() {
    let Fixture { ours, theirs, gateway, .. } = fixture();
    let (closed, asked) = ("closed.localhost", "asked.localhost");
    // Handshakes of one client each: one that must show a certificate, one that may.
    let known = config(&gateway, Some(short_lived(&ours, 12)));
    let welcome = config(&gateway, Some(short_lived(&theirs, 12)));
    for (config, name) in [(&known, closed), (&welcome, asked)] {
        assert!(ask(&gateway, config, name, name).await.unwrap().0.contains("CN=Ada"));
        assert!(ask(&gateway, config, name, name).await.unwrap().1, "a session is resumed while it is good");
    }
    // A connection that stays open, with or without a response in progress.
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(&known));
    let tcp = tokio::net::TcpStream::connect(gateway.https).await.unwrap();
    let mut tls = connector.connect(closed.to_owned().try_into().unwrap(), tcp).await.unwrap();
    let request = format!("GET /head HTTP/1.1\r\nhost: {closed}\r\n\r\n");
    let asked_again = async |tls: &mut TlsStream<tokio::net::TcpStream>| {
        tls.write_all(request.as_bytes()).await.ok()?;
        let mut answer = [0; 4096];
        let read = tls.read(&mut answer).await.ok().filter(|read| *read > 0)?;
        Some(String::from_utf8_lossy(&answer[..read]).into_owned())
    };
    assert!(asked_again(&mut tls).await.unwrap().starts_with("HTTP/1.1 200"));
    tests::until("the end of the connection", async || match asked_again(&mut tls).await {
        Some(answer) if !answer.contains(" 421 ") => None,
        _ => Some(()),
    })
    .await;
    assert!(ask(&gateway, &known, closed, closed).await.is_err(), "neither by a ticket nor anew");
    // If a certificate is optional, a resumed session comes in as anonymous.
    if let Ok((answer, _)) = ask(&gateway, &welcome, asked, asked).await {
        assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("CN=Ada"), "{answer}");
    }
}

#[tokio::test]
async fn a_tenants_connections_are_limited() {
    let few = Tenant::new("few.localhost", "echo").with("[quota]\nconnections = 3");
    let site = Site::new().tenant("few", &few).tenant("many", &Tenant::new("many.localhost", "echo"));
    let gateway = Gateway::start(&site);
    let client = gateway.client(Protocol::H1);
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(client.tls("few.localhost").await);
    }
    let tcp = tokio::net::TcpStream::connect(gateway.https).await.unwrap();
    assert!(client.shake("few.localhost", tcp).await.is_err(), "the fourth");
    assert_eq!(client.get("many.localhost", "/head").await.status.as_u16(), 200, "nobody else is affected");
    let usage = gateway.tenant("few").await["usage"].clone();
    assert_eq!(usage["connections"], serde_json::json!({ "now": 3, "max": 3 }), "{usage}");
    held.pop();
    tests::until("a place", async || {
        let tcp = tokio::net::TcpStream::connect(gateway.https).await.unwrap();
        client.shake("few.localhost", tcp).await.ok()
    })
    .await;
}

/// Trusts every server: this suite tests the other side.
#[derive(Debug)]
pub(crate) struct Anybody(pub(crate) Vec<rustls::SignatureScheme>);

impl Default for Anybody {
    fn default() -> Self {
        Self(vec![rustls::SignatureScheme::ECDSA_NISTP256_SHA256, rustls::SignatureScheme::ED25519])
    }
}

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &rustls::pki_types::ServerName<'_>,
        _ocsp: &[u8],
        _now: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.clone()
    }
}

/// The handshake configuration refers to all certificates and back. Code that inspects a tenant must not follow that cycle.
#[tokio::test]
async fn a_tenant_with_client_certificates_can_be_inspected() {
    let Fixture { ours, gateway, .. } = fixture();
    let before = gateway.operate("GET", "/v1/tenants/closed", "").await.header("etag").to_owned();
    let known = config(&gateway, Some(client(&ours, "Ada", 7)));
    ask(&gateway, &known, "closed.localhost", "closed.localhost").await.unwrap();
    let answer = gateway.operate("GET", "/v1/tenants/closed", "").await;
    assert_eq!((answer.status.as_u16(), answer.header("etag")), (200, &*before), "a handshake is no change");
}
