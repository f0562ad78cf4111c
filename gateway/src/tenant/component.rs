//! A component of a tenant, and what it was granted.

use std::path::PathBuf;

use super::grant::Grant;
use super::needs::Needs;
use crate::ids::{ComponentName, Digest, StoreName};

/// Which of wasi:http's handlers is called if a component has both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handler {
    V02,
    V03,
}

impl Handler {
    pub(crate) const ALL: [(&str, Self); 2] = [("0.2", Self::V02), ("0.3", Self::V03)];

    /// How the names of the handler's exports begin.
    pub(crate) const fn export(self) -> &'static str {
        match self {
            Self::V02 => "wasi:http/incoming-handler@0.2",
            Self::V03 => "wasi:http/handler@0.3",
        }
    }
}

/// One of a tenant's components, as the files describe it.
#[derive(Debug)]
pub(crate) struct Component {
    pub(crate) name: ComponentName,
    pub(crate) digest: Digest,
    /// How many requests one instance may answer, one after the other.
    pub(crate) reuse: u32,
    /// The handler to call. If the component has both, the default is that of 0.2.
    pub(crate) handler: Option<Handler>,
    /// The stores that are granted to it. Other stores do not exist for it.
    pub(crate) stores: Vec<StoreName>,
    /// The Redis addresses that it may use. Each leads to the tenant's own namespace.
    pub(crate) redis: Vec<String>,
    /// Its environment variables: `[env]` and `[secrets]` of the tenant's file, and its own.
    pub(crate) environment: Vec<(String, String)>,
    /// The folder of files that it may read, mounted at `/`.
    pub(crate) files: Option<PathBuf>,
    /// The variables that it may read by name, if it imports the interface for that.
    pub(crate) variables: Vec<(String, String)>,
    /// Origins to which it may send requests. If empty, it may send none.
    pub(crate) egress: Vec<Grant>,
    /// Whether a Spin manifest defines it and its grants.
    pub(crate) is_spin: bool,
    /// How much of the tenant's memory its instances need.
    pub(crate) needs: Needs,
}

impl Component {
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether it may use this address for Redis: one that was granted, or one with the same host and port. `*` grants any.
    pub(crate) fn may_name(&self, address: &str) -> bool {
        let same = |granted: &String| {
            granted == address || granted == "*" || authority(granted).is_some_and(|of| Some(of) == authority(address))
        };
        self.redis.iter().any(same)
    }
}

/// Host and port of a Redis URL, without user, password, database and options.
fn authority(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("redis://").or_else(|| url.strip_prefix("rediss://"))?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = rest.get(..end)?;
    let authority = authority.rsplit_once('@').map_or(authority, |(_user, authority)| authority);
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => Some((host, port)),
        _ => Some((authority, "6379")),
    }
}
