//! A tenant's access to its own data: calls on a store, and commands on raw keys. Sizes are checked here, for any backend.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::account::{Account, Allowance};
use super::gate::Touched;
use super::layout::{Bucket, Namespace, Place};
use super::notes::Note;
use super::shards::Shards;
use super::{
    Answered, BATCH_BYTES_MAX, BATCH_MAX, Backend, Effect, Error, KEY_BYTES_MAX, Page, READ_BYTES_MAX, Result, Store,
    VALUE_BYTES_MAX, Value, Write, Written, commands,
};

use crate::ids::{Line, StoreName, TenantId};

/// One store of one tenant.
#[derive(Clone, Debug)]
pub(crate) struct Scoped {
    whose: Scope,
    name: StoreName,
    ttl: Option<Duration>,
    /// The bucket and account of the first shard, which is the only one for most tenants.
    first: (Bucket, Account),
}

/// For whom a call is, and how it reaches the data.
#[derive(Clone, Debug)]
struct Scope {
    tenant: TenantId,
    allowance: Option<Allowance>,
    spread: Arc<Shards>,
    store: Arc<Store>,
}

impl Scope {
    fn place(&self, shard: u16) -> Place {
        Place::of(&self.tenant, shard, self.spread.shards)
    }

    fn account(&self, place: &Place) -> Account {
        self.store.account(place, self.allowance.map(|allowance| self.spread.share(allowance)))
    }

    /// The tenant's present backend, if its layout is as expected.
    async fn backend(&self) -> Result<Arc<Backend>> {
        self.store.agreed(&self.tenant, &self.spread).await?;
        self.store.own_backend(&self.tenant)
    }
}

impl Store {
    fn whose(self: &Arc<Self>, tenant: &TenantId, allowance: Option<Allowance>) -> Scope {
        Scope { tenant: tenant.clone(), allowance, spread: self.spread_of(tenant), store: Arc::clone(self) }
    }

    /// A tenant's own store. The caller must check the grant. Values that are set expire after `ttl`.
    pub(crate) fn scoped(
        self: &Arc<Self>,
        tenant: &TenantId,
        name: &StoreName,
        allowance: Option<Allowance>,
        ttl: Option<Duration>,
    ) -> Scoped {
        let whose = self.whose(tenant, allowance);
        let place = whose.place(0);
        let first = (self.prefix.bucket(&place, name).lasting(ttl), whose.account(&place));
        Scoped { whose, name: name.clone(), ttl, first }
    }

    /// A tenant's own raw Redis keys and channels.
    pub(crate) fn raw(self: &Arc<Self>, tenant: &TenantId, allowance: Option<Allowance>) -> Raw {
        let whose = self.whose(tenant, allowance);
        let place = whose.place(0);
        let first = (self.prefix.namespace(&place), whose.account(&place));
        Raw { whose, first, channels: self.prefix.channels(tenant) }
    }
}

impl Scoped {
    fn shard(&self, shard: u16) -> (Bucket, Account) {
        if shard == 0 {
            return self.first.clone();
        }
        let place = self.whose.place(shard);
        let bucket = self.whose.store.prefix.bucket(&place, &self.name).lasting(self.ttl);
        (bucket, self.whose.account(&place))
    }

    fn bucket(&self, shard: u16) -> Bucket {
        self.shard(shard).0
    }

    pub(crate) async fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        Ok(self.get_many(&[key]).await?.pop().flatten())
    }

    /// One answer for each key, in order. Without keys, here and below, the backend is not called.
    pub(crate) async fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
        check_batch(keys.len())?;
        keys.iter().try_for_each(|key| check_key(key))?;
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let work = async {
            let backend = self.whose.backend().await?;
            if self.whose.spread.shards == 1 {
                return backend.get_many(&self.first.0, keys).await;
            }
            let parts = self.whose.spread.sorted(keys.iter().enumerate().collect(), |(_, key)| key);
            let asked = parts.into_iter().map(async |(shard, part)| {
                let keys: Vec<&[u8]> = part.iter().map(|(_, key)| **key).collect();
                let values = backend.get_many(&self.bucket(shard), &keys).await?;
                Ok(part.into_iter().map(|(at, _)| at).zip(values).collect::<Vec<_>>())
            });
            let mut found = vec![None; keys.len()];
            let mut bytes = 0;
            for part in join_all(asked).await {
                for (at, value) in part? {
                    bytes += value.as_ref().map_or(0, Vec::len);
                    if let Some(place) = found.get_mut(at) {
                        *place = value;
                    }
                }
            }
            if bytes > BATCH_BYTES_MAX {
                return Err(Error::TooLarge("a batch may return at most 8 MiB"));
            }
            Ok(found)
        };
        self.whose.store.timed(Some(&self.whose.tenant), "get", work).await
    }

    pub(crate) async fn exists(&self, key: &[u8]) -> Result<bool> {
        check_key(key)?;
        let work = async {
            let backend = self.whose.backend().await?;
            backend.exists(&self.bucket(self.whose.spread.shard_of(key)), key).await
        };
        self.whose.store.timed(Some(&self.whose.tenant), "exists", work).await
    }

    /// Applied completely or not at all if the tenant has one shard. With several shards, that holds for each shard's part.
    pub(crate) async fn set_many(&self, pairs: Vec<(Vec<u8>, Value)>) -> Result<()> {
        check_batch(pairs.len())?;
        for (key, value) in &pairs {
            check_key(key)?;
            check_value(value)?;
        }
        if pairs.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > BATCH_BYTES_MAX {
            return Err(Error::TooLarge("a batch may have at most 8 MiB"));
        }
        if pairs.is_empty() {
            return Ok(());
        }
        self.write("set", Write::Set(pairs)).await.map(|_done| ())
    }

    pub(crate) async fn delete_many(&self, keys: Vec<Vec<u8>>) -> Result<()> {
        check_batch(keys.len())?;
        keys.iter().try_for_each(|key| check_key(key))?;
        if keys.is_empty() {
            return Ok(());
        }
        self.write("delete", Write::Delete(keys)).await.map(|_done| ())
    }

    /// Adds to the decimal number at the key. An absent key counts as 0.
    pub(crate) async fn increment(&self, key: &[u8], delta: i64) -> Result<i64> {
        check_key(key)?;
        match self.write("increment", Write::Increment(key.to_vec(), delta)).await? {
            Written::Sum(sum) => Ok(sum),
            Written::Done | Written::Swapped(_) => Err(Error::Internal),
        }
    }

    /// Sets the key to `new` if it has the value `expected`. Returns whether it did.
    pub(crate) async fn swap(&self, key: &[u8], expected: Option<Value>, new: Value) -> Result<bool> {
        check_key(key)?;
        check_value(&new)?;
        match self.write("swap", Write::Swap { key: key.to_vec(), expected, new }).await? {
            Written::Swapped(swapped) => Ok(swapped),
            Written::Done | Written::Sum(_) => Err(Error::Internal),
        }
    }

    /// One page of keys. A key that is not deleted is on at least one page; the backend chooses the order.
    pub(crate) async fn list(&self, cursor: Option<&str>) -> Result<Page> {
        let spread = &self.whose.spread;
        let work = async {
            let backend = self.whose.backend().await?;
            let (mut shard, cursor) = spread.place(cursor)?;
            let mut page = backend.list(&self.bucket(shard), cursor).await?;
            // A guest may take an empty page for the end.
            while page.keys.is_empty() && page.cursor.is_none() && shard + 1 < spread.shards {
                shard += 1;
                page = backend.list(&self.bucket(shard), None).await?;
            }
            page.cursor = spread.next(shard, page.cursor);
            Ok(page)
        };
        self.whose.store.timed(Some(&self.whose.tenant), "list", work).await
    }

    async fn write(&self, call: &'static str, write: Write) -> Result<Written> {
        let work = async {
            self.whose.store.agreed(&self.whose.tenant, &self.whose.spread).await?;
            let mut parts = self.whose.spread.writes(write);
            match parts.pop() {
                None => Ok(Written::Done),
                Some((shard, only)) if parts.is_empty() => self.write_in(shard, only).await,
                Some(last) => {
                    let parts = parts.into_iter().chain([last]);
                    let done = join_all(parts.map(|(shard, write)| self.write_in(shard, write))).await;
                    done.into_iter().collect::<Result<Vec<_>>>().map(|_done| Written::Done)
                }
            }
        };
        self.whose.store.timed(Some(&self.whose.tenant), call, work).await
    }

    async fn write_in(&self, shard: u16, write: Write) -> Result<Written> {
        let (bucket, account) = self.shard(shard);
        let Scope { tenant, store, .. } = &self.whose;
        let about = || write.keys().map(|key| Touched::pair(&bucket, key)).collect();
        let _inside = store.writing(tenant, about).await;
        store.own_backend(tenant)?.write(&account, &bucket, write).await
    }
}

/// One tenant's raw Redis keys and its channels.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    whose: Scope,
    /// The namespace and account of the first shard.
    first: (Namespace, Account),
    channels: Namespace,
}

impl Raw {
    fn shard(&self, shard: u16) -> (Namespace, Account) {
        if shard == 0 {
            return self.first.clone();
        }
        let place = self.whose.place(shard);
        (self.whose.store.prefix.namespace(&place), self.whose.account(&place))
    }

    /// Runs a Redis command on the tenant's own keys. `commands/table.rs` lists the commands that are served.
    pub(crate) async fn execute(&self, command: &[u8], arguments: Vec<Vec<u8>>) -> Result<Answered> {
        let spread = &self.whose.spread;
        let work = async {
            self.whose.store.agreed(&self.whose.tenant, spread).await?;
            if spread.shards == 1 {
                return self.execute_in(0, command, arguments).await;
            }
            let (parts, joined) = commands::split(command, &arguments, |key| spread.shard_of(key))?;
            if let [only] = parts.as_slice() {
                return self.execute_in(only.shard, command, arguments).await;
            }
            let answered = if joined == commands::Joined::InOrder {
                self.in_turn(command, parts).await?
            } else {
                let asked = parts.into_iter().map(async |part| {
                    let answered = self.execute_in(part.shard, command, part.arguments.clone()).await?;
                    Ok((part, answered))
                });
                join_all(asked).await.into_iter().collect::<Result<Vec<_>>>()?
            };
            let work = answered.iter().map(|(_, answered)| answered.work).sum();
            let parts = answered.into_iter().map(|(part, answered)| (part, answered.replies));
            Ok(Answered { replies: commands::join(joined, parts.collect())?, work })
        };
        self.whose.store.timed(Some(&self.whose.tenant), "execute", work).await
    }

    /// Runs the parts of a command that returns values one after the other, so that no more than one answer is held.
    async fn in_turn(&self, command: &[u8], parts: Vec<commands::Part>) -> Result<Vec<(commands::Part, Answered)>> {
        let (mut done, mut bytes) = (Vec::with_capacity(parts.len()), 0);
        for part in parts {
            let answered = self.execute_in(part.shard, command, part.arguments.clone()).await?;
            bytes += answered.bytes();
            if bytes > READ_BYTES_MAX {
                return Err(Error::TooLarge("a command may return at most 4 MiB; ask for fewer"));
            }
            done.push((part, answered));
        }
        Ok(done)
    }

    async fn execute_in(&self, shard: u16, command: &[u8], arguments: Vec<Vec<u8>>) -> Result<Answered> {
        let Scope { tenant, store, .. } = &self.whose;
        let (space, account) = self.shard(shard);
        let prepared = commands::prepare(&space, command, arguments)?;
        if !prepared.is_inside() {
            tracing::error!(target: "store", command = prepared.name(), "a key outside of its tenant was about to be sent");
            return Err(Error::Internal);
        }
        let about = || prepared.keys().map(|key| Touched::Raw(key.to_vec())).collect();
        let _inside = match prepared.effect() {
            Effect::None => None,
            Effect::Grows | Effect::Shrinks => store.writing(tenant, about).await,
        };
        store.own_backend(tenant)?.execute(&account, &space, prepared).await
    }

    /// Publishes a message on the tenant's own channel.
    pub(crate) async fn publish(&self, channel: &[u8], payload: &[u8], line: Line) -> Result<()> {
        check_key(channel)?;
        check_value(payload)?;
        let Scope { tenant, store, .. } = &self.whose;
        if store.messages.is_once(tenant, channel) {
            return store.append_once(tenant, channel, payload, line).await;
        }
        let [channel, note] = [self.channels.key(channel), self.channels.note(channel)];
        let work = async {
            match &*store.own_backend(tenant)? {
                Backend::Embedded(_) => {
                    store.messages.publish_here(&channel, payload, line);
                    Ok(())
                }
                Backend::Redis(redis) if line.number > 1 => {
                    redis.publish_with_note((&channel, payload), (&note, &Note::of(payload, line).text())).await
                }
                Backend::Redis(redis) => redis.publish(&channel, payload).await,
            }
        };
        store.timed(Some(tenant), "publish", work).await
    }
}

const fn check_key(key: &[u8]) -> Result<()> {
    if key.len() > KEY_BYTES_MAX {
        return Err(Error::TooLarge("a key may have at most 1024 bytes"));
    }
    Ok(())
}

const fn check_value(value: &[u8]) -> Result<()> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(Error::TooLarge("a value may have at most 1 MiB"));
    }
    Ok(())
}

const fn check_batch(keys: usize) -> Result<()> {
    if keys > BATCH_MAX {
        return Err(Error::TooLarge("a batch may have at most 1000 keys"));
    }
    Ok(())
}
