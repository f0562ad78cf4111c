//! The state in force: tenants, routes, and the problems of the files. A reload swaps it whole (`gateway/reload.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::plan::Plan;
use crate::config::problem::Problem;
use crate::domain::Pattern;
use crate::ids::TenantId;
use crate::route;

/// The configuration in force. It is replaced as a whole; a request keeps its snapshot to its end.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) generation: u64,
    pub(crate) routes: route::Table,
    pub(crate) plans: BTreeMap<TenantId, Arc<Plan>>,
    /// Tenants that are not served yet, because one of their components is being compiled.
    pub(crate) loading: BTreeMap<TenantId, Arc<Plan>>,
    pub(crate) standings: BTreeMap<String, Standing>,
    pub(crate) problems: Vec<Problem>,
    /// The owner of each host, as recorded when this came into force.
    pub(crate) owners: Arc<BTreeMap<Pattern, TenantId>>,
}

impl Snapshot {
    /// Every tenant that has hosts: those that are served, and those that will be.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Plan>> {
        self.plans.values().chain(self.loading.values())
    }

    /// The number of problems, which stop something from being served as the files say, and of warnings.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let warnings = self.problems.iter().filter(|problem| problem.is_warning()).count();
        ((self.problems.len() - warnings) as u64, warnings as u64)
    }

    /// The plan of one tenant.
    pub(crate) fn plan(&self, id: &TenantId) -> Option<&Arc<Plan>> {
        self.plans.get(id).or_else(|| self.loading.get(id))
    }

    /// The addresses that a developer can request, in one sentence.
    pub(crate) fn shown(&self) -> String {
        let list = |patterns: Vec<&str>| patterns.join(", ");
        let mut texts = Vec::new();
        for plan in self.all() {
            let routes = plan.routes.iter().map(|route| route.pattern.as_str());
            let routes = list(routes.chain(plan.fixed.iter().map(|(pattern, _)| pattern.as_str())).collect());
            let hosts: Vec<String> = plan.hosts.iter().map(ToString::to_string).collect();
            let mut text = match routes.as_str() {
                "" => format!("{} has no HTTP route", plan.id),
                _ => format!("{} answers {routes} under the hosts {}", plan.id, hosts.join(", ")),
            };
            let channels = list(plan.subscriptions.iter().map(|of| of.channel.as_str()).collect());
            if !channels.is_empty() {
                text += &format!(", and messages on {channels}");
            }
            texts.push(text);
        }
        if texts.is_empty() { "nothing is served: see the errors in the terminal".to_owned() } else { texts.join("; ") }
    }
}

/// The state of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Standing {
    Serving,
    Suspended,
    /// The files are invalid now; the gateway serves what they said before.
    Stale,
    /// The files are invalid and never were valid; nothing is served.
    Broken,
    /// Its components are being compiled, and nothing of it was served before.
    Loading,
}
