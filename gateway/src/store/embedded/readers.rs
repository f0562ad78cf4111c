//! The threads that read. All tenants share them by turns, so that a tenant that reads much delays only itself.
//!
//! Limit: [`READERS`] threads. A tenant has at most half of them at once, and the last free one is for a tenant that has
//! none. A read gives way after a slice, and is dropped if its caller has left. It sees one commit from its start to its
//! end.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::Context as _;
use redb::Database;
use tokio::sync::oneshot;

use super::entries::{Entry, KEY_PRICE, Kind, View};
use super::{Result, SLICE};
use crate::shares::{Bounds, Shares};
use crate::store::layout::Bucket;
use crate::store::{BATCH_BYTES_MAX, Error, Value};
use crate::telemetry::Metrics;

pub(super) const READERS: usize = 8;
/// Serving has priority: eight readers of a tenant's large values delayed another tenant's page by 20 ms on one processor.
const READER_NICENESS: i32 = 10;
const BOUNDS: Bounds = Bounds { threads: READERS, at_once: READERS / 2, waiting: 1024, bytes: 32 << 20 };

/// A read in slices.
pub(super) trait Read: Send + 'static {
    type Answer: Send;

    /// Reads one slice. Nothing if there is more to read.
    fn step(&mut self, view: &mut View) -> Result<Option<Self::Answer>>;
}

/// A read of one slice.
struct Whole<F>(Option<F>);

impl<T: Send, F: FnOnce(&mut View) -> Result<T> + Send + 'static> Read for Whole<F> {
    type Answer = T;

    fn step(&mut self, view: &mut View) -> Result<Option<T>> {
        self.0.take().map(|read| read(view)).transpose()
    }
}

struct Asked<R: Read> {
    read: R,
    view: Option<View>,
    done: oneshot::Sender<Result<R::Answer>>,
}

/// A read of any type.
trait Task: Send {
    fn is_left(&self) -> bool;
    /// Returns the price, and the task if there is more to do.
    fn step(self: Box<Self>, database: &Database) -> (usize, Option<Box<dyn Task>>);
}

impl<R: Read> Task for Asked<R> {
    fn is_left(&self) -> bool {
        self.done.is_closed()
    }

    fn step(mut self: Box<Self>, database: &Database) -> (usize, Option<Box<dyn Task>>) {
        let view = self.view.take().map_or_else(|| View::open(database), Ok);
        let mut price = KEY_PRICE;
        let read = view.and_then(|mut view| {
            view.price = 0;
            let read = self.read.step(&mut view);
            price += view.price;
            self.view = Some(view);
            read
        });
        match read.transpose() {
            None => (price, Some(self)),
            Some(answer) => {
                // The caller may have stopped waiting.
                let _gone = self.done.send(answer);
                (price, None)
            }
        }
    }
}

/// See the top of this file. Dropping it ends the threads.
pub(super) struct Readers(Arc<Shares<Box<dyn Task>>>, Mutex<Vec<JoinHandle<()>>>);

impl std::fmt::Debug for Readers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Readers").finish()
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Readers {
    /// Tells the threads to end, and returns them for waiting.
    pub(super) fn close(&self) -> Vec<JoinHandle<()>> {
        self.0.close();
        self.1.lock().map(|mut threads| std::mem::take(&mut *threads)).unwrap_or_default()
    }

    pub(super) fn start(database: &Arc<Database>, metrics: &Arc<Metrics>) -> anyhow::Result<Self> {
        let shares = Arc::new(Shares::new(BOUNDS));
        let mut threads = Vec::with_capacity(READERS);
        for number in 0..READERS {
            let (shares, database, metrics) = (Arc::clone(&shares), Arc::clone(database), Arc::clone(metrics));
            let thread = std::thread::Builder::new()
                .name(format!("store-reader-{number}"))
                .spawn(move || {
                    let _nicer = rustix::process::nice(READER_NICENESS);
                    read_on(&shares, &database, &metrics);
                })
                .context("cannot start the store's readers")?;
            threads.push(thread);
        }
        Ok(Self(shares, Mutex::new(threads)))
    }

    /// Reads in the turns of the bucket's tenant. `bytes` is the size of the request.
    pub(super) async fn read<R: Read>(&self, owner: &[u8], bytes: usize, read: R) -> Result<R::Answer> {
        let (done, answer) = oneshot::channel();
        self.0.put(owner, bytes, Box::new(Asked { read, view: None, done })).map_err(|_full| Error::Busy)?;
        answer.await.map_err(|_closed| Error::Unavailable)?
    }

    /// The same for a read of one slice.
    pub(super) async fn once<T: Send + 'static>(
        &self,
        owner: &[u8],
        read: impl FnOnce(&mut View) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.read(owner, 0, Whole(Some(read))).await
    }
}

fn read_on(shares: &Shares<Box<dyn Task>>, database: &Database, metrics: &Metrics) {
    while let Some((turn, task)) = shares.next() {
        if task.is_left() {
            metrics.store_jobs_dropped.inc();
            shares.done(turn, 0);
            continue;
        }
        let slice = Instant::now();
        // All tenants share the thread: a panic in one read must not end it.
        let step = catch_unwind(AssertUnwindSafe(|| task.step(database)));
        metrics.store_slice("reader", slice.elapsed());
        match step {
            Ok((price, Some(task))) => shares.give_way(turn, price, task),
            Ok((price, None)) => shares.done(turn, price),
            Err(_panicked) => {
                tracing::error!(target: "store", "a read of the embedded store panicked");
                shares.done(turn, 0);
            }
        }
    }
}

/// The values at many keys. Each is read once, however often it is named.
pub(super) struct Gather {
    bucket: Bucket,
    /// Each key once, in order.
    keys: Vec<Vec<u8>>,
    /// For each mention, the index of its key.
    mentions: Vec<usize>,
    kind: Kind,
    found: Vec<Option<Entry>>,
    values: Vec<Option<Value>>,
}

impl Gather {
    /// Values of another kind count as absent.
    pub(super) fn of(bucket: &Bucket, words: &[&[u8]], kind: Kind) -> Self {
        let mut places: BTreeMap<&[u8], usize> = words.iter().map(|key| (*key, 0)).collect();
        places.values_mut().enumerate().for_each(|(at, place)| *place = at);
        let mentions = words.iter().filter_map(|key| places.get(key).copied()).collect();
        let keys = places.into_keys().map(<[u8]>::to_vec).collect();
        Self { bucket: bucket.clone(), keys, mentions, kind, found: Vec::new(), values: Vec::new() }
    }

    pub(super) const fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// Bytes of the keys while they wait.
    pub(super) fn bytes(&self) -> usize {
        self.keys.iter().map(Vec::len).sum()
    }

    /// Raw values begin with their kind, which is not returned.
    fn skip(&self) -> usize {
        usize::from(self.kind != Kind::Plain)
    }

    /// The size of the answer, with every mention.
    fn answer_bytes(&self) -> usize {
        let length = |at: &usize| self.found.get(*at).and_then(Option::as_ref).map_or(0, |entry| entry.head.bytes());
        self.mentions.iter().map(length).sum()
    }

    fn answer(&mut self) -> Vec<Option<Value>> {
        let mut left = vec![0usize; self.keys.len()];
        self.mentions.iter().for_each(|&at| left.iter_mut().skip(at).take(1).for_each(|left| *left += 1));
        let told = self.mentions.iter().map(|&at| {
            let (value, left) = (self.values.get_mut(at)?, left.get_mut(at)?);
            *left -= 1;
            if *left == 0 { value.take() } else { value.clone() }
        });
        told.collect()
    }
}

impl Read for Gather {
    type Answer = Vec<Option<Value>>;

    fn step(&mut self, view: &mut View) -> Result<Option<Self::Answer>> {
        while let Some(key) = self.keys.get(self.found.len()) {
            if view.price >= SLICE {
                return Ok(None);
            }
            let entry = view.look(&self.bucket, key)?;
            self.found.push(entry.filter(|entry| entry.head.kind == self.kind));
        }
        if self.values.is_empty() && self.answer_bytes() > BATCH_BYTES_MAX {
            return Err(Error::TooLarge("a batch may return at most 8 MiB"));
        }
        while let Some(found) = self.found.get(self.values.len()) {
            if view.price >= SLICE {
                return Ok(None);
            }
            let skip = self.skip();
            self.values.push(found.as_ref().map(|entry| view.value(entry, skip)).transpose()?);
        }
        Ok(Some(self.answer()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::super::tests::{House, MIB, pair, whose};
    use super::super::{Usage, answer};
    use super::*;
    use crate::store::{Reply, VALUE_BYTES_MAX, commands};

    #[tokio::test]
    async fn a_key_that_is_named_many_times_is_looked_at_once_and_its_set_is_not_read() {
        let (house, a) = (House::new(), whose("a"));
        let words: Vec<&[u8]> = [b"SADD".as_slice(), b"set"].into_iter().chain([b"1".as_slice(), b"2"]).collect();
        house.say(&a, &words).await.unwrap();
        // As large as a set may be, added in as few parts as possible.
        let large: Vec<Vec<u8>> = (0..254).map(|n: u32| format!("{n:4096}").into_bytes()).collect();
        for part in large.chunks(127) {
            let part = part.iter().map(Vec::as_slice);
            let words: Vec<&[u8]> = [b"SADD".as_slice(), b"set"].into_iter().chain(part).collect();
            house.say(&a, &words).await.unwrap();
        }
        let price = |words: &[&[u8]]| {
            let arguments = words[1..].iter().map(|word| word.to_vec()).collect();
            let command = commands::prepare(&a.space, words[0], arguments).unwrap();
            let mut view = house.store.database.view().unwrap();
            let answer = answer(&mut view, &a.space.as_bucket(), &command).unwrap();
            (answer, view.price)
        };
        let exists: Vec<&[u8]> = std::iter::once(b"EXISTS".as_slice()).chain([b"set".as_slice(); 998]).collect();
        assert_eq!(price(&exists), (vec![Reply::Int(998)], KEY_PRICE));
        for (words, answer) in [
            ([b"SCARD".as_slice(), b"set"], Reply::Int(256)),
            ([b"TYPE", b"set"], Reply::Status("set".to_owned())),
            ([b"EXISTS", b"set"], Reply::Int(1)),
        ] {
            assert_eq!(price(&words), (vec![answer], KEY_PRICE));
        }
        let gone: Vec<&[u8]> = std::iter::once(b"DEL".as_slice()).chain([b"set".as_slice(); 500]).collect();
        assert_eq!(house.say(&a, &gone).await.unwrap(), [Reply::Int(1)]);
        assert_eq!(house.store.usage(&a.account).unwrap(), Usage::default());
    }

    #[tokio::test]
    async fn the_answer_for_many_mentions_is_bounded_before_it_is_read() {
        let (house, a) = (House::new(), whose("a"));
        let value = vec![b'v'; VALUE_BYTES_MAX];
        house.say(&a, &[b"SET", b"k", &value]).await.unwrap();
        house.set(&a, vec![(b"k".to_vec(), value.clone())]).await.unwrap();
        let mget =
            |times: usize| std::iter::once(b"MGET".as_slice()).chain(vec![b"k".as_slice(); times]).collect::<Vec<_>>();
        let much = Err(Error::TooLarge("a batch may return at most 8 MiB"));
        assert_eq!(house.say(&a, &mget(9)).await, much);
        assert_eq!(house.say(&a, &mget(999)).await, much);
        assert_eq!(house.say(&a, &mget(7)).await, Ok(vec![Reply::Bytes(value.clone()); 7]));
        let nine = house.store.get_many(&a.bucket, &[b"k".as_slice(); 9]).await;
        assert_eq!(nine.map(|_| ()), much.map(|_| ()));
        let found = house.store.get_many(&a.bucket, &[b"k", b"no", b"k"]).await.unwrap();
        assert_eq!(found, [Some(value.clone()), None, Some(value)]);
    }

    #[tokio::test]
    async fn a_tenant_cannot_keep_the_last_reader_busy() {
        let (house, a, b) = (Arc::new(House::new()), whose("a"), whose("b"));
        house.set(&b, vec![pair("k", MIB)]).await.unwrap();
        let (busy, release) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let asked: Vec<_> = (0..READERS * 2)
            .map(|_| {
                let (house, owner, busy, release) =
                    (Arc::clone(&house), a.bucket.clone(), Arc::clone(&busy), Arc::clone(&release));
                tokio::spawn(async move {
                    let read = move |_: &mut View| {
                        busy.fetch_add(1, Ordering::SeqCst);
                        while !release.load(Ordering::SeqCst) {
                            std::thread::yield_now();
                        }
                        Ok(())
                    };
                    house.store.readers.once(owner.owner(), read).await
                })
            })
            .collect();
        house.until(|_| busy.load(Ordering::SeqCst) == READERS / 2).await;
        assert_eq!(house.get(&b, b"k").await, Some(vec![b'x'; MIB]), "read by a reader that is left");
        assert_eq!(busy.load(Ordering::SeqCst), READERS / 2, "and the others of the first tenant wait");
        release.store(true, Ordering::SeqCst);
        for asked in asked {
            asked.await.unwrap().unwrap();
        }
    }
}
