//! What the tenants' folders said when they were last read, so that a reload reads only those that changed.

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

/// What holds before a reading, which decides some of what is read.
#[derive(Debug, Default)]
pub(crate) struct Before {
    /// Who has which host now, and keeps it where two claim it.
    pub(crate) owners: BTreeMap<Pattern, TenantId>,
    /// Which pairs are served.
    pub(crate) pairs: Served,
}

impl Before {
    /// For who asks what a gateway would say, as `check` does.
    pub(crate) fn of_a_check(owners: BTreeMap<Pattern, TenantId>) -> Self {
        Self { owners, pairs: Served::Unknown }
    }

    /// What is in force, where these have hosts.
    pub(crate) fn of(owners: BTreeMap<Pattern, TenantId>, snapshot: &Snapshot) -> Self {
        let pairs = snapshot.plans.values().map(|plan| (plan.id.clone(), plan.pairs.clone())).collect();
        Self { owners, pairs: Served::These(pairs) }
    }
}

/// Every tenant's folder as it was last read.
#[derive(Default)]
pub(crate) struct Known {
    folders: BTreeMap<PathBuf, Folder>,
    /// Of the folder of all tenants: it cannot be read, or holds applications without a tenant's file.
    problems: Vec<Problem>,
}

impl Known {
    /// Reads what changed; the rest stands as it was, and is the same plan.
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
            // What was read before stands: nobody is taken out of service by a disk that does not answer.
            Err(problem) => self.problems = vec![*problem],
        }
    }

    fn read_one(&mut self, boot: &Boot, folder: &Path, before: &Before) {
        if folders::is_tenant(folder) {
            let mut read = read_folder(boot, folder, &before.pairs);
            // What was touched and says what it said stays the same plan, down to its clients' sessions.
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

    /// Tenants that are there and whose files are wrong now.
    fn broken(&self) -> BTreeSet<TenantId> {
        let wrong = self.folders.iter().filter(|(_, folder)| folder.outcome.is_err());
        let named = |path: &Path| TenantId::parse(path.file_name()?.to_str()?);
        wrong.filter_map(|(path, _)| named(path)).collect()
    }

    /// The directories in which these folders' files are, each with its folder.
    pub(crate) fn dirs(&self, of: &Changed) -> Vec<(PathBuf, PathBuf)> {
        let is_of = |folder: &PathBuf| match of {
            Changed::All => true,
            Changed::Folders(folders) => folders.contains(folder),
        };
        let read = self.folders.iter().filter(|(folder, _)| is_of(folder));
        read.flat_map(|(folder, read)| read.dirs.iter().map(|dir| (dir.clone(), folder.clone()))).collect()
    }
}
