//! What is counted of a tenant at once, as long as it is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Ledger;

/// One request in flight, until it leaves or is dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    ledger: Arc<Ledger>,
    has_left: AtomicBool,
}

impl InFlight {
    pub(super) fn of(ledger: &Arc<Ledger>) -> Self {
        Self { ledger: Arc::clone(ledger), has_left: AtomicBool::new(false) }
    }

    /// Gives the place back, once.
    pub(crate) fn leave(&self) {
        if !self.has_left.swap(true, Ordering::Relaxed) {
            self.ledger.in_flight.give_back(1);
        }
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
