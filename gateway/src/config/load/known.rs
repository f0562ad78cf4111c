//! What the tenants' folders said at the last reading, so that a reload reads only those that changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::folders;
use super::tenant::{Folder, read_folder};
use crate::config::files::boot::Boot;
use crate::config::plan::{Plan, Planned};
use crate::config::problem::Problem;
use crate::config::resolve::certificates::Served;
use crate::config::resolve::conflicts;
use crate::config::snapshot::Snapshot;
use crate::config::watch::Changed;
use crate::domain::Pattern;
use crate::ids::TenantId;

/// The state before a reading, which decides some of the result.
#[derive(Debug, Default)]
pub(crate) struct Before {
    /// The owner of each host, who keeps it if two tenants claim it.
    pub(crate) owners: BTreeMap<Pattern, TenantId>,
    /// The certificates that are served.
    pub(crate) pairs: Served,
}

impl Before {
    /// For a command that asks what a gateway would report, such as `check`.
    pub(crate) fn of_a_check(owners: BTreeMap<Pattern, TenantId>) -> Self {
        Self { owners, pairs: Served::Unknown }
    }

    /// The state in force, with these owners of hosts.
    pub(crate) fn of(owners: BTreeMap<Pattern, TenantId>, snapshot: &Snapshot) -> Self {
        let pairs = snapshot.plans.values().map(|plan| (plan.id.clone(), plan.pairs.clone())).collect();
        Self { owners, pairs: Served::These(pairs) }
    }
}

/// Every tenant's folder as it was last read.
#[derive(Default)]
pub(crate) struct Known {
    folders: BTreeMap<PathBuf, Folder>,
    /// Problems of the folder of all tenants: it cannot be read, or contains applications without a tenant file.
    problems: Vec<Problem>,
}

impl Known {
    /// Reads what changed. All other plans stay the same objects.
    pub(crate) fn read(&mut self, boot: &Boot, changed: &Changed, before: &Before) -> Planned {
        match changed {
            Changed::All => self.read_all(boot, before),
            Changed::Folders(folders) => folders.iter().for_each(|folder| self.read_one(boot, folder, before)),
        }
        let mut found = BTreeMap::new();
        let mut problems: Vec<Problem> = self.problems.clone();
        for folder in self.folders.values() {
            match &folder.outcome {
                Ok((id, tenant)) => {
                    found.insert(id.clone(), tenant.clone());
                    problems.extend(folder.warnings.iter().cloned());
                }
                Err(new) => problems.extend(new.iter().cloned()),
            }
        }
        problems.extend(conflicts::take_out(&mut found, &before.owners, &self.broken()));
        let plans: BTreeMap<TenantId, Arc<Plan>> = found.into_iter().map(|(id, found)| (id, found.plan)).collect();
        Planned { plans, problems }
    }

    fn read_all(&mut self, boot: &Boot, before: &Before) {
        match folders::folders(&boot.tenants_dir) {
            Ok(listed) => {
                self.problems = listed.warnings();
                self.folders.retain(|folder, _| listed.tenants.contains(folder));
                listed.tenants.iter().for_each(|folder| self.read_one(boot, folder, before));
            }
            // The last reading stays in force: a disk that does not answer takes no tenant out of service.
            Err(problem) => self.problems = vec![*problem],
        }
    }

    fn read_one(&mut self, boot: &Boot, folder: &Path, before: &Before) {
        if folders::is_tenant(folder) {
            let mut read = read_folder(boot, folder, &before.pairs);
            // A folder that was touched but has the same content keeps the same plan, including its clients' TLS sessions.
            if let Some(known) = self.folders.get(folder)
                && read.stamp.is_some()
                && known.stamp == read.stamp
                && let (Ok(new), Ok(old)) = (&mut read.outcome, &known.outcome)
            {
                *new = old.clone();
            }
            self.folders.insert(folder.to_owned(), read);
        } else {
            self.folders.remove(folder);
        }
    }

    /// Tenants that exist and whose files are invalid now.
    fn broken(&self) -> BTreeSet<TenantId> {
        let wrong = self.folders.iter().filter(|(_, folder)| folder.outcome.is_err());
        let named = |path: &Path| TenantId::parse(path.file_name()?.to_str()?);
        wrong.filter_map(|(path, _)| named(path)).collect()
    }

    /// The directories with these folders' files, each with its folder.
    pub(crate) fn dirs(&self, of: &Changed) -> Vec<(PathBuf, PathBuf)> {
        let is_of = |folder: &PathBuf| match of {
            Changed::All => true,
            Changed::Folders(folders) => folders.contains(folder),
        };
        let read = self.folders.iter().filter(|(folder, _)| is_of(folder));
        read.flat_map(|(folder, read)| read.dirs.iter().map(|dir| (dir.clone(), folder.clone()))).collect()
    }
}
