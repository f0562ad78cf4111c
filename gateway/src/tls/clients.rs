//! Client certificates (RFC 8446 §4.3.2): who may come to a tenant that asks for them, and what the guest is told of who came.

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::judge;
use crate::ids::Digest;

/// Bytes of the header that tells of a client, at most; of a longer one only its hash is told.
const TOLD_BYTES_MAX: usize = 4096;

/// Between two looks at the clock while a certificate's end is waited for.
const LOOK: Duration = Duration::from_mins(1);

/// What is wrong with the files.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClientsError {
    #[error("the file holds no PEM certificate of a CA")]
    NoCa,
    #[error("the file holds no PEM list of revoked certificates")]
    NoList,
    #[error("clients cannot be verified with it: {0}")]
    Unsupported(String),
}

/// Whom a tenant lets in by certificate.
///
/// Invariant: nothing of it is shared with another tenant, not even the key of its tickets: a session that was begun with
/// one can be resumed with no other.
pub(crate) struct Clients {
    /// Of the files and what is made of them: who was verified by the same was verified by this.
    pub(crate) digest: Digest,
    /// Whether nobody else is let in.
    pub(crate) is_required: bool,
    verifier: Arc<dyn ClientCertVerifier>,
    config: OnceLock<Arc<ServerConfig>>,
}

impl std::fmt::Debug for Clients {
    /// Without the configuration of its handshakes, which leads to all certificates and back here.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clients")
            .field("digest", &self.digest)
            .field("is_required", &self.is_required)
            .finish_non_exhaustive()
    }
}

impl Clients {
    /// Reads PEM: CAs whose clients are let in, and certificates that they revoked.
    ///
    /// # Errors
    /// One of [`ClientsError`].
    pub(crate) fn parse(ca: &[u8], revoked: Option<&[u8]>, is_required: bool) -> Result<Self, ClientsError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca) {
            let certificate = certificate.map_err(|_bad_pem| ClientsError::NoCa)?;
            roots.add(certificate).map_err(|error| ClientsError::Unsupported(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(ClientsError::NoCa);
        }
        let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(revoked.unwrap_or_default())
            .collect::<Result<_, _>>()
            .map_err(|_bad_pem| ClientsError::NoList)?;
        if revoked.is_some() && lists.is_empty() {
            return Err(ClientsError::NoList);
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).with_crls(lists);
        // Of a client's own issuer a list is wanted where any is given; of those above it none.
        builder = builder.only_check_end_entity_revocation();
        if !is_required {
            builder = builder.allow_unauthenticated();
        }
        let verifier = builder.build().map_err(|error| ClientsError::Unsupported(error.to_string()))?;
        let digests = [Digest::of(ca), Digest::of(revoked.unwrap_or_default())].map(|digest| digest.to_string());
        let digest = Digest::of(format!("{} {is_required}", digests.join(" ")).as_bytes());
        Ok(Self { digest, is_required, verifier, config: OnceLock::new() })
    }

    /// The handshake's settings, made once.
    pub(super) fn config(
        &self,
        make: impl FnOnce(Arc<dyn ClientCertVerifier>) -> Result<ServerConfig, rustls::Error>,
    ) -> Result<Arc<ServerConfig>, rustls::Error> {
        if let Some(config) = self.config.get() {
            return Ok(Arc::clone(config));
        }
        let made = Arc::new(make(Arc::clone(&self.verifier))?);
        Ok(Arc::clone(self.config.get_or_init(|| made)))
    }
}

/// A client whose certificate was verified.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// Of the [`Clients`] by which it was.
    pub(crate) by: Digest,
    /// What a guest is told, in Envoy's form of `X-Forwarded-Client-Cert`.
    pub(crate) told: HeaderValue,
    /// The end of the certificate, or of one that it stands on.
    until: SystemTime,
}

impl Client {
    /// Whose chain this is, the leaf first.
    pub(super) fn new(by: Digest, chain: &[CertificateDer<'_>]) -> Option<Self> {
        let (leaf, until) = (chain.first()?, judge::ends(chain)?);
        let hash = format!("Hash={}", Digest::of(leaf));
        let told = X509Certificate::from_der(leaf).ok().map(|(_, certificate)| told(&hash, &certificate));
        let told = told.filter(|told| told.len() <= TOLD_BYTES_MAX).and_then(|told| HeaderValue::try_from(told).ok());
        let hash_only = || HeaderValue::try_from(hash.as_str()).unwrap_or(HeaderValue::from_static("Hash="));
        Some(Self { by, told: told.unwrap_or_else(hash_only), until })
    }

    /// Whether the certificate is still good. A handshake that resumes a session does not look, nor does a connection that goes on.
    pub(crate) fn is_current(&self) -> bool {
        SystemTime::now() < self.until
    }

    /// Waits for the certificate's end. The machine's clock may be set meanwhile.
    pub(crate) async fn over(&self) {
        while let Ok(left) = self.until.duration_since(SystemTime::now())
            && !left.is_zero()
        {
            tokio::time::sleep(left.min(LOOK)).await;
        }
    }
}

/// `Hash=…;Subject="…";URI="…";DNS="…"`, all of it printable ASCII.
fn told(hash: &str, certificate: &X509Certificate<'_>) -> String {
    let mut text = format!("{hash};Subject=\"{}\"", quoted(&subject(certificate)));
    if let Ok(Some(alternatives)) = certificate.subject_alternative_name() {
        for name in &alternatives.value.general_names {
            let (key, value) = match name {
                GeneralName::URI(uri) => ("URI", *uri),
                GeneralName::DNSName(name) => ("DNS", *name),
                GeneralName::OtherName(..)
                | GeneralName::RFC822Name(_)
                | GeneralName::X400Address(_)
                | GeneralName::DirectoryName(_)
                | GeneralName::EDIPartyName(_)
                | GeneralName::IPAddress(_)
                | GeneralName::RegisteredID(_)
                | GeneralName::Invalid(..) => continue,
            };
            let _infallible = write!(text, ";{key}=\"{}\"", quoted(&escaped(value)));
        }
    }
    text
}

/// The subject as RFC 4514 writes it: the most specific part first.
fn subject(certificate: &X509Certificate<'_>) -> String {
    let registry = x509_parser::objects::oid_registry();
    let parts: Vec<_> = certificate.subject().iter_rdn().collect();
    let mut text = String::new();
    for part in parts.into_iter().rev() {
        for (index, attribute) in part.iter().enumerate() {
            if !text.is_empty() {
                text.push(if index == 0 { ',' } else { '+' });
            }
            let oid = attribute.attr_type();
            match x509_parser::objects::oid2abbrev(oid, registry) {
                Ok(name) => text.push_str(name),
                Err(_unknown) => text.push_str(&oid.to_id_string()),
            }
            text.push('=');
            text.push_str(&escaped(attribute.as_str().unwrap_or("?")));
        }
    }
    text
}

/// RFC 4514 §2.4; what is not printable ASCII by its bytes.
fn escaped(value: &str) -> String {
    let mut text = String::new();
    let last = value.len().saturating_sub(1);
    for (index, byte) in value.bytes().enumerate() {
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b' ' | b'#' if index == 0 || (byte == b' ' && index == last) => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {
                let _infallible = write!(text, "\\{byte:02X}");
            }
        }
    }
    text
}

/// The inside of a quoted string (RFC 9110 §5.6.4).
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    #[test]
    fn a_subject_cannot_be_taken_for_more_than_it_is() {
        let mut params = CertificateParams::default();
        let mut name = DistinguishedName::new();
        name.push(DnType::OrganizationName, "Acme, \"Inc\";Hash=0");
        name.push(DnType::CommonName, "Zoë\r\nX: 1");
        params.distinguished_name = name;
        params.subject_alt_names = vec![
            SanType::URI("spiffe://acme/\";Hash=0".try_into().unwrap()),
            SanType::DnsName("c.example".try_into().unwrap()),
        ];
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let told = Client::new(Digest::of(b""), &[made.der().clone()]).unwrap().told;
        let told = told.to_str().unwrap();
        let (hash, rest) = told.split_once(';').unwrap();
        assert_eq!(hash.len(), "Hash=".len() + 64);
        let expected = r#"Subject="CN=Zo\\C3\\AB\\0D\\0AX: 1,O=Acme\\, \\\"Inc\\\"\\;Hash=0""#.to_owned()
            + r#";URI="spiffe://acme/\\\"\\;Hash=0";DNS="c.example""#;
        assert_eq!(rest, expected);
    }

    #[test]
    fn files_that_are_none_are_refused() {
        let ca = rcgen::generate_simple_self_signed(vec!["ca".to_owned()]).unwrap().cert.pem();
        let parse = |ca: &str, list: Option<&str>| {
            Clients::parse(ca.as_bytes(), list.map(str::as_bytes), true).map(|_clients| ()).unwrap_err()
        };
        assert_eq!(parse("hello", None), ClientsError::NoCa);
        assert_eq!(parse(&ca, Some("hello")), ClientsError::NoList);
    }
}
