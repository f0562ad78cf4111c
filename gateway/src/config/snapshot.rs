//! What is in force: tenants, routes, and what is wrong with the files.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{Plan, Problem, Standing};
use crate::domain::Pattern;
use crate::ids::TenantId;
use crate::route;

/// The configuration in force. Swapped whole; a request holds one to its end.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) generation: u64,
    pub(crate) routes: route::Table,
    pub(crate) plans: BTreeMap<TenantId, Arc<Plan>>,
    /// Tenants that are not served yet, because a component of theirs is being compiled.
    pub(crate) loading: BTreeMap<TenantId, Arc<Plan>>,
    pub(crate) standings: BTreeMap<String, Standing>,
    pub(crate) problems: Vec<Problem>,
    /// Who has which host, as it was noted when this came into force.
    pub(crate) owners: Arc<BTreeMap<Pattern, TenantId>>,
}

impl Snapshot {
    /// Every tenant that has hosts: those that are served, and those that will be.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Plan>> {
        self.plans.values().chain(self.loading.values())
    }

    /// Problems, which keep somebody from being served as the files say, and warnings.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let warnings = self.problems.iter().filter(|problem| problem.is_warning()).count();
        ((self.problems.len() - warnings) as u64, warnings as u64)
    }

    /// One of them.
    pub(crate) fn plan(&self, id: &TenantId) -> Option<&Arc<Plan>> {
        self.plans.get(id).or_else(|| self.loading.get(id))
    }
}
