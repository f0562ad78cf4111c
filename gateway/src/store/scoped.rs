//! What a tenant may do with its own: the calls on a store, and commands on raw keys. Sizes are looked at here, whichever
//! backend answers.

use std::sync::Arc;

use super::account::Account;
use super::gate::Touched;
use super::layout::{Bucket, Namespace};
use super::{
    BATCH_BYTES_MAX, BATCH_MAX, Backend, Effect, Error, KEY_BYTES_MAX, Page, Reply, Result, Store, VALUE_BYTES_MAX,
    Value, Write, Written, commands,
};

use crate::ids::TenantId;

/// One tenant's one store.
#[derive(Clone, Debug)]
pub(crate) struct Scoped {
    pub(super) bucket: Bucket,
    pub(super) account: Account,
    pub(super) tenant: TenantId,
    pub(super) store: Arc<Store>,
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
            match &*self.store.backend(&self.tenant) {
                Backend::Embedded(embedded) => embedded.get_many(&self.bucket, keys).await,
                Backend::Redis(redis) => redis.get_many(&self.bucket, keys).await,
            }
        };
        self.store.timed("get", work).await
    }

    pub(crate) async fn exists(&self, key: &[u8]) -> Result<bool> {
        check_key(key)?;
        let work = async {
            match &*self.store.backend(&self.tenant) {
                Backend::Embedded(embedded) => embedded.exists(&self.bucket, key),
                Backend::Redis(redis) => redis.exists(&self.bucket, key).await,
            }
        };
        self.store.timed("exists", work).await
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
            match &*self.store.backend(&self.tenant) {
                Backend::Embedded(embedded) => embedded.list(&self.bucket, cursor).await,
                Backend::Redis(redis) => redis.list(&self.bucket, cursor).await,
            }
        };
        self.store.timed("list", work).await
    }

    async fn write(&self, call: &'static str, write: Write) -> Result<Written> {
        let work = async {
            let about = || write.keys().map(|key| Touched::pair(&self.bucket, key)).collect();
            let _inside = self.store.writing(&self.tenant, about).await;
            match &*self.store.backend(&self.tenant) {
                Backend::Embedded(embedded) => embedded.write(&self.account, &self.bucket, write).await,
                Backend::Redis(redis) => redis.write(&self.account, &self.bucket, write).await,
            }
        };
        self.store.timed(call, work).await
    }
}

/// One tenant's raw Redis keys, and its channels.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    pub(super) keys: Namespace,
    pub(super) account: Account,
    pub(super) channels: Namespace,
    pub(super) tenant: TenantId,
    pub(super) store: Arc<Store>,
}

impl Raw {
    /// Does a Redis command on the tenant's own keys; which ones are served says `commands/table.rs`.
    pub(crate) async fn execute(&self, command: &[u8], arguments: Vec<Vec<u8>>) -> Result<Vec<Reply>> {
        let prepared = commands::prepare(&self.keys, command, arguments)?;
        if !prepared.is_inside() {
            tracing::error!(target: "store", command = prepared.name(), "a key outside of its tenant was about to be sent");
            return Err(Error::Internal);
        }
        let work = async {
            let about = || prepared.keys().map(|key| Touched::Raw(key.to_vec())).collect();
            let _inside = match prepared.effect() {
                Effect::None => None,
                Effect::Grows | Effect::Shrinks => self.store.writing(&self.tenant, about).await,
            };
            match &*self.store.backend(&self.tenant) {
                Backend::Embedded(embedded) => embedded.execute(&self.account, &self.keys, prepared).await,
                Backend::Redis(redis) => redis.execute(&self.account, &prepared).await,
            }
        };
        self.store.timed("execute", work).await
    }

    /// Sends a message to the tenant's own channel.
    pub(crate) async fn publish(&self, channel: &[u8], payload: &[u8]) -> Result<()> {
        check_key(channel)?;
        check_value(payload)?;
        let channel = self.channels.key(channel);
        let work = async {
            match &*self.store.backend(&self.tenant) {
                // Nobody can listen in this process yet.
                Backend::Embedded(_) => Ok(()),
                Backend::Redis(redis) => redis.publish(&channel, payload).await,
            }
        };
        self.store.timed("publish", work).await
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
