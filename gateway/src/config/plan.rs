//! A tenant as its files describe it, with every default filled in: what is served, and what `check` shows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::mounts::Files;
use crate::config::problem::{Place, Problem};
use crate::domain::Pattern;
use crate::ids::{ComponentName, Digest, StoreName, TenantId};
use crate::route::{Expression, Fixed, PathPattern, ScheduleId};
use crate::tenant::{Coding, Grant, Handler, Limits, Quota, StoreTtl};
use crate::{sandbox, tls};

/// One component of a plan.
#[derive(Clone, Debug)]
pub(crate) struct PlannedComponent {
    pub(crate) name: ComponentName,
    pub(crate) path: PathBuf,
    /// Digest of its file, or of its recipe.
    pub(crate) digest: Digest,
    /// How it is composed, if it has parts.
    pub(crate) recipe: Option<sandbox::Recipe>,
    /// The files of its parts, besides its own, in the recipe's order.
    pub(crate) parts: Vec<PlannedPart>,
    /// Requests that one instance may answer, one after the other.
    pub(crate) reuse: u32,
    /// The handler to call, if the file names one.
    pub(crate) handler: Option<Handler>,
    pub(crate) stores: Vec<StoreName>,
    pub(crate) redis: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    /// The files that it may read.
    pub(crate) files: Option<Arc<Files>>,
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) egress: Vec<Grant>,
    /// Whether it comes from a Spin manifest. Such components may have imports without a grant, because they may never use
    /// them.
    pub(crate) is_spin: bool,
    /// Where the file names it, for problems that are found later.
    pub(crate) place: Place,
}

impl PlannedComponent {
    /// The files that it is made from.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.path.as_path()).chain(self.parts.iter().map(|part| part.path.as_path()))
    }
}

/// The file of a part, and where it is named.
#[derive(Clone, Debug)]
pub(crate) struct PlannedPart {
    pub(crate) path: PathBuf,
    pub(crate) place: Place,
}

/// One route of a plan.
#[derive(Clone, Debug)]
pub(crate) struct PlannedRoute {
    pub(crate) pattern: PathPattern,
    /// An index into the plan's components.
    pub(crate) component: usize,
    pub(crate) limits: Limits,
    /// Whether it belongs to a Spin application.
    pub(crate) is_spin: bool,
    /// Where the memory limit is set, or else the route itself.
    pub(crate) memory_place: Place,
}

/// A tenant as its files describe it, checked and with every default filled in.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) id: TenantId,
    /// Digest of all that its files said when the plan was made.
    pub(crate) stamp: Digest,
    pub(crate) enabled: bool,
    pub(crate) hosts: Vec<Pattern>,
    /// Its own certificates, if it has any; the second has another kind of key.
    pub(crate) pairs: Vec<tls::Pair>,
    /// The CAs of its clients' certificates.
    pub(crate) clients: Option<Arc<tls::Clients>>,
    pub(crate) compress: Vec<Coding>,
    pub(crate) quota: Quota,
    pub(crate) store_ttl: StoreTtl,
    /// Limits of runs that messages and schedules start; each route has its own.
    pub(crate) limits: Limits,
    pub(crate) components: Vec<PlannedComponent>,
    pub(crate) routes: Vec<PlannedRoute>,
    pub(crate) fixed: Vec<(PathPattern, Arc<Fixed>)>,
    pub(crate) subscriptions: Vec<PlannedSubscription>,
    pub(crate) schedules: Vec<PlannedSchedule>,
    /// Notices about it, for `check` and `up`.
    pub(crate) notices: Vec<Problem>,
}

impl Plan {
    /// The certificates from the tenant's own files, or from the CA.
    pub(crate) fn certificates(&self, acme: Option<&tls::Acme>) -> Vec<tls::Pair> {
        if !self.pairs.is_empty() {
            return self.pairs.clone();
        }
        acme.and_then(|acme| acme.pair(&self.id)).into_iter().collect()
    }
}

/// A channel whose messages start a component of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlannedSubscription {
    pub(crate) channel: String,
    /// An index into the plan's components.
    pub(crate) component: usize,
    /// Whether a message is kept until one gateway has handled it.
    pub(crate) is_once: bool,
}

/// Times at which a component of a plan is started.
#[derive(Clone, Debug)]
pub(crate) struct PlannedSchedule {
    pub(crate) id: ScheduleId,
    pub(crate) expression: Expression,
    /// An index into the plan's components.
    pub(crate) component: usize,
}

/// All tenants that were found: the plans of valid ones, and the problems of the others.
#[derive(Debug, Default)]
pub(crate) struct Planned {
    pub(crate) plans: BTreeMap<TenantId, Arc<Plan>>,
    pub(crate) problems: Vec<Problem>,
}

/// Whether this same plan object is in force.
pub(crate) fn is_known(before: &BTreeMap<TenantId, Arc<Plan>>, plan: &Arc<Plan>) -> bool {
    before.get(&plan.id).is_some_and(|known| Arc::ptr_eq(known, plan))
}
