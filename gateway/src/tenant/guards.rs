//! Guards for what a tenant uses at once: each counts while it exists.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::Ledger;

/// One request in flight, until it leaves or is dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    ledger: Arc<Ledger>,
    /// [`ANSWERING`], [`ENDING`] or [`LEFT`].
    state: AtomicU8,
}

const ANSWERING: u8 = 0;
/// The response is sent, and the guest still works.
const ENDING: u8 = 1;
const LEFT: u8 = 2;

impl InFlight {
    pub(super) fn of(ledger: &Arc<Ledger>) -> Self {
        Self { ledger: Arc::clone(ledger), state: AtomicU8::new(ANSWERING) }
    }

    /// Releases the place, once.
    pub(crate) fn leave(&self) {
        match self.state.swap(LEFT, Ordering::Relaxed) {
            ANSWERING => self.ledger.in_flight.give_back(1),
            ENDING => self.ledger.ending.give_back(1),
            _ => {}
        }
    }

    /// The response is sent while the guest still works. The place becomes free for the client's next request, because this
    /// request now counts among those that are ending. If too many are ending, it keeps its place.
    pub(crate) fn works_on(&self) {
        if !self.ledger.ending.add(1) {
            return;
        }
        let was = self.state.compare_exchange(ANSWERING, ENDING, Ordering::Relaxed, Ordering::Relaxed);
        if was.is_ok() { self.ledger.in_flight.give_back(1) } else { self.ledger.ending.give_back(1) }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.leave();
    }
}

/// One connection of a client that asked for the tenant by its server name, until it is dropped.
#[derive(Debug)]
pub(crate) struct Connected(Arc<Ledger>);

impl Connected {
    pub(super) fn of(ledger: &Arc<Ledger>) -> Self {
        Self(Arc::clone(ledger))
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.give_back(1);
    }
}
