//! What is already open when a gateway starts, and still open when it has ended.

use std::sync::Arc;

use tokio::net::UnixStream;

use super::notify::Notify;
use crate::listener::Sockets;
use crate::sandbox::Compiler;
use crate::store::Store;
use crate::telemetry::Metrics;

/// What is already open when a gateway starts.
pub(super) struct Opened {
    pub(super) sockets: Sockets,
    pub(super) notify: Notify,
    pub(super) is_confined: bool,
    pub(super) compiler: Arc<Compiler>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) store: Arc<Store>,
}

/// What is still open when a gateway has ended. A process that takes over waits until the socket closes, and then opens the
/// store.
#[derive(Debug)]
pub(crate) struct Ended {
    store: Arc<Store>,
    _heir: Option<UnixStream>,
}

impl Ended {
    pub(super) const fn of(store: Arc<Store>, heir: Option<UnixStream>) -> Self {
        Self { store, _heir: heir }
    }

    /// Closes the store, and then the socket.
    pub(crate) async fn close(self) {
        self.store.close().await;
    }
}
