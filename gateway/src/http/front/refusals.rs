//! Which head of a connection was refused, shared by the reader and the service that answers it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::fault::Fault;

/// Why a request was refused before it reached the service. It is among the request's extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Malformed(pub(crate) Fault);

/// Which head of a connection was refused, for the service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusals(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Number of heads that the service has seen.
    seen: AtomicU64,
    /// The refused head: how many were passed on before it, and why.
    head: OnceLock<(u64, Fault)>,
}

impl Refusals {
    /// Called for each request in turn: what is wrong with this one, if anything.
    pub(in crate::http) fn next(&self) -> Option<Malformed> {
        let number = self.0.seen.fetch_add(1, Ordering::Relaxed);
        self.0.head.get().filter(|(at, _)| *at == number).map(|(_, fault)| Malformed(*fault))
    }

    /// Refuses the head after this many good ones. Nothing follows it.
    pub(super) fn refuse(&self, heads: u64, fault: Fault) {
        // There is only one refusal.
        let _first = self.0.head.set((heads, fault));
    }
}
