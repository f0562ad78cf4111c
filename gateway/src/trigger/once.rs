//! Channels whose messages one gateway of a fleet handles: one task for each channel, woken by a publish or by a clock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::queue::Key;
use super::{Outcome, handle};
use crate::request::Road;
use crate::route::Routed;
use crate::sandbox::{Cause, Message};
use crate::store::{Store, Taken};

/// How often a channel is checked without a wake-up, plus or minus half.
const LOOK: Duration = Duration::from_secs(1);
/// How long a message may wait for its tenant's quotas before it is put back.
const PATIENCE: Duration = Duration::from_secs(3);
/// How much longer a lease lasts than that and the time limit of its runs.
const GRACE: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Once {
    road: Arc<Road>,
    store: Arc<Store>,
    /// The channels with a task. Locked for a hash operation and never across an await.
    channels: Mutex<HashMap<Key, Arc<Notify>>>,
}

impl Once {
    pub(super) fn new(road: Arc<Road>, store: Arc<Store>) -> Arc<Self> {
        Arc::new(Self { road, store, channels: Mutex::default() })
    }

    fn channels(&self) -> MutexGuard<'_, HashMap<Key, Arc<Notify>>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves these channels from now on. The task of a channel that is no longer configured ends by itself.
    pub(super) fn serve(self: &Arc<Self>, keys: impl Iterator<Item = Key>) {
        let mut channels = self.channels();
        for key in keys {
            channels.entry(key).or_insert_with_key(|key| {
                let wake = Arc::<Notify>::default();
                tokio::spawn(Arc::clone(self).work(key.clone(), Arc::clone(&wake)));
                wake
            });
        }
    }

    pub(super) fn wake(&self, key: &Key) {
        if let Some(wake) = self.channels().get(key) {
            wake.notify_one();
        }
    }

    /// Cancel safety: messages that were taken and not handled are due again when their lease expires.
    async fn work(self: Arc<Self>, key: Key, wake: Arc<Notify>) {
        while !self.road.tasks.is_draining() && !self.is_over(&key) {
            let once = Arc::clone(&self);
            let some = key.clone();
            // A drain waits for it.
            let worked = self.road.tasks.spawn(async move { once.some(&some).await });
            if !matches!(worked.await, Ok(Some(true))) {
                let look = LOOK.mul_f64(rand::random_range(0.5..1.5));
                tokio::select! {
                    () = wake.notified() => {}
                    () = self.road.tasks.draining() => {}
                    () = tokio::time::sleep(look) => {}
                }
            }
        }
    }

    fn listeners(&self, key: &Key) -> (Vec<Routed>, u64) {
        let snapshot = self.road.snapshot.load();
        (snapshot.routes.listeners(&key.tenant, &key.channel), snapshot.generation)
    }

    /// Whether nobody listens any more. If so, its task ends.
    fn is_over(&self, key: &Key) -> bool {
        let mut channels = self.channels();
        let is_over = self.listeners(key).0.first().is_none_or(|first| !first.is_once());
        if is_over {
            channels.remove(key);
        }
        is_over
    }

    /// Takes and handles as many messages as may be handled at once. Returns whether there were any.
    async fn some(&self, key: &Key) -> bool {
        let (listeners, generation) = self.listeners(key);
        let Some(first) = listeners.first().filter(|first| !first.tenant().ledger.is_stopped()) else { return false };
        let lease = first.limits().time * u32::try_from(listeners.len()).unwrap_or(1) + PATIENCE + GRACE;
        let took = match self.store.take_once(&key.tenant, &key.channel, first.at_once(), lease).await {
            Ok(took) => took,
            Err(error) => {
                tracing::warn!(target: "trigger", tenant = %key.tenant, %error, "messages cannot be fetched");
                return false;
            }
        };
        let figures = &first.tenant().ledger.figures;
        (0..took.dead_lettered).for_each(|_| figures.message_dead());
        let is_any = !took.taken.is_empty();
        let handled = took.taken.into_iter().map(|taken| self.one(key, taken, lease - GRACE, &listeners, generation));
        futures_util::future::join_all(handled).await;
        is_any
    }

    /// Runs one message in each listening component within this time. It is done when all are.
    async fn one(&self, key: &Key, taken: Taken, time: Duration, listeners: &[Routed], generation: u64) {
        let figures = listeners.first().map(|first| &first.tenant().ledger.figures);
        if let (true, Some(figures)) = (taken.is_again, figures) {
            figures.message_redelivered();
        }
        let since = Instant::now();
        let all = async {
            let mut worst = Outcome::Done;
            for routed in listeners {
                let cause = Cause::Message(Message { payload: taken.payload.clone(), line: taken.line });
                let outcome = handle(&self.road, routed.clone(), cause, (since, PATIENCE), generation).await;
                worst = worst.max(outcome);
            }
            worst
        };
        let outcome = tokio::time::timeout(time, all).await.unwrap_or(Outcome::Failed);
        let store = &self.store;
        let told = match outcome {
            Outcome::Done => store.done_once(&key.tenant, &key.channel, &taken).await.map(|()| false),
            Outcome::NotRun => store.fail_once(&key.tenant, &key.channel, &taken, false).await,
            Outcome::Failed => store.fail_once(&key.tenant, &key.channel, &taken, true).await,
        };
        match told {
            Ok(true) => {
                if let Some(figures) = figures {
                    figures.message_dead();
                }
            }
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(target: "trigger", tenant = %key.tenant, %error, "the outcome of a message cannot be \
                    recorded; it will be delivered again");
            }
        }
    }
}
