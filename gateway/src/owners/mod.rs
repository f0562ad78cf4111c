//! Notes which tenant has which host, so that no restart, reload or other gateway gives a host to somebody else.
//!
//! The notes are a file in the state folder. If gateways share a Redis, the notes are there for all of them, and the file
//! is what a gateway knows while Redis does not answer.
//!
//! Invariant: only three parties change a note: the tenant that has the host, when its own file drops it; an operator; or
//! anyone, if no tenant has the host. A tenant that is removed keeps its hosts. Limit: one line for each host that tenants'
//! files name, and for the hosts of removed tenants until an operator releases them.

mod file;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::Pattern;
use crate::ids::TenantId;
use crate::store::{self, SWAPPED, Store, Swap};
use crate::telemetry::Metrics;

/// Hosts, each with its tenant.
pub(crate) type Noted = BTreeMap<Pattern, TenantId>;

/// The name of the notes on Redis.
const HASH: &str = "hosts";
/// How often to check whether another gateway changed the notes.
const LOOK: Duration = Duration::from_secs(5);

/// A change of one note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) host: Pattern,
    pub(crate) from: From,
    /// Nothing if the host is released.
    pub(crate) to: Option<TenantId>,
}

/// Who must have a host for a change to apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Nobody,
    Tenant(TenantId),
    /// Anyone: an operator orders the change.
    Whoever,
}

impl Change {
    /// Whether it applies if `now` has the host.
    fn is_for(&self, now: Option<&TenantId>) -> bool {
        match &self.from {
            From::Nobody => now.is_none(),
            From::Tenant(id) => now == Some(id),
            From::Whoever => true,
        }
    }

    fn apply(&self, noted: &mut Noted) {
        if self.is_for(noted.get(&self.host)) {
            put(noted, &self.host, self.to.clone());
        }
    }
}

fn put(noted: &mut Noted, host: &Pattern, to: Option<TenantId>) {
    match to {
        Some(id) => _ = noted.insert(host.clone(), id),
        None => _ = noted.remove(host),
    }
}

/// The notes, and where they are stored.
#[derive(Debug)]
pub(crate) struct Owners {
    /// Nothing if a single project is served, which has every host.
    path: Option<PathBuf>,
    store: Arc<Store>,
    state: Mutex<State>,
    /// Serialises changes, including writes of the file.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    noted: Arc<Noted>,
    /// The number of changes on Redis at the last read.
    count: u64,
    /// Changes that Redis does not have yet.
    unshared: BTreeMap<Pattern, Change>,
}

impl Owners {
    /// Reads the notes in the state folder. [`Self::refresh`] reads those on Redis.
    ///
    /// # Errors
    /// The file exists and cannot be read.
    pub(crate) fn open(state: Option<&Path>, store: Arc<Store>) -> io::Result<Self> {
        let path = state.map(file::path);
        let noted = path.as_deref().map(file::read).transpose()?.unwrap_or_default();
        let state = State { noted: Arc::new(noted), ..State::default() };
        Ok(Self { path, store, state: Mutex::new(state), turn: tokio::sync::Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn noted(&self) -> Arc<Noted> {
        Arc::clone(&self.state().noted)
    }

    /// Whether hosts are noted at all.
    pub(crate) const fn is_kept(&self) -> bool {
        self.path.is_some()
    }

    /// Applies these changes, as far as each applies to the host's present owner. Returns whether all applied.
    pub(crate) async fn note(&self, changes: &[Change]) -> bool {
        if changes.is_empty() || !self.is_kept() {
            return true;
        }
        let _turn = self.turn.lock().await;
        let answered = self.share(changes).await;
        {
            let mut state = self.state();
            let mut noted = Noted::clone(&state.noted);
            match answered {
                Some((held, count)) => {
                    changes.iter().zip(held).for_each(|(change, now)| put(&mut noted, &change.host, now));
                    // Otherwise there are changes by others to read.
                    if count == state.count + 1 {
                        state.count = count;
                    }
                }
                None => {
                    changes.iter().for_each(|change| change.apply(&mut noted));
                    if self.store.common().is_some() {
                        state.unshared.extend(changes.iter().map(|change| (change.host.clone(), change.clone())));
                    }
                }
            }
            state.noted = Arc::new(noted);
        }
        self.keep().await;
        let noted = self.noted();
        changes.iter().all(|change| noted.get(&change.host) == change.to.as_ref())
    }

    /// Sends the changes to Redis, if there is one and it answers. Returns who then has each of the hosts, and the number
    /// of changes.
    async fn share(&self, changes: &[Change]) -> Option<(Vec<Option<TenantId>>, u64)> {
        let common = self.store.common()?;
        let hosts: Vec<String> = changes.iter().map(|change| change.host.to_string()).collect();
        let swaps = changes.iter().zip(&hosts).map(|(change, host)| Swap {
            field: host,
            from: match &change.from {
                From::Nobody => Some(""),
                From::Tenant(id) => Some(id.as_str()),
                From::Whoever => None,
            },
            to: change.to.as_ref().map_or("", TenantId::as_str),
        });
        match common.swap(HASH, &swaps.collect::<Vec<_>>()).await {
            Ok((held, count)) => Some((held.iter().map(|id| TenantId::parse(id)).collect(), count)),
            Err(error) => {
                tracing::warn!(target: "config", %error, "the owners of hosts are not recorded on Redis yet");
                None
            }
        }
    }

    /// Reads what other gateways noted, and sends them what they do not have.
    pub(crate) async fn refresh(&self) {
        let Some(common) = self.store.common().filter(|_| self.is_kept()) else { return };
        let _turn = self.turn.lock().await;
        let (before, known, unshared) = {
            let state = self.state();
            (Arc::clone(&state.noted), state.count, state.unshared.values().cloned().collect::<Vec<_>>())
        };
        let looked = async {
            let count = common.get(HASH, SWAPPED).await?.and_then(|text| text.parse::<u64>().ok());
            // A Redis that knows less than we do has lost data, or is another one.
            let lost = count.is_none_or(|count| count < known);
            if count == Some(known) && unshared.is_empty() {
                return Ok::<_, store::Error>(None);
            }
            let mine = before.iter().filter(|_| lost).map(|(host, id)| Change {
                host: host.clone(),
                from: From::Nobody,
                to: Some(id.clone()),
            });
            let told = unshared.iter().cloned().chain(mine).collect::<Vec<_>>();
            let told = told.is_empty() || self.share(&told).await.is_some();
            let all = common.all(HASH).await?;
            let count = all.iter().find(|(field, _)| field == SWAPPED).and_then(|(_, text)| text.parse().ok());
            Ok(Some((file::parsed(all.iter().map(|(host, id)| (host.as_str(), id.as_str()))), count, told)))
        };
        let (noted, count, told) = match looked.await {
            Ok(Some(found)) => found,
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(target: "config", %error, "the owners of hosts that other gateways recorded cannot be \
                    read");
                return;
            }
        };
        {
            let mut state = self.state();
            state.count = count.unwrap_or(0);
            if told {
                state.unshared.clear();
            }
            state.noted = Arc::new(noted);
        }
        self.keep().await;
    }

    /// Waits until the notes differ from those in force, because another gateway changed them. Waits for ever if there is
    /// no other gateway.
    ///
    /// Cancel safety: what was read is kept.
    pub(crate) async fn changed(&self, in_force: &Noted) {
        loop {
            tokio::time::sleep(LOOK).await;
            // Reads by operators refresh the notes too.
            self.refresh().await;
            if *self.noted() != *in_force {
                return;
            }
        }
    }

    /// Writes the file.
    async fn keep(&self) {
        let (Some(path), noted) = (self.path.clone(), self.noted()) else { return };
        let shown = path.display().to_string();
        let written = tokio::task::spawn_blocking(move || file::write(&path, &noted)).await;
        if let Err(error) = written.unwrap_or_else(|error| Err(io::Error::other(error))) {
            tracing::error!(target: "config", %error, "{shown} cannot be written: after a restart, the owners of hosts \
                may be unknown");
        }
    }
}

/// The notes as a gateway with this state folder and this storage would find them, for commands that only look.
///
/// # Errors
/// The file exists and cannot be read.
pub(crate) async fn look(state: &Path, storage: &store::Settings) -> io::Result<Noted> {
    let mut noted = file::read(&file::path(state))?;
    if storage.is_embedded() {
        return Ok(noted);
    }
    let Ok(store) = Store::open(storage, Arc::new(Metrics::default())) else { return Ok(noted) };
    if let Some(common) = store.common()
        && let Ok(all) = common.all(HASH).await
        && !all.is_empty()
    {
        noted = file::parsed(all.iter().map(|(host, id)| (host.as_str(), id.as_str())));
    }
    Ok(noted)
}

#[cfg(test)]
mod tests;
