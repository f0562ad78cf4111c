//! UDP sockets for QUIC (RFC 9000). One socket carries all connections of its address; they are accepted as TCP connections
//! are.
//!
//! Limit: the same places for connections as for TCP. Above [`UNPROVEN_MAX`] concurrent handshakes, a client must first
//! prove its address (§8.1, Retry).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime};
use tokio::sync::Semaphore;

use super::{Addresses, Connections, Family, bind};
use crate::deadline::Deadline;
use crate::telemetry::Tasks;

/// Concurrent handshakes with clients that have not proved their address.
const UNPROVEN_MAX: usize = 64;
/// Handshakes that wait to be accepted, and the bytes that are buffered for them.
const INCOMING_MAX: usize = 1024;
const INCOMING_BYTES_MAX: u64 = 16 << 20;

/// A UDP socket that serves QUIC.
///
/// # Errors
/// The address is in use, or does not belong to this machine.
pub(crate) fn bind_quic(address: SocketAddr, family: Family, mut config: ServerConfig) -> io::Result<Endpoint> {
    config.max_incoming(INCOMING_MAX).incoming_buffer_size_total(INCOMING_BYTES_MAX);
    let socket = bind::udp(address, family)?;
    Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(TokioRuntime))
}

/// Accepts connections until the gateway drains. Each connection gets its own task.
pub(crate) async fn accept_quic<F, S>(
    endpoint: Endpoint,
    (connections, addresses): (Connections, Addresses),
    handshake: Duration,
    tasks: Tasks,
    serve: S,
) where
    S: Fn(Result<quinn::Connection, quinn::ConnectionError>) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let unproven = Arc::new(Semaphore::new(UNPROVEN_MAX));
    loop {
        let incoming = tokio::select! {
            biased;
            () = tasks.draining() => break,
            incoming = endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else { break };
        let unproven = Arc::clone(&unproven).try_acquire_owned().ok();
        if unproven.is_none() && incoming.may_retry() {
            // A client that really has this address comes again, with a token.
            let _asked = incoming.retry();
            continue;
        }
        let Some(place) = connections.enter() else {
            incoming.refuse();
            continue;
        };
        // A client that has proved its address counts there now; all others count as soon as they prove it.
        let address = incoming.remote_address().ip();
        let held = incoming.remote_address_validated().then(|| addresses.enter(address));
        if matches!(held, Some(None)) {
            connections.refused();
            incoming.refuse();
            continue;
        }
        let (serve, connections, addresses) = (serve.clone(), connections.clone(), addresses.clone());
        tasks.spawn(async move {
            let connected = await_handshake(incoming, handshake).await;
            drop(unproven);
            match held.flatten().or_else(|| addresses.enter(address)) {
                Some(_held) => serve(connected).await,
                None => connections.refused(),
            }
            drop(place);
        });
    }
    // Open connections continue; no new ones are accepted.
    endpoint.set_server_config(None);
}

async fn await_handshake(incoming: Incoming, time: Duration) -> Result<quinn::Connection, quinn::ConnectionError> {
    let connecting = incoming.accept()?;
    Deadline::after(time).run(connecting).await.unwrap_or(Err(quinn::ConnectionError::TimedOut))
}
