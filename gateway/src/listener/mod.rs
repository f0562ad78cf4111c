//! Sockets: binding, the accept loop, and the limit on connections.
//!
//! Invariant: no client can end or block the accept loop: it accepts a connection and passes it on. Limit:
//! [`Settings::connections`] open connections in all. The gateway closes the next one at once and counts it.

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
pub(crate) use handover::{Offer, Predecessor, Role, Sockets};
pub(crate) use proxied::client;
pub(crate) use quic::{accept_quic, bind_quic};

/// What the operator chose.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) https: Vec<SocketAddr>,
    pub(crate) http: Vec<SocketAddr>,
    pub(crate) admin: SocketAddr,
    /// The port at which clients reach `https`, if something in front of the gateway maps ports.
    pub(crate) public_https: Option<u16>,
    /// The path that load balancers probe on the clients' listeners, if any.
    pub(crate) health: Option<String>,
    /// How long these probes fail before a drain begins.
    pub(crate) unhealthy: Duration,
    /// Whether the gateway answers plain HTTP instead of redirecting it.
    pub(crate) is_plain: bool,
    /// Most open connections, over all listeners for clients.
    pub(crate) connections: u32,
    /// Most open connections of one client address.
    pub(crate) connections_per_address: u32,
    /// Load balancers that speak the PROXY protocol.
    pub(crate) proxies: Networks,
    /// Whether the gateway also serves HTTP/3, on the addresses of `https`.
    pub(crate) quic: bool,
    /// How long a shutdown waits for requests in flight.
    pub(crate) drain: Duration,
}

impl Settings {
    /// The address families that a socket at this address accepts.
    pub(crate) fn family(&self, address: SocketAddr) -> Family {
        let admin = std::iter::once(&self.admin);
        Family::of(address, self.https.iter().chain(&self.http).chain(admin).copied())
    }
}

/// Pause after the machine ran out of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(50);

/// Counts open connections, and refuses those above the limit.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    places: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// The place of one connection, released on drop.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    _permit: OwnedSemaphorePermit,
    metrics: Arc<Metrics>,
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}

impl Connections {
    pub(crate) fn new(max: u32, metrics: Arc<Metrics>) -> Self {
        Self { places: Arc::new(Semaphore::new(max as usize)), metrics }
    }

    /// Counts a connection that was refused for another reason than the total.
    fn refused(&self) {
        self.metrics.connection_refused();
    }

    fn enter(&self) -> Option<ConnectionPermit> {
        let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() else {
            self.metrics.connection_refused();
            return None;
        };
        self.metrics.connections.inc();
        Some(ConnectionPermit { _permit: permit, metrics: Arc::clone(&self.metrics) })
    }
}

/// Accepts connections until the gateway drains. Each connection gets its own task.
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
                // Send small responses at once, without waiting for a delayed acknowledgement.
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

/// Whether the error only means that this peer left before its connection was accepted.
fn is_of_the_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
