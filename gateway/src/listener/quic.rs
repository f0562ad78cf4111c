//! QUIC's sockets (RFC 9000): one for all of an address's connections, which are accepted as those of TCP are.
//!
//! Limit: the same places for connections. Who has not shown that the address is its own (§8.1) is asked to (Retry) once
//! [`UNPROVEN_MAX`] handshakes are under way.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime};
use tokio::sync::Semaphore;

use super::{Addresses, Connections, Family, bind};
use crate::deadline::Deadline;
use crate::telemetry::Tasks;

/// Handshakes at once with clients whose address may be another's.
const UNPROVEN_MAX: usize = 64;
/// Handshakes that wait to be accepted, and bytes that are kept of them.
const INCOMING_MAX: usize = 1024;
const INCOMING_BYTES_MAX: u64 = 16 << 20;

/// A socket of UDP that serves QUIC.
///
/// # Errors
/// The address is taken, or is not this machine's.
pub(crate) fn bind_quic(address: SocketAddr, family: Family, mut config: ServerConfig) -> io::Result<Endpoint> {
    config.max_incoming(INCOMING_MAX).incoming_buffer_size_total(INCOMING_BYTES_MAX);
    let socket = bind::udp(address, family)?;
    Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(TokioRuntime))
}

/// Accepts until the gateway drains, giving each connection a task of its own.
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
            // It comes again with a token, if it is there at all.
            let _asked = incoming.retry();
            continue;
        }
        let Some(place) = connections.enter() else {
            incoming.refuse();
            continue;
        };
        // Whoever has shown that the address is its own is counted there from now on, all others once they have.
        let address = incoming.remote_address().ip();
        let held = incoming.remote_address_validated().then(|| addresses.enter(address));
        if matches!(held, Some(None)) {
            connections.refused();
            incoming.refuse();
            continue;
        }
        let (serve, connections, addresses) = (serve.clone(), connections.clone(), addresses.clone());
        tasks.spawn(async move {
            let shaken = shake(incoming, handshake).await;
            drop(unproven);
            match held.flatten().or_else(|| addresses.enter(address)) {
                Some(_held) => serve(shaken).await,
                None => connections.refused(),
            }
            drop(place);
        });
    }
    // Those that are open go on; no new ones.
    endpoint.set_server_config(None);
}

async fn shake(incoming: Incoming, time: Duration) -> Result<quinn::Connection, quinn::ConnectionError> {
    let connecting = incoming.accept()?;
    Deadline::after(time).run(connecting).await.unwrap_or(Err(quinn::ConnectionError::TimedOut))
}
