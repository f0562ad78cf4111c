//! Orders to the gateway itself: reload the tenants' files, or drain and exit.

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Reloads that may wait while one is in progress.
const WAITING_MAX: usize = 8;

/// Receives whether the files could be loaded, when all were loaded.
pub(crate) type ReloadReply = oneshot::Sender<bool>;

/// The sending side, for operators' calls.
#[derive(Clone, Debug)]
pub(crate) struct OrderSender {
    reloads: mpsc::Sender<ReloadReply>,
    drain: CancellationToken,
    started: CancellationToken,
}

/// The receiving side, for the gateway.
#[derive(Debug)]
pub(crate) struct OrderReceiver {
    pub(crate) reloads: mpsc::Receiver<ReloadReply>,
    /// Can be triggered at any time, like SIGTERM.
    pub(crate) drain: CancellationToken,
}

impl OrderSender {
    /// The gateway cancels `started` when its first load is over.
    pub(crate) fn new(started: CancellationToken) -> (Self, OrderReceiver) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let drain = CancellationToken::new();
        let words = OrderReceiver { reloads: receiver, drain: drain.clone() };
        (Self { reloads: sender, drain, started }, words)
    }

    /// Whether the files were loaded. Nothing if the gateway no longer listens, or too many requests wait.
    pub(super) async fn reload(&self) -> Option<bool> {
        let (tell, told) = oneshot::channel();
        self.reloads.try_send(tell).ok()?;
        told.await.ok()
    }

    /// Whether the first load is over.
    pub(super) fn is_started(&self) -> bool {
        self.started.is_cancelled()
    }

    pub(super) fn drain(&self) {
        self.drain.cancel();
    }
}
