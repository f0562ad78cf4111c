//! Tenants' data that outlives an instance: scoped keys over one backend.
//!
//! Security: a [`Scoped`] is made only from a tenant's identity and the name of a granted store; no call takes a bare key.
//! `layout` defines the names that the backend sees.
//!
//! Limit: keys of [`KEY_BYTES_MAX`], values of [`VALUE_BYTES_MAX`], [`BATCH_MAX`] keys in a call, one deadline for a call.

mod account;
mod backend;
mod common;
mod commands;
mod embedded;
mod error;
mod gate;
mod layout;
mod messages;
mod moving;
mod names;
mod notes;
mod once;
mod runs;
mod rates;
mod redis;
mod scoped;
mod settings;
mod shards;
mod text;
mod users;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::deadline::Deadline;
use crate::ids::TenantId;
use crate::telemetry::{self, Metrics};

pub(crate) use account::{Allowance, Usage};
use backend::{Backend, Write, Written};
pub(crate) use commands::{Answered, Reply};
use commands::{Effect, Guard, Prepared};
pub(crate) use common::{Common, SWAPPED, Swap};
pub(crate) use embedded::backup::{Backup, Existing, Folder, Summary, restore, verified};
pub(crate) use embedded::left::left_behind;
use error::READ_BYTES_MAX;
pub(crate) use error::{BATCH_BYTES_MAX, BATCH_MAX, Error, KEY_BYTES_MAX, Result, VALUE_BYTES_MAX};
use gate::{Gate, Touched, WriteGuard};
pub(crate) use layout::Prefix;
use layout::{Bucket, Namespace};
use messages::Messages;
pub(crate) use messages::{ChannelListener, IncomingMessage};
pub(crate) use moving::{Moved, Progress};
pub(crate) use names::Name;
pub(crate) use once::Taken;
pub(crate) use rates::Spent;
use redis::Refusals;
pub(crate) use redis::{Topology, acl};
pub(crate) use runs::{Claim, Due, HELD};
pub(crate) use scoped::{Raw, Scoped};
pub(crate) use settings::{Kind, Secret, Servers, Settings, Source, Tls};
pub(crate) use shards::SHARDS_MAX;
use shards::Shards;
pub(crate) use text::Text;
pub(crate) use users::User;
use users::Users;

/// A value. Keys and values are bytes.
pub(crate) type Value = Vec<u8>;

/// One page of a listing, and its continuation.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) cursor: Option<String>,
}

/// The backends of tenants' data: one for all, except for tenants that were moved to another. It only hands out scopes.
#[derive(Debug)]
pub(crate) struct Store {
    home: Arc<Backend>,
    /// Tenants on another backend.
    away: ArcSwap<HashMap<TenantId, Arc<Backend>>>,
    /// Tenants that are being moved.
    moving: ArcSwap<HashMap<TenantId, Arc<Gate>>>,
    messages: Messages,
    /// The shards of loaded tenants.
    spreads: ArcSwap<HashMap<TenantId, Arc<Shards>>>,
    /// The tenants' own users of `home`.
    users: Option<Users>,
    prefix: Prefix,
    timeout: Duration,
    share_rates: bool,
    metrics: Arc<Metrics>,
    refusals: Arc<Refusals>,
}

impl Store {
    /// Opens the embedded file, or creates the pool for a Redis, which may not be reachable yet.
    ///
    /// # Errors
    /// In words for the operator: the file is locked, damaged or not writable; or the URL is invalid.
    pub(crate) fn open(settings: &Settings, metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        let refusals = Refusals::new(&metrics);
        let home = Arc::new(Backend::open(&settings.kind, settings.timeout, (&metrics, &refusals))?);
        let (prefix, timeout) = (settings.prefix.clone(), settings.timeout);
        let share_rates = settings.share_rates;
        let users = match (&settings.kind, &settings.tenant_users) {
            (Kind::Redis(servers), Some(secret)) => {
                Some(Users::new(servers.clone(), secret.clone(), prefix.clone(), (timeout, Arc::clone(&refusals))))
            }
            (Kind::Redis(_), None) | (Kind::Embedded(_), _) => None,
        };
        let (away, moving, messages, spreads) = Default::default();
        Ok(Self { home, away, moving, messages, spreads, users, prefix, timeout, share_rates, metrics, refusals })
    }

    /// The tenant's present backend, as the gateway's own user.
    fn backend(&self, tenant: &TenantId) -> Arc<Backend> {
        let away = self.away.load();
        let other = if away.is_empty() { None } else { away.get(tenant) };
        Arc::clone(other.unwrap_or(&self.home))
    }

    /// The same, as the tenant's user if it has one.
    fn own_backend(&self, tenant: &TenantId) -> Result<Arc<Backend>> {
        let backend = self.backend(tenant);
        match &self.users {
            Some(users) if Arc::ptr_eq(&backend, &self.home) => users.backend(tenant),
            Some(_) | None => Ok(backend),
        }
    }

    /// A tenant that was moved before this process started.
    ///
    /// # Errors
    /// The URL is invalid.
    pub(crate) fn moved_to(&self, tenant: &TenantId, kind: &Kind) -> anyhow::Result<()> {
        self.settle(tenant, &Arc::new(Backend::open(kind, self.timeout, (&self.metrics, &self.refusals))?));
        Ok(())
    }

    fn settle(&self, tenant: &TenantId, backend: &Arc<Backend>) {
        self.away.rcu(|away| {
            let mut away = HashMap::clone(away);
            away.insert(tenant.clone(), Arc::clone(backend));
            away
        });
        self.listen_again();
    }

    fn begin(&self, tenant: &TenantId) -> anyhow::Result<Arc<Gate>> {
        anyhow::ensure!(!self.moving.load().contains_key(tenant), "{tenant} is being moved already");
        let gate = Arc::<Gate>::default();
        self.moving.rcu(|moving| {
            let mut moving = HashMap::clone(moving);
            moving.insert(tenant.clone(), Arc::clone(&gate));
            moving
        });
        Ok(gate)
    }

    fn end(&self, tenant: &TenantId) {
        self.moving.rcu(|moving| {
            let mut moving = HashMap::clone(moving);
            moving.remove(tenant);
            moving
        });
    }

    /// Marks a write. Hold it during the write, and take it before deciding where the write goes.
    async fn writing(&self, tenant: &TenantId, about: impl FnOnce() -> Vec<Touched>) -> Option<WriteGuard> {
        let moving = self.moving.load();
        if moving.is_empty() {
            return None;
        }
        let gate = moving.get(tenant).cloned();
        drop(moving);
        Some(gate?.enter(about()).await)
    }

    /// Counts a tenant's use again and stores the sum. Returns the sum before and the new one. The embedded store's sum is
    /// always right.
    pub(crate) async fn count(&self, tenant: &TenantId) -> Result<(Usage, Usage)> {
        let (mut before, mut now) = (Usage::default(), Usage::default());
        for place in self.places(tenant).await? {
            let account = self.account(&place, None);
            let (booked, usage) = match &*self.backend(tenant) {
                Backend::Embedded(embedded) => embedded.usage(&account).map(|usage| (usage, usage))?,
                Backend::Redis(redis) => {
                    let booked = redis.usage(&account).await?;
                    (booked, redis.count(self.prefix.of_place(&place).as_bytes(), &account).await?)
                }
            };
            before = before.plus(booked);
            now = now.plus(usage);
        }
        Ok((before, now))
    }

    /// The tenant's use by the sum that each write updates. A count may correct it.
    pub(crate) async fn booked(&self, tenant: &TenantId) -> Result<Usage> {
        let work = async {
            let mut all = Usage::default();
            for place in self.places(tenant).await? {
                let account = self.account(&place, None);
                all = all.plus(match &*self.backend(tenant) {
                    Backend::Embedded(embedded) => embedded.usage(&account)?,
                    Backend::Redis(redis) => redis.usage(&account).await?,
                });
            }
            Ok(all)
        };
        self.timed(Some(tenant), "usage", work).await
    }

    /// A call for this tenant, or for no tenant.
    async fn timed<T>(
        &self,
        tenant: Option<&TenantId>,
        call: &'static str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let began = Instant::now();
        let answer = Deadline::after(self.timeout).run(work).await.unwrap_or(Err(Error::Timeout));
        let outcome = answer.as_ref().err().map_or("ok", Error::kind);
        let took = began.elapsed();
        self.metrics.storage_call(call, outcome, took);
        let system = || tenant.map_or(self.home.name(), |tenant| self.backend(tenant).name());
        telemetry::storage_call(system, call, took, answer.as_ref().err().map(Error::kind));
        answer
    }

    /// Whether the backend answers now.
    pub(crate) async fn ping(&self) -> Result<()> {
        let work = async {
            match &*self.home {
                Backend::Embedded(embedded) => embedded.ping(),
                Backend::Redis(redis) => redis.ping().await,
            }
        };
        Deadline::after(self.timeout).run(work).await.unwrap_or(Err(Error::Timeout))
    }

    /// Closes the embedded file properly. After this, the process serves nobody.
    pub(crate) async fn close(&self) {
        self.home.close().await;
    }

    /// The code with which Redis refused a call recently, such as `WRONGPASS`.
    pub(crate) fn refusal(&self) -> Option<&'static str> {
        self.refusals.recent()
    }

    /// Reads the credentials again if `storage.url` names a file.
    pub(crate) async fn reload_login(&self) {
        if let Backend::Redis(redis) = &*self.home {
            redis.reload_login().await;
        }
    }

    pub(crate) fn backend_name(&self) -> &'static str {
        self.home.name()
    }

    /// The name of a tenant's backend, which may have been moved.
    pub(crate) fn backend_of(&self, tenant: &TenantId) -> &'static str {
        self.backend(tenant).name()
    }
}
