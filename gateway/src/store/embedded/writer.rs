//! The thread that writes: it takes jobs by their tenants' turns, executes some of them in one transaction, commits, and
//! only then answers.
//!
//! Invariant: everything that was answered is on the disk. A transaction in which nothing was answered (slices of large
//! batches, waste) does not wait for the disk, because nobody sees its effects.
//!
//! Limit: [`GROUP`] slices, [`GROUP_PRICE`] and [`GROUP_TIME`] for each transaction. A job whose caller has left is
//! dropped, before it begins and between slices.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::{Database, Durability};
use tokio::sync::oneshot;

use super::jobs::{Job, Outcome, Step};
use super::tables::{File, Tables};
use super::{Result, SLICE};
use crate::shares::{Shares, Turn};
use crate::store::Error;
use crate::telemetry::Metrics;

const GROUP: usize = 1024;
const GROUP_PRICE: usize = 2 * SLICE;
const GROUP_TIME: Duration = Duration::from_millis(4);

pub(super) enum Item {
    Job(Box<Job>),
    /// This owner's waste, which is deleted before its next job: an owner that makes much waste waits for that, and there
    /// is never more waste than one job makes.
    Waste(Vec<u8>),
}

type Taken = (Turn, Item);
type Answer = (oneshot::Sender<Result<Outcome>>, Result<Outcome>);

pub(super) struct Writer {
    pub(super) database: Arc<Database>,
    pub(super) queue: Arc<Shares<Item>>,
    pub(super) metrics: Arc<Metrics>,
    /// The number of the next chunk.
    pub(super) next: u64,
}

/// The results of a transaction's slices.
#[derive(Default)]
struct Group {
    answers: Vec<Answer>,
    /// Jobs with more slices.
    later: Vec<(Turn, usize, Item)>,
    /// Owners with waste.
    waste: BTreeSet<Vec<u8>>,
}

impl Writer {
    pub(super) fn run(mut self) {
        while let Some(first) = self.queue.next() {
            let Some(first) = self.live(first) else { continue };
            let mut group = Group::default();
            let committed = self.transaction(first, &mut group);
            if let Err(error) = &committed {
                let writes = group.answers.len();
                tracing::error!(target: "store", %error, writes, "the embedded store did not commit");
            }
            self.tell(group, committed.is_ok());
        }
    }

    /// Drops a job that nobody waits for: nothing was promised. What it has written so far is waste.
    fn live(&self, (turn, item): Taken) -> Option<Taken> {
        match item {
            Item::Job(job) if job.is_left() => {
                self.metrics.store_jobs_dropped.inc();
                if job.staged.is_some() {
                    self.sweep(job.bucket.owner().to_vec());
                }
                self.queue.done(turn, 0);
                None
            }
            // It is noted in the file, and is deleted after the next start.
            Item::Waste(_) if self.queue.is_closed() => {
                self.queue.done(turn, 0);
                None
            }
            item @ (Item::Job(_) | Item::Waste(_)) => Some((turn, item)),
        }
    }

    fn sweep(&self, owner: Vec<u8>) {
        self.queue.put_first(&owner.clone(), Item::Waste(owner));
    }

    fn tell(&self, group: Group, is_committed: bool) {
        for (done, answer) in group.answers {
            // The caller may have stopped waiting; what was written stays written.
            let _gone = done.send(if is_committed { answer } else { Err(Error::Internal) });
        }
        // Before the jobs that give way: a half-written batch is placed first, because its chunks are not waste yet.
        if is_committed {
            group.waste.into_iter().for_each(|owner| self.sweep(owner));
        }
        for (turn, price, item) in group.later {
            if is_committed {
                self.queue.give_way(turn, price, item);
            } else {
                self.queue.done(turn, price);
                if let Item::Job(job) = item {
                    let _gone = job.done.send(Err(Error::Internal));
                }
            }
        }
    }

    fn transaction(&mut self, first: Taken, group: &mut Group) -> File<()> {
        let (database, mut number) = (Arc::clone(&self.database), self.next);
        let begun = database.begin_write();
        let mut transaction = match begun {
            Ok(transaction) => transaction,
            Err(error) => {
                self.fail(first, group);
                return Err(error.into());
            }
        };
        let filled = self.fill(&transaction, &mut number, first, group);
        // Numbers are used once, whatever the outcome.
        self.next = number;
        if !filled? {
            return Ok(transaction.abort()?);
        }
        if group.answers.is_empty() {
            // Fails only if savepoints are used.
            transaction.set_durability(Durability::None).map_err(redb::Error::from)?;
        }
        Ok(transaction.commit()?)
    }

    /// Executes slices until the group is full. Returns whether anything changed.
    fn fill(
        &self,
        transaction: &redb::WriteTransaction,
        number: &mut u64,
        first: Taken,
        group: &mut Group,
    ) -> File<bool> {
        let mut tables = match Tables::open(transaction, number) {
            Ok(tables) => tables,
            Err(error) => {
                self.fail(first, group);
                return Err(error);
            }
        };
        let (began, mut price, mut next) = (Instant::now(), 0, Some(first));
        for _ in 0..GROUP {
            let Some(taken) = next.take() else { break };
            let slice = Instant::now();
            tables.price = 0;
            self.slice(taken, &mut tables, group)?;
            self.metrics.store_slice("writer", slice.elapsed());
            price += tables.price;
            if price >= GROUP_PRICE || began.elapsed() >= GROUP_TIME {
                break;
            }
            while let Some(taken) = self.queue.next_now() {
                next = self.live(taken);
                if next.is_some() {
                    break;
                }
            }
        }
        // A job that was taken must also be executed.
        if let Some(taken) = next {
            self.slice(taken, &mut tables, group)?;
        }
        group.waste.append(&mut tables.wasters);
        Ok(tables.is_changed)
    }

    fn slice(&self, (turn, item): Taken, tables: &mut Tables<'_>, group: &mut Group) -> File<()> {
        match item {
            Item::Waste(owner) => match tables.sweep(&owner) {
                Ok(true) => group.later.push((turn, tables.price, Item::Waste(owner))),
                swept => {
                    self.queue.done(turn, tables.price);
                    swept?;
                }
            },
            Item::Job(mut job) => match job.step(tables) {
                Ok(Step::More) => group.later.push((turn, tables.price, Item::Job(job))),
                Ok(Step::Done(answer)) => {
                    self.queue.done(turn, tables.price);
                    group.answers.push((job.done, answer));
                }
                Err(error) => {
                    self.fail((turn, Item::Job(job)), group);
                    return Err(error);
                }
            },
        }
        Ok(())
    }

    /// Gives back a turn in which nothing was done.
    fn fail(&self, (turn, item): Taken, group: &mut Group) {
        self.queue.done(turn, 0);
        if let Item::Job(job) = item {
            group.answers.push((job.done, Err(Error::Internal)));
        }
    }
}
