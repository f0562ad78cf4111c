//! Messages that are kept until one gateway handled them: `delivery = "once"`, on Redis.
//!
//! A message is taken under a lease. Whoever handled it takes it away; a failure puts it back for a pause that doubles, and
//! after [`TRIES`] it goes to the dead, from where an operator replays or deletes it. A lease that ran out (a gateway died, or
//! lost Redis) makes it due again: only then may it be handled twice.
//!
//! Limit: [`WAITING_MAX`] messages and [`WAITING_BYTES_MAX`] of them wait in a channel; the next publish is refused.

use std::time::Duration;

use super::{Backend, Error, Result, Store};
use crate::ids::{Line, TenantId};

/// How often a message is tried before it is taken for dead.
pub(crate) const TRIES: u32 = 5;
const WAITING_MAX: u32 = 100_000;
pub(super) const WAITING_BYTES_MAX: u32 = 64 << 20;
/// Before the second try.
const PAUSE: Duration = Duration::from_secs(1);
/// Of the dead, in one page.
pub(crate) const PAGE: u32 = 100;

/// Where a channel's messages are.
pub(super) struct Place {
    pub(super) stream: Vec<u8>,
    pub(super) dead: Vec<u8>,
    /// The channel on which gateways are told that there is something.
    pub(super) wake: Vec<u8>,
}

/// What is taken at once, and for how long.
pub(super) struct Lease {
    pub(super) count: u32,
    pub(super) time_ms: u64,
    pub(super) pause_ms: u64,
    pub(super) tries: u32,
}

/// A message to be handled by whoever has it.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) id: String,
    pub(crate) payload: Vec<u8>,
    pub(super) tries: u32,
    pub(crate) line: Line,
    /// Whether a lease of it ran out: it may have been handled, and nobody knows.
    pub(crate) is_again: bool,
}

/// What was taken, and how many were found to be dead.
#[derive(Debug, Default)]
pub(crate) struct Took {
    pub(crate) taken: Vec<Taken>,
    pub(crate) buried: u32,
}

/// A message that failed too often.
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

    /// Keeps a message until somebody handled it.
    ///
    /// # Errors
    /// [`Error::OverQuota`] where too many wait.
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

    /// Takes what is due in a channel, `count` at the most, each for `time`.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn take_once(&self, tenant: &TenantId, channel: &str, count: u32, time: Duration) -> Result<Took> {
        let line = self.line(tenant, channel.as_bytes());
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let lease = Lease { count, time_ms: ms(time), pause_ms: ms(PAUSE), tries: TRIES };
        self.on_redis("take-once", tenant, async |redis: &super::redis::Redis| redis.take_once(&line, &lease).await)
            .await
    }

    /// A message was handled.
    ///
    /// # Errors
    /// The store's; it is handled again then.
    pub(crate) async fn done_once(&self, tenant: &TenantId, channel: &str, taken: &Taken) -> Result<()> {
        let line = self.line(tenant, channel.as_bytes());
        let work = async |redis: &super::redis::Redis| redis.done_once(&line, &taken.id).await;
        self.on_redis("done-once", tenant, work).await
    }

    /// A message was not handled; whether that was its last try. `was_run` is that a component saw it: what found no room is
    /// tried again without end.
    ///
    /// # Errors
    /// The store's; it is tried again when its lease has run out.
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

    /// A page of those that failed too often, oldest first.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn dead(&self, tenant: &TenantId, channel: &[u8], after: Option<&str>) -> Result<Vec<Dead>> {
        let line = self.line(tenant, channel);
        self.on_redis("dead", tenant, async |redis: &super::redis::Redis| redis.dead(&line, after, PAGE).await).await
    }

    /// Has the dead tried again; how many of them there were.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn replay(&self, tenant: &TenantId, channel: &[u8], ids: &[String]) -> Result<u32> {
        let line = self.line(tenant, channel);
        self.on_redis("replay", tenant, async |redis: &super::redis::Redis| redis.replay(&line, ids).await).await
    }

    /// Deletes the dead; how many of them there were.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn forget_dead(&self, tenant: &TenantId, channel: &[u8], ids: &[String]) -> Result<u32> {
        let line = self.line(tenant, channel);
        let work = async |redis: &super::redis::Redis| redis.forget_dead(&line, ids).await;
        self.on_redis("forget-dead", tenant, work).await
    }
}
