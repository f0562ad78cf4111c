//! The latest values of something, the newest first, up to a fixed number.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

#[derive(Debug)]
pub(crate) struct Recent<T> {
    kept: Mutex<VecDeque<T>>,
    max: usize,
}

impl<T: Clone> Recent<T> {
    pub(crate) const fn new(max: usize) -> Self {
        Self { kept: Mutex::new(VecDeque::new()), max }
    }

    pub(crate) fn add(&self, one: T) {
        let _added = self.add_where(|_kept| true, || one);
    }

    /// Adds a value if it is wanted beside those that are kept. Returns the added value.
    pub(super) fn add_where(&self, is_wanted: impl FnOnce(&VecDeque<T>) -> bool, one: impl FnOnce() -> T) -> Option<T> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let one = is_wanted(&kept).then(one)?;
        kept.truncate(self.max.saturating_sub(1));
        kept.push_front(one.clone());
        Some(one)
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
