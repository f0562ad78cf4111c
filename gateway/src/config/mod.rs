//! Operators' files: read whole, checked whole, and every problem told at once.
//!
//! `reader` walks a file and notes what is wrong; `gateway_file` and `tenant_file` know the keys; `load` does the I/O;
//! `resolve` is pure and joins everything; `look` has components compiled and `verify` holds them against what is served. What comes out is a
//! [`Boot`] (needs a restart) and [`Plan`]s, one a tenant, from which `gateway` builds a [`Snapshot`].
//!
//! Invariant: one tenant's problem costs that tenant only; the others' plans do not depend on it.

mod problem;
mod reader;
mod remote;
mod mounts;
mod files;
mod spin;
mod resolve;
mod watch;
mod load;
mod compile;
mod snapshot;
mod budget;
mod keys;
#[cfg(any(test, fuzzing))]
mod fuzzed;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::domain::Pattern;
use crate::ids::{ComponentName, Digest, StoreName, TenantId};
use crate::route::{Expression, Fixed, PathPattern, ScheduleId};
use crate::tenant::{Coding, Grant, Handler, Limits, Quota, Rate, StoreTtl};
use crate::{admission, host, http, listener, sandbox, store, telemetry, tls};

pub(crate) use budget::{Machine, bounds as budget_bounds, descriptors, unconfined, warnings as budget_warnings};
pub(crate) use compile::{is_known, look, look_now, may_pass, prepare};
pub(crate) use files::gateway::redis_at;
pub(crate) use files::project::{Project, Teller};
pub(crate) use files::tenant::{CHANNEL, is_channel};
#[cfg(fuzzing)]
pub(crate) use fuzzed::any_file;
pub(crate) use keys::{File as KeysFile, Shown, reference, schema, show_gateway, show_tenant};
pub(crate) use load::known::{Before, Changed, Known};
pub(crate) use load::left::left_behind;
pub(crate) use load::reach::reach;
pub(crate) use load::{gateway, names};
use mounts::Files;
pub(crate) use mounts::{clear_away, files_of, stage};
pub(crate) use problem::{Kind, Place, Problem, Source, render_all};
pub(crate) use resolve::certificates::EXPIRES_SOON;
pub(crate) use snapshot::Snapshot;
pub(crate) use spin::manifest_reference;
pub(crate) use watch::{Watch, folders as watched_folders};

/// Of a secret that is made by hand.
const SECRET_BYTES_MIN: usize = 32;

/// What flags and variables say over the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    pub(crate) state: Option<PathBuf>,
    pub(crate) storage: Option<String>,
    pub(crate) https: Option<std::net::SocketAddr>,
    pub(crate) http: Option<std::net::SocketAddr>,
    pub(crate) admin: Option<std::net::SocketAddr>,
    pub(crate) public_https: Option<u16>,
    /// Whether plain HTTP is answered, for a developer's own machine.
    pub(crate) is_plain: bool,
    /// What a developer says of the one project that is served.
    pub(crate) project: Option<Project>,
}

/// Settings of the machine, which a reload does not touch.
#[derive(Clone, Debug)]
pub(crate) struct Boot {
    /// The file that says them.
    pub(crate) source: Arc<Source>,
    pub(crate) state: PathBuf,
    pub(crate) tenants_dir: PathBuf,
    /// Whether a change of the tenants' files is looked for.
    pub(crate) watch: bool,
    pub(crate) listen: listener::Settings,
    pub(crate) http: http::Settings,
    /// Of one client's address, for all tenants together.
    pub(crate) requests_per_address: Option<Rate>,
    pub(crate) tls: tls::Source,
    /// Roots that clients have.
    pub(crate) roots: tls::Roots,
    /// The chain and the key for names that nobody has.
    pub(crate) default_pair: Option<(PathBuf, PathBuf)>,
    /// The CA, where certificates are its.
    pub(crate) acme: Option<tls::AcmeSettings>,
    /// From where components may be fetched.
    pub(crate) components: remote::Settings,
    pub(crate) storage: store::Settings,
    pub(crate) sandbox: sandbox::Settings,
    /// Whether a canary looks what tenants leave.
    pub(crate) watch_isolation: bool,
    pub(crate) admission: admission::Settings,
    pub(crate) telemetry: telemetry::Settings,
    pub(crate) operators: Operators,
    pub(crate) egress: host::Settings,
    /// What is around every component that answers HTTP, from the outermost on.
    pub(crate) middleware: Vec<resolve::parts::Layer>,
    pub(crate) policy: Policy,
    /// What a developer says of the one project that is served; nothing on a gateway.
    pub(crate) project: Option<Project>,
}

/// How operators come to their listener, beside its address.
#[derive(Clone, Debug, Default)]
pub(crate) struct Operators {
    /// In the place of the one that is made in the state folder.
    pub(crate) token: Option<store::Secret>,
    /// Of who may look and change nothing.
    pub(crate) read_token: Option<store::Secret>,
    /// A Unix socket that says the same as the address.
    pub(crate) socket: Option<PathBuf>,
    /// Whether a flag or a variable says the address over the file.
    pub(crate) is_address_given: bool,
}

/// What the gateway file says for all tenants: defaults, and ceilings with the place that sets each.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) limits: Limits,
    pub(crate) quota: Quota,
    pub(crate) ceilings: Ceilings,
}

/// What a tenant file may say at most. Nothing set, nothing bounded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ceilings {
    limits: files::bounds::LimitsRead,
    quota: files::bounds::QuotaRead,
}

/// One component of a plan.
#[derive(Clone, Debug)]
pub(crate) struct PlannedComponent {
    pub(crate) name: ComponentName,
    pub(crate) path: PathBuf,
    /// Of its file, or of its recipe.
    pub(crate) digest: Digest,
    /// What it is composed of, where it is.
    pub(crate) recipe: Option<sandbox::Recipe>,
    /// Files of its parts beside its own, in the recipe's order.
    pub(crate) parts: Vec<resolve::parts::PlannedPart>,
    /// Requests that one instance may answer, one after the other.
    pub(crate) reuse: u32,
    /// By which it is called, where the file says so.
    pub(crate) handler: Option<Handler>,
    pub(crate) stores: Vec<StoreName>,
    pub(crate) redis: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    /// Those that it may read.
    pub(crate) files: Option<Arc<Files>>,
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) egress: Vec<Grant>,
    /// Whether a Spin manifest names it, whose components may import what they were not granted and never use.
    pub(crate) is_spin: bool,
    /// Where the file names it, for problems that are found later.
    pub(crate) place: Place,
}

impl PlannedComponent {
    /// The files that it is made of.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.path.as_path()).chain(self.parts.iter().map(|part| part.path.as_path()))
    }
}

/// One route of a plan.
#[derive(Clone, Debug)]
pub(crate) struct PlannedRoute {
    pub(crate) pattern: PathPattern,
    /// An index into the plan's components.
    pub(crate) component: usize,
    pub(crate) limits: Limits,
    /// Whether it is a Spin application's.
    pub(crate) is_spin: bool,
    /// Where the memory limit was set, or the route where nobody did.
    pub(crate) memory_place: Place,
}

/// A tenant as its files describe it, checked and with every default filled in.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) id: TenantId,
    /// Of all that its files said when it was made.
    pub(crate) stamp: Digest,
    pub(crate) enabled: bool,
    pub(crate) hosts: Vec<Pattern>,
    /// Its own certificates, if it has any; a second one is of another kind.
    pub(crate) pairs: Vec<tls::Pair>,
    /// Whose certificates its clients have.
    pub(crate) clients: Option<Arc<tls::Clients>>,
    pub(crate) compress: Vec<Coding>,
    pub(crate) quota: Quota,
    pub(crate) store_ttl: StoreTtl,
    /// Of what messages and schedules start; a route has its own.
    pub(crate) limits: Limits,
    pub(crate) components: Vec<PlannedComponent>,
    pub(crate) routes: Vec<PlannedRoute>,
    pub(crate) fixed: Vec<(PathPattern, Arc<Fixed>)>,
    pub(crate) subscriptions: Vec<PlannedSubscription>,
    pub(crate) schedules: Vec<PlannedSchedule>,
    /// What is worth knowing of it, for `check` and `up`.
    pub(crate) notices: Vec<Problem>,
}

impl Plan {
    /// The certificates of the tenant's own files, or the CA's.
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
    /// Whether a message is kept until one gateway handled it.
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

/// All tenants that were found: plans of the good ones, problems of the others.
#[derive(Debug, Default)]
pub(crate) struct Planned {
    pub(crate) plans: BTreeMap<TenantId, Arc<Plan>>,
    pub(crate) problems: Vec<Problem>,
}

/// Reads every tenant's folder, for who asks what a gateway would take. `owners` says who has which host.
pub(crate) fn tenants(boot: &Boot, owners: &BTreeMap<Pattern, TenantId>) -> Planned {
    Known::default().read(boot, &Changed::All, &Before::of_a_check(owners.clone()))
}

/// The same as a gateway that starts takes them, which has nothing better to serve.
pub(crate) fn tenants_at_a_start(boot: &Boot, owners: &BTreeMap<Pattern, TenantId>) -> Planned {
    Known::default().read(boot, &Changed::All, &Before { owners: owners.clone(), ..Before::default() })
}

/// State of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Standing {
    Serving,
    Suspended,
    /// The files are wrong now; what they said before is served.
    Stale,
    /// The files are wrong and never were right; nothing is served.
    Broken,
    /// Its components are being compiled, and nothing of it was served before.
    Loading,
}
