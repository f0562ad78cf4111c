//! The embedded backend: one redb file. One thread writes and commits in groups, and a few threads read. All tenants share
//! these threads by turns (`shares.rs`).
//!
//! Invariant: a write that was answered is on the disk (one `fdatasync` for each group), so that `kill -9` loses nothing
//! that was acknowledged. Reads see the last commit and wait for no writer.
//!
//! Limit: the price of a call is the bytes that it touches; it is executed in slices of [`SLICE`], and dropped if its
//! caller has left. At most [`WAITING`] writes of a tenant with [`WAITING_BYTES`] wait, and as many reads; further ones are
//! refused. A value in an entry is read in place.

pub(super) mod backup;
mod closing;
mod entries;
mod jobs;
mod expiry;
mod layout;
pub(super) mod left;
#[cfg(test)]
mod measured;
mod names;
mod migrate;
pub(super) mod raw;
mod readers;
mod sets;
mod tables;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use anyhow::Context as _;
use redb::Database;
use tokio::sync::oneshot;

use super::account::{Account, Usage};
use super::{BATCH_MAX, Bucket, Effect, Error, Namespace, Page, Prepared, Reply, Result, Value, Write, Written};
use crate::shares::{Bounds, Shares};
use crate::telemetry::Metrics;
use closing::OpenDatabase;
use entries::{KEY_PRICE, Kind, View};
use jobs::{Job, Outcome, Work};
use raw::Keys;
use readers::{Gather, Readers};
use tables::{Tables, USAGE};
use writer::{Item, Writer};

/// Bytes that a slice of work touches: about a millisecond's work.
const SLICE: usize = 1 << 20;
const WAITING: usize = 1024;
const WAITING_BYTES: usize = 32 << 20;
/// The writer's nice value relative to the runtime's threads (setpriority(2)).
const WRITER_NICENESS: i32 = 10;
/// The file in the store's folder.
const FILE: &str = "tollgate.redb";
/// redb's page cache.
const CACHE_BYTES: usize = 64 << 20;

/// The open file. Dropping it lets the writer finish the queued jobs; closing the file needs [`Embedded::close`].
pub(super) struct Embedded {
    /// The store's file.
    path: PathBuf,
    database: OpenDatabase,
    writes: Arc<Shares<Item>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    readers: Readers,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").finish_non_exhaustive()
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.writes.close();
    }
}

impl Embedded {
    pub(super) fn open(dir: &Path, metrics: &Arc<Metrics>) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
        let path = dir.join(FILE);
        let database = redb::Builder::new().set_cache_size(CACHE_BYTES).create(&path).with_context(|| {
            format!("cannot open the embedded store {} (is another gateway using it?)", path.display())
        })?;
        migrate::migrate(&database)?;
        let database = Arc::new(database);
        // One thread, which executes jobs one after the other.
        let bounds = Bounds { threads: 1, at_once: 1, waiting: WAITING, bytes: WAITING_BYTES };
        let writes = Arc::new(Shares::new(bounds));
        let work = writer(&database, &writes, metrics)?;
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || {
                // Serving has priority over tenants' writes.
                let _nicer = rustix::process::nice(WRITER_NICENESS);
                work.run();
            })
            .context("cannot start the store's writer")?;
        let readers = Readers::start(&database, metrics)?;
        Ok(Self { path, database: OpenDatabase::new(database), writes, writer: Mutex::new(Some(writer)), readers })
    }

    pub(super) async fn write(&self, account: &Account, bucket: &Bucket, write: Write) -> Result<Written> {
        match self.work(account.clone(), bucket.clone(), write.into()).await? {
            Outcome::Written(written) => Ok(written),
            Outcome::Answer(_) | Outcome::Layout(_) | Outcome::Nothing => Err(Error::Internal),
        }
    }

    /// Waits until everything that was sent to the writer for this tenant before is in the file, or was dropped.
    pub(super) async fn settled(&self, account: &Account, bucket: &Bucket) -> Result<()> {
        self.work(account.clone(), bucket.clone(), Work::Barrier).await.map(|_nothing| ())
    }

    /// The tenant's raw keys are a bucket of a special kind.
    pub(super) async fn execute(&self, account: &Account, space: &Namespace, command: Prepared) -> Result<Vec<Reply>> {
        let bucket = space.as_bucket();
        let work = match (command.effect(), command.name()) {
            (Effect::None, "MGET") => {
                let keys: Vec<&[u8]> = command.keys().map(|key| own(&bucket, key)).collect();
                let values = self.gather(Gather::of(&bucket, &keys, Kind::Text)).await?;
                return Ok(values.into_iter().map(|value| value.map_or(Reply::Nil, Reply::Bytes)).collect());
            }
            (Effect::None, _) => return self.look(bucket, command).await,
            (_, "MSET") => Work::Set { pairs: raw::pairs(&command, &bucket)?, kind: Kind::Text },
            _ => Work::Command(command),
        };
        match self.work(account.clone(), bucket, work).await? {
            Outcome::Answer(answer) => Ok(answer),
            Outcome::Written(_) | Outcome::Layout(_) | Outcome::Nothing => Err(Error::Internal),
        }
    }

    /// Runs a command that changes nothing; in place if its only key has its value in the entry.
    async fn look(&self, bucket: Bucket, command: Prepared) -> Result<Vec<Reply>> {
        if let (Some(key), 1) = (command.keys().next(), command.keys().count()) {
            let mut view = self.database.view()?;
            if view.look(&bucket, own(&bucket, key))?.is_none_or(|entry| entry.head.is_near()) {
                return answer(&mut view, &bucket, &command);
            }
        }
        let owner = bucket.clone();
        if let ("SMEMBERS", [_, key]) = (command.name(), command.words()) {
            let listing = sets::Listing::of(&bucket, own(&bucket, key));
            return self.readers.read(owner.owner(), key.len(), listing).await;
        }
        self.readers.once(owner.owner(), move |view| answer(view, &bucket, &command)).await
    }

    /// What the tenant uses.
    pub(super) fn usage(&self, account: &Account) -> Result<Usage> {
        let read = self.database.begin_read()?;
        let table = read.open_table(USAGE).map_err(internal)?;
        let usage = table.get(account.usage.as_bytes()).map_err(internal)?;
        let (bytes, keys) = usage.map_or((0, 0), |usage| usage.value());
        Ok(Usage { bytes, keys })
    }

    async fn work(&self, account: Account, bucket: Bucket, work: Work) -> Result<Outcome> {
        if self.database.is_closed() {
            return Err(Error::Unavailable);
        }
        let (done, answer) = oneshot::channel();
        let (bytes, owner) = (work.bytes(), bucket.clone());
        let job = Item::Job(Box::new(Job { account, bucket, work, staged: None, done }));
        self.writes.put(owner.owner(), bytes, job).map_err(|_full| Error::Busy)?;
        answer.await.map_err(|_closed| Error::Unavailable)?
    }

    /// Whether the file can be read: after a failed write, redb refuses everything until it is opened again.
    pub(super) fn ping(&self) -> Result<()> {
        use redb::ReadableTable as _;
        self.database.view()?.entries.first().map_err(internal)?;
        Ok(())
    }

    pub(super) async fn get_many(&self, bucket: &Bucket, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
        if let [key] = keys {
            let mut view = self.database.view()?;
            match view.look(bucket, key)? {
                None => return Ok(vec![None]),
                Some(entry) if entry.head.is_near() => return Ok(vec![Some(view.value(&entry, 0)?)]),
                Some(_far) => {}
            }
        }
        self.gather(Gather::of(bucket, keys, Kind::Plain)).await
    }

    async fn gather(&self, gather: Gather) -> Result<Vec<Option<Value>>> {
        let bucket = gather.bucket().clone();
        self.readers.read(bucket.owner(), gather.bytes(), gather).await
    }

    pub(super) fn exists(&self, bucket: &Bucket, key: &[u8]) -> Result<bool> {
        Ok(self.database.view()?.look(bucket, key)?.is_some())
    }

    /// The cursor is the last key of the previous page, in hexadecimal.
    pub(super) async fn list(&self, bucket: &Bucket, cursor: Option<&str>) -> Result<Page> {
        let after = cursor.map(|cursor| from_hex(cursor).ok_or(Error::BadCursor)).transpose()?;
        let of = bucket.clone();
        self.readers.once(bucket.owner(), move |view| list(view, &of, after.as_deref())).await
    }
}

fn writer(database: &Arc<Database>, queue: &Arc<Shares<Item>>, metrics: &Arc<Metrics>) -> anyhow::Result<Writer> {
    let write = database.begin_write()?;
    let mut next = 0;
    let tables = Tables::open(&write, &mut next)?;
    let (first, wasters) = (tables.first_free()?, tables.owners_of_waste()?);
    drop(tables);
    write.commit()?;
    for owner in &wasters {
        queue.put_first(owner, Item::Waste(owner.clone()));
    }
    let (database, queue, metrics) = (Arc::clone(database), Arc::clone(queue), Arc::clone(metrics));
    Ok(Writer { database, queue, metrics, next: first })
}

/// A prepared key as it is in its bucket.
fn own<'k>(bucket: &Bucket, key: &'k [u8]) -> &'k [u8] {
    key.strip_prefix(bucket.as_bytes()).unwrap_or(key)
}

struct Seen<'a> {
    view: &'a mut View,
    bucket: &'a Bucket,
}

impl Keys for Seen<'_> {
    fn look(&mut self, key: &[u8]) -> Result<Option<entries::Entry>> {
        self.view.look(self.bucket, key)
    }

    fn value(&mut self, entry: &entries::Entry, skip: usize) -> Result<Vec<u8>> {
        self.view.value(entry, skip)
    }
}

fn answer(view: &mut View, bucket: &Bucket, command: &Prepared) -> Result<Vec<Reply>> {
    raw::run(command, bucket, &mut Seen { view, bucket }).map(|(_no_changes, answer)| answer)
}

fn list(view: &mut View, bucket: &Bucket, after: Option<&[u8]>) -> Result<Page> {
    use std::ops::Bound;
    let start = match after {
        Some(key) => Bound::Excluded((bucket.as_bytes(), key)),
        None => Bound::Included((bucket.as_bytes(), [].as_slice())),
    };
    let (mut page, mut last) = (Page::default(), Vec::new());
    for (seen, entry) in view.entries.range((start, Bound::Unbounded)).map_err(internal)?.enumerate() {
        let (place, entry) = entry.map_err(internal)?;
        let (owner, key) = place.value();
        if owner != bucket.as_bytes() {
            break;
        }
        if seen == BATCH_MAX {
            page.cursor = Some(to_hex(&last));
            break;
        }
        last = key.to_vec();
        view.price += KEY_PRICE;
        if !entries::is_over(bucket, entries::Entry::parse(entry.value())?.head) {
            page.keys.push(last.clone());
        }
    }
    Ok(page)
}

fn internal(error: impl std::error::Error) -> Error {
    tracing::error!(target: "store", error = %error, "the embedded store cannot be read");
    Error::Internal
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}
