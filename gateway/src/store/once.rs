//! Messages that are kept until one gateway has handled them: `delivery = "once"`, on Redis.
//!
//! A gateway takes a message under a lease. After success it deletes the message. After a failure the message waits for a
//! pause that doubles, and after [`TRIES`] failures it becomes a dead letter, which an operator replays or deletes. When a
//! lease expires (a gateway died, or lost Redis), the message is due again: only then may it be handled twice.
//!
//! Limit: at most [`WAITING_MAX`] messages with [`WAITING_BYTES_MAX`] wait in a channel; the next publish is refused.

use std::time::Duration;

use super::{Backend, Error, Result, Store};
use crate::ids::{Line, TenantId};

/// How often a message is tried before it becomes a dead letter.
pub(crate) const TRIES: u32 = 5;
const WAITING_MAX: u32 = 100_000;
pub(super) const WAITING_BYTES_MAX: u32 = 64 << 20;
/// The pause before the second attempt.
const PAUSE: Duration = Duration::from_secs(1);
/// Dead letters on one page.
pub(crate) const PAGE: u32 = 100;

/// The keys of a channel's messages.
pub(super) struct Place {
    pub(super) stream: Vec<u8>,
    pub(super) dead: Vec<u8>,
    /// The channel on which gateways are told about new messages.
    pub(super) wake: Vec<u8>,
}

/// How many messages are taken at once, and for how long.
pub(super) struct Lease {
    pub(super) count: u32,
    pub(super) time_ms: u64,
    pub(super) pause_ms: u64,
    pub(super) tries: u32,
}

/// A message that its holder has to handle.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) id: String,
    pub(crate) payload: Vec<u8>,
    pub(super) tries: u32,
    pub(crate) line: Line,
    /// Whether an earlier lease expired: the message may have been handled, and nobody knows.
    pub(crate) is_again: bool,
}

/// The messages that were taken, and how many became dead letters.
#[derive(Debug, Default)]
pub(crate) struct TakenBatch {
    pub(crate) taken: Vec<Taken>,
    pub(crate) dead_lettered: u32,
}

/// A dead letter: a message that failed too often.
#[derive(Debug)]
pub(crate) struct Dead {
    pub(crate) id: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) tries: u32,
}

impl Store {
    fn line(&self, tenant: &TenantId, channel: &[u8]) -> Place {
        Place {
            stream: self.prefix.messages(tenant).key(channel),
            dead: self.prefix.dead(tenant).key(channel),
            wake: self.prefix.channels(tenant).key(channel),
        }
    }

    async fn on_redis<T>(
        &self,
        call: &'static str,
        tenant: &TenantId,
        work: impl AsyncFnOnce(&super::redis::Redis) -> Result<T>,
    ) -> Result<T> {
        let backend = self.own_backend(tenant)?;
        let work = async {
            match &*backend {
                Backend::Redis(redis) => work(redis).await,
                Backend::Embedded(_) => {
                    Err(Error::Refused("only Redis can keep messages for delivery once".to_owned()))
                }
            }
        };
        self.timed(Some(tenant), call, work).await
    }

    /// Keeps a message until a gateway has handled it.
    ///
    /// # Errors
    /// [`Error::OverQuota`] if too many wait.
    pub(super) async fn append_once(
        &self,
        tenant: &TenantId,
        channel: &[u8],
        payload: &[u8],
        stands: Line,
    ) -> Result<()> {
        let place = self.line(tenant, channel);
        let work = async |redis: &super::redis::Redis| redis.append_once(&place, (payload, stands), WAITING_MAX).await;
        match self.on_redis("publish-once", tenant, work).await? {
            true => Ok(()),
            false => Err(Error::OverQuota("messages")),
        }
    }

    /// Takes at most `count` due messages of a channel, each for `time`.
    ///
    /// # Errors
    /// Errors of the store.
    pub(crate) async fn take_once(
        &self,
        tenant: &TenantId,
        channel: &str,
        count: u32,
        time: Duration,
    ) -> Result<TakenBatch> {
        let line = self.line(tenant, channel.as_bytes());
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let lease = Lease { count, time_ms: ms(time), pause_ms: ms(PAUSE), tries: TRIES };
        self.on_redis("take-once", tenant, async |redis: &super::redis::Redis| redis.take_once(&line, &lease).await)
            .await
    }

    /// Deletes a message that was handled.
    ///
    /// # Errors
    /// Errors of the store; then the message is handled again.
    pub(crate) async fn done_once(&self, tenant: &TenantId, channel: &str, taken: &Taken) -> Result<()> {
        let line = self.line(tenant, channel.as_bytes());
        let work = async |redis: &super::redis::Redis| redis.done_once(&line, &taken.id).await;
        self.on_redis("done-once", tenant, work).await
    }

    /// Notes a failure. Returns whether it was the last attempt. `was_run` means that a component received the message: a
    /// message that found no room is retried without limit.
    ///
    /// # Errors
    /// Errors of the store; then the message is retried when its lease expires.
    pub(crate) async fn fail_once(
        &self,
        tenant: &TenantId,
        channel: &str,
        taken: &Taken,
        was_run: bool,
    ) -> Result<bool> {
        let line = self.line(tenant, channel.as_bytes());
        let work = async |redis: &super::redis::Redis| redis.fail_once(&line, taken, was_run).await;
        self.on_redis("fail-once", tenant, work).await
    }

    /// A page of dead letters, oldest first.
    ///
    /// # Errors
    /// Errors of the store.
    pub(crate) async fn dead(&self, tenant: &TenantId, channel: &[u8], after: Option<&str>) -> Result<Vec<Dead>> {
        let line = self.line(tenant, channel);
        self.on_redis("dead", tenant, async |redis: &super::redis::Redis| redis.dead(&line, after, PAGE).await).await
    }

    /// Retries dead letters, and returns their number.
    ///
    /// # Errors
    /// Errors of the store.
    pub(crate) async fn replay(&self, tenant: &TenantId, channel: &[u8], ids: &[String]) -> Result<u32> {
        let line = self.line(tenant, channel);
        self.on_redis("replay", tenant, async |redis: &super::redis::Redis| redis.replay(&line, ids).await).await
    }

    /// Deletes dead letters, and returns their number.
    ///
    /// # Errors
    /// Errors of the store.
    pub(crate) async fn forget_dead(&self, tenant: &TenantId, channel: &[u8], ids: &[String]) -> Result<u32> {
        let line = self.line(tenant, channel);
        let work = async |redis: &super::redis::Redis| redis.forget_dead(&line, ids).await;
        self.on_redis("forget-dead", tenant, work).await
    }
}
