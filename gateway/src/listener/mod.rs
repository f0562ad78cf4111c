//! Sockets: binding, the accept loop, and the limit on connections.
//!
//! Invariant: nothing a client does ends the accept loop or holds it up: it accepts and hands over.
//! Limit: [`Settings::connections`] open connections in all; the next one is closed at once and counted.

mod addresses;
mod bind;
mod checksum;
#[cfg(any(test, fuzzing))]
mod fuzzed;
mod handover;
mod proxied;
mod quic;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::networks::Networks;
use crate::telemetry::{Metrics, Tasks};
pub(crate) use addresses::{Addresses, Held};
pub(crate) use bind::Family;
pub(crate) use handover::{Offer, Old, Role, Sockets};
pub(crate) use proxied::client;
pub(crate) use quic::{accept_quic, bind_quic};

/// What the operator chose.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) https: Vec<SocketAddr>,
    pub(crate) http: Vec<SocketAddr>,
    pub(crate) admin: SocketAddr,
    /// The port at which clients reach `https`, where something between maps ports.
    pub(crate) public_https: Option<u16>,
    /// What load balancers ask on the clients' listeners, if anything.
    pub(crate) health: Option<String>,
    /// How long they are told to go elsewhere before a drain begins.
    pub(crate) unhealthy: Duration,
    /// Whether plain HTTP is answered rather than redirected.
    pub(crate) is_plain: bool,
    /// Open connections, of all listeners for clients together.
    pub(crate) connections: u32,
    /// Of one client's address.
    pub(crate) connections_per_address: u32,
    /// Where the PROXY protocol is spoken.
    pub(crate) proxies: Networks,
    /// Whether HTTP/3 is served as well, on the addresses of `https`.
    pub(crate) quic: bool,
    /// How long a shutdown waits for what is in flight.
    pub(crate) drain: Duration,
}

impl Settings {
    /// Which families a socket at this address takes.
    pub(crate) fn family(&self, address: SocketAddr) -> Family {
        let admin = std::iter::once(&self.admin);
        Family::of(address, self.https.iter().chain(&self.http).chain(admin).copied())
    }
}

/// How long to leave a machine alone that has run out of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(50);

/// Counts open connections and refuses too many.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    places: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// A connection's place, given back on drop.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    metrics: Arc<Metrics>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}

impl Connections {
    pub(crate) fn new(max: u32, metrics: Arc<Metrics>) -> Self {
        Self { places: Arc::new(Semaphore::new(max as usize)), metrics }
    }

    /// Counts one that was turned away for another reason than that there are too many of all.
    fn refused(&self) {
        self.metrics.connection_refused();
    }

    fn enter(&self) -> Option<Place> {
        let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() else {
            self.metrics.connection_refused();
            return None;
        };
        self.metrics.connections.inc();
        Some(Place { _permit: permit, metrics: Arc::clone(&self.metrics) })
    }
}

/// Accepts until the gateway drains, giving each connection a task of its own.
pub(crate) async fn accept<F, S>(listener: TcpListener, connections: Connections, tasks: Tasks, serve: S)
where
    S: Fn(TcpStream, SocketAddr) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let accepted = tokio::select! {
            biased;
            () = tasks.draining() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(place) = connections.enter() else { continue };
                // Small responses must not wait for an acknowledgement that the client delays.
                let _best_effort = stream.set_nodelay(true);
                let served = serve(stream, peer);
                tasks.spawn(async move {
                    served.await;
                    drop(place);
                });
            }
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                tracing::warn!(target: "listener", %error, "cannot accept connections; the gateway tries again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Whether the peer went away before it was accepted, which is its own affair.
fn is_of_the_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
