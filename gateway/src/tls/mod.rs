//! TLS: server name → certificate ([`Resolver`], below), and the handshake under a deadline.
//!
//! Invariant: a server name that no tenant has gets the default certificate, which names no tenant. So a stranger learns of
//! a tenant only by knowing its name.

mod acme;
mod clients;
mod dev_ca;
mod judge;
mod pair;
mod version;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use rustls::ServerConfig;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{Acceptor, ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::deadline::Deadline;
use crate::domain::{Domain, Pattern, Table};

pub(crate) use acme::{Acme, Binding, Challenge, Challenges, ORDER_TIME, Proof, Settings as AcmeSettings, Suggestion};
pub(crate) use clients::{Client, Clients, ClientsError};
pub(crate) use dev_ca::DevCa;
pub(crate) use judge::{Doubt, Roots};
pub(crate) use pair::{Pair, PairError};
pub(crate) use version::Protocol;

/// Where certificates come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Source {
    /// The local CA in the state folder, for every host of every tenant.
    #[default]
    Dev,
    /// A certificate file and a key file for each tenant.
    Files,
    /// A CA, by ACME, for tenants without such files.
    Acme,
}

/// What is shown to a client for a name, and required from it.
#[derive(Debug)]
struct Served {
    /// The first certificate that the client supports is shown.
    keys: Arc<[Arc<CertifiedKey>]>,
    clients: Option<Arc<Clients>>,
}

/// The certificates in force, by name.
#[derive(Debug)]
pub(crate) struct Certificates {
    by_name: Table<Served>,
    default: Vec<Arc<CertifiedKey>>,
}

impl Certificates {
    /// `default` is for names that no tenant has.
    pub(crate) fn new(default: Vec<Arc<CertifiedKey>>) -> Self {
        Self { by_name: Table::default(), default }
    }

    /// Serves `keys` for the names of `pattern`, each to clients that do not support those before it. If `clients` is
    /// given, asks for client certificates. If the pattern is taken, the existing entry stays.
    pub(crate) fn add(&mut self, pattern: Pattern, keys: Arc<[Arc<CertifiedKey>]>, clients: Option<Arc<Clients>>) {
        // The loader refuses a host that two tenants claim, so there is only one claim.
        let _first = self.by_name.insert(pattern, Served { keys, clients });
    }
}

#[derive(Debug)]
struct Resolver {
    certificates: ArcSwap<Certificates>,
    /// Answers to a CA's challenges.
    challenges: Option<Arc<Challenges>>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certificates = self.certificates.load();
        let name = hello.server_name().and_then(Domain::parse);
        if let Some(challenges) = &self.challenges
            && acme::is_proof(&hello)
        {
            // A CA's server gets the proof or nothing.
            return challenges.tls(&name?);
        }
        let found = name.as_ref().and_then(|name| certificates.by_name.find(name));
        let keys = found.map_or(certificates.default.as_slice(), |served| &served.keys);
        let takes = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        // If the client supports none of them, the handshake itself reports that.
        keys.iter().find(takes).or(keys.first()).map(Arc::clone)
    }
}

/// A client after its handshake.
pub(crate) struct TlsConnection<P> {
    /// Boxed: a connection's future has several layers, each of which would reserve space for it.
    pub(crate) stream: Box<TlsStream<TcpStream>>,
    /// What `admit` returned for this connection.
    pub(crate) place: P,
    /// The client's identity, if the name's tenant asks for certificates.
    pub(crate) client: Option<Client>,
    /// The server name that the client asked for, if it is a domain name.
    pub(crate) server_name: Option<Domain>,
    pub(crate) protocol: Protocol,
}

/// Why the handshake failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("it took too long")]
    TimedOut,
    #[error("the tenant has reached its maximum number of connections")]
    Full,
    #[error("the resumed session began with a certificate that has expired")]
    Over,
    #[error("a CA verified a challenge")]
    Challenge,
    #[error(transparent)]
    Failed(#[from] std::io::Error),
}

/// Terminates TLS. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Terminator {
    config: Arc<ServerConfig>,
    resolver: Arc<Resolver>,
    changing: Arc<Mutex<()>>,
    timeout: Duration,
    quic: Arc<QuicServerConfig>,
}

/// The right to change the certificates in force. Only one task has it at a time, from the moment when it looks at what the
/// new certificates are made from.
pub(crate) struct Change<'a> {
    resolver: &'a Resolver,
    _alone: MutexGuard<'a, ()>,
}

impl Change<'_> {
    /// Uses a new set for all handshakes from now on.
    pub(crate) fn replace(&self, certificates: Certificates) {
        self.resolver.certificates.store(Arc::new(certificates));
    }
}

/// The ALPN name of HTTP/3 (RFC 9114 §3.1).
const H3: &[u8] = b"h3";

impl Terminator {
    /// Supports TLS 1.2 and 1.3 by aws-lc-rs, with `h2` and `http/1.1` by ALPN (RFC 7301), and for QUIC TLS 1.3 with `h3`.
    ///
    /// # Errors
    /// The crypto provider lacks an algorithm that rustls needs. This is a build error.
    pub(crate) fn new(
        certificates: Certificates,
        timeout: Duration,
        challenges: Option<Arc<Challenges>>,
    ) -> Result<Self, rustls::Error> {
        let mut protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        protocols.extend(challenges.is_some().then(|| acme::PROTOCOL.to_vec()));
        let resolver = Arc::new(Resolver { certificates: ArcSwap::from_pointee(certificates), challenges });
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut quic = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Resolver>::clone(&resolver));
        quic.alpn_protocols = vec![H3.to_vec()];
        quic.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        let quic = QuicServerConfig::try_from(quic).map_err(|error| rustls::Error::General(error.to_string()))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Resolver>::clone(&resolver));
        config.alpn_protocols = protocols;
        // Tickets resume sessions (RFC 8446 §4.6.1). The ticket key rotates every six hours, and a ticket for one server
        // name is not valid for another.
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        Ok(Self { config: Arc::new(config), resolver, changing: Arc::default(), timeout, quic: Arc::new(quic) })
    }

    /// Waits until no other task changes the certificates in force. The caller must look at what the new certificates are
    /// made from after this call: otherwise it could restore one that another task has replaced.
    pub(crate) fn change(&self) -> Change<'_> {
        Change { resolver: &self.resolver, _alone: self.changing.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// The handshake configuration for QUIC.
    pub(crate) fn quic(&self) -> quinn::ServerConfig {
        quinn::ServerConfig::with_crypto(Arc::<QuicServerConfig>::clone(&self.quic))
    }

    /// The server name that a QUIC connection asked for, if it is a domain name.
    pub(crate) fn server_name(connection: &quinn::Connection) -> Option<Domain> {
        let connected = connection.handshake_data()?.downcast::<HandshakeData>().ok()?;
        Domain::parse(&connected.server_name?)
    }

    /// Performs the handshake, in the connection's own task and never in the accept loop. `admit` decides by the server
    /// name, before any expensive computation.
    pub(crate) async fn handshake<P>(
        &self,
        stream: TcpStream,
        admit: impl FnOnce(Option<&Domain>) -> Option<P>,
    ) -> Result<TlsConnection<P>, HandshakeError> {
        let handshake = async {
            let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
            let hello = start.client_hello();
            let server_name = hello.server_name().and_then(Domain::parse);
            let place = admit(server_name.as_ref()).ok_or(HandshakeError::Full)?;
            let clients = server_name.as_ref().filter(|_| !acme::is_proof(&hello)).and_then(|name| self.clients(name));
            let config = match &clients {
                Some(clients) => clients.config(|verifier| self.with_clients(verifier)).map_err(io::Error::other)?,
                None => Arc::clone(&self.config),
            };
            let stream = start.into_stream(config).await?;
            Ok::<_, HandshakeError>((Box::new(stream), place, server_name, clients))
        };
        let connected = Deadline::after(self.timeout).run(handshake).await;
        let (stream, place, server_name, clients) = connected.map_err(|_elapsed| HandshakeError::TimedOut)??;
        let session = stream.get_ref().1;
        if session.alpn_protocol() == Some(acme::PROTOCOL) {
            return Err(HandshakeError::Challenge);
        }
        // A resumed session carries its original certificate, which may have expired.
        let is_required = clients.as_ref().is_some_and(|clients| clients.is_required);
        let shown = clients.zip(session.peer_certificates());
        let client = shown.and_then(|(clients, chain)| Client::new(clients.digest, chain)).filter(Client::is_current);
        if is_required && client.is_none() {
            return Err(HandshakeError::Over);
        }
        let protocol = Protocol::of_alpn(session.alpn_protocol());
        Ok(TlsConnection { stream, place, client, server_name, protocol })
    }

    fn clients(&self, name: &Domain) -> Option<Arc<Clients>> {
        self.resolver.certificates.load().by_name.find(name)?.clients.clone()
    }

    /// The common configuration, but with client certificates.
    fn with_clients(&self, verifier: Arc<dyn ClientCertVerifier>) -> Result<ServerConfig, rustls::Error> {
        let provider = Arc::clone(self.config.crypto_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::<Resolver>::clone(&self.resolver));
        config.alpn_protocols.clone_from(&self.config.alpn_protocols);
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        Ok(config)
    }
}
