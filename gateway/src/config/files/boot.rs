//! The result of the machine's file: settings that need a restart, and the policy for all tenants.

use std::path::PathBuf;
use std::sync::Arc;

use super::limits::{LimitsRead, QuotaRead};
use super::middleware::Layer;
use super::project::Project;
use crate::config::problem::Source;
use crate::config::remote;
use crate::tenant::{Limits, Quota, Rate};
use crate::{admission, host, http, listener, sandbox, store, telemetry, tls};

/// Minimum length of a secret that an operator chooses.
pub(crate) const SECRET_BYTES_MIN: usize = 32;

/// Flags and environment variables that override the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    pub(crate) state: Option<PathBuf>,
    pub(crate) storage: Option<String>,
    pub(crate) https: Option<std::net::SocketAddr>,
    pub(crate) http: Option<std::net::SocketAddr>,
    pub(crate) admin: Option<std::net::SocketAddr>,
    pub(crate) public_https: Option<u16>,
    /// Whether the gateway serves plain HTTP, on a developer's own machine.
    pub(crate) is_plain: bool,
    /// The developer's settings for the one project that is served.
    pub(crate) project: Option<Project>,
}

/// The machine's settings, which a reload does not change.
#[derive(Clone, Debug)]
pub(crate) struct Boot {
    /// The file that sets them.
    pub(crate) source: Arc<Source>,
    pub(crate) state: PathBuf,
    pub(crate) tenants_dir: PathBuf,
    /// Whether to watch the tenants' files for changes.
    pub(crate) watch: bool,
    pub(crate) listen: listener::Settings,
    pub(crate) http: http::Settings,
    /// Limit for one client address, over all tenants together.
    pub(crate) requests_per_address: Option<Rate>,
    pub(crate) tls: tls::Source,
    /// Root certificates that clients trust.
    pub(crate) roots: tls::Roots,
    /// The certificate chain and key for host names without a tenant.
    pub(crate) default_pair: Option<(PathBuf, PathBuf)>,
    /// The CA, if it issues the certificates.
    pub(crate) acme: Option<tls::AcmeSettings>,
    /// The registries that components may be fetched from.
    pub(crate) components: remote::Settings,
    pub(crate) storage: store::Settings,
    pub(crate) sandbox: sandbox::Settings,
    /// Whether a canary checks what tenants leave behind.
    pub(crate) watch_isolation: bool,
    pub(crate) admission: admission::Settings,
    pub(crate) telemetry: telemetry::Settings,
    pub(crate) operators: Operators,
    pub(crate) egress: host::Settings,
    /// Middleware around every component that answers HTTP, outermost first.
    pub(crate) middleware: Vec<Layer>,
    pub(crate) policy: Policy,
    /// The developer's settings for the one project that is served; none on a gateway.
    pub(crate) project: Option<Project>,
}

/// How operators reach their listener, besides its address.
#[derive(Clone, Debug, Default)]
pub(crate) struct Operators {
    /// Replaces the token that is generated in the state folder.
    pub(crate) token: Option<store::Secret>,
    /// A token for read-only access.
    pub(crate) read_token: Option<store::Secret>,
    /// A Unix socket that serves the same API as the address.
    pub(crate) socket: Option<PathBuf>,
    /// Whether a flag or an environment variable sets the address.
    pub(crate) is_address_given: bool,
}

/// What the gateway file sets for all tenants: defaults, and ceilings with the place that sets each.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) limits: Limits,
    pub(crate) quota: Quota,
    pub(crate) ceilings: Ceilings,
}

/// The highest values that a tenant file may set. A key without a ceiling is not bounded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ceilings {
    pub(crate) limits: LimitsRead,
    pub(crate) quota: QuotaRead,
}
