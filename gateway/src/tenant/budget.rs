//! What one cause may use: a client's request, a message or a schedule's run, together with all requests that it sends to
//! its own tenant.
//!
//! A component that calls another one of its tenant spends what is left of the request that it answers: fuel, time, memory,
//! storage operations and outbound requests. However many components call each other, all of them together have the limits
//! of the first one's route. Each also has its own route's limits, if they are lower.
//!
//! Invariant: all instances of one budget together draw at most its fuel, to the unit, in any order. Limit: instances that
//! compute at the same time notice that the fuel is gone when they next call the host, or at the next tick of the clock (a
//! millisecond). What they compute until then is not charged, because the budget never had it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::bucket::Count;
use super::{Limits, cost};
use crate::fault::Fault;
use crate::ids::Line;

/// The most messages in a chain in which each causes the next. The handler of the last one may send no further message.
pub(crate) const MESSAGES_IN_A_LINE_MAX: u32 = 16;
/// For each of `limits.storage_ops`, how many messages may be sent because of messages with the same cause.
const MESSAGES_A_STORAGE_OP: u64 = 20;

/// One cause's budget, as one of its requests holds it. Clones are the same budget.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    whole: Arc<Whole>,
    /// Whether another request of the same budget caused this one.
    is_inner: bool,
    /// The messages that came before this, including itself.
    line: Line,
}

#[derive(Debug)]
struct Whole {
    /// The fuel that is left.
    fuel: AtomicU64,
    until: Instant,
    memory: Arc<Count>,
    /// The operations that are left.
    storage_ops: AtomicU64,
    outbound: AtomicU64,
    messages_max: u64,
}

impl Budget {
    /// The budget of something that comes from outside of the gateway's instances, after this many messages of components.
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

    /// The same budget, for a request to the own tenant.
    pub(crate) fn inner(&self) -> Self {
        Self { is_inner: true, ..self.clone() }
    }

    pub(crate) const fn is_inner(&self) -> bool {
        self.is_inner
    }

    /// Checks that there is enough for one more instance.
    ///
    /// # Errors
    /// The fault for what is missing.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        if self.fuel() < cost::INSTANCE {
            Err(Fault::Fuel)
        } else if self.time().is_zero() {
            Err(Fault::Deadline)
        } else {
            Ok(())
        }
    }

    /// The fuel that is left.
    pub(crate) fn fuel(&self) -> u64 {
        self.whole.fuel.load(Ordering::Relaxed)
    }

    /// Takes this much fuel, or as much as there is. Returns how much it took.
    pub(crate) fn draw(&self, fuel: u64) -> u64 {
        draw(&self.whole.fuel, fuel)
    }

    pub(crate) fn time(&self) -> Duration {
        self.whole.until.saturating_duration_since(Instant::now())
    }

    /// Bytes that all its instances use together.
    pub(crate) fn memory(&self) -> &Arc<Count> {
        &self.whole.memory
    }

    /// Takes this many storage operations. Returns whether there were enough.
    pub(crate) fn take_storage_ops(&self, ops: u64) -> bool {
        draw(&self.whole.storage_ops, ops) == ops
    }

    /// Takes one outbound request. Returns whether there was one.
    pub(crate) fn take_outbound(&self) -> bool {
        draw(&self.whole.outbound, 1) == 1
    }

    /// The messages that came before this, including itself.
    pub(crate) const fn line(&self) -> Line {
        self.line
    }

    /// The position of a message that is sent from here. Nothing if too many came before it.
    pub(crate) fn next_message(&self) -> Option<Line> {
        Some(self.line.next()).filter(|line| line.number <= MESSAGES_IN_A_LINE_MAX)
    }

    /// How many messages may be sent on this gateway because of messages with the same cause.
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
    fn all_instances_of_a_budget_share_one_requests_limits() {
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
    fn a_chain_of_messages_ends() {
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
