//! Room for the memories of composed components. The pool has as many as any component may have for every instance that runs;
//! what a composed one has beyond that is taken from a number that all of them share, so that it is nobody else's who waits.
//!
//! Limit: [`shared_memories`]; who finds none waits within the request's time, in order of arrival.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::engine::{MEMORIES_EACH, shared_memories};
use crate::fault::Fault;

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

#[cfg(test)]
mod tests {
    use super::*;

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
