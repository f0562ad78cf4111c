//! What the operator chose: which backend, where its servers are, and what must not be printed of that.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Prefix, Topology, User};

/// What the operator chose.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) kind: Kind,
    pub(crate) prefix: Prefix,
    /// By when one call must have answered.
    pub(crate) timeout: Duration,
    /// Whether tenants' rates hold for all gateways on this store together.
    pub(crate) share_rates: bool,
    /// What tenants' own users' passwords are made from, where they have such.
    pub(crate) tenant_users: Option<Secret>,
    /// For whichever Redis a tenant is moved to.
    pub(crate) tls: Tls,
}

impl Settings {
    /// Whether the keys are in a file that only one process may have open.
    pub(crate) const fn is_embedded(&self) -> bool {
        matches!(self.kind, Kind::Embedded(_))
    }

    /// The file that the URLs of a Redis stand in, where they stand in one of their own.
    pub(crate) fn file_of_urls(&self) -> Option<&Path> {
        match &self.kind {
            Kind::Embedded(_) => None,
            Kind::Redis(servers) => servers.source.as_ref().map(Source::path),
        }
    }

    /// How a person asks the server by redis-cli, without a user's name and password.
    pub(crate) fn redis_cli(&self) -> String {
        let Kind::Redis(servers) = &self.kind else { return "redis-cli".to_owned() };
        let first = servers.urls.0.split(',').next().unwrap_or_default();
        let (scheme, rest) = first.trim().split_once("://").unwrap_or(("redis", ""));
        // A password may hold anything, so what stands before the last `@` goes first.
        let rest = rest.rsplit_once('@').map_or(rest, |(_user, rest)| rest);
        let host = rest.split(['/', '?']).next().unwrap_or_default();
        let is_where_it_looks =
            scheme == "redis" && ["", "localhost", "127.0.0.1"].contains(&host.trim_end_matches(":6379"));
        match servers.topology {
            Topology::Cluster => format!("redis-cli -c -u {scheme}://{host}"),
            Topology::Single if !is_where_it_looks => format!("redis-cli -u {scheme}://{host}"),
            // The sentinels say where the primary is.
            Topology::Single | Topology::Sentinel => "redis-cli".to_owned(),
        }
    }
}

/// Which backend holds the keys.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// A file of this process's own, in this folder.
    Embedded(PathBuf),
    Redis(Servers),
}

/// Where a Redis is, and how to connect to it.
#[derive(Clone, Debug)]
pub(crate) struct Servers {
    /// One URL (`redis://…`, or `rediss://…` for TLS), or several with commas between; they may carry a password.
    pub(crate) urls: Secret,
    pub(crate) topology: Topology,
    /// What sentinels call the primary.
    pub(crate) primary: String,
    /// Instead of the one that the URLs name.
    pub(crate) user: Option<User>,
    pub(crate) tls: Tls,
    /// Where the URLs are read anew, if they stand in a file of their own.
    pub(crate) source: Option<Source>,
}

/// Where the URLs came from.
#[derive(Clone)]
pub(crate) struct Source {
    path: PathBuf,
    read: Arc<dyn Fn() -> Result<Secret, String> + Send + Sync>,
}

impl Source {
    /// `read` looks at the file, and says what is wrong with it without a word of what stands there.
    pub(crate) fn new(path: PathBuf, read: impl Fn() -> Result<Secret, String> + Send + Sync + 'static) -> Self {
        Self { path, read: Arc::new(read) }
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// To be called where waiting does no harm.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn read(&self) -> Result<Secret, String> {
        (self.read)()
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Source").field(&self.path).finish()
    }
}

/// PEM texts for TLS to Redis.
#[derive(Clone, Default)]
pub(crate) struct Tls {
    /// Whom to trust instead of the machine's certificate authorities.
    pub(crate) ca: Option<Vec<u8>>,
    /// The gateway's own certificate and key, for servers that ask for one.
    pub(crate) pair: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("ca", &self.ca.is_some()).field("pair", &self.pair.is_some()).finish()
    }
}

/// A text that must not be printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}
