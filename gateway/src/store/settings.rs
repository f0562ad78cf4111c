//! The operator's settings: which backend, the addresses of its servers, and secrets that must not be printed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Prefix, Topology, User};

/// The operator's settings.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) kind: Kind,
    pub(crate) prefix: Prefix,
    /// Time limit for one call.
    pub(crate) timeout: Duration,
    /// Whether tenants' rates apply to all gateways on this store together.
    pub(crate) share_rates: bool,
    /// The secret from which the passwords of tenants' own users are derived, if there are such users.
    pub(crate) tenant_users: Option<Secret>,
    /// For a Redis to which a tenant is moved.
    pub(crate) tls: Tls,
}

impl Settings {
    /// Whether the keys are in a file that only one process may have open.
    pub(crate) const fn is_embedded(&self) -> bool {
        matches!(self.kind, Kind::Embedded(_))
    }

    /// The file with the URLs of a Redis, if they are in a separate file.
    pub(crate) fn file_of_urls(&self) -> Option<&Path> {
        match &self.kind {
            Kind::Embedded(_) => None,
            Kind::Redis(servers) => servers.source.as_ref().map(Source::path),
        }
    }

    /// How a person reaches the server with redis-cli, without the user's name and password.
    pub(crate) fn redis_cli(&self) -> String {
        let Kind::Redis(servers) = &self.kind else { return "redis-cli".to_owned() };
        let first = servers.urls.0.split(',').next().unwrap_or_default();
        let (scheme, rest) = first.trim().split_once("://").unwrap_or(("redis", ""));
        // A password may contain any characters, so everything before the last `@` is removed first.
        let rest = rest.rsplit_once('@').map_or(rest, |(_user, rest)| rest);
        let host = rest.split(['/', '?']).next().unwrap_or_default();
        let is_where_it_looks =
            scheme == "redis" && ["", "localhost", "127.0.0.1"].contains(&host.trim_end_matches(":6379"));
        match servers.topology {
            Topology::Cluster => format!("redis-cli -c -u {scheme}://{host}"),
            Topology::Single if !is_where_it_looks => format!("redis-cli -u {scheme}://{host}"),
            // The sentinels know the primary.
            Topology::Single | Topology::Sentinel => "redis-cli".to_owned(),
        }
    }
}

/// Which backend stores the keys.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// A file in this folder, used only by this process.
    Embedded(PathBuf),
    Redis(Servers),
}

/// The address of a Redis, and how to connect to it.
#[derive(Clone, Debug)]
pub(crate) struct Servers {
    /// One URL (`redis://…`, or `rediss://…` for TLS), or several separated by commas. They may contain a password.
    pub(crate) urls: Secret,
    pub(crate) topology: Topology,
    /// The sentinels' name of the primary.
    pub(crate) primary: String,
    /// Replaces the user in the URLs.
    pub(crate) user: Option<User>,
    pub(crate) tls: Tls,
    /// Where to read the URLs again, if they are in a separate file.
    pub(crate) source: Option<Source>,
}

/// Where the URLs came from.
#[derive(Clone)]
pub(crate) struct Source {
    path: PathBuf,
    read: Arc<dyn Fn() -> Result<Secret, String> + Send + Sync>,
}

impl Source {
    /// `read` reads the file. Its error does not quote the file's contents.
    pub(crate) fn new(path: PathBuf, read: impl Fn() -> Result<Secret, String> + Send + Sync + 'static) -> Self {
        Self { path, read: Arc::new(read) }
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file. Call it where blocking is harmless.
    ///
    /// # Errors
    /// The file cannot be read.
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
    /// CAs to trust instead of the machine's.
    pub(crate) ca: Option<Vec<u8>>,
    /// The gateway's own certificate and key, for servers that require one.
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
