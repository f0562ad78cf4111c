//! Space for the memories of composed components. For every running instance the pool has as many memories as any component
//! may have. A composed component takes additional ones from a number that all of them share, so that only composed
//! components wait.
//!
//! Also waits for space in the tenant's own memory, for an instance that would otherwise be refused although others will
//! soon release enough.
//!
//! Limit: [`shared_memories`]; an instance that finds none waits within the request's time, in order of arrival.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::engine::{MEMORIES_EACH, shared_memories};
use crate::deadline::Deadline;
use crate::fault::Fault;
use crate::telemetry::Record;
use crate::tenant::{Component, Entry, Ledger, QuotaPermit};

/// How long an instance waits for memory of its tenant that other instances hold.
const MEMORY_TIME: Duration = Duration::from_secs(2);

/// The memories that composed components share.
#[derive(Clone, Debug)]
pub(super) struct Memories(Arc<Semaphore>);

/// The shared memories of one instance. Dropped after the instance's store.
pub(super) type More = Option<OwnedSemaphorePermit>;

impl Memories {
    /// For this many concurrent instances.
    pub(super) fn new(instances: u32) -> Self {
        Self(Arc::new(Semaphore::new(shared_memories(instances) as usize)))
    }

    /// Waits up to `time` for the memories of an instance that has this many.
    ///
    /// # Errors
    /// The fault, or nothing if nobody wants the answer any more.
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

/// How often an instance that waits for memory checks whether less is enough by now.
const LOOK: Duration = Duration::from_millis(50);

/// Waits, for at most [`MEMORY_TIME`], until the tenant has the memory that an instance of this component will probably
/// need, up to what its route allows. `initial` is what it starts with. Returns nothing if the tenant can never have so
/// much, or does not in time: then the instance takes what it gets.
///
/// # Errors
/// Nobody wants the answer any more.
pub(super) async fn memory(
    (ledger, component): (&Ledger, &Component),
    (allowed, initial): (u64, u64),
    cancelled: &CancellationToken,
    record: &Record,
) -> Result<Option<QuotaPermit>, Option<Fault>> {
    let mut wanted = component.needs.of(allowed, initial);
    let mut awaited = match ledger.memory_for(wanted) {
        Some(Entry::Granted(grant)) => return Ok(Some(grant)),
        Some(Entry::Awaited(awaited)) => awaited,
        None => return Ok(None),
    };
    let since = Instant::now();
    let waiting = async {
        loop {
            if let Ok(granted) = tokio::time::timeout(LOOK, &mut awaited).await {
                return granted.ok();
            }
            let enough = component.needs.of(allowed, initial);
            if enough < wanted {
                wanted = enough;
                awaited = match ledger.memory_for(wanted)? {
                    Entry::Granted(grant) => return Some(grant),
                    Entry::Awaited(awaited) => awaited,
                };
            }
        }
    };
    tokio::select! {
        biased;
        granted = Deadline::after(MEMORY_TIME).run(waiting) => {
            record.queued_longer(since.elapsed());
            if granted.is_err() {
                component.needs.forget();
            }
            Ok(granted.ok().flatten())
        }
        () = cancelled.cancelled() => Err(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_instance_with_few_memories_never_waits_and_others_share() {
        let memories = Memories::new(4);
        let (time, nobody) = (Duration::from_secs(1), CancellationToken::new());
        // Eight memories beyond two for each: one instance with eight memories leaves room for two more.
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
