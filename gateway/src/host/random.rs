//! Randomness for guests, with its bytes counted: it is host work that the guest's own instructions do not show.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::{Rng as _, TryRng};

/// The thread's own cryptographic generator, and how many bytes were taken from it.
pub(super) struct Counted(pub(super) Arc<AtomicU64>);

impl Counted {
    fn count(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl TryRng for Counted {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.count(size_of::<u32>());
        Ok(rand::rng().next_u32())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.count(size_of::<u64>());
        Ok(rand::rng().next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.count(bytes.len());
        rand::rng().fill_bytes(bytes);
        Ok(())
    }
}
