//! Tenants whose data an operator moves, or has moved, to another backend. A move is in force at once, and kept in a file
//! for each tenant with its destination, so that a restart does not forget it.

use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::config::{Plan, redis_at};
use crate::ids::{StoreName, TenantId};
use crate::store::{Moved, Progress, Store, Tls};

/// Moves whose progress can be queried.
const KEPT_MAX: usize = 1000;

/// One move, in progress or finished.
#[derive(Debug, Default)]
struct Move {
    progress: Progress,
    done: OnceLock<Result<Moved, String>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Moves {
    dir: PathBuf,
    store: Arc<Store>,
    tls: Tls,
    moves: Arc<Mutex<HashMap<TenantId, Arc<Move>>>>,
}

impl Moves {
    /// Applies earlier moves.
    ///
    /// # Errors
    /// A file cannot be read, or contains no destination.
    pub(crate) fn load(dir: PathBuf, store: Arc<Store>, tls: Tls) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        for entry in std::fs::read_dir(&dir)? {
            let path = entry?.path();
            let Some(id) = path.file_name().and_then(|name| TenantId::parse(name.to_str()?)) else { continue };
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let wrong = || format!("{} does not contain the place of the data of {id}", path.display());
            let kind = redis_at(text.trim(), tls.clone()).with_context(wrong)?;
            store.moved_to(&id, &kind).with_context(wrong)?;
            tracing::info!(target: "admin", tenant = %id, "its data was moved");
        }
        Ok(Self { dir, store, tls, moves: Arc::default() })
    }

    /// Begins to move a tenant.
    ///
    /// # Errors
    /// The tenant is already being moved, or the destination is not a Redis.
    pub(super) fn begin(&self, id: &TenantId, plan: Option<&Plan>, to: &str) -> anyhow::Result<()> {
        let Some(kind) = redis_at(to, self.tls.clone()) else {
            bail!("wanted redis://HOST:PORT, redis-cluster:URL,… or redis-sentinel:URL,…");
        };
        let mut moves = self.moves.lock().unwrap_or_else(PoisonError::into_inner);
        if moves.get(id).is_some_and(|earlier| earlier.done.get().is_none()) {
            bail!("{id} is being moved already");
        }
        if moves.len() >= KEPT_MAX {
            moves.retain(|_, earlier| earlier.done.get().is_none());
        }
        let this = Arc::<Move>::default();
        moves.insert(id.clone(), Arc::clone(&this));
        drop(moves);
        let (store, path, to) = (Arc::clone(&self.store), self.dir.join(id.as_str()), to.to_owned());
        let ttls = plan.map(|plan| plan.store_ttl.clone()).unwrap_or_default();
        let id = id.clone();
        tokio::spawn(async move {
            tracing::warn!(target: "admin", tenant = %id, "an operator moves its data");
            let ttl = |name: &StoreName| ttls.of(name);
            let moved = Box::pin(store.move_to(&id, &kind, ttl, &this.progress, || keep(&path, &to))).await;
            match &moved {
                Ok(moved) => tracing::warn!(target: "admin", tenant = %id, ?moved, "its data was moved"),
                Err(error) => tracing::error!(target: "admin", tenant = %id, "its data was not moved: {error:#}"),
            }
            // Set only here.
            let _set = this.done.set(moved.map_err(|error| format!("{error:#}")));
        });
        Ok(())
    }

    /// The progress of a tenant's last move.
    pub(super) fn status(&self, id: &TenantId) -> Option<Value> {
        let this = self.moves.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()?;
        let number = |of: &std::sync::atomic::AtomicU64| of.load(Ordering::Relaxed);
        Some(match this.done.get() {
            None => json!({ "copied": number(&this.progress.copied), "total": number(&this.progress.total) }),
            Some(Ok(moved)) => json!({
                "done": true,
                "keys": moved.keys,
                "passes": moved.passes,
                "paused_ms": moved.paused.as_millis(),
            }),
            Some(Err(error)) => json!({ "failed": error }),
        })
    }
}

/// Security: the destination may contain a password, so only the gateway's user can read the file.
fn keep(path: &Path, to: &str) -> anyhow::Result<()> {
    let whole = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&whole)?;
    writeln!(file, "{to}")?;
    file.sync_all()?;
    std::fs::rename(&whole, path)?;
    Ok(())
}
