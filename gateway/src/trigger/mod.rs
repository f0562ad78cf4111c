//! What starts components besides clients' requests: messages on tenants' channels, schedules (`schedules/`), and other
//! components of the same tenant.
//!
//! Each message waits in its channel's queue, in order, and runs like a request: through both doors, under the tenant's
//! limits and quotas, in its own instance. While a quota has no room, it waits.
//!
//! Limit: at most [`WAITING_MAX`] messages with [`WAITING_BYTES_MAX`] wait for each tenant, each for [`PATIENCE`]. A
//! message for which there is no room is dropped and counted (`tollgate_messages_dropped`).

mod neighbours;
mod once;
mod queue;
mod schedules;

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::admission::WhenFull;
use crate::deadline::Moment;
use crate::fault::Fault;
use crate::request::Road;
use crate::route::Routed;
use crate::sandbox::{Cause, Handled, Message};
use crate::store::{IncomingMessage, Store};
use crate::telemetry::Record;
pub(crate) use neighbours::Neighbours;
use once::Once;
use queue::{Key, Queues};
pub(crate) use schedules::Schedules;

const WAITING_MAX: usize = 10_000;
const WAITING_BYTES_MAX: usize = 16 << 20;
/// How long a message may wait for its tenant's quotas.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the quotas are checked.
const PAUSE: Duration = Duration::from_millis(20);

/// Receives messages and starts components.
#[derive(Debug)]
pub(crate) struct Messages {
    road: Arc<Road>,
    /// Locked for a few hash operations and never across an await.
    queues: Mutex<Queues>,
    own: Weak<Self>,
    once: Arc<Once>,
}

impl Messages {
    pub(crate) fn new(road: Arc<Road>, store: Arc<Store>) -> Arc<Self> {
        let queues = Mutex::new(Queues::new(WAITING_MAX, WAITING_BYTES_MAX));
        let once = Once::new(Arc::clone(&road), store);
        Arc::new_cyclic(|own| Self { road, queues, own: Weak::clone(own), once })
    }

    /// Applies the configuration to the channels whose messages are kept.
    pub(crate) fn look(&self) {
        let snapshot = self.road.snapshot.load();
        let once = snapshot.routes.channels().filter(|channel| channel.is_once);
        self.once.serve(once.map(|of| Key { tenant: of.tenant.clone(), channel: of.name.to_owned() }));
    }

    fn queues(&self) -> std::sync::MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts one message; never blocks.
    pub(crate) fn take(&self, heard: IncomingMessage) {
        let tenant = heard.tenant.clone();
        let snapshot = self.road.snapshot.load();
        let listeners = snapshot.routes.listeners(&tenant, &heard.channel);
        let Some(first) = listeners.first().filter(|_| !self.road.tasks.is_draining()) else { return };
        let key = Key { tenant, channel: heard.channel };
        if first.is_once() {
            self.once.wake(&key);
            // A plain PUBLISH reaches every gateway, so it cannot be handled exactly once.
            if heard.payload.is_none_or(|payload| !payload.is_empty()) {
                first.tenant().ledger.figures.message_dropped();
            }
            return;
        }
        let message = heard.payload.map(|payload| Message { payload, line: heard.line });
        let queued = message.map(|message| self.queues().push(&key, first.at_once(), (Instant::now(), message)));
        match (queued, self.own.upgrade()) {
            (Some(Ok(false)), _) => {}
            (Some(Ok(true)), Some(messages)) => {
                self.road.tasks.spawn(async move { messages.work(key).await });
            }
            // Too long, or no room.
            (None | Some(Err(_)), _) | (_, None) => first.tenant().ledger.figures.message_dropped(),
        }
    }

    /// Handles what waits in one channel, until nothing does.
    async fn work(&self, key: Key) {
        loop {
            let next = self.queues().pop(&key);
            let Some((since, message)) = next else { return };
            let (listeners, generation) = {
                let snapshot = self.road.snapshot.load();
                (snapshot.routes.listeners(&key.tenant, &key.channel), snapshot.generation)
            };
            for routed in listeners {
                handle(&self.road, routed, Cause::Message(message.clone()), (since, PATIENCE), generation).await;
            }
        }
    }
}

/// The result of a message at a component, or of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Done,
    /// It found no room in time.
    NotRun,
    Failed,
}

/// Runs one message or schedule in one component, with one record. `patience` limits the wait for quotas.
async fn handle(
    road: &Road,
    routed: Routed,
    cause: Cause,
    (since, patience): (Instant, Duration),
    generation: u64,
) -> Outcome {
    let record = match &cause {
        Cause::Message(_) => Record::of_message(&road.metrics, generation),
        Cause::Due(_) => Record::of_run(&road.metrics, generation),
    };
    record.routed(&routed.tenant().ledger.figures, routed.component().name.as_str(), routed.name());
    if let Cause::Message(Message { payload, .. }) = &cause {
        record.received(payload.len() as u64);
        if payload.len() as u64 > routed.limits().request_body {
            record.fault(Fault::BodyTooLarge);
            return Outcome::Failed;
        }
    }
    let admitted = loop {
        match road.doors.admit(routed.clone(), WhenFull::Wait).await {
            Ok(admitted) => break admitted,
            Err(refused) if refused.fault == Fault::Suspended || since.elapsed() > patience => {
                record.fault(refused.fault);
                return Outcome::NotRun;
            }
            Err(_no_room_yet) => {
                let pause = routed.tenant().ledger.refusal_pause(Moment::now()).max(PAUSE);
                tokio::time::sleep(pause).await;
            }
        }
    };
    record.queued(since.elapsed());
    match road.sandbox.handle(admitted, cause, &record).await {
        Ok(Handled::Done) => {
            record.status(http::StatusCode::OK);
            Outcome::Done
        }
        Ok(Handled::Refused) => Outcome::Failed,
        Err(fault) => {
            record.fault(fault);
            Outcome::Failed
        }
    }
}
