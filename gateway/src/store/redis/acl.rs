//! The second wall: what a Redis user for the gateway may do, should the first one ever have a hole.
//!
//! Source: <https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/>. The user reaches keys and channels
//! below the gateway's prefix only, with the commands that are sent and no other. It does not keep tenants apart: SCAN and its
//! like are not among the commands, and each tenant's keys are kept apart by `commands/`.

use std::time::Duration;

use anyhow::Context as _;
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{self, Client, ConnectionAddr, ConnectionInfo};

use super::cluster::with_address;
use super::node::connection_config;
use super::{Topology, connection_infos};
use crate::store::{Prefix, Secret, Servers, commands};

/// What the gateway sends itself, beside what guests may: for scripts, messages, and its own way about.
const OWN: [&str; 9] =
    ["evalsha", "script|load", "publish", "ping", "hello", "asking", "cluster|slots", "role", "time"];
const PATIENCE: Duration = Duration::from_secs(5);

/// The words after `ACL SETUSER NAME`, without a password.
pub(crate) fn rules(prefix: &Prefix) -> Vec<String> {
    let keys = [format!("~{}:*", prefix.as_str()), format!("&{}:*", prefix.as_str())];
    let allowed = commands::names().chain(OWN.map(str::to_owned)).map(|name| format!("+{name}"));
    let head = ["reset", "on"].map(str::to_owned).into_iter().chain(keys).chain(["-@all".to_owned()]);
    head.chain(allowed).collect()
}

/// Makes or replaces the user on every server; what was done on which.
///
/// # Errors
/// A server cannot be reached, or refuses. The ones before it have the user already.
pub(crate) async fn apply(
    at: &Servers,
    prefix: &Prefix,
    (user, password): (&str, &Secret),
) -> anyhow::Result<Vec<String>> {
    let mut done = Vec::new();
    for (address, mut connection) in servers(at).await? {
        let mut command = redis::cmd("ACL");
        command.arg("SETUSER").arg(user).arg(rules(prefix)).arg(format!(">{}", password.0));
        let set = tokio::time::timeout(PATIENCE, command.query_async::<()>(&mut connection)).await;
        set.context("no answer").and_then(|set| Ok(set?)).with_context(|| {
            format!("{address}: the user was not set (the address needs a user that may ACL SETUSER)")
        })?;
        done.push(format!("{address}  {user} may use {}:*\n", prefix.as_str()));
    }
    Ok(done)
}

/// Every server, replicas included: users are not replicated.
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
            // `id host:port@bus,name flags …`, a line a server.
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
        let to = with_address(first, &address).with_context(|| format!("{address:?} is no address"))?;
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
