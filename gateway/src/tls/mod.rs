//! TLS: server name → certificate, and the handshake under a deadline.
//!
//! Invariant: a name that no tenant claims gets the default certificate, which names nobody; so a stranger learns of a
//! tenant only by knowing its name.

mod acme;
mod dev_ca;
mod pair;
mod version;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::deadline::Deadline;
use crate::domain::{Domain, Pattern, Table};

pub(crate) use acme::{Acme, Challenge, Challenges, Settings as AcmeSettings};
pub(crate) use dev_ca::DevCa;
pub(crate) use pair::{Pair, PairError};
pub(crate) use version::Protocol;

/// Where certificates come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The local CA under the state folder, for every host of every tenant.
    Dev,
    /// A certificate and key file per tenant.
    Files,
    /// A CA's, for tenants without such files.
    Acme,
}

/// The certificates in force: which is served for which name.
#[derive(Debug)]
pub(crate) struct Certificates {
    by_name: Table<Arc<CertifiedKey>>,
    default: Arc<CertifiedKey>,
}

impl Certificates {
    pub(crate) fn new(default: Arc<CertifiedKey>) -> Self {
        Self { by_name: Table::default(), default }
    }

    /// Serves `key` for what `pattern` covers, unless somebody has that already.
    pub(crate) fn add(&mut self, pattern: Pattern, key: Arc<CertifiedKey>) {
        // The loader refuses a host that is claimed twice, so the first claim is the only one.
        let _first = self.by_name.insert(pattern, key);
    }
}

#[derive(Debug)]
struct Resolver {
    certificates: ArcSwap<Certificates>,
    /// Where a CA may ask for a proof.
    challenges: Option<Arc<Challenges>>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certificates = self.certificates.load();
        let name = hello.server_name().and_then(Domain::parse);
        if let Some(challenges) = &self.challenges
            && hello.alpn().is_some_and(|mut offered| offered.any(|protocol| protocol == acme::PROTOCOL))
        {
            // Who asks for the proof gets it or nothing.
            return challenges.tls(&name?);
        }
        let found = name.and_then(|name| certificates.by_name.find(&name).cloned());
        Some(found.unwrap_or_else(|| Arc::clone(&certificates.default)))
    }
}

/// A client on the other side of a finished handshake.
pub(crate) struct Handshaken {
    pub(crate) stream: TlsStream<TcpStream>,
    /// The server name it asked for, if it was a name.
    pub(crate) server_name: Option<Domain>,
    pub(crate) protocol: Protocol,
}

/// Why there was no handshake.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("it took too long")]
    TimedOut,
    #[error("a CA looked at a proof")]
    Challenge,
    #[error(transparent)]
    Failed(#[from] std::io::Error),
}

/// Ends TLS. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Terminator {
    acceptor: TlsAcceptor,
    resolver: Arc<Resolver>,
    timeout: Duration,
}

impl Terminator {
    /// TLS 1.2 and 1.3 by aws-lc-rs, offering `h2` and `http/1.1` (RFC 7301).
    ///
    /// # Errors
    /// The crypto provider lacks what rustls needs, which is a build fault.
    pub(crate) fn new(
        certificates: Certificates,
        timeout: Duration,
        challenges: Option<Arc<Challenges>>,
    ) -> Result<Self, rustls::Error> {
        let mut protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        protocols.extend(challenges.is_some().then(|| acme::PROTOCOL.to_vec()));
        let resolver = Arc::new(Resolver { certificates: ArcSwap::from_pointee(certificates), challenges });
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Resolver>::clone(&resolver));
        config.alpn_protocols = protocols;
        // Sessions are resumed from tickets (RFC 8446 §4.6.1), whose key changes every six hours; a ticket of one server
        // name is taken for no other.
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), resolver, timeout })
    }

    /// Takes a new set for all handshakes from now on.
    pub(crate) fn replace(&self, certificates: Certificates) {
        self.resolver.certificates.store(Arc::new(certificates));
    }

    /// Shakes hands, in the connection's own task and never in the accept loop.
    pub(crate) async fn handshake(&self, stream: TcpStream) -> Result<Handshaken, HandshakeError> {
        let shaken = Deadline::after(self.timeout).run(self.acceptor.accept(stream)).await;
        let stream = shaken.map_err(|_elapsed| HandshakeError::TimedOut)??;
        let session = stream.get_ref().1;
        let server_name = session.server_name().and_then(Domain::parse);
        if session.alpn_protocol() == Some(acme::PROTOCOL) {
            return Err(HandshakeError::Challenge);
        }
        let protocol = Protocol::of_alpn(session.alpn_protocol());
        Ok(Handshaken { stream, server_name, protocol })
    }
}
