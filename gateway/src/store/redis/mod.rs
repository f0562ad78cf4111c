//! The Redis backend: one server, the primary that sentinels name, or a cluster.
//!
//! Each call goes to one server (`node.rs`), in a cluster to the one with the tenant's slot (`cluster.rs`). A server that
//! fails is not called for a while (`breaker.rs`).

pub(crate) mod acl;
mod breaker;
mod cluster;
mod connection_info;
mod counted;
mod fields;
mod guarded;
mod expiry;
mod layout;
mod listen;
mod login;
mod names;
mod node;
mod rates;
mod once;
mod publish;
mod refusals;
mod runs;
mod scripts;

use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::redis::{self, Cmd, FromRedisValue, RedisError, ScriptInvocation};

use super::account::Account;
use super::{BATCH_BYTES_MAX, BATCH_MAX, Bucket, Error, Page, Prepared, Result, Servers as At, Value, Write, Written};
use cluster::Cluster;
use connection_info::{connection_infos, sentinels};
use counted::over_quota;
use login::Login;
use node::{Answer, Call, Node, spoils_connection};
pub(super) use refusals::Refusals;
use scripts::Scripts;

/// Why a large answer was not fetched.
const CHANGES: &str = "the answer is large, and the data changes while it is fetched; read in parts";

#[derive(Debug)]
enum Servers {
    /// A single server, or the present primary.
    One(Box<Node>),
    Cluster(Cluster),
}

/// How the servers are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topology {
    Single,
    /// The addresses are those of sentinels.
    Sentinel,
    Cluster,
}

/// The servers, and the scripts for operations of several commands.
pub(super) struct Redis {
    login: Arc<Login>,
    name: &'static str,
    servers: Servers,
    scripts: Scripts,
    turns: guarded::Turns,
    once: once::Scripts,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis").finish_non_exhaustive()
    }
}

impl Redis {
    pub(super) fn new(at: &At, timeout: Duration, refusals: &Arc<Refusals>) -> anyhow::Result<Self> {
        let topology = at.topology;
        let login = Login::new(at, refusals)?;
        let servers = match (topology, login.infos().as_slice()) {
            (Topology::Cluster, [_, ..]) => Servers::Cluster(Cluster::watch(Arc::clone(&login), timeout)),
            (Topology::Sentinel, infos @ [_, ..]) => {
                sentinels(at, infos)
                    .map_err(|error| anyhow::anyhow!("the sentinels cannot be used: {:?}", error.kind()))?;
                Servers::One(Box::new(Node::behind_sentinels(Arc::clone(&login), timeout)?))
            }
            (Topology::Single, [_only]) => Servers::One(Box::new(Node::at(Arc::clone(&login), None, timeout)?)),
            (Topology::Single, _) => {
                anyhow::bail!("several Redis URLs require a cluster or sentinels: set storage.backend")
            }
            (_, []) => anyhow::bail!("there is no Redis URL"),
        };
        let name = match topology {
            Topology::Single => "redis",
            Topology::Sentinel => "redis-sentinel",
            Topology::Cluster => "redis-cluster",
        };
        Ok(Self {
            login,
            name,
            servers,
            scripts: Scripts::default(),
            turns: guarded::Turns::default(),
            once: once::Scripts::default(),
        })
    }

    /// The value of `storage.backend`.
    pub(super) const fn name(&self) -> &'static str {
        self.name
    }

    pub(super) async fn ping(&self) -> Result<()> {
        self.look(b"", &redis::cmd("PING")).await
    }

    /// Reads the credentials again from their source.
    pub(super) async fn reload_login(&self) {
        let _changed = self.login.read_now().await;
    }

    pub(super) async fn get_many(&self, bucket: &Bucket, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
        match keys {
            [] => Ok(Vec::new()),
            _ if bucket.ttl().is_some() => self.lasting_get_many(bucket, keys).await,
            [key] => {
                let mut get = redis::cmd("HGET");
                self.look(bucket.as_bytes(), get.arg(bucket.as_bytes()).arg(*key)).await.map(|value| vec![value])
            }
            _ => {
                let key = bucket.as_bytes();
                let script = |how: &str| {
                    let mut call = self.scripts.get_many.key(key);
                    call.arg(BATCH_BYTES_MAX).arg(how);
                    keys.iter().for_each(|key| _ = call.arg(*key));
                    call
                };
                let answer = self.call(key, &Call::ReadScript(&script("do"))).await?;
                if !answer.as_ref().is_err_and(|error| error.code() == Some("LARGE")) {
                    return read(answer);
                }
                let mut command = redis::cmd("HMGET");
                command.arg(key).arg(keys);
                Box::pin(self.large(key, vec![key.to_vec()], Some(&script("look")), &command)).await.and_then(|both| {
                    let (_bytes, values) = both.ok_or(Error::TooLarge(CHANGES))?.map_err(|error| from_redis(&error))?;
                    FromRedisValue::from_redis_value(values).map_err(|_shape| Error::Internal)
                })
            }
        }
    }

    pub(super) async fn exists(&self, bucket: &Bucket, key: &[u8]) -> Result<bool> {
        if bucket.ttl().is_some() {
            return self.lasting_exists(bucket, key).await;
        }
        let mut exists = redis::cmd("HEXISTS");
        self.look(bucket.as_bytes(), exists.arg(bucket.as_bytes()).arg(key)).await
    }

    /// The cursor is HSCAN's own.
    pub(super) async fn list(&self, bucket: &Bucket, cursor: Option<&str>) -> Result<Page> {
        let cursor: u64 = cursor.unwrap_or("0").parse().map_err(|_not_a_number| Error::BadCursor)?;
        let mut call = self.scripts.list.prepare_invoke();
        call.key(bucket.as_bytes()).arg(cursor).arg(BATCH_MAX);
        if bucket.ttl().is_some() {
            call.key(bucket.expiries());
        }
        let (next, keys): (u64, Vec<Vec<u8>>) = self.look_by_script(bucket.as_bytes(), &call).await?;
        Ok(Page { keys, cursor: (next != 0).then(|| next.to_string()) })
    }

    pub(super) async fn write(&self, account: &Account, bucket: &Bucket, write: Write) -> Result<Written> {
        if account.allowance.is_some() || bucket.ttl().is_some() {
            return self.write_counted(account, bucket, write).await;
        }
        let bucket = bucket.as_bytes();
        match write {
            Write::Set(pairs) => {
                let mut set = redis::cmd("HSET");
                set.arg(bucket);
                for (key, value) in &pairs {
                    set.arg(key.as_slice()).arg(value.as_slice());
                }
                self.unless_empty(pairs.is_empty(), bucket, &set).await
            }
            Write::Delete(keys) => {
                let mut delete = redis::cmd("HDEL");
                delete.arg(bucket);
                for key in &keys {
                    delete.arg(key.as_slice());
                }
                self.unless_empty(keys.is_empty(), bucket, &delete).await
            }
            Write::Increment(key, delta) => {
                let mut increment = redis::cmd("HINCRBY");
                self.command(bucket, increment.arg(bucket).arg(key).arg(delta)).await.map(Written::Sum)
            }
            Write::Swap { key, expected, new } => {
                let mut call = self.scripts.swap.key(bucket);
                call.arg(key).arg(u8::from(expected.is_some())).arg(expected.unwrap_or_default()).arg(new);
                self.script(bucket, &call).await.map(Written::Swapped)
            }
        }
    }

    async fn unless_empty(&self, empty: bool, key: &[u8], command: &Cmd) -> Result<Written> {
        if !empty {
            self.command::<()>(key, command).await?;
        }
        Ok(Written::Done)
    }

    pub(in crate::store) async fn command<T: FromRedisValue>(&self, key: &[u8], command: &Cmd) -> Result<T> {
        read(self.call(key, &Call::Command(command)).await?)
    }

    /// The same for a command that changes nothing.
    async fn look<T: FromRedisValue>(&self, key: &[u8], command: &Cmd) -> Result<T> {
        read(self.call(key, &Call::Read(command)).await?)
    }

    async fn look_by_script<T: FromRedisValue>(&self, key: &[u8], script: &ScriptInvocation<'_>) -> Result<T> {
        read(self.call(key, &Call::ReadScript(script)).await?)
    }

    async fn script<T: FromRedisValue>(&self, key: &[u8], script: &ScriptInvocation<'_>) -> Result<T> {
        read(self.call(key, &Call::Script(script)).await?)
    }

    /// Sends one call to the server that has the key. The outer error means that no server was reached.
    async fn call(&self, key: &[u8], call: &Call<'_>) -> Result<Answer> {
        let answer = match &self.servers {
            Servers::One(node) => node.call(call).await,
            Servers::Cluster(cluster) => cluster.call(key, call).await,
        };
        if let Ok(Err(error)) = &answer {
            self.login.hear(error).await;
        }
        answer
    }
}

fn read<T: FromRedisValue>(answer: Answer) -> Result<T> {
    answer.and_then(|value| Ok(T::from_redis_value(value)?)).map_err(|error| from_redis(&error))
}

/// The error that a guest gets for its own command. If the server's text is about the server (its nodes, its state) and not
/// the command, the guest does not get it.
fn from_command(error: &RedisError, command: &Prepared) -> Error {
    let detail = command.without_prefix(error.detail().unwrap_or_default());
    if let Some(error) = over_quota(error) {
        return error;
    }
    if let Some(error) = guarded::too_much(error, command) {
        return error;
    }
    match error.code() {
        Some("WRONGTYPE") => Error::WrongType(detail),
        Some(code @ ("ERR" | "NOGROUP" | "BUSYGROUP" | "UNBLOCKED" | "INVALIDOBJ")) => {
            Error::Command(format!("{code} {detail}"))
        }
        _ => from_redis(error),
    }
}

fn from_redis(error: &RedisError) -> Error {
    if error.is_timeout() {
        return Error::Timeout;
    }
    if spoils_connection(error) {
        return Error::Unavailable;
    }
    let detail = error.to_string();
    if let Some(error) = over_quota(error) {
        return error;
    }
    if refusals::passes_by_itself(error) {
        return Error::NotNow;
    }
    if detail.contains("TOOLARGE") {
        return Error::TooLarge("a batch may return at most 8 MiB");
    }
    if detail.contains("not an integer") || detail.contains("overflow") {
        return Error::NotANumber;
    }
    tracing::warn!(target: "store", kind = ?error.kind(), code = error.code(), "Redis refused a call");
    Error::Internal
}
