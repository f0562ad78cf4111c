//! The other side of a connection, as its requests see it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use http::uri::Scheme;

use crate::domain::Domain;
use crate::fault::Fault;
use crate::tenant::Tenant;
use crate::tls::Client;

/// The other side of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    /// The remote address at the time of the handshake.
    pub(crate) address: SocketAddr,
    /// Whether packets now come from another address, not validated yet (RFC 9000 §9.3). No proxy header is trusted there.
    pub(crate) has_moved: bool,
    pub(crate) scheme: Scheme,
    /// The server name of the handshake (SNI), if there was one.
    pub(crate) server_name: Option<Domain>,
    /// The client's identity from its verified certificate, if it sent one.
    pub(crate) client: Option<Client>,
    /// When the handshake ended and how long it took. The connection's first request reports it.
    pub(crate) handshake: Option<(SystemTime, Duration)>,
    pub(crate) handshake_reported: AtomicBool,
}

impl Peer {
    /// Returns the handshake's times to the first caller on this connection, and nothing to later callers.
    pub(super) fn take_handshake(&self) -> Option<(SystemTime, Duration)> {
        let handshake = self.handshake?;
        (!self.handshake_reported.swap(true, Ordering::Relaxed)).then_some(handshake)
    }

    /// The client's identity for this tenant, if the tenant asks for certificates.
    ///
    /// # Errors
    /// [`Fault::Misdirected`] if the tenant requires a certificate and this connection has none. Another one may have it.
    pub(super) fn caller(&self, tenant: &Tenant) -> Result<Option<&Client>, Fault> {
        let Some(callers) = tenant.callers else { return Ok(None) };
        match self.client.as_ref().filter(|client| client.by == callers.by && client.is_current()) {
            None if callers.is_required => Err(Fault::Misdirected),
            client => Ok(client),
        }
    }
}
