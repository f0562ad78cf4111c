//! What one cause may use: a client's request, a message or a schedule's run, with every request that it makes of its own tenant.
//!
//! A component that asks another one of its tenant spends what is left of the request that it answers: fuel, time, memory, storage
//! operations and outbound requests. However wide and deep components ask each other, all of them together have the limits of the
//! first one's route. Each also has its own route's limits, where those are less.
//!
//! Invariant: what all instances of one budget draw of its fuel is at most its fuel, to the unit, in whatever order they draw.
//! Limit: instances that compute at the same time see that the fuel is gone when they next come out to the host, or at the next
//! tick of the clock (a millisecond). What they compute until then is not theirs to be charged: it was never there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::bucket::Count;
use super::{Limits, cost};
use crate::fault::Fault;
use crate::ids::Line;

/// The most messages in a line of which each was caused by the one before. The last one's handler may send no further one.
pub(crate) const MESSAGES_IN_A_LINE_MAX: u32 = 16;
/// Messages that are sent for messages and come from one cause, for each of `limits.storage_ops`.
const MESSAGES_A_STORAGE_OP: u64 = 20;

/// One cause's budget, as one of its requests has it. Clones are the same budget.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    whole: Arc<Whole>,
    /// Whether another request of the same budget caused this one.
    is_inner: bool,
    /// Messages that came before this, itself included.
    line: Line,
}

#[derive(Debug)]
struct Whole {
    /// What is left.
    fuel: AtomicU64,
    until: Instant,
    memory: Arc<Count>,
    /// What is left.
    storage_ops: AtomicU64,
    outbound: AtomicU64,
    messages_max: u64,
}

impl Budget {
    /// For what comes from outside of the gateway's instances, and came by so many messages of components.
    pub(crate) fn open(limits: &Limits, line: Line) -> Self {
        let whole = Whole {
            fuel: AtomicU64::new(limits.fuel),
            until: Instant::now() + limits.time,
            memory: Arc::new(Count::of(limits.memory)),
            storage_ops: AtomicU64::new(limits.storage_ops),
            outbound: AtomicU64::new(limits.outbound),
            messages_max: limits.storage_ops.saturating_mul(MESSAGES_A_STORAGE_OP),
        };
        Self { whole: Arc::new(whole), is_inner: false, line }
    }

    /// The same budget, for a request that one of its requests makes of its own tenant.
    pub(crate) fn inner(&self) -> Self {
        Self { is_inner: true, ..self.clone() }
    }

    pub(crate) const fn is_inner(&self) -> bool {
        self.is_inner
    }

    /// Whether there is enough for one more instance.
    ///
    /// # Errors
    /// What there is not enough of.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        if self.fuel() < cost::INSTANCE {
            Err(Fault::Fuel)
        } else if self.time().is_zero() {
            Err(Fault::Deadline)
        } else {
            Ok(())
        }
    }

    /// What is left.
    pub(crate) fn fuel(&self) -> u64 {
        self.whole.fuel.load(Ordering::Relaxed)
    }

    /// Takes so much fuel, or as much as there is; how much it took.
    pub(crate) fn draw(&self, fuel: u64) -> u64 {
        draw(&self.whole.fuel, fuel)
    }

    pub(crate) fn time(&self) -> Duration {
        self.whole.until.saturating_duration_since(Instant::now())
    }

    /// Bytes that all its instances have together.
    pub(crate) fn memory(&self) -> &Arc<Count> {
        &self.whole.memory
    }

    /// Takes so many storage operations; whether there were as many.
    pub(crate) fn take_storage_ops(&self, ops: u64) -> bool {
        draw(&self.whole.storage_ops, ops) == ops
    }

    /// Takes one outbound request; whether there was one.
    pub(crate) fn take_outbound(&self) -> bool {
        draw(&self.whole.outbound, 1) == 1
    }

    /// Messages that came before this, itself included.
    pub(crate) const fn line(&self) -> Line {
        self.line
    }

    /// Where a message stands that is sent by this; nothing where too many came before it.
    pub(crate) fn next_message(&self) -> Option<Line> {
        Some(self.line.next()).filter(|line| line.number <= MESSAGES_IN_A_LINE_MAX)
    }

    /// How many messages may be sent for messages of one cause, on this gateway.
    pub(crate) fn messages_max(&self) -> u64 {
        self.whole.messages_max
    }
}

fn draw(left: &AtomicU64, wanted: u64) -> u64 {
    if wanted == 0 {
        return 0;
    }
    let less = |left: u64| Some(left.saturating_sub(wanted));
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).map_or(0, |before| before.min(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        fuel: 1_000_000,
        memory: 100,
        time: Duration::from_secs(30),
        request_body: 1,
        response_head: 1,
        storage_ops: 5,
        outbound: 3,
    };

    fn none() -> Line {
        Line::none(crate::ids::RequestId::new())
    }

    #[test]
    fn whoever_draws_all_together_have_one_requests_limits() {
        let first = Budget::open(&LIMITS, none());
        let drawn: u64 = std::thread::scope(|scope| {
            let each = (0..8).map(|_| {
                let own = first.inner();
                scope.spawn(move || (0..1000).map(|n| own.draw(n % 300)).sum::<u64>())
            });
            each.collect::<Vec<_>>().into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert_eq!((drawn, first.fuel()), (LIMITS.fuel, 0), "8 × 1000 draws of 149 are more than there is");
        assert_eq!(first.check(), Err(Fault::Fuel));
        let inner = first.inner();
        assert!(inner.take_outbound() && first.take_outbound() && inner.inner().take_outbound());
        assert!(!first.take_outbound() && !inner.take_outbound());
        assert!(inner.take_storage_ops(3) && !first.take_storage_ops(3), "two were left, and are not enough");
        assert!(inner.memory().add(60) && !first.memory().add(41) && first.memory().add(40));
        assert!(inner.is_inner() && !first.is_inner());
    }

    #[test]
    fn a_line_of_messages_ends() {
        let first = none();
        let mut line = first;
        while let Some(next) = Budget::open(&LIMITS, line).inner().next_message() {
            assert_eq!((next.number, next.cause), (line.number + 1, first.cause));
            line = next;
        }
        assert_eq!(line.number, MESSAGES_IN_A_LINE_MAX);
    }

    #[test]
    fn an_instance_needs_fuel_and_time() {
        assert_eq!(Budget::open(&LIMITS, none()).check(), Ok(()));
        let late = Budget::open(&Limits { time: Duration::ZERO, ..LIMITS }, none());
        assert_eq!(late.check(), Err(Fault::Deadline));
        let poor = Budget::open(&Limits { fuel: cost::INSTANCE - 1, ..LIMITS }, none());
        assert_eq!(poor.check(), Err(Fault::Fuel));
    }
}
