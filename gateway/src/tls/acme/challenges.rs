//! Answers to a CA's challenges, while it validates an order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;

use crate::domain::Domain;

/// The ALPN protocol of tls-alpn-01 (RFC 8737 §6.2).
pub(in crate::tls) const PROTOCOL: &[u8] = b"acme-tls/1";

/// Whether this handshake comes from a CA that validates a challenge.
pub(in crate::tls) fn is_proof(hello: &ClientHello<'_>) -> bool {
    hello.alpn().is_some_and(|mut offered| offered.any(|protocol| protocol == PROTOCOL))
}

/// The path of http-01 (RFC 8555 §8.3).
const PATH: &str = "/.well-known/acme-challenge/";

/// What the CA has to find: a file by plain HTTP, or a certificate by TLS for a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    Http {
        token: String,
        text: String,
    },
    /// With the digest that the certificate must contain (RFC 8737 §3).
    Tls {
        name: String,
        digest: Vec<u8>,
    },
}

impl Proof {
    /// The form in which gateways send it to each other.
    pub(crate) fn encode(&self) -> (String, String) {
        match self {
            Self::Http { token, text } => (format!("http:{token}"), text.clone()),
            Self::Tls { name, digest } => {
                (format!("tls:{name}"), digest.iter().map(|byte| format!("{byte:02x}")).collect())
            }
        }
    }

    pub(crate) fn decode(field: &str, value: &str) -> Option<Self> {
        if let Some(token) = field.strip_prefix("http:") {
            return Some(Self::Http { token: token.to_owned(), text: value.to_owned() });
        }
        let name = field.strip_prefix("tls:")?.to_owned();
        let byte = |at: usize| u8::from_str_radix(value.get(at..at + 2)?, 16).ok();
        let digest = (0..value.len()).step_by(2).map(byte).collect::<Option<Vec<u8>>>()?;
        Some(Self::Tls { name, digest })
    }
}

/// Answers to challenges. There are at most as many as one order has names.
#[derive(Debug, Default)]
pub(crate) struct Challenges {
    http: Mutex<HashMap<String, String>>,
    tls: Mutex<HashMap<Domain, Arc<CertifiedKey>>>,
}

impl Challenges {
    /// The answer to a plain HTTP request for this path.
    pub(crate) fn http(&self, path: &str) -> Option<String> {
        let token = path.strip_prefix(PATH)?;
        self.http.lock().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }

    /// The certificate that proves this name.
    pub(in crate::tls) fn tls(&self, name: &Domain) -> Option<Arc<CertifiedKey>> {
        self.tls.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Answers this challenge from now on.
    ///
    /// # Errors
    /// No certificate can be created for the name.
    pub(crate) fn answer(&self, proof: &Proof) -> anyhow::Result<()> {
        match proof {
            Proof::Http { token, text } => {
                self.answer_http(token.clone(), text.clone());
                Ok(())
            }
            Proof::Tls { name, digest } => self.answer_tls(name, digest),
        }
    }

    /// Whether this name is already answered by TLS. Avoids creating a new key every second.
    pub(crate) fn answers(&self, proof: &Proof) -> bool {
        match proof {
            Proof::Http { token, .. } => self.http.lock().unwrap_or_else(PoisonError::into_inner).contains_key(token),
            Proof::Tls { name, .. } => Domain::parse(name).is_some_and(|name| self.tls(&name).is_some()),
        }
    }

    fn answer_http(&self, token: String, proof: String) {
        self.http.lock().unwrap_or_else(PoisonError::into_inner).insert(token, proof);
    }

    /// # Errors
    /// No certificate can be created for this name.
    fn answer_tls(&self, name: &str, digest: &[u8]) -> anyhow::Result<()> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        // Skips the check that key and certificate match. It would fail: the certificate has a critical extension that
        // clients must not accept.
        let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)?;
        let proof = CertifiedKey::new(vec![certificate.der().clone()], signer);
        if let Some(name) = Domain::parse(name) {
            self.tls.lock().unwrap_or_else(PoisonError::into_inner).insert(name, Arc::new(proof));
        }
        Ok(())
    }

    /// Removes all answers: the order is finished, successfully or not.
    pub(crate) fn forget(&self) {
        self.http.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.tls.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
