//! Words to the gateway itself: load the tenants' files anew, or drain and end.

use tokio::sync::{mpsc, oneshot};

/// Words that wait while a reload goes on.
const WAITING_MAX: usize = 8;

/// What an operator wants of the gateway.
#[derive(Debug)]
pub(crate) enum Word {
    /// All files; told when it is done, and whether it could be.
    Reload(oneshot::Sender<bool>),
    Drain,
}

/// Where such words are said.
#[derive(Clone, Debug)]
pub(crate) struct Steering(mpsc::Sender<Word>);

impl Steering {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Word>) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        (Self(sender), receiver)
    }

    /// Whether the files were loaded; nothing where the gateway listens no more, or too many ask already.
    pub(super) async fn reload(&self) -> Option<bool> {
        let (tell, told) = oneshot::channel();
        self.0.try_send(Word::Reload(tell)).ok()?;
        told.await.ok()
    }

    /// Whether it was heard.
    pub(super) fn drain(&self) -> bool {
        self.0.try_send(Word::Drain).is_ok()
    }
}
