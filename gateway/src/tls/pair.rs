//! A certificate chain and its key, which are checked to belong together.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::judge::{self, Roots, Verdict};
use crate::domain::{Domain, Pattern};

/// Why a pair of files cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PairError {
    #[error("the certificate file holds no PEM certificate")]
    NoCertificate,
    #[error("the key file holds no PEM private key")]
    NoKey,
    #[error("the key belongs to another certificate")]
    Mismatch,
    #[error("the certificate or key is of a kind that is not supported")]
    Unsupported,
}

/// A chain and its key, with what the certificate states.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) key: Arc<CertifiedKey>,
    /// The names that the certificate covers.
    pub(crate) names: Vec<Pattern>,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    /// What clients may find wrong with the chain.
    pub(crate) verdict: Verdict,
}

impl Pair {
    /// When the first certificate that clients need expires, in seconds since 1970.
    pub(crate) fn ends_seconds(&self) -> i64 {
        let since = self.ends().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    }

    /// When the first certificate that clients need expires.
    pub(crate) fn ends(&self) -> SystemTime {
        self.verdict.good[1]
    }

    /// Whether clients with these roots accept the chain while it is valid.
    pub(crate) fn is_known_to(&self, roots: &Roots) -> bool {
        roots.accept(&self.key.cert, self.verdict.good)
    }

    /// Parses a PEM chain, leaf first, and a PEM key.
    ///
    /// # Errors
    /// One of [`PairError`], which never contains a byte of the key.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the enum is another crate's and grows")]
    pub(crate) fn parse(certificate_pem: &[u8], key_pem: &[u8]) -> Result<Self, PairError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate_pem)
            .collect::<Result<_, _>>()
            .map_err(|_bad_pem| PairError::NoCertificate)?;
        let leaf = chain.first().ok_or(PairError::NoCertificate)?;
        let (names, [not_before, not_after]) = read_leaf(leaf).ok_or(PairError::NoCertificate)?;
        let verdict = Verdict::of(&chain, certificate_pem).ok_or(PairError::NoCertificate)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|_bad_pem| PairError::NoKey)?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => PairError::Mismatch,
            _ => PairError::Unsupported,
        })?;
        Ok(Self { key: Arc::new(key), names, not_before, not_after, verdict })
    }

    /// Whether a client that asks for any name of `host` accepts this certificate (RFC 9525: a wildcard stands for one
    /// label).
    pub(crate) fn covers(&self, host: &Pattern) -> bool {
        self.names.iter().any(|name| match (name, host) {
            (Pattern::Exact(name), Pattern::Exact(host)) => name == host,
            (Pattern::Wildcard(name), Pattern::Wildcard(host)) => name == host,
            (Pattern::Wildcard(parent), Pattern::Exact(host)) => {
                host.as_str().split_once('.').is_some_and(|(_, rest)| rest == parent.as_str())
            }
            (Pattern::Exact(_), Pattern::Wildcard(_)) => false,
        })
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the enum is another crate's and grows")]
fn read_leaf(leaf: &[u8]) -> Option<(Vec<Pattern>, [SystemTime; 2])> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let mut names = Vec::new();
    if let Ok(Some(alternatives)) = certificate.subject_alternative_name() {
        for name in &alternatives.value.general_names {
            match name {
                GeneralName::DNSName(name) => names.extend(Pattern::parse(name)),
                GeneralName::IPAddress(bytes) => {
                    let address = <[u8; 4]>::try_from(*bytes).ok().map(std::net::Ipv4Addr::from);
                    let name = address.and_then(|address| Domain::parse(&address.to_string()));
                    names.extend(name.map(Pattern::Exact));
                }
                _ => {}
            }
        }
    }
    let validity = certificate.validity();
    Some((names, [validity.not_before, validity.not_after].map(|of| judge::time(of.timestamp()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_pair_knows_its_names_and_its_expiry() {
        let (certificate, key) = made(&["a.example", "*.b.example"]);
        let pair = Pair::parse(certificate.as_bytes(), key.as_bytes()).unwrap();
        let covers = |host: &str| pair.covers(&Pattern::parse(host).unwrap());
        assert!(covers("a.example") && covers("x.b.example") && covers("*.b.example"));
        assert!(!covers("b.example") && !covers("x.y.b.example") && !covers("*.a.example"));
        assert!(pair.not_after > SystemTime::now());
    }

    #[test]
    fn an_invalid_pair_is_refused() {
        let (certificate, key) = made(&["a.example"]);
        let (_, other) = made(&["a.example"]);
        let parse = |c: &str, k: &str| Pair::parse(c.as_bytes(), k.as_bytes()).unwrap_err();
        assert_eq!(parse(&certificate, &other), PairError::Mismatch);
        assert_eq!(parse("hello", &key), PairError::NoCertificate);
        assert_eq!(parse(&certificate, "hello"), PairError::NoKey);
    }
}
