//! A tenant that is moving from one backend to another: writes are noted meanwhile, and at the end no write is allowed for
//! a moment.
//!
//! Invariant: a write is either noted before the last copy, or waits and goes to the tenant's new backend.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::layout::Bucket;

/// Something that was written, or may have been.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Touched {
    /// A store, by its bucket's name, and a key.
    Pair(Vec<u8>, Vec<u8>),
    /// A raw key with its prefix.
    Raw(Vec<u8>),
}

impl Touched {
    pub(super) fn pair(bucket: &Bucket, key: &[u8]) -> Self {
        Self::Pair(bucket.as_bytes().to_vec(), key.to_vec())
    }
}

/// How many keys may wait to be copied again. Above that, the move is given up.
const TOUCHED_MAX: usize = 1_000_000;

#[derive(Debug, Default)]
pub(super) struct Gate {
    is_closed: AtomicBool,
    inside: AtomicUsize,
    opened: Notify,
    left: Notify,
    touched: Mutex<HashSet<Touched>>,
    overflowed: AtomicBool,
}

/// Guard for a write in progress. On drop it records the keys that the write touched.
pub(super) struct WriteGuard {
    gate: Arc<Gate>,
    about: Vec<Touched>,
}

impl Drop for WriteGuard {
    fn drop(&mut self) {
        let mut touched = self.gate.touched();
        touched.extend(self.about.drain(..));
        if touched.len() > TOUCHED_MAX {
            touched.clear();
            self.gate.overflowed.store(true, Ordering::SeqCst);
        }
        drop(touched);
        self.gate.leave();
    }
}

impl Gate {
    fn touched(&self) -> std::sync::MutexGuard<'_, HashSet<Touched>> {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while the gate is closed.
    pub(super) async fn enter(self: &Arc<Self>, about: Vec<Touched>) -> WriteGuard {
        loop {
            let opened = self.opened.notified();
            self.inside.fetch_add(1, Ordering::SeqCst);
            if !self.is_closed.load(Ordering::SeqCst) {
                return WriteGuard { gate: Arc::clone(self), about };
            }
            self.leave();
            opened.await;
        }
    }

    fn leave(&self) {
        self.inside.fetch_sub(1, Ordering::SeqCst);
        self.left.notify_waiters();
    }

    /// What was written since the last call. Nothing once that was too much.
    pub(super) fn take(&self) -> Option<HashSet<Touched>> {
        let taken = std::mem::take(&mut *self.touched());
        (!self.overflowed.load(Ordering::SeqCst)).then_some(taken)
    }

    /// Closes the gate, and waits until the writes in progress have ended.
    pub(super) async fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        loop {
            let left = self.left.notified();
            // A write that finds the gate closed also counts as inside for a moment.
            if self.inside.load(Ordering::SeqCst) == 0 {
                return;
            }
            left.await;
        }
    }

    pub(super) fn open(&self) {
        self.is_closed.store(false, Ordering::SeqCst);
        self.opened.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_finished_write_is_noted_and_a_closed_gate_waits() {
        let gate = Arc::<Gate>::default();
        let about = |key: &[u8]| vec![Touched::Raw(key.to_vec())];
        let first = gate.enter(about(b"a")).await;
        assert!(gate.take().unwrap().is_empty(), "it is under way");
        let closing = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.close().await }
        });
        tokio::task::yield_now().await;
        let waiting = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { drop(gate.enter(about(b"b")).await) }
        });
        tokio::task::yield_now().await;
        assert!(!closing.is_finished() && !waiting.is_finished());
        drop(first);
        closing.await.unwrap();
        assert_eq!(gate.take().unwrap().len(), 1, "the one that was in");
        assert!(!waiting.is_finished());
        gate.open();
        waiting.await.unwrap();
        assert_eq!(gate.take().unwrap().len(), 1);
    }
}
