//! Where tenants keep what outlives an instance: scoped keys over one backend.
//!
//! Security: a [`Scoped`] is made from a tenant's identity and a granted store name, and from nothing else; there is no
//! call that takes a bare key. `layout` says what the backend sees.
//!
//! Limit: keys of [`KEY_BYTES_MAX`], values of [`VALUE_BYTES_MAX`], [`BATCH_MAX`] keys a call, one deadline a call.

mod embedded;
mod layout;
mod redis;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::ids::{StoreName, TenantId};
use crate::telemetry::Metrics;

pub(crate) use layout::{Bucket, Prefix};

/// The longest key, in bytes.
pub(crate) const KEY_BYTES_MAX: usize = 1024;
/// The largest value, in bytes.
pub(crate) const VALUE_BYTES_MAX: usize = 1 << 20;
/// The most keys in one batch call, and the most in one page of a listing.
pub(crate) const BATCH_MAX: usize = 1000;
/// The most bytes that one batch may bring back: what the gateway holds in memory for it.
pub(crate) const BATCH_BYTES_MAX: usize = 8 << 20;

/// What the operator chose.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) kind: Kind,
    pub(crate) prefix: Prefix,
    /// By when one call must have answered.
    pub(crate) timeout: Duration,
}

/// Which backend holds the keys.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// A file of this process's own, in this folder.
    Embedded(PathBuf),
    /// A Redis server, by URL (`redis://…`), which may carry a password and is never printed.
    Redis(Secret),
}

/// A text that must not be printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// Why a call failed, in words whose first one a guest may rely on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("unavailable: the store cannot be reached")]
    Unavailable,
    #[error("timeout: the store did not answer in time")]
    Timeout,
    #[error("too-large: {0}")]
    TooLarge(&'static str),
    #[error("wrong-type: the value is not a decimal number that the sum fits in")]
    NotANumber,
    #[error("bad-cursor: this store gave no such cursor")]
    BadCursor,
    #[error("internal: the store failed")]
    Internal,
}

impl Error {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::TooLarge(_) => "too-large",
            Self::NotANumber => "wrong-type",
            Self::BadCursor => "bad-cursor",
            Self::Internal => "internal",
        }
    }
}

pub(crate) type Result<T> = std::result::Result<T, Error>;
/// A value; keys and values are bytes.
pub(crate) type Value = Vec<u8>;

/// One page of a listing, and where to go on.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) cursor: Option<String>,
}

/// One thing to do in one bucket. A backend does each whole or not at all.
#[derive(Debug)]
enum Write {
    Set(Vec<(Vec<u8>, Value)>),
    Delete(Vec<Vec<u8>>),
    Increment(Vec<u8>, i64),
    /// Replaces the value if it still is this one.
    Swap {
        key: Vec<u8>,
        expected: Option<Value>,
        new: Value,
    },
}

impl Write {
    /// What it carries, in bytes of keys and values.
    fn bytes(&self) -> usize {
        match self {
            Self::Set(pairs) => pairs.iter().map(|(key, value)| key.len() + value.len()).sum(),
            Self::Delete(keys) => keys.iter().map(Vec::len).sum(),
            Self::Increment(key, _) => key.len(),
            Self::Swap { key, expected, new } => key.len() + expected.as_ref().map_or(0, Vec::len) + new.len(),
        }
    }
}

/// What came of a [`Write`].
#[derive(Debug, PartialEq, Eq)]
enum Written {
    Done,
    Sum(i64),
    Swapped(bool),
}

#[derive(Debug)]
enum Backend {
    Embedded(embedded::Embedded),
    Redis(redis::Redis),
}

/// The one backend of this gateway. It hands out scopes and nothing else.
#[derive(Debug)]
pub(crate) struct Store {
    backend: Backend,
    prefix: Prefix,
    timeout: Duration,
    metrics: Arc<Metrics>,
}

impl Store {
    /// Opens the embedded file, or makes the pool of a Redis that need not be there yet.
    ///
    /// # Errors
    /// In words for the operator: the file is locked, damaged or not writable; the URL is not one.
    pub(crate) fn open(settings: &Settings, metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        let backend = match &settings.kind {
            Kind::Embedded(dir) => Backend::Embedded(embedded::Embedded::open(dir)?),
            Kind::Redis(url) => Backend::Redis(redis::Redis::new(url, settings.timeout)?),
        };
        Ok(Self { backend, prefix: settings.prefix.clone(), timeout: settings.timeout, metrics })
    }

    /// A tenant's own store. Whether it was granted is for the caller to know.
    pub(crate) fn scoped(self: &Arc<Self>, tenant: &TenantId, name: &StoreName) -> Scoped {
        Scoped { bucket: self.prefix.bucket(tenant, name), store: Arc::clone(self) }
    }

    /// Whether the backend answers now.
    pub(crate) async fn ping(&self) -> Result<()> {
        let work = async {
            match &self.backend {
                Backend::Embedded(embedded) => embedded.ping(),
                Backend::Redis(redis) => redis.ping().await,
            }
        };
        Deadline::after(self.timeout).run(work).await.unwrap_or(Err(Error::Timeout))
    }

    pub(crate) const fn backend_name(&self) -> &'static str {
        match self.backend {
            Backend::Embedded(_) => "embedded",
            Backend::Redis(_) => "redis",
        }
    }
}

/// One tenant's one store.
#[derive(Clone, Debug)]
pub(crate) struct Scoped {
    bucket: Bucket,
    store: Arc<Store>,
}

impl Scoped {
    pub(crate) async fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        Ok(self.get_many(&[key]).await?.pop().flatten())
    }

    /// One answer for each key, in order.
    pub(crate) async fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
        check_batch(keys.len())?;
        keys.iter().try_for_each(|key| check_key(key))?;
        let work = async {
            match &self.store.backend {
                Backend::Embedded(embedded) => embedded.get_many(&self.bucket, keys).await,
                Backend::Redis(redis) => redis.get_many(&self.bucket, keys).await,
            }
        };
        self.timed("get", work).await
    }

    pub(crate) async fn exists(&self, key: &[u8]) -> Result<bool> {
        check_key(key)?;
        let work = async {
            match &self.store.backend {
                Backend::Embedded(embedded) => embedded.exists(&self.bucket, key),
                Backend::Redis(redis) => redis.exists(&self.bucket, key).await,
            }
        };
        self.timed("exists", work).await
    }

    pub(crate) async fn set_many(&self, pairs: Vec<(Vec<u8>, Value)>) -> Result<()> {
        check_batch(pairs.len())?;
        for (key, value) in &pairs {
            check_key(key)?;
            check_value(value)?;
        }
        if pairs.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > BATCH_BYTES_MAX {
            return Err(Error::TooLarge("a batch may carry 8 MiB"));
        }
        self.write("set", Write::Set(pairs)).await.map(|_done| ())
    }

    pub(crate) async fn delete_many(&self, keys: Vec<Vec<u8>>) -> Result<()> {
        check_batch(keys.len())?;
        keys.iter().try_for_each(|key| check_key(key))?;
        self.write("delete", Write::Delete(keys)).await.map(|_done| ())
    }

    /// Adds to the decimal number at the key, which counts as 0 where there is none.
    pub(crate) async fn increment(&self, key: &[u8], delta: i64) -> Result<i64> {
        check_key(key)?;
        match self.write("increment", Write::Increment(key.to_vec(), delta)).await? {
            Written::Sum(sum) => Ok(sum),
            Written::Done | Written::Swapped(_) => Err(Error::Internal),
        }
    }

    /// Sets the key to `new` if it holds `expected`; says whether it did.
    pub(crate) async fn swap(&self, key: &[u8], expected: Option<Value>, new: Value) -> Result<bool> {
        check_key(key)?;
        check_value(&new)?;
        match self.write("swap", Write::Swap { key: key.to_vec(), expected, new }).await? {
            Written::Swapped(swapped) => Ok(swapped),
            Written::Done | Written::Sum(_) => Err(Error::Internal),
        }
    }

    /// One page of keys. A key that stays is in one page at least; the order is the backend's.
    pub(crate) async fn list(&self, cursor: Option<&str>) -> Result<Page> {
        let work = async {
            match &self.store.backend {
                Backend::Embedded(embedded) => embedded.list(&self.bucket, cursor).await,
                Backend::Redis(redis) => redis.list(&self.bucket, cursor).await,
            }
        };
        self.timed("list", work).await
    }

    async fn write(&self, call: &'static str, write: Write) -> Result<Written> {
        let work = async {
            match &self.store.backend {
                Backend::Embedded(embedded) => embedded.write(&self.bucket, write).await,
                Backend::Redis(redis) => redis.write(&self.bucket, write).await,
            }
        };
        self.timed(call, work).await
    }

    async fn timed<T>(&self, call: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let answer = Deadline::after(self.store.timeout).run(work).await.unwrap_or(Err(Error::Timeout));
        let outcome = answer.as_ref().err().map_or("ok", Error::kind);
        self.store.metrics.storage_call(call, outcome);
        answer
    }
}

const fn check_key(key: &[u8]) -> Result<()> {
    if key.len() > KEY_BYTES_MAX {
        return Err(Error::TooLarge("a key may have 1024 bytes"));
    }
    Ok(())
}

const fn check_value(value: &[u8]) -> Result<()> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(Error::TooLarge("a value may have 1 MiB"));
    }
    Ok(())
}

const fn check_batch(keys: usize) -> Result<()> {
    if keys > BATCH_MAX {
        return Err(Error::TooLarge("a batch may have 1000 keys"));
    }
    Ok(())
}
