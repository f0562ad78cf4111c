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

    pub(super) fn answer_http(&self, token: String, proof: String) {
        self.http.lock().unwrap_or_else(PoisonError::into_inner).insert(token, proof);
    }

    /// # Errors
    /// No certificate can be made for this name.
    pub(super) fn answer_tls(&self, name: &str, digest: &[u8]) -> anyhow::Result<()> {
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
    pub(super) fn forget(&self) {
        self.http.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.tls.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
