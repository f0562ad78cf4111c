//! The embedded backend: one redb file, written by one thread that commits in groups.
//!
//! Invariant: a write that was answered is on the disk (one `fdatasync` a group), so `kill -9` loses nothing that was
//! acknowledged. Reads see the last commit and wait for no writer.
//!
//! Limit: [`QUEUE`] writes wait at most; [`GROUP`] of them or [`GROUP_BYTES`] are committed together, and what nobody waits
//! for any more is left out. One value is read in place; batches and listings go to [`READERS`] threads at most.

mod lasting;
mod layout;
mod names;
mod tables;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use redb::{Database, ReadableDatabase as _, ReadableTable as _};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::account::{Account, Usage};
use super::{
    BATCH_BYTES_MAX, BATCH_MAX, Bucket, Effect, Error, Namespace, Page, Prepared, Reply, Result, Value, Write, Written,
    commands,
};
use lasting::Moments;
use tables::{NAMES, Tables, USAGE, VALUES};

const QUEUE: usize = 4096;
const GROUP: usize = 1024;
const GROUP_BYTES: usize = 16 << 20;
const READERS: usize = 8;
/// How much less than the runtime's own threads the kernel prefers the writer (setpriority(2)).
const WRITER_NICENESS: i32 = 10;
/// redb's page cache.
const CACHE_BYTES: usize = 64 << 20;

struct Job {
    account: Account,
    bucket: Bucket,
    work: Work,
    done: oneshot::Sender<Result<Outcome>>,
}

/// What is done in the writer's transaction.
enum Work {
    Write(Write),
    /// A Redis command that changes something.
    Command(Prepared),
}

enum Outcome {
    Written(Written),
    Answer(Vec<Reply>),
}

impl Work {
    fn bytes(&self) -> usize {
        match self {
            Self::Write(write) => write.bytes(),
            Self::Command(command) => command.words().iter().map(Vec::len).sum(),
        }
    }
}

/// The open file. Dropping it lets the writer finish what is queued.
#[derive(Debug)]
pub(super) struct Embedded {
    database: Arc<Database>,
    jobs: mpsc::Sender<Job>,
    readers: Arc<Semaphore>,
}

impl Embedded {
    pub(super) fn open(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
        let path = dir.join("tollgate.redb");
        let database = redb::Builder::new().set_cache_size(CACHE_BYTES).create(&path).with_context(|| {
            format!("cannot open the embedded store {} (is another gateway using it?)", path.display())
        })?;
        let write = database.begin_write()?;
        Tables::open(&write)?.count_if_never()?;
        write.commit()?;
        let database = Arc::new(database);
        let (jobs, queue) = mpsc::channel(QUEUE);
        let writer = Arc::clone(&database);
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || {
                // Tenants' writes are their affair; whoever serves goes first.
                let _nicer = rustix::process::nice(WRITER_NICENESS);
                write_groups(&writer, queue);
            })
            .context("cannot start the store's writer")?;
        Ok(Self { database, jobs, readers: Arc::new(Semaphore::new(READERS)) })
    }

    pub(super) async fn write(&self, account: &Account, bucket: &Bucket, write: Write) -> Result<Written> {
        match self.work(account.clone(), bucket.clone(), Work::Write(write)).await? {
            Outcome::Written(written) => Ok(written),
            Outcome::Answer(_) => Err(Error::Internal),
        }
    }

    /// The tenant's raw keys are a bucket of their own kind.
    pub(super) async fn execute(&self, account: &Account, space: &Namespace, command: Prepared) -> Result<Vec<Reply>> {
        let bucket = space.as_bucket();
        if command.effect() == Effect::None {
            return self
                .reading(move |database| {
                    let get = |key: &[u8]| get(database, &bucket, own(&bucket, key));
                    let (_no_changes, value) = commands::run(&command, get)?;
                    Ok(command.answer(value))
                })
                .await;
        }
        match self.work(account.clone(), bucket, Work::Command(command)).await? {
            Outcome::Answer(answer) => Ok(answer),
            Outcome::Written(_) => Err(Error::Internal),
        }
    }

    /// What the tenant has.
    pub(super) fn usage(&self, account: &Account) -> Result<Usage> {
        let read = self.database.begin_read().map_err(internal)?;
        let table = read.open_table(USAGE).map_err(internal)?;
        let usage = table.get(account.usage.as_bytes()).map_err(internal)?;
        let (bytes, keys) = usage.map_or((0, 0), |usage| usage.value());
        Ok(Usage { bytes, keys })
    }

    async fn work(&self, account: Account, bucket: Bucket, work: Work) -> Result<Outcome> {
        let (done, answer) = oneshot::channel();
        self.jobs.send(Job { account, bucket, work, done }).await.map_err(|_closed| Error::Unavailable)?;
        answer.await.map_err(|_closed| Error::Unavailable)?
    }

    /// Whether the file can be read: after a failed write, redb refuses everything until it is opened anew.
    pub(super) fn ping(&self) -> Result<()> {
        let read = self.database.begin_read().map_err(internal)?;
        read.open_table(NAMES).map_err(internal)?.first().map_err(internal)?;
        Ok(())
    }

    pub(super) async fn get_many(&self, bucket: &Bucket, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
        if let [key] = keys {
            return Ok(vec![get(&self.database, bucket, key)?]);
        }
        let (bucket, keys) = (bucket.clone(), keys.iter().map(|key| key.to_vec()).collect::<Vec<_>>());
        self.reading(move |database| {
            let mut bytes = 0;
            let mut found = Vec::with_capacity(keys.len());
            for key in keys {
                let value = get(database, &bucket, &key)?;
                bytes += value.as_ref().map_or(0, Vec::len);
                if bytes > BATCH_BYTES_MAX {
                    return Err(Error::TooLarge("a batch may bring back 8 MiB"));
                }
                found.push(value);
            }
            Ok(found)
        })
        .await
    }

    pub(super) fn exists(&self, bucket: &Bucket, key: &[u8]) -> Result<bool> {
        let read = self.database.begin_read().map_err(internal)?;
        let table = read.open_table(NAMES).map_err(internal)?;
        let is_there = table.get((bucket.as_bytes(), key)).map_err(internal)?.is_some();
        Ok(is_there && !Moments::open(&read, bucket)?.is_over(key)?)
    }

    /// The cursor is the last key of the page before, in hex.
    pub(super) async fn list(&self, bucket: &Bucket, cursor: Option<&str>) -> Result<Page> {
        let after = cursor.map(|cursor| from_hex(cursor).ok_or(Error::BadCursor)).transpose()?;
        let bucket = bucket.clone();
        self.reading(move |database| list(database, &bucket, after.as_deref())).await
    }

    /// Reads on a thread that may wait for the disk.
    async fn reading<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Database) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let place = Arc::clone(&self.readers).acquire_owned().await.map_err(|_closed| Error::Unavailable)?;
        let database = Arc::clone(&self.database);
        let reading = tokio::task::spawn_blocking(move || {
            let _place = place;
            read(&database)
        });
        reading.await.map_err(internal)?
    }
}

/// A prepared key as it stands in its bucket.
fn own<'k>(bucket: &Bucket, key: &'k [u8]) -> &'k [u8] {
    key.strip_prefix(bucket.as_bytes()).unwrap_or(key)
}

fn get(database: &Database, bucket: &Bucket, key: &[u8]) -> Result<Option<Value>> {
    let read = database.begin_read().map_err(internal)?;
    let table = read.open_table(VALUES).map_err(internal)?;
    let value = table.get((bucket.as_bytes(), key)).map_err(internal)?;
    if value.is_some() && Moments::open(&read, bucket)?.is_over(key)? {
        return Ok(None);
    }
    Ok(value.map(|value| value.value().to_vec()))
}

fn list(database: &Database, bucket: &Bucket, after: Option<&[u8]>) -> Result<Page> {
    use std::ops::Bound;
    let start = match after {
        Some(key) => Bound::Excluded((bucket.as_bytes(), key)),
        None => Bound::Included((bucket.as_bytes(), [].as_slice())),
    };
    let read = database.begin_read().map_err(internal)?;
    let table = read.open_table(NAMES).map_err(internal)?;
    let moments = Moments::open(&read, bucket)?;
    let (mut page, mut last) = (Page::default(), Vec::new());
    for (seen, entry) in table.range((start, Bound::Unbounded)).map_err(internal)?.enumerate() {
        let (place, _nothing) = entry.map_err(internal)?;
        let (owner, key) = place.value();
        if owner != bucket.as_bytes() {
            break;
        }
        if seen == BATCH_MAX {
            page.cursor = Some(to_hex(&last));
            break;
        }
        last = key.to_vec();
        if !moments.is_over(key)? {
            page.keys.push(last.clone());
        }
    }
    Ok(page)
}

/// The writer thread: takes what is queued, does it in one transaction, commits, and only then answers.
fn write_groups(database: &Database, mut queue: mpsc::Receiver<Job>) {
    let mut group = Vec::with_capacity(GROUP);
    while let Some(first) = queue.blocking_recv() {
        let mut next = Some(first);
        let mut bytes = 0;
        while let Some(job) = next {
            // Nothing was promised to whoever stopped waiting.
            if !job.done.is_closed() {
                bytes += job.work.bytes();
                group.push(job);
            }
            next = (group.len() < GROUP && bytes < GROUP_BYTES).then(|| queue.try_recv().ok()).flatten();
        }
        if group.is_empty() {
            continue;
        }
        match commit(database, &group) {
            Ok(answers) => {
                for (job, answer) in group.drain(..).zip(answers) {
                    // Whoever asked may have stopped waiting; what was written stays written.
                    let _gone = job.done.send(answer);
                }
            }
            Err(error) => {
                tracing::error!(target: "store", error = %error, writes = group.len(), "the embedded store did not commit");
                for job in group.drain(..) {
                    let _gone = job.done.send(Err(Error::Internal));
                }
            }
        }
    }
}

fn commit(database: &Database, group: &[Job]) -> std::result::Result<Vec<Result<Outcome>>, redb::Error> {
    let transaction = database.begin_write()?;
    let mut answers = Vec::with_capacity(group.len());
    {
        let mut tables = Tables::open(&transaction)?;
        for job in group {
            answers.push(tables.apply(job)?);
        }
    }
    transaction.commit()?;
    Ok(answers)
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
