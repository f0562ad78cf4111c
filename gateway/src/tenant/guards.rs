//! What is counted of a tenant at once, as long as it is there.

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
/// Its answer is out, and its guest still works.
const ENDING: u8 = 1;
const LEFT: u8 = 2;

impl InFlight {
    pub(super) fn of(ledger: &Arc<Ledger>) -> Self {
        Self { ledger: Arc::clone(ledger), state: AtomicU8::new(ANSWERING) }
    }

    /// Gives the place back, once.
    pub(crate) fn leave(&self) {
        match self.state.swap(LEFT, Ordering::Relaxed) {
            ANSWERING => self.ledger.in_flight.give_back(1),
            ENDING => self.ledger.ending.give_back(1),
            _ => {}
        }
    }

    /// Its answer is out while its guest still works: whoever has it may ask again and finds a place, because this one counts among
    /// those that are ending. It keeps its place where too many are.
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
