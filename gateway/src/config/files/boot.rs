//! What the machine's file comes to: settings that need a restart, and the policy for all tenants.

use std::path::PathBuf;
use std::sync::Arc;

use super::limits::{LimitsRead, QuotaRead};
use super::middleware::Layer;
use super::project::Project;
use crate::config::problem::Source;
use crate::config::remote;
use crate::tenant::{Limits, Quota, Rate};
use crate::{admission, host, http, listener, sandbox, store, telemetry, tls};

/// Of a secret that is made by hand.
pub(crate) const SECRET_BYTES_MIN: usize = 32;

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
    pub(crate) middleware: Vec<Layer>,
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
    pub(crate) limits: LimitsRead,
    pub(crate) quota: QuotaRead,
}
