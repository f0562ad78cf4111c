//! A bounded list of steps, the oldest first.

use std::collections::VecDeque;

use super::STEPS;
use super::steps::Dated;

#[derive(Debug)]
pub(super) struct Ring<T>(VecDeque<T>);

impl<T> Default for Ring<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T: Dated + Clone> Ring<T> {
    /// Adds the newest step. Removes the oldest one if there are [`STEPS`] already.
    pub(super) fn push(&mut self, step: T) {
        if self.0.len() >= STEPS {
            self.0.pop_front();
        } else if self.0.len() == self.0.capacity() {
            // It grows as it fills, and never beyond `STEPS`.
            self.0.reserve_exact(self.0.len().clamp(8, STEPS - self.0.len()));
        }
        self.0.push_back(step);
    }

    /// Returns the steps that ended after this time.
    pub(super) fn after(&self, at_ms: u64) -> Vec<T> {
        self.0.iter().filter(|step| step.at_ms() > at_ms).cloned().collect()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> (usize, usize) {
        (self.0.len(), self.0.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::super::steps::TenantStep;
    use super::*;

    #[test]
    fn a_ring_keeps_one_hour() {
        let mut ring = Ring::default();
        for at_ms in 1..=1000 {
            ring.push(TenantStep { at_ms, ..TenantStep::default() });
            let (len, capacity) = ring.len();
            assert!(len <= STEPS && capacity <= STEPS, "{len} of {capacity}");
        }
        let kept = ring.after(0);
        assert_eq!(
            (kept.len(), kept.first().map(Dated::at_ms), kept.last().map(Dated::at_ms)),
            (360, Some(641), Some(1000))
        );
        assert_eq!(ring.after(998).len(), 2);
    }
}
