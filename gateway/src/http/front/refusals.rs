//! Which of a connection's heads was refused, between what reads it and the service that answers it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::fault::Fault;

/// Why a request was refused before it was one, among its extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Malformed(pub(crate) Fault);

/// Which of a connection's heads was refused, for the service behind hyper.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusals(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Heads that the service has seen.
    seen: AtomicU64,
    /// Of the head that was refused: how many were let through before, and why.
    head: OnceLock<(u64, Fault)>,
}

impl Refusals {
    /// Told for each request in turn: what is wrong with this one.
    pub(in crate::http) fn next(&self) -> Option<Malformed> {
        let number = self.0.seen.fetch_add(1, Ordering::Relaxed);
        self.0.head.get().filter(|(at, _)| *at == number).map(|(_, fault)| Malformed(*fault))
    }

    /// Behind so many good heads comes one that is refused, and nothing more.
    pub(super) fn refuse(&self, heads: u64, fault: Fault) {
        // There is no second one.
        let _first = self.0.head.set((heads, fault));
    }
}
