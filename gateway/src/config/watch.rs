//! Watches the tenants' files for changes: in their folders, and wherever else they name files.
//!
//! It watches directories and not files, so that it also sees a file that is replaced, or a link that gets another target.
//! It watches only directories of files that were read: a build beside them costs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

/// How long no further change must come before the files are read, and the maximum wait for that.
const QUIET: Duration = Duration::from_millis(50);
const QUIET_MAX: Duration = Duration::from_millis(500);
/// Maximum number of links that are followed in a chain.
const LINKS_MAX: usize = 8;

/// What may have changed since the last reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    All,
    /// Tenants' folders, which may also be new or removed.
    Folders(BTreeSet<PathBuf>),
}

/// A watch over the tenants' files.
pub(crate) struct Watch {
    watcher: Mutex<RecommendedWatcher>,
    heard: Arc<Heard>,
}

/// Changes that were seen and not read yet.
struct Heard {
    tenants: PathBuf,
    state: Mutex<State>,
    wake: tokio::sync::Notify,
}

#[derive(Default)]
struct State {
    /// For each directory, the tenant folders whose files are in it.
    dirs: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
    changed: Option<Changed>,
    /// Number of events that concern a tenant.
    count: u64,
}

impl Heard {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, event: notify::Result<Event>) {
        let folders = match event {
            Ok(event) if event.need_rescan() => None,
            Ok(event) if is_a_change(event.kind) => {
                Some(event.paths.iter().flat_map(|path| self.concerned(path)).collect::<BTreeSet<_>>())
            }
            Ok(_read) => return,
            Err(error) => {
                tracing::warn!(target: "config", %error, "a change may have been missed: the gateway reads all tenants \
                    again");
                None
            }
        };
        if folders.as_ref().is_some_and(BTreeSet::is_empty) {
            return;
        }
        self.add(folders);
    }

    /// Adds some folders, or all if None.
    fn add(&self, folders: Option<BTreeSet<PathBuf>>) {
        let mut state = self.lock();
        state.count += 1;
        state.changed = Some(match (state.changed.take(), folders) {
            (Some(Changed::All), _) | (_, None) => Changed::All,
            (None, Some(new)) => Changed::Folders(new),
            (Some(Changed::Folders(mut old)), Some(new)) => {
                old.extend(new);
                Changed::Folders(old)
            }
        });
        drop(state);
        self.wake.notify_one();
    }

    /// The tenant folders whose files may be at this path.
    fn concerned(&self, path: &Path) -> Vec<PathBuf> {
        let state = self.lock();
        let of = |dir: &Path| state.dirs.get(dir).into_iter().flatten().cloned().collect::<Vec<_>>();
        let mut folders = of(path);
        if let Some(parent) = path.parent() {
            if parent == self.tenants {
                folders.push(path.to_owned());
            }
            folders.extend(of(parent));
        }
        folders
    }
}

/// Whether the event is a change: reading a file also causes events.
const fn is_a_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Create(_)
        | EventKind::Remove(_)
        | EventKind::Modify(ModifyKind::Any | ModifyKind::Data(_) | ModifyKind::Name(_) | ModifyKind::Other) => true,
        EventKind::Any | EventKind::Access(_) | EventKind::Modify(ModifyKind::Metadata(_)) | EventKind::Other => false,
    }
}

impl Watch {
    /// Watches the folder of all tenants, but nothing below it yet.
    ///
    /// # Errors
    /// If the system cannot watch it.
    pub(crate) fn start(tenants: &Path) -> notify::Result<Self> {
        let heard = Heard { tenants: tenants.to_owned(), state: Mutex::default(), wake: tokio::sync::Notify::new() };
        let heard = Arc::new(heard);
        let hears = Arc::clone(&heard);
        let mut watcher = notify::recommended_watcher(move |event| hears.hear(event))?;
        watcher.watch(tenants, RecursiveMode::NonRecursive)?;
        Ok(Self { watcher: Mutex::new(watcher), heard })
    }

    /// Also watches these directories, each for a tenant's folder. A directory that is already watched is added again,
    /// because it may be another one by now. If a directory is new, its files may have changed since they were read; with
    /// `again`, the folder counts as changed.
    ///
    /// # Errors
    /// The first directory that cannot be watched; all others are.
    pub(crate) fn over(&self, dirs: Vec<(PathBuf, PathBuf)>, again: bool) -> notify::Result<()> {
        let mut new = BTreeSet::new();
        let mut watched = BTreeSet::new();
        let mut result = Ok(());
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        for (dir, folder) in dirs {
            if watched.insert(dir.clone())
                && let Err(error) = watcher.watch(&dir, RecursiveMode::NonRecursive)
                // If the directory is missing, the one above it may report its creation.
                && !matches!(error.kind, notify::ErrorKind::PathNotFound)
                && result.is_ok()
            {
                result = Err(error);
            }
            if self.heard.lock().dirs.entry(dir).or_default().insert(folder.clone()) {
                new.insert(folder);
            }
        }
        if again && !new.is_empty() {
            self.heard.add(Some(new));
        }
        result
    }

    /// Waits for a change, and then until no more come.
    ///
    /// Cancel safety: a change that was seen stays until it is returned.
    pub(crate) async fn changed(&self) -> Changed {
        loop {
            let is_heard = self.heard.lock().changed.is_some();
            if !is_heard {
                self.heard.wake.notified().await;
            }
            let since = tokio::time::Instant::now();
            loop {
                let before = self.heard.lock().count;
                tokio::time::sleep(QUIET).await;
                if self.heard.lock().count == before || since.elapsed() > QUIET_MAX {
                    break;
                }
            }
            let changed = self.heard.lock().changed.take();
            if let Some(changed) = changed {
                return changed;
            }
        }
    }
}

/// The directories that contain a file: that of its own path, and that of each link on the way to it.
pub(crate) fn dirs_of(path: &Path) -> BTreeSet<PathBuf> {
    let mut dirs = BTreeSet::new();
    let mut path = path.to_owned();
    for _link in 0..=LINKS_MAX {
        let Some(parent) = path.parent() else { break };
        dirs.insert(parent.to_owned());
        // The directory itself may be a link, as in Kubernetes.
        if let Ok(target) = std::fs::read_link(parent)
            && let Some(above) = parent.parent()
        {
            dirs.insert(above.to_owned());
            dirs.insert(above.join(target));
        }
        match std::fs::read_link(&path) {
            Ok(target) => path = parent.join(target),
            Err(_no_link) => break,
        }
    }
    // One spelling for each directory, because the system reports the spelling that was used last.
    dirs.into_iter().map(|dir| std::fs::canonicalize(&dir).unwrap_or(dir)).collect()
}

/// The tenants' own folders in a change, whether they are tenants yet or not, each as its own directory.
pub(crate) fn folders(tenants: &Path, changed: &Changed) -> Vec<(PathBuf, PathBuf)> {
    let all =
        || std::fs::read_dir(tenants).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
    let folders: Vec<PathBuf> = match changed {
        Changed::All => all(),
        Changed::Folders(folders) => folders.iter().cloned().collect(),
    };
    let dir = |folder: PathBuf| Some((std::fs::canonicalize(&folder).ok().filter(|dir| dir.is_dir())?, folder));
    folders.into_iter().filter_map(dir).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_is_reported_for_the_tenant_that_it_concerns() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("tenants/a/tenant.toml", "1");
        put("tenants/b/tenant.toml", "1");
        put("archive/1/cert.pem", "1");
        put("archive/2/cert.pem", "2");
        let link = dir.path().join("live/cert.pem");
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("../archive/1/cert.pem", &link).unwrap();
        let folder = |name: &str| dir.path().join("tenants").join(name);
        let watch = Watch::start(&dir.path().join("tenants")).unwrap();
        let of_b = dirs_of(&link).into_iter().map(|dir| (dir, folder("b")));
        watch.over(of_b.chain([(folder("a"), folder("a"))]).collect(), false).unwrap();
        let heard = async |names: &[&str]| {
            let changed = tokio::time::timeout(Duration::from_secs(10), watch.changed()).await.unwrap();
            assert_eq!(changed, Changed::Folders(names.iter().map(|name| folder(name)).collect()), "{names:?}");
        };
        put("tenants/a/tenant.toml", "2");
        heard(&["a"]).await;
        // A rename gives the link another target, as certbot does it.
        std::os::unix::fs::symlink("../archive/2/cert.pem", dir.path().join("live/new")).unwrap();
        std::fs::rename(dir.path().join("live/new"), &link).unwrap();
        heard(&["b"]).await;
        // A new folder, and a removed one.
        put("tenants/c/tenant.toml", "1");
        heard(&["c"]).await;
        std::fs::remove_dir_all(folder("a")).unwrap();
        heard(&["a"]).await;
        // Reading is no change.
        std::fs::read_to_string(folder("c").join("tenant.toml")).unwrap();
        put("tenants/c/tenant.toml", "2");
        put("tenants/d/tenant.toml", "2");
        heard(&["d"]).await;
    }
}
