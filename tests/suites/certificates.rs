//! Certificates as clients judge them: which ones replace others, which ones are served in spite of problems, and what is
//! reported about each.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::SignatureScheme;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;
use tests::{Gateway, Site, Tenant, checked, until};
use tokio::net::TcpStream;

use crate::clients::Anybody;

type Ca = CertifiedIssuer<'static, KeyPair>;

const HOST: &str = "own.localhost";

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// A root, an intermediate below it, and an unrelated root.
struct Pki {
    root: Ca,
    middle: Ca,
    other: Ca,
}

impl Pki {
    fn new() -> Self {
        let root = CertifiedIssuer::self_signed(ca_params("root"), KeyPair::generate().unwrap()).unwrap();
        let other = CertifiedIssuer::self_signed(ca_params("other"), KeyPair::generate().unwrap()).unwrap();
        let middle = CertifiedIssuer::signed_by(ca_params("middle"), KeyPair::generate().unwrap(), &root).unwrap();
        Self { root, middle, other }
    }

    /// A leaf below the intermediate, and its key.
    fn leaf(&self, change: impl FnOnce(&mut CertificateParams)) -> [String; 2] {
        let mut params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        params.use_authority_key_identifier_extension = true;
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        [params.signed_by(&key, &self.middle).unwrap().pem(), key.serialize_pem()]
    }

    /// A good chain with its key.
    fn good(&self) -> [String; 2] {
        let [cert, key] = self.leaf(|_| {});
        [cert + &self.middle.pem(), key]
    }
}

fn site() -> Site {
    let own = Tenant::new(HOST, "echo").with("[tls]\ncert = \"../../live/cert.pem\"\nkey = \"../../live/key.pem\"");
    Site::new().tenant("own", &own)
}

fn put(site: &Site, [cert, key]: &[String; 2]) {
    site.write("live/key.pem", key);
    site.write("live/cert.pem", cert);
}

fn leaf_of(chain: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(chain.as_bytes()).unwrap().to_vec()
}

/// Performs the handshake as a client with this root, or as one that accepts anything. Returns the chain that was sent.
async fn sent(gateway: &Gateway, root: Option<&Ca>) -> std::io::Result<Vec<Vec<u8>>> {
    let config = rustls::ClientConfig::builder();
    let config = match root {
        Some(root) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(root.der().clone()).unwrap();
            config.with_root_certificates(roots)
        }
        None => config.dangerous().with_custom_certificate_verifier(Arc::new(Anybody::default())),
    };
    sent_by(gateway, config.with_no_client_auth(), HOST).await
}

/// The leaf for a client that supports these signature schemes and asks for this name.
async fn leaf_for(gateway: &Gateway, schemes: &[SignatureScheme], name: &str) -> Vec<u8> {
    let anybody = Arc::new(Anybody(schemes.to_vec()));
    let config = rustls::ClientConfig::builder().dangerous().with_custom_certificate_verifier(anybody);
    sent_by(gateway, config.with_no_client_auth(), name).await.unwrap()[0].clone()
}

async fn sent_by(gateway: &Gateway, config: rustls::ClientConfig, name: &str) -> std::io::Result<Vec<Vec<u8>>> {
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let tcp = TcpStream::connect(gateway.https).await?;
    let tls = connector.connect(name.to_owned().try_into().unwrap(), tcp).await?;
    Ok(tls.get_ref().1.peer_certificates().unwrap().iter().map(|der| der.to_vec()).collect())
}

/// Waits for a problem of this kind.
async fn told(gateway: &Gateway, code: &str) -> Value {
    until(code, async || gateway.problems().await.into_iter().find(|problem| problem["code"] == code)).await
}

/// Files that clients refuse, and the code that is reported if a good pair is served, and if there is none.
fn bad(pki: &Pki) -> Vec<(&'static str, [String; 2], &'static str, &'static str)> {
    let [cert, key] = pki.leaf(|_| {});
    let over = pki.leaf(|params| params.not_after = (SystemTime::now() - Duration::from_secs(86_400)).into());
    let early = pki.leaf(|params| params.not_before = (SystemTime::now() + Duration::from_secs(86_400)).into());
    let chained = |[cert, key]: [String; 2]| [cert + &pki.middle.pem(), key];
    vec![
        ("glued", [cert.trim_end().to_owned() + &pki.middle.pem(), key.clone()], "E0207", "W0209"),
        ("the intermediate is missing", [cert.clone(), key.clone()], "E0207", "W0209"),
        ("another intermediate", [cert.clone() + &pki.other.pem(), key.clone()], "E0207", "W0209"),
        ("over", chained(over), "E0204", "W0208"),
        ("not good yet", chained(early), "E0204", "W0208"),
    ]
}

#[tokio::test]
async fn a_certificate_that_clients_refuse_never_replaces_a_good_one() {
    let pki = Pki::new();
    let site = site();
    let good = pki.good();
    put(&site, &good);
    let gateway = Gateway::start(&site);
    assert_eq!(sent(&gateway, Some(&pki.root)).await.unwrap()[0], leaf_of(&good[0]));
    assert!(gateway.problems().await.is_empty(), "a chain of one's own CA is nothing to warn of");
    for (what, files, code, _) in bad(&pki) {
        put(&site, &files);
        let problem = told(&gateway, code).await;
        assert_eq!(problem["tenant"], "own", "{what}: {problem}");
        assert_eq!(sent(&gateway, Some(&pki.root)).await.unwrap()[0], leaf_of(&good[0]), "{what}");
        assert_eq!(gateway.tenant("own").await["standing"], "stale", "{what}");
        put(&site, &good);
        until("nothing wrong", async || gateway.problems().await.is_empty().then_some(())).await;
    }
    // A client certificate is not for servers, whatever is served now.
    let client = pki.leaf(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    put(&site, &client);
    told(&gateway, "E0206").await;
    assert_eq!(sent(&gateway, Some(&pki.root)).await.unwrap()[0], leaf_of(&good[0]));
    // Another good pair is accepted.
    let next = pki.good();
    put(&site, &next);
    until("the next pair", async || {
        let chain = sent(&gateway, Some(&pki.root)).await.ok()?;
        (chain[0] == leaf_of(&next[0])).then_some(())
    })
    .await;
}

#[tokio::test]
async fn at_a_start_a_pair_that_clients_refuse_is_served_with_an_error() {
    let pki = Pki::new();
    for (what, files, refused, warned) in bad(&pki) {
        let site = site();
        put(&site, &files);
        let gateway = Gateway::start(&site);
        assert_eq!(sent(&gateway, None).await.unwrap()[0], leaf_of(&files[0]), "{what}");
        let problem = told(&gateway, warned).await;
        assert_eq!((&problem["severity"], &problem["tenant"]), (&"warning".into(), &"own".into()), "{what}: {problem}");
        let line = gateway.log("config").into_iter().find(|line| line["message"].to_string().contains(warned));
        assert!(line.is_some(), "{what}: nothing in the log");
        let certificate = gateway.told("/v1/certificates").await[0].clone();
        let ends = certificate["not_after_ms"].as_u64().unwrap();
        let now = u64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()).unwrap();
        assert_eq!(ends < now, what == "over", "{what}: {certificate}");
        assert_eq!(certificate["doubts"].as_array().unwrap().is_empty(), warned == "W0208", "{what}: {certificate}");
        let metric = gateway.metric("tollgate_certificate_expiry_seconds").await;
        assert!((metric - ends as f64 / 1000.0).abs() < 1.0, "{what}: {metric}");
        // The result of `check` before a deploy: it refuses everything except what may be right for a private CA.
        let (is_good, said) = checked(&site, &[]);
        let expected = if what == "the intermediate is missing" { warned } else { refused };
        assert!(said.contains(expected), "{what}: {said}");
        assert_eq!(is_good, expected.starts_with('W'), "{what}: {said}");
    }
}

#[tokio::test]
async fn a_certificate_that_expires_while_it_is_served_is_reported() {
    let pki = Pki::new();
    let site = site();
    let [cert, key] = pki.leaf(|params| params.not_after = (SystemTime::now() + Duration::from_secs(8)).into());
    put(&site, &[cert.clone() + &pki.middle.pem(), key]);
    let gateway = Gateway::start(&site);
    assert_eq!(gateway.problems().await[0]["code"], "W0205");
    told(&gateway, "W0208").await;
    assert_eq!(sent(&gateway, None).await.unwrap()[0], leaf_of(&cert), "it is served still");
}

#[test]
fn a_configured_private_ca_causes_no_warning() {
    let pki = Pki::new();
    let mut params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().unwrap();
    let direct = [params.signed_by(&key, &pki.root).unwrap().pem(), key.serialize_pem()];
    let site = site().file("root.pem", pki.root.pem());
    put(&site, &direct);
    let (_, said) = checked(&site, &["--strict"]);
    assert!(said.contains("W0209"), "{said}");
    let site = site.gateway("[tls]\nroots = \"../root.pem\"");
    let (is_good, said) = checked(&site, &[]);
    assert!(is_good && !said.contains("W0209"), "{said}");
}

#[tokio::test]
async fn a_tenant_may_have_a_pair_for_each_kind_of_client() {
    let made = |algorithm: &'static rcgen::SignatureAlgorithm| {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let cert = CertificateParams::new(vec![HOST.to_owned()]).unwrap().self_signed(&key).unwrap();
        [cert.pem(), key.serialize_pem()]
    };
    let (ecdsa, rsa) = (made(&rcgen::PKCS_ECDSA_P256_SHA256), made(&rcgen::PKCS_RSA_SHA256));
    let tls = "[tls]\ncert = \"ec.pem\"\nkey = \"ec-key.pem\"\nother_cert = \"rsa.pem\"\nother_key = \"rsa-key.pem\"";
    let site = Site::new().tenant("own", &Tenant::new(HOST, "echo").with(tls));
    for (name, text) in [("ec", &ecdsa[0]), ("ec-key", &ecdsa[1]), ("rsa", &rsa[0]), ("rsa-key", &rsa[1])] {
        site.write(&format!("tenants/own/{name}.pem"), text);
    }
    let gateway = Gateway::start(&site);
    assert_eq!(sent(&gateway, None).await.unwrap()[0], leaf_of(&ecdsa[0]), "the first, for who can take both");
    let [old, new] = [SignatureScheme::RSA_PSS_SHA256, SignatureScheme::ECDSA_NISTP256_SHA256];
    let of = async |schemes: &[SignatureScheme]| leaf_for(&gateway, schemes, HOST).await;
    assert_eq!((of(&[old]).await, of(&[new]).await), (leaf_of(&rsa[0]), leaf_of(&ecdsa[0])));
    assert_eq!(of(&[old, new]).await, leaf_of(&ecdsa[0]), "the operator's order counts");
    assert_eq!(gateway.told("/v1/certificates").await.as_array().unwrap().len(), 2);
    // Two certificates of the same kind are too many.
    let again = made(&rcgen::PKCS_ECDSA_P256_SHA256);
    site.write("tenants/own/rsa.pem", &again[0]);
    site.write("tenants/own/rsa-key.pem", &again[1]);
    let (is_good, said) = checked(&site, &[]);
    assert!(!is_good && said.contains("E0114"), "{said}");
}

#[tokio::test]
async fn an_unknown_name_gets_the_operators_pair() {
    let made = || rcgen::generate_simple_self_signed(vec!["lb.example".to_owned()]).unwrap();
    let (first, second) = (made(), made());
    let site = Site::new().gateway("[tls]\ndefault_cert = \"../default.pem\"\ndefault_key = \"../default-key.pem\"");
    let put = |made: &rcgen::CertifiedKey<KeyPair>| {
        site.write("default-key.pem", made.signing_key.serialize_pem());
        site.write("default.pem", made.cert.pem());
    };
    put(&first);
    let gateway = Gateway::start(&site);
    let shown = async || leaf_for(&gateway, &[SignatureScheme::ECDSA_NISTP256_SHA256], "nobody.example").await;
    assert_eq!(shown().await, first.cert.der().to_vec());
    // A reload reads it again; if it cannot be used, the previous one stays.
    site.write("default-key.pem", second.signing_key.serialize_pem());
    gateway.signal("HUP");
    until("a word of it", async || {
        gateway.log("tls").iter().any(|line| line["message"].to_string().contains("default certificate")).then_some(())
    })
    .await;
    assert_eq!(shown().await, first.cert.der().to_vec());
    put(&second);
    gateway.signal("HUP");
    until("the second", async || (shown().await == second.cert.der().to_vec()).then_some(())).await;
}
