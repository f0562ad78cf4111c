//! What a CA's servers are told, while an order is proved.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;

use crate::domain::Domain;

/// The protocol of tls-alpn-01 (RFC 8737 §6.2).
pub(in crate::tls) const PROTOCOL: &[u8] = b"acme-tls/1";

/// Whether it is a CA's that looks for a proof.
pub(in crate::tls) fn is_proof(hello: &ClientHello<'_>) -> bool {
    hello.alpn().is_some_and(|mut offered| offered.any(|protocol| protocol == PROTOCOL))
}

/// Where http-01 asks (RFC 8555 §8.3).
const PATH: &str = "/.well-known/acme-challenge/";

/// What a CA is to find: a file by plain HTTP, or a certificate by TLS for a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    Http {
        token: String,
        text: String,
    },
    /// With the digest that the certificate must hold (RFC 8737 §3).
    Tls {
        name: String,
        digest: Vec<u8>,
    },
}

impl Proof {
    /// As one gateway tells another.
    pub(crate) fn told(&self) -> (String, String) {
        match self {
            Self::Http { token, text } => (format!("http:{token}"), text.clone()),
            Self::Tls { name, digest } => {
                (format!("tls:{name}"), digest.iter().map(|byte| format!("{byte:02x}")).collect())
            }
        }
    }

    pub(crate) fn heard(field: &str, value: &str) -> Option<Self> {
        if let Some(token) = field.strip_prefix("http:") {
            return Some(Self::Http { token: token.to_owned(), text: value.to_owned() });
        }
        let name = field.strip_prefix("tls:")?.to_owned();
        let byte = |at: usize| u8::from_str_radix(value.get(at..at + 2)?, 16).ok();
        let digest = (0..value.len()).step_by(2).map(byte).collect::<Option<Vec<u8>>>()?;
        Some(Self::Tls { name, digest })
    }
}

/// Answers to challenges; as many as one order has names.
#[derive(Debug, Default)]
pub(crate) struct Challenges {
    http: Mutex<HashMap<String, String>>,
    tls: Mutex<HashMap<Domain, Arc<CertifiedKey>>>,
}

impl Challenges {
    /// What is answered to a request by plain HTTP at this path.
    pub(crate) fn http(&self, path: &str) -> Option<String> {
        let token = path.strip_prefix(PATH)?;
        self.http.lock().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }

    /// The certificate that proves this name.
    pub(in crate::tls) fn tls(&self, name: &Domain) -> Option<Arc<CertifiedKey>> {
        self.tls.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Answers with it from now on.
    ///
    /// # Errors
    /// No certificate can be made for the name.
    pub(crate) fn answer(&self, proof: &Proof) -> anyhow::Result<()> {
        match proof {
            Proof::Http { token, text } => {
                self.answer_http(token.clone(), text.clone());
                Ok(())
            }
            Proof::Tls { name, digest } => self.answer_tls(name, digest),
        }
    }

    /// Whether it answers for this name, by TLS, already: a key each second is not needed.
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
    /// No certificate can be made for this name.
    fn answer_tls(&self, name: &str, digest: &[u8]) -> anyhow::Result<()> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        // Not checked against each other: its critical extension is none that a client may take.
        let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)?;
        let proof = CertifiedKey::new(vec![certificate.der().clone()], signer);
        if let Some(name) = Domain::parse(name) {
            self.tls.lock().unwrap_or_else(PoisonError::into_inner).insert(name, Arc::new(proof));
        }
        Ok(())
    }

    /// An order is done, one way or another.
    pub(crate) fn forget(&self) {
        self.http.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.tls.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
