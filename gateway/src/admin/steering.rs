//! Words to the gateway itself: load the tenants' files anew, or drain and end.

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Reloads that wait while one goes on.
const WAITING_MAX: usize = 8;

/// Told when all files were loaded, and whether they could be.
pub(crate) type Asker = oneshot::Sender<bool>;

/// Where operators say what they want of the gateway.
#[derive(Clone, Debug)]
pub(crate) struct Steering {
    reloads: mpsc::Sender<Asker>,
    drain: CancellationToken,
    started: CancellationToken,
}

/// Where the gateway hears it.
#[derive(Debug)]
pub(crate) struct Words {
    pub(crate) reloads: mpsc::Receiver<Asker>,
    /// Heard at any time, as SIGTERM is.
    pub(crate) drain: CancellationToken,
}

impl Steering {
    /// `started` is cancelled by the gateway when its first load is over.
    pub(crate) fn new(started: CancellationToken) -> (Self, Words) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let drain = CancellationToken::new();
        let words = Words { reloads: receiver, drain: drain.clone() };
        (Self { reloads: sender, drain, started }, words)
    }

    /// Whether the files were loaded; nothing where the gateway listens no more, or too many ask already.
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
