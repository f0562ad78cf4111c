//! What a client's connection meets first: TLS, plain HTTP that is answered, or plain HTTP that is sent to TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use ::http::uri::Scheme;
use ::http::{Request, Response};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::listener::{self, Addresses, Held};
use crate::networks::Networks;
use crate::request::{Peer, Road};
use crate::tls::{self, Challenges, Terminator};
use crate::{http, response};

#[derive(Clone)]
pub(super) struct Door {
    pub(super) road: Arc<Road>,
    pub(super) terminator: Terminator,
    pub(super) addresses: Addresses,
    /// Where the PROXY protocol is spoken.
    pub(super) proxies: Networks,
    /// What a CA's servers may ask by plain HTTP.
    pub(super) challenges: Option<Arc<Challenges>>,
}

impl Door {
    /// Who is there, and a place among those of the address; nothing where it has as many as it may, or a proxy does not say
    /// who it is for.
    async fn enter(&self, stream: &mut TcpStream, peer: SocketAddr) -> Option<(SocketAddr, Held)> {
        let client = match listener::client(stream, peer, &self.proxies, self.road.http.handshake_time).await {
            Ok(client) => client,
            Err(error) => {
                self.road.metrics.connection_refused();
                tracing::warn!(target: "listener", %peer, %error, "a proxy does not say who its client is");
                return None;
            }
        };
        let held = self.addresses.enter(client.ip());
        if held.is_none() {
            self.road.metrics.connection_refused();
        }
        Some((client, held?))
    }

    pub(super) async fn https(self, mut stream: TcpStream, peer: SocketAddr) {
        let Some((peer, _held)) = self.enter(&mut stream, peer).await else { return };
        let shaken = match self.terminator.handshake(stream).await {
            Ok(shaken) => shaken,
            Err(error) => {
                self.road.metrics.handshake_failed();
                tracing::debug!(target: "tls", %error, "no handshake");
                return;
            }
        };
        let peer = Peer { address: peer, scheme: Scheme::HTTPS, server_name: shaken.server_name };
        self.answer(shaken.stream, shaken.protocol, peer).await;
    }

    /// Answers without TLS, on a developer's own machine.
    pub(super) async fn plain(self, mut stream: TcpStream, peer: SocketAddr) {
        let Some((peer, _held)) = self.enter(&mut stream, peer).await else { return };
        let peer = Peer { address: peer, scheme: Scheme::HTTP, server_name: None };
        self.answer(stream, tls::Protocol::Http1, peer).await;
    }

    async fn answer<S>(self, stream: S, protocol: tls::Protocol, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (road, peer) = (Arc::clone(&self.road), Arc::new(peer));
        let answer = move |request| {
            let (road, peer) = (Arc::clone(&road), Arc::clone(&peer));
            async move { road.answer(request, &peer).await }
        };
        http::serve(stream, protocol, &self.road.http, &self.road.tasks, answer).await;
    }

    pub(super) async fn http(self, mut stream: TcpStream, peer: SocketAddr, https_port: u16) {
        let Some((_peer, _held)) = self.enter(&mut stream, peer).await else { return };
        let challenges = self.challenges;
        let answer = move |request: Request<Incoming>| {
            let proof = challenges.as_ref().and_then(|challenges| challenges.http(request.uri().path()));
            if let Some(proof) = proof {
                return std::future::ready(Response::new(http::full(proof)));
            }
            let redirect = http::to_https(&request, https_port);
            let redirect =
                redirect.unwrap_or_else(|fault| response::of_fault(fault, crate::ids::RequestId::new(), None));
            std::future::ready(redirect)
        };
        let road = self.road;
        http::serve(stream, tls::Protocol::Http1, &road.http, &road.tasks, answer).await;
    }
}
