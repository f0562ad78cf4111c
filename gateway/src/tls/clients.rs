//! Client certificates (RFC 8446 §4.3.2): which clients a tenant accepts, and what its guest is told about them.

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

/// The longest header about a client, in bytes. If it would be longer, it contains only the certificate's hash.
const HEADER_BYTES_MAX: usize = 4096;

/// How often the clock is checked while a certificate's expiry is awaited.
const LOOK: Duration = Duration::from_mins(1);

/// Why the files cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClientsError {
    #[error("the file holds no PEM certificate of a CA")]
    NoCa,
    #[error("the file holds no PEM list of revoked certificates")]
    NoList,
    #[error("clients cannot be verified with it: {0}")]
    Unsupported(String),
}

/// The clients that a tenant accepts by certificate.
///
/// Invariant: nothing here is shared with another tenant, not even the ticket key: a client can resume a session only with
/// the tenant with which it began.
pub(crate) struct Clients {
    /// Digest of the files and the settings. Equal digests verify the same clients.
    pub(crate) digest: Digest,
    /// Whether clients without a certificate are refused.
    pub(crate) is_required: bool,
    verifier: Arc<dyn ClientCertVerifier>,
    config: OnceLock<Arc<ServerConfig>>,
}

impl std::fmt::Debug for Clients {
    /// Omits the handshake configuration, which refers to all certificates and so back to this value.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clients")
            .field("digest", &self.digest)
            .field("is_required", &self.is_required)
            .finish_non_exhaustive()
    }
}

impl Clients {
    /// Parses PEM: the CAs whose clients are accepted, and the revocation lists of these CAs.
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
        // If any list is given, the client's own issuer must have one; the CAs above it need none.
        builder = builder.only_check_end_entity_revocation();
        if !is_required {
            builder = builder.allow_unauthenticated();
        }
        let verifier = builder.build().map_err(|error| ClientsError::Unsupported(error.to_string()))?;
        let digests = [Digest::of(ca), Digest::of(revoked.unwrap_or_default())].map(|digest| digest.to_string());
        let digest = Digest::of(format!("{} {is_required}", digests.join(" ")).as_bytes());
        Ok(Self { digest, is_required, verifier, config: OnceLock::new() })
    }

    /// The configuration of the handshake, built once.
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
    /// The digest of the [`Clients`] that verified it.
    pub(crate) by: Digest,
    /// What the guest is told, in the format of Envoy's `X-Forwarded-Client-Cert`.
    pub(crate) header: HeaderValue,
    /// When the certificate, or one of its chain, expires.
    until: SystemTime,
}

impl Client {
    /// The client with this chain, leaf first.
    pub(super) fn new(by: Digest, chain: &[CertificateDer<'_>]) -> Option<Self> {
        let (leaf, until) = (chain.first()?, judge::ends(chain)?);
        let hash = format!("Hash={}", Digest::of(leaf));
        let told = X509Certificate::from_der(leaf).ok().map(|(_, certificate)| told(&hash, &certificate));
        let told = told.filter(|told| told.len() <= HEADER_BYTES_MAX).and_then(|told| HeaderValue::try_from(told).ok());
        let hash_only = || HeaderValue::try_from(hash.as_str()).unwrap_or(HeaderValue::from_static("Hash="));
        Some(Self { by, header: told.unwrap_or_else(hash_only), until })
    }

    /// Whether the certificate is still valid. Neither a resumed session nor an open connection checks this.
    pub(crate) fn is_current(&self) -> bool {
        SystemTime::now() < self.until
    }

    /// Waits until the certificate expires. Somebody may set the machine's clock meanwhile.
    pub(crate) async fn over(&self) {
        while let Ok(left) = self.until.duration_since(SystemTime::now())
            && !left.is_zero()
        {
            tokio::time::sleep(left.min(LOOK)).await;
        }
    }
}

/// Formats `Hash=…;Subject="…";URI="…";DNS="…"`, in printable ASCII only.
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

/// The subject as in RFC 4514: the most specific part first.
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

/// Escapes by RFC 4514 §2.4. Bytes that are not printable ASCII are written in hexadecimal.
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

/// Escapes the inside of a quoted string (RFC 9110 §5.6.4).
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    #[test]
    fn a_subject_cannot_forge_other_fields() {
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
        let told = Client::new(Digest::of(b""), &[made.der().clone()]).unwrap().header;
        let told = told.to_str().unwrap();
        let (hash, rest) = told.split_once(';').unwrap();
        assert_eq!(hash.len(), "Hash=".len() + 64);
        let expected = r#"Subject="CN=Zo\\C3\\AB\\0D\\0AX: 1,O=Acme\\, \\\"Inc\\\"\\;Hash=0""#.to_owned()
            + r#";URI="spiffe://acme/\\\"\\;Hash=0";DNS="c.example""#;
        assert_eq!(rest, expected);
    }

    #[test]
    fn invalid_files_are_refused() {
        let ca = rcgen::generate_simple_self_signed(vec!["ca".to_owned()]).unwrap().cert.pem();
        let parse = |ca: &str, list: Option<&str>| {
            Clients::parse(ca.as_bytes(), list.map(str::as_bytes), true).map(|_clients| ()).unwrap_err()
        };
        assert_eq!(parse("hello", None), ClientsError::NoCa);
        assert_eq!(parse(&ca, Some("hello")), ClientsError::NoList);
    }
}
