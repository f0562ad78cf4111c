//! Room for the memories of composed components. The pool has as many as any component may have for every instance that runs;
//! what a composed one has beyond that is taken from a number that all of them share, so that it is nobody else's who waits.
//!
//! And room in the tenant's own memory, for an instance that would be refused for what others are about to give back.
//!
//! Limit: [`shared_memories`]; who finds none waits within the request's time, in order of arrival.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::engine::{MEMORIES_EACH, shared_memories};
use crate::deadline::{Deadline, Moment};
use crate::fault::Fault;
use crate::telemetry::Record;
use crate::tenant::{Ledger, Place, Taken};

/// For how long an instance waits for memory of its tenant's that others have.
const MEMORY_TIME: Duration = Duration::from_secs(10);

/// Those that composed components share.
#[derive(Clone, Debug)]
pub(super) struct Memories(Arc<Semaphore>);

/// What one instance has of them; it goes after the instance's store.
pub(super) type More = Option<OwnedSemaphorePermit>;

impl Memories {
    /// Where so many instances may run at once.
    pub(super) fn new(instances: u32) -> Self {
        Self(Arc::new(Semaphore::new(shared_memories(instances) as usize)))
    }

    /// Waits until there is room for an instance with so many memories, within `time`.
    ///
    /// # Errors
    /// The fault, if there is one: nothing where nobody wants the answer any more.
    pub(super) async fn room(
        &self,
        memories: u32,
        time: Duration,
        cancelled: &CancellationToken,
    ) -> Result<More, Option<Fault>> {
        let more = memories.saturating_sub(MEMORIES_EACH);
        if more == 0 {
            return Ok(None);
        }
        let room = Arc::clone(&self.0).acquire_many_owned(more);
        tokio::select! {
            biased;
            room = tokio::time::timeout(time, room) => match room {
                Ok(room) => room.map(Some).map_err(|_closed| Some(Fault::Overload)),
                Err(_elapsed) => Err(Some(Fault::Overload)),
            },
            () = cancelled.cancelled() => Err(None),
        }
    }
}

/// How much memory an instance of a component is likely to need, by what others needed.
#[derive(Debug)]
pub(super) struct Needs {
    /// What it begins with.
    initial: u64,
    /// The most that one needed of late, or nothing until one has ended.
    usual: AtomicU64,
    /// When the first one began, as a [`Moment`], or nought.
    began: AtomicU64,
}

/// For how long it is not known what a component needs, where none of its instances ends.
const UNKNOWN: Duration = Duration::from_secs(1);
/// How fast what one needed is forgotten: by a part of the difference an instance.
const FORGOTTEN: u64 = 16;

impl Needs {
    pub(super) fn new(initial: u64) -> Self {
        Self { initial, usual: AtomicU64::new(0), began: AtomicU64::new(0) }
    }

    /// Bytes, where so many are allowed: as many as that as long as nothing is known, so that few begin at once.
    pub(super) fn of(&self, allowed: u64) -> u64 {
        let usual = self.usual.load(Ordering::Relaxed);
        if usual > 0 {
            return usual.min(allowed);
        }
        let now = Moment::now().0.max(1);
        let began =
            self.began.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed).unwrap_or_else(|began| began);
        let is_unknown = began == 0 || u128::from(now.saturating_sub(began)) < UNKNOWN.as_nanos();
        if is_unknown { allowed } else { self.initial.saturating_add(self.initial / 4).min(allowed) }
    }

    /// Notes what one needed. More is believed at once, less little by little.
    pub(super) fn note(&self, bytes: u64) {
        let usual = self.usual.load(Ordering::Relaxed);
        let now = bytes.max(usual - usual.saturating_sub(bytes) / FORGOTTEN);
        if now != usual {
            self.usual.store(now, Ordering::Relaxed);
        }
    }
}

/// Waits until the tenant has so much memory to spare, for [`MEMORY_TIME`] at the most. Nothing where it never has, or not by then:
/// then the instance takes what it gets.
///
/// # Errors
/// Nobody wants the answer any more.
pub(super) async fn memory(
    ledger: &Ledger,
    bytes: u64,
    cancelled: &CancellationToken,
    record: &Record,
) -> Result<Option<Taken>, Option<Fault>> {
    let awaited = match ledger.memory_for(bytes) {
        Some(Place::Taken(taken)) => return Ok(Some(taken)),
        Some(Place::Awaited(awaited)) => awaited,
        None => return Ok(None),
    };
    let since = Instant::now();
    tokio::select! {
        biased;
        taken = Deadline::after(MEMORY_TIME).run(awaited) => {
            record.queued_longer(since.elapsed());
            Ok(taken.ok().and_then(Result::ok))
        }
        () = cancelled.cancelled() => Err(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_component_needs_is_what_its_instances_needed_of_late() {
        let needs = Needs::new(4000);
        assert_eq!((needs.of(100_000), needs.of(100_000)), (100_000, 100_000), "nothing is known");
        needs.began.store(1, Ordering::Relaxed);
        std::thread::sleep(UNKNOWN);
        assert_eq!(
            (needs.of(100_000), needs.of(4500)),
            (5000, 4500),
            "none has ended: a quarter more than it begins with"
        );
        needs.note(9000);
        needs.note(20_000);
        assert_eq!((needs.of(100_000), needs.of(10_000)), (20_000, 10_000));
        needs.note(4000);
        assert_eq!(needs.of(100_000), 19_000);
        (0..200).for_each(|_| needs.note(4000));
        assert!((4000..4032).contains(&needs.of(100_000)), "{}", needs.of(100_000));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_no_more_than_any_never_waits_and_the_others_share() {
        let memories = Memories::new(4);
        let (time, nobody) = (Duration::from_secs(1), CancellationToken::new());
        // Eight beyond two each: one instance of eight memories leaves room for two more.
        let first = memories.room(8, time, &nobody).await.unwrap();
        assert!(first.is_some());
        assert!(memories.room(2, time, &nobody).await.unwrap().is_none());
        assert_eq!(memories.room(5, time, &nobody).await.unwrap_err(), Some(Fault::Overload));
        assert!(memories.room(4, time, &nobody).await.unwrap().is_some());
        drop(first);
        assert!(memories.room(8, time, &nobody).await.unwrap().is_some());
        nobody.cancel();
        let second = memories.room(8, time, &nobody).await;
        assert!(second.is_ok(), "what there is room for is given at once");
        assert_eq!(memories.room(8, time, &nobody).await.unwrap_err(), None);
    }
}
