//! What a client's connection meets first: TLS, plain HTTP that is answered, or plain HTTP that is redirected.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Instant, SystemTime};

use ::http::header::{ALT_SVC, HeaderValue};
use ::http::uri::Scheme;
use ::http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::health::Health;
use crate::domain::Domain;
use crate::fault::QuotaKind;
use crate::listener::{self, Addresses, Held};
use crate::networks::Networks;
use crate::request::{Peer, Road};
use crate::tenant::Connected;
use crate::tls::{self, Challenges, HandshakeError, Terminator};
use crate::{http, response};

#[derive(Clone)]
pub(super) struct ConnectionHandler {
    pub(super) road: Arc<Road>,
    pub(super) terminator: Terminator,
    pub(super) addresses: Addresses,
    /// Proxies that speak the PROXY protocol.
    pub(super) proxies: Networks,
    /// The proofs for a CA's requests by plain HTTP.
    pub(super) challenges: Option<Arc<Challenges>>,
    pub(super) health: Health,
    /// The advertisement of HTTP/3 (RFC 9114 §3.1.1), for clients of older versions.
    pub(super) alternative: Option<HeaderValue>,
}

/// A connection's place at a tenant, if the name belongs to one.
#[derive(Default)]
struct Entered {
    _place: Option<Connected>,
    /// Whether the tenant asks for certificates, which QUIC's handshakes do not support.
    has_callers: bool,
}

impl ConnectionHandler {
    /// The client's address, and a place among its connections. Nothing if the address has as many as it may, or if a proxy
    /// does not name the client.
    async fn enter(&self, stream: &mut TcpStream, peer: SocketAddr) -> Option<(SocketAddr, Held)> {
        let client = match listener::client(stream, peer, &self.proxies, self.road.http.handshake_time).await {
            Ok(client) => client,
            Err(error) => {
                self.road.metrics.connection_refused();
                tracing::warn!(target: "listener", %peer, %error, "a proxy does not name its client");
                return None;
            }
        };
        let held = self.addresses.enter(client.ip());
        if held.is_none() {
            self.road.metrics.connection_refused();
        }
        Some((client, held?))
    }

    /// A place among the connections of the name's tenant. Without a tenant, only the gateway's own limit applies.
    fn enter_tenant(&self, name: Option<&Domain>) -> Option<Entered> {
        let snapshot = self.road.snapshot.load();
        let Some(tenant) = name.and_then(|name| snapshot.routes.owner(name)) else { return Some(Entered::default()) };
        let place = tenant.ledger.connect();
        if place.is_none() {
            self.road.metrics.connection_refused();
            tenant.ledger.figures.quota_refused(QuotaKind::Connections);
        }
        Some(Entered { _place: Some(place?), has_callers: tenant.callers.is_some() })
    }

    /// The state of a client's connection.
    fn client(&self, address: SocketAddr) -> Arc<http::Connection> {
        http::Connection::new(address, Arc::clone(self.road.doors.slow()))
    }

    pub(super) async fn https(mut self, mut stream: TcpStream, peer: SocketAddr) {
        let Some((peer, _held)) = self.enter(&mut stream, peer).await else { return };
        let began = Instant::now();
        // Both are boxed, and the first one is freed before the connection becomes idle.
        let handshake = Box::pin(self.terminator.handshake(stream, |name| self.enter_tenant(name)));
        let connected = match handshake.await {
            Ok(connected) => connected,
            Err(HandshakeError::Full) => return,
            Err(error) => {
                self.road.metrics.handshake_failed();
                tracing::debug!(target: "tls", %error, "the TLS handshake failed");
                return;
            }
        };
        let (server_name, client) = (connected.server_name, connected.client);
        let certificate = client.clone();
        let times = Some((SystemTime::now(), began.elapsed()));
        let handshake_reported = AtomicBool::new(false);
        let scheme = Scheme::HTTPS;
        let peer =
            Peer { address: peer, has_moved: false, scheme, server_name, client, handshake: times, handshake_reported };
        if connected.place.has_callers {
            self.alternative = None;
        }
        let answered = Box::pin(self.answer(connected.stream, connected.protocol, peer));
        match certificate {
            // A client is served no longer than its certificate is valid, whatever is in progress.
            Some(client) => tokio::select! {
                () = answered => {}
                () = client.over() => tracing::debug!(target: "tls", "the client's certificate has expired"),
            },
            None => answered.await,
        }
        drop(connected.place);
    }

    pub(super) async fn quic(self, connected: Result<quinn::Connection, quinn::ConnectionError>) {
        let connection = match connected {
            Ok(connection) => connection,
            Err(error) => {
                self.road.metrics.handshake_failed();
                tracing::debug!(target: "tls", %error, "the QUIC handshake failed");
                return;
            }
        };
        let server_name = Terminator::server_name(&connection);
        let Some(_place) = self.enter_tenant(server_name.as_ref()) else { return };
        let client = self.client(connection.remote_address());
        let (road, health, of) = (Arc::clone(&self.road), self.health, connection.clone());
        // The handshake has validated this address. The client may later move to another address, which quinn uses before
        // the client has proved it (RFC 9000 §9), and quinn does not report which addresses are validated.
        let address = connection.remote_address();
        let answer = move |request, exchange: Arc<http::Exchange>| {
            let (road, has_moved) = (Arc::clone(&road), of.remote_address().ip() != address.ip());
            let (scheme, server_name, handshake_reported) = (Scheme::HTTPS, server_name.clone(), AtomicBool::new(true));
            let peer =
                Peer { address, has_moved, scheme, server_name, client: None, handshake: None, handshake_reported };
            let said = health.answer(&request, &road);
            async move {
                match said {
                    Some(said) => said,
                    None => road.answer(request, &peer, &exchange).await,
                }
            }
        };
        http::serve_quic(connection, client, &self.road.http, &self.road.tasks, answer).await;
    }

    /// Answers without TLS, on a developer's own machine.
    pub(super) async fn plain(self, mut stream: TcpStream, peer: SocketAddr) {
        let Some((peer, _held)) = self.enter(&mut stream, peer).await else { return };
        let (scheme, handshake_reported) = (Scheme::HTTP, AtomicBool::new(true));
        let (address, has_moved) = (peer, false);
        let peer =
            Peer { address, has_moved, scheme, server_name: None, client: None, handshake: None, handshake_reported };
        self.answer(stream, tls::Protocol::Http1, peer).await;
    }

    async fn answer<S>(self, stream: S, protocol: tls::Protocol, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let client = self.client(peer.address);
        let (road, peer, health) = (Arc::clone(&self.road), Arc::new(peer), self.health);
        let alternative = self.alternative.filter(|_| peer.scheme == Scheme::HTTPS);
        let answer = move |request, exchange: Arc<http::Exchange>| {
            let (road, peer, alternative) = (Arc::clone(&road), Arc::clone(&peer), alternative.clone());
            let said = health.answer(&request, &road);
            async move {
                if let Some(said) = said {
                    return said;
                }
                let mut response = road.answer(request, &peer, &exchange).await;
                if let Some(alternative) = alternative {
                    response.headers_mut().insert(ALT_SVC, alternative);
                }
                response
            }
        };
        http::serve((stream, protocol), client, &self.road.http, &self.road.tasks, answer).await;
    }

    pub(super) async fn http(self, mut stream: TcpStream, peer: SocketAddr, https_port: u16) {
        let Some((peer, _held)) = self.enter(&mut stream, peer).await else { return };
        let client = self.client(peer);
        let (challenges, health, road) = (self.challenges, self.health, self.road);
        let (of, fields_max) = (Arc::clone(&road), road.http.fields);
        let answer = move |mut request: Request<http::BodySource>, _exchange| {
            let proof = challenges.as_ref().and_then(|challenges| challenges.http(request.uri().path()));
            let proof = proof.map(|proof| Response::new(http::full(proof)));
            let said = proof.or_else(|| health.answer(&request, &of));
            let is_somebodys = |host: &Domain| of.snapshot.load().routes.owner(host).is_some();
            std::future::ready(said.unwrap_or_else(|| {
                let redirect = http::to_https(&mut request, https_port, fields_max, is_somebodys);
                redirect.unwrap_or_else(|fault| response::of_fault(fault, crate::ids::RequestId::new(), None))
            }))
        };
        http::serve((stream, tls::Protocol::Http1), client, &road.http, &road.tasks, answer).await;
    }
}
