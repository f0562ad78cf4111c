//! Moves a tenant from the embedded store to Redis while it is served.
//!
//! All of the data is copied, and data that is written meanwhile is copied again; each page is read back and compared. When
//! little is left, writes wait until the rest is copied. Then the sums are compared, and the tenant is on Redis from then
//! on. After any error it stays where it was. Its data in the embedded file stays there unused.
//!
//! The other direction is not supported: only this process writes to the embedded file and so knows all writes, but a Redis
//! may have other gateways. The `store_ttl` of copied keys starts again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use futures_util::StreamExt as _;

use super::account::Account;
use super::embedded::Embedded;
use super::gate::{Gate, Touched};
use super::layout::{Bucket, Namespace, Place, store_of};
use super::names::Name;
use super::redis::Redis;
use super::{Allowance, BATCH_BYTES_MAX, Backend, Kind, Reply, Store, Value, Write, commands};
use crate::deadline::Deadline;
use crate::ids::{StoreName, TenantId};

/// When fewer keys than this are left to copy, writes wait for them.
const LITTLE: usize = 200;
const PASSES_MAX: u32 = 50;
/// How long writes may wait for the last copy.
const PAUSE_MAX: Duration = Duration::from_secs(5);
const AT_ONCE: usize = 32;

/// The progress.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) copied: AtomicU64,
    pub(crate) total: AtomicU64,
}

/// The result of a move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) keys: u64,
    /// How often the keys that were written meanwhile were copied again.
    pub(crate) passes: u32,
    /// How long writes waited.
    pub(crate) paused: Duration,
}

/// One of the tenant's shards.
struct Part {
    place: Place,
    prefix: String,
    account: Account,
    space: Namespace,
}

/// Both backends, and what the tenant has.
struct Move<'a> {
    from: &'a Embedded,
    to: &'a Redis,
    parts: Vec<Part>,
    timeout: Duration,
    progress: &'a Progress,
    /// Raw keys that are already on Redis.
    raw: HashSet<Vec<u8>>,
    /// By their complete names.
    stores: HashMap<Vec<u8>, Bucket>,
    bucket: &'a (dyn Fn(&Place, &StoreName) -> Bucket + Sync),
}

impl Store {
    /// Moves the tenant. `settle` makes the move durable before anyone writes to Redis.
    ///
    /// # Errors
    /// In words for the operator. The tenant stays where it was.
    pub(crate) async fn move_to(
        self: &Arc<Self>,
        tenant: &TenantId,
        to: &Kind,
        ttl: impl Fn(&StoreName) -> Option<Duration> + Send + Sync,
        progress: &Progress,
        settle: impl FnOnce() -> anyhow::Result<()> + Send,
    ) -> anyhow::Result<Moved> {
        let from = self.backend(tenant);
        let Backend::Embedded(here) = &*from else {
            bail!(
                "{tenant} is not on the embedded store: other gateways may write to its data; suspend it, export its \
                    data and import them"
            )
        };
        let Kind::Redis(servers) = to else { bail!("a tenant can only be moved to Redis") };
        let target = Arc::new(Backend::Redis(Box::new(Redis::new(servers, self.timeout, &self.refusals)?)));
        let Backend::Redis(there) = &*target else { bail!("a tenant can only be moved to Redis") };
        reachable(there, self.timeout).await?;
        let parts = self.parts(tenant).await?;
        for part in &parts {
            ensure!(
                !there.has_any(part.prefix.as_bytes()).await?,
                "{tenant} already has keys there; purge them, or choose another destination"
            );
        }
        let layout = self.prefix.layout(tenant);
        let shards = u16::try_from(parts.len())?;
        ensure!(
            there.note_layout(&layout, shards).await? == shards,
            "{tenant} has another number of shards there; purge it"
        );
        let gate = self.begin(tenant)?;
        // After this time, writes that began before the gate existed have ended.
        tokio::time::sleep(self.timeout).await;
        let bucket = |place: &Place, name: &StoreName| self.prefix.bucket(place, name).lasting(ttl(name));
        let mut work = Move {
            from: here,
            to: there,
            parts,
            timeout: self.timeout,
            progress,
            raw: HashSet::new(),
            stores: HashMap::new(),
            bucket: &bucket,
        };
        let moved = work.run(self, tenant, &gate, settle).await;
        if moved.is_ok() {
            self.settle(tenant, &target);
        }
        self.end(tenant);
        gate.open();
        moved
    }

    async fn parts(&self, tenant: &TenantId) -> super::Result<Vec<Part>> {
        // Data that already exists is not refused by a quota.
        let allowance = Some(Allowance { bytes: u64::MAX, keys: u64::MAX });
        let part = |place: Place| Part {
            prefix: self.prefix.of_place(&place),
            account: self.account(&place, allowance),
            space: self.prefix.namespace(&place),
            place,
        };
        Ok(self.places(tenant).await?.into_iter().map(part).collect())
    }
}

async fn reachable(redis: &Redis, timeout: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        match Deadline::after(timeout).run(redis.ping()).await {
            Ok(Ok(())) => return Ok(()),
            // A cluster's servers have to be found first.
            _ if Instant::now() < end => tokio::time::sleep(Duration::from_millis(50)).await,
            Ok(Err(error)) => return Err(error).context("the destination Redis does not answer"),
            Err(_elapsed) => bail!("the destination Redis does not answer within {timeout:?}"),
        }
    }
}

impl Move<'_> {
    async fn run(
        &mut self,
        store: &Store,
        tenant: &TenantId,
        gate: &Gate,
        settle: impl FnOnce() -> anyhow::Result<()> + Send,
    ) -> anyhow::Result<Moved> {
        self.copy_all(store, tenant).await?;
        let mut passes = 0;
        let mut touched = taken(gate)?;
        while touched.len() > LITTLE {
            passes += 1;
            ensure!(passes < PASSES_MAX, "its data changes faster than it can be copied");
            self.copy_again(touched).await?;
            touched = taken(gate)?;
        }
        let paused = Instant::now();
        let last = async {
            gate.close().await;
            // After this, everything that was sent to the writer before is in the file.
            for part in &self.parts {
                self.from.settled(&part.account, &part.space.as_bucket()).await?;
            }
            touched.extend(taken(gate)?);
            self.copy_again(touched).await?;
            let keys = self.same_sums().await?;
            settle()?;
            anyhow::Ok(keys)
        };
        let keys = Deadline::after(PAUSE_MAX).run(last).await.context("the last copy took too long")??;
        Ok(Moved { keys, passes, paused: paused.elapsed() })
    }

    async fn copy_all(&mut self, store: &Store, tenant: &TenantId) -> anyhow::Result<()> {
        self.progress.total.store(self.keys_here()?, Ordering::Relaxed);
        for at in 0..self.parts.len() {
            self.copy_part(store, tenant, at).await?;
        }
        Ok(())
    }

    /// The number of keys in the embedded store.
    fn keys_here(&self) -> super::Result<u64> {
        self.parts.iter().map(|part| Ok(self.from.usage(&part.account)?.keys)).sum()
    }

    async fn copy_part(&mut self, store: &Store, tenant: &TenantId, at: usize) -> anyhow::Result<()> {
        let mut cursor = None;
        loop {
            let Some(Part { place, prefix, space, .. }) = self.parts.get(at) else { return Ok(()) };
            let page = store.names_in(tenant, prefix.clone(), cursor.as_deref()).await?;
            let (place, space) = (place.clone(), space.clone());
            for name in page.names {
                match name {
                    Name::Store(name) => self.copy_store((self.bucket)(&place, &name)).await?,
                    Name::Raw(key) => self.copy_raw(space.key(&key)).await?,
                }
            }
            cursor = page.cursor;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    /// The shard of a complete name.
    fn part(&self, name: &[u8]) -> anyhow::Result<&Part> {
        self.parts.iter().find(|part| name.starts_with(part.prefix.as_bytes())).context("a key is in no shard")
    }

    async fn copy_store(&mut self, bucket: Bucket) -> anyhow::Result<()> {
        let from = self.from;
        let mut cursor = None;
        loop {
            let page = from.list(&bucket, cursor.as_deref()).await?;
            self.copy_pairs(&bucket, page.keys).await?;
            cursor = page.cursor;
            if cursor.is_none() {
                break;
            }
        }
        self.stores.insert(bucket.as_bytes().to_vec(), bucket);
        Ok(())
    }

    /// Copies the present values of these keys, reads them back and compares them. A few at a time, so that values of a MiB
    /// fit into one call.
    async fn copy_pairs(&self, bucket: &Bucket, keys: Vec<Vec<u8>>) -> anyhow::Result<()> {
        let from = self.from;
        let (mut pairs, mut gone, mut bytes) = (Vec::new(), Vec::new(), 0);
        for key in keys {
            match from.get_many(bucket, &[&key]).await?.pop().flatten() {
                Some(value) => {
                    bytes += key.len() + value.len();
                    pairs.push((key, value));
                }
                None => gone.push(key),
            }
            if bytes > BATCH_BYTES_MAX / 4 || pairs.len() + gone.len() >= 500 {
                self.put(bucket, std::mem::take(&mut pairs), std::mem::take(&mut gone)).await?;
                bytes = 0;
            }
        }
        self.put(bucket, pairs, gone).await
    }

    async fn put(&self, bucket: &Bucket, pairs: Vec<(Vec<u8>, Value)>, gone: Vec<Vec<u8>>) -> anyhow::Result<()> {
        let keys: Vec<Vec<u8>> = pairs.iter().map(|(key, _)| key.clone()).collect();
        let values: Vec<Option<Value>> = pairs.iter().map(|(_, value)| Some(value.clone())).collect();
        let account = &self.part(bucket.as_bytes())?.account;
        self.timed(self.to.write(account, bucket, Write::Delete(gone))).await?;
        self.timed(self.to.write(account, bucket, Write::Set(pairs))).await?;
        let read: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let there = self.timed(self.to.get_many(bucket, &read)).await?;
        ensure!(there == values, "the copied data differs from the original: does something else write there?");
        self.progress.copied.fetch_add(keys.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    async fn timed<T>(&self, work: impl Future<Output = super::Result<T>>) -> anyhow::Result<T> {
        Ok(Deadline::after(self.timeout * 4).run(work).await.unwrap_or(Err(super::Error::Timeout))?)
    }

    /// Copies a raw key with its prefix. The embedded store has strings and sets.
    async fn copy_raw(&mut self, key: Vec<u8>) -> anyhow::Result<()> {
        let (from, to) = (self.from, self.to);
        let Part { account, space, .. } = self.part(&key)?;
        let own = key.strip_prefix(space.as_bytes()).unwrap_or_default().to_vec();
        let words = |words: Vec<Vec<u8>>| {
            let mut words = words.into_iter();
            commands::prepare(space, &words.next().unwrap_or_default(), words.collect())
        };
        let ask = async |name: &[u8]| {
            let command = words(vec![name.to_vec(), own.clone()])?;
            anyhow::Ok(from.execute(account, space, command).await?)
        };
        let kind = ask(b"TYPE").await?;
        self.timed(async { to.execute(account, &words(vec![b"DEL".to_vec(), own.clone()])?).await }).await?;
        let put = match kind.as_slice() {
            [Reply::Status(kind)] if kind == "string" => vec![b"SET".to_vec(), own.clone()],
            [Reply::Status(kind)] if kind == "set" => vec![b"SADD".to_vec(), own.clone()],
            _ => {
                self.raw.remove(&key);
                return Ok(());
            }
        };
        let read = if put.first().is_some_and(|name| name == b"SET") { b"GET".as_slice() } else { b"SMEMBERS" };
        let pieces: Vec<Vec<u8>> = ask(read).await?.into_iter().filter_map(bytes).collect();
        for some in pieces.chunks(500) {
            let command = words(put.iter().chain(some).cloned().collect())?;
            self.timed(to.execute(account, &command)).await?;
        }
        let command = words(vec![read.to_vec(), own])?;
        let there = self.timed(to.execute(account, &command)).await?.replies;
        let there: HashSet<Vec<u8>> = there.into_iter().filter_map(bytes).collect();
        ensure!(there == pieces.into_iter().collect(), "the copied data differs from the original");
        self.progress.copied.fetch_add(1, Ordering::Relaxed);
        self.raw.insert(key);
        Ok(())
    }

    /// Copies the present values of keys that were written meanwhile.
    async fn copy_again(&mut self, touched: HashSet<Touched>) -> anyhow::Result<()> {
        let mut pairs: HashMap<Vec<u8>, Vec<Vec<u8>>> = HashMap::new();
        for touched in touched {
            match touched {
                Touched::Pair(bucket, key) => pairs.entry(bucket).or_default().push(key),
                Touched::Raw(key) => self.copy_raw(key).await?,
            }
        }
        for (name, keys) in pairs {
            let bucket = self.known(name)?;
            let parts: Vec<Vec<Vec<u8>>> = keys.chunks(100).map(<[_]>::to_vec).collect();
            let copies = parts.into_iter().map(|part| self.copy_pairs(&bucket, part));
            let done: Vec<_> = futures_util::stream::iter(copies).buffer_unordered(AT_ONCE).collect().await;
            done.into_iter().collect::<anyhow::Result<()>>()?;
        }
        Ok(())
    }

    /// The store with this complete name, which may be new.
    fn known(&mut self, name: Vec<u8>) -> anyhow::Result<Bucket> {
        if let Some(bucket) = self.stores.get(&name) {
            return Ok(bucket.clone());
        }
        let own = name.iter().rposition(|byte| *byte == b':').and_then(|at| str::from_utf8(name.get(at + 1..)?).ok());
        let store = own.and_then(store_of).context("a store has no name")?;
        let bucket = (self.bucket)(&self.part(&name)?.place, &store);
        self.stores.insert(name, bucket.clone());
        Ok(bucket)
    }

    /// The number of keys, if it is equal on both sides. Expired keys of a store with a TTL are counted only in the
    /// embedded store.
    async fn same_sums(&self) -> anyhow::Result<u64> {
        let to = self.to;
        let mut there = self.raw.len() as u64;
        for bucket in self.stores.values() {
            there += self.timed(to.length(bucket)).await?;
        }
        let here = self.keys_here()?;
        let lasts = self.stores.values().any(|bucket| bucket.ttl().is_some());
        ensure!(here == there || (lasts && here > there), "{here} keys here, and {there} there");
        Ok(there)
    }
}

fn taken(gate: &Gate) -> anyhow::Result<HashSet<Touched>> {
    gate.take().context("its data changes faster than it can be copied")
}

fn bytes(reply: Reply) -> Option<Vec<u8>> {
    if let Reply::Bytes(bytes) = reply { Some(bytes) } else { None }
}
