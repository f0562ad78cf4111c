//! The second line of defence: what the gateway's Redis user may do, in case the first line has a hole.
//!
//! Source: <https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/>. The user can access only keys and
//! channels with the gateway's prefix, by the commands that the gateway sends; SCAN and similar ones are not among them.
//! `commands/` isolates tenants from each other, and so does Redis if each tenant has its own user
//! (`storage.tenant_users`).

use std::time::Duration;

use anyhow::Context as _;
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{self, Client, ConnectionAddr, ConnectionInfo};

use super::cluster::with_address;
use super::node::connection_config;
use super::{Topology, connection_infos};
use crate::ids::{Digest, TenantId};
use crate::store::{Prefix, Secret, Servers, User, commands};

/// Commands that only the gateway itself sends: for scripts, for messages, and to find its way.
const OWN: [&str; 15] = [
    "evalsha",
    "script|load",
    "publish",
    "subscribe",
    "unsubscribe",
    "ping",
    "hello",
    "asking",
    "cluster|slots",
    "role",
    "time",
    "watch",
    "unwatch",
    "multi",
    "exec",
];
const PATIENCE: Duration = Duration::from_secs(5);

/// A user and its permissions.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) user: User,
    /// Patterns of keys and of channels.
    keys: Vec<String>,
}

impl Grant {
    /// Access to everything of the gateway.
    pub(crate) fn gateway(prefix: &Prefix, user: User) -> Self {
        let keys = vec![format!("~{}:*", prefix.as_str()), format!("&{}:*", prefix.as_str())];
        Self { user, keys }
    }

    /// Access to everything of a tenant, in one shard or in several.
    pub(crate) fn tenant(prefix: &Prefix, tenant: &TenantId, secret: &Secret) -> Self {
        let prefix_text = prefix.as_str();
        let whole = format!("{prefix_text}:{{{tenant}}}:");
        let keys = vec![format!("~{whole}*"), format!("~{prefix_text}:{{{tenant}.*}}:*"), format!("&{whole}ch:*")];
        Self { user: User::of(prefix, tenant, secret), keys }
    }

    /// The words after `ACL SETUSER NAME`, without a password.
    pub(crate) fn rules(&self) -> Vec<String> {
        let allowed = commands::names().chain(OWN.map(str::to_owned)).map(|name| format!("+{name}"));
        let head = ["reset", "on"].map(str::to_owned).into_iter().chain(self.keys.iter().cloned());
        head.chain(["-@all".to_owned()]).chain(allowed).collect()
    }

    /// The password's hash, as Redis stores it.
    pub(crate) fn hash(&self) -> String {
        format!("#{}", Digest::of(self.user.password.0.as_bytes()))
    }
}

/// Creates or replaces the users on every server. Returns what was done on which server.
///
/// # Errors
/// A server cannot be reached, or refuses. Earlier servers already have the user.
pub(crate) async fn apply(at: &Servers, grants: &[Grant]) -> anyhow::Result<Vec<String>> {
    let mut done = Vec::new();
    for (address, mut connection) in servers(at).await? {
        for grant in grants {
            let name = &grant.user.name;
            let mut command = redis::cmd("ACL");
            command.arg("SETUSER").arg(name).arg(grant.rules()).arg(grant.hash());
            let set = tokio::time::timeout(PATIENCE, command.query_async::<()>(&mut connection)).await;
            set.context("no answer").and_then(|set| Ok(set?)).with_context(|| {
                format!(
                    "{address}: {name} was not created (the user of this address must have permission for ACL \
                    SETUSER)"
                )
            })?;
            done.push(format!("{address}  {name} may use {}\n", grant.keys.join(" ")));
        }
    }
    Ok(done)
}

/// Every server including replicas, because users are not replicated.
async fn servers(at: &Servers) -> anyhow::Result<Vec<(String, MultiplexedConnection)>> {
    let infos = connection_infos(at)?;
    let primary = &at.primary;
    let first = infos.first().context("there is no Redis URL")?;
    let mut addresses = Vec::new();
    match at.topology {
        Topology::Single => addresses.push(first.addr().to_string()),
        Topology::Cluster => {
            let text: String =
                redis::cmd("CLUSTER").arg("NODES").query_async(&mut connect(first.clone()).await?).await?;
            // `id host:port@bus,name flags …`, one line for each server.
            let named = text.lines().filter_map(|line| line.split(' ').nth(1)?.split('@').next());
            addresses.extend(named.map(str::to_owned));
        }
        Topology::Sentinel => {
            let sentinel = first.clone().set_redis_settings(redis::RedisConnectionInfo::default());
            let mut sentinel = connect(sentinel).await?;
            let mut ask = redis::cmd("SENTINEL");
            let (host, port): (String, String) = ask
                .arg("GET-MASTER-ADDR-BY-NAME")
                .arg(primary)
                .query_async(&mut sentinel)
                .await
                .with_context(|| format!("the sentinels know no primary called {primary:?}"))?;
            addresses.push(format!("{host}:{port}"));
            let mut ask = redis::cmd("SENTINEL");
            let replicas: Vec<std::collections::HashMap<String, String>> =
                ask.arg("REPLICAS").arg(primary).query_async(&mut sentinel).await?;
            let address = |replica: &std::collections::HashMap<String, String>| {
                Some(format!("{}:{}", replica.get("ip")?, replica.get("port")?))
            };
            addresses.extend(replicas.iter().filter_map(address));
        }
    }
    let mut found = Vec::new();
    for address in addresses {
        let to = with_address(first, &address).with_context(|| format!("{address:?} is not an address"))?;
        let connection = connect(to).await.with_context(|| format!("{address} cannot be reached"))?;
        found.push((address, connection));
    }
    Ok(found)
}

async fn connect(info: ConnectionInfo) -> anyhow::Result<MultiplexedConnection> {
    let where_to: ConnectionAddr = info.addr().clone();
    let client = Client::open(info)?;
    let config = connection_config(PATIENCE);
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    Box::pin(connecting).await.with_context(|| format!("{where_to} does not answer"))
}
