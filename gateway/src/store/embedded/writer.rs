//! The thread that writes: it takes jobs by their tenants' turns, does some of them in one transaction, commits, and only then
//! answers.
//!
//! Invariant: what was answered is on the disk. A transaction in which nothing was answered (slices of large batches, waste)
//! waits for no disk, since nobody sees what it did.
//!
//! Limit: [`GROUP`] slices, [`GROUP_PRICE`] and [`GROUP_TIME`] a transaction. A job whose caller left is dropped, before it
//! begins and between slices.

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
    /// Waste of this owner, which is taken away before anything else is done for it: who makes much of it waits for that, and
    /// there is never more of it than one job makes.
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

/// What came of a transaction's slices.
#[derive(Default)]
struct Group {
    answers: Vec<Answer>,
    /// Of which there is more to do.
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

    /// Nothing was promised to whoever stopped waiting. What it had written so far is waste.
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
            // It is noted in the file, and is taken away after the next start.
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
            // Whoever asked may have stopped waiting; what was written stays written.
            let _gone = done.send(if is_committed { answer } else { Err(Error::Internal) });
        }
        // Before what gives way: a batch that is half written stands first, since its chunks are no waste yet.
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
        // Numbers are used once, whatever became of them.
        self.next = number;
        if !filled? {
            return Ok(transaction.abort()?);
        }
        if group.answers.is_empty() {
            // Errors only where savepoints are made.
            transaction.set_durability(Durability::None).map_err(redb::Error::from)?;
        }
        Ok(transaction.commit()?)
    }

    /// Does slices until there are enough; whether anything changed.
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
        // None may be taken and not done.
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

    /// Gives a turn back for which nothing was done.
    fn fail(&self, (turn, item): Taken, group: &mut Group) {
        self.queue.done(turn, 0);
        if let Item::Job(job) = item {
            group.answers.push((job.done, Err(Error::Internal)));
        }
    }
}
