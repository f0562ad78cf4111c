//! The Redis backend: a few shared, multiplexed connections.
//!
//! A checkout hands out a clone of a connection and gives the connection back at once, so many calls share one socket.
//! deadpool owns how many there are and makes new ones; where its stock manager asks the server before each use (five
//! sixths of the throughput), ours looks at a flag that a failed call sets.
//!
//! Invariant: nothing that blocks, watches or changes a connection's state is sent on these sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool::managed::{self, Metrics, RecycleError, RecycleResult};
use deadpool_redis::Manager as Connector;
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, RedisError, Script, ServerErrorKind,
};

use super::{BATCH_BYTES_MAX, BATCH_MAX, Bucket, Error, Page, Result, Secret, Value, Write, Written};

/// Two, so that one large answer does not hold up everybody; more bought nothing on two cores.
const CONNECTIONS: usize = 2;

#[derive(Debug)]
struct Shared {
    connection: MultiplexedConnection,
    broken: Arc<AtomicBool>,
}

struct Manager(Connector);

impl managed::Manager for Manager {
    type Type = Shared;
    type Error = RedisError;

    async fn create(&self) -> std::result::Result<Shared, RedisError> {
        let connection = managed::Manager::create(&self.0).await?;
        Ok(Shared { connection, broken: Arc::new(AtomicBool::new(false)) })
    }

    async fn recycle(&self, shared: &mut Shared, _: &Metrics) -> RecycleResult<RedisError> {
        if shared.broken.load(Ordering::Relaxed) {
            return Err(RecycleError::message("a call on it failed"));
        }
        Ok(())
    }
}

/// The pool, and the scripts for what takes more than one command.
pub(super) struct Redis {
    pool: managed::Pool<Manager>,
    swap: Script,
    list: Script,
    get_many: Script,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis").finish_non_exhaustive()
    }
}

/// Sets the field to `ARGV[4]` if it holds `ARGV[3]` (or is absent, where `ARGV[2]` is "0").
const SWAP: &str = r"
local now = redis.call('HGET', KEYS[1], ARGV[1])
if ARGV[2] == '0' then
  if now then return 0 end
elseif now ~= ARGV[3] then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[4])
return 1";

/// HSCAN without its values, in small steps: the server reads them all the same (NOVALUES came with Redis 7.4), and one
/// page must not hold it up. `ARGV[2]` keys are a page, or as many as came with a MiB of values.
const LIST: &str = r"
local cursor, keys, bytes = ARGV[1], {}, 0
repeat
  local answer = redis.call('HSCAN', KEYS[1], cursor, 'COUNT', 16)
  cursor = answer[1]
  for i = 1, #answer[2], 2 do
    keys[#keys + 1] = answer[2][i]
    bytes = bytes + #answer[2][i + 1]
  end
until cursor == '0' or #keys >= tonumber(ARGV[2]) or bytes > 1048576
return {cursor, keys}";

/// HMGET, after a look at how much it would be: `ARGV[1]` is the most.
const GET_MANY: &str = r"
local bytes = 0
for i = 2, #ARGV do bytes = bytes + redis.call('HSTRLEN', KEYS[1], ARGV[i]) end
if bytes > tonumber(ARGV[1]) then return redis.error_reply('TOOLARGE') end
local values = {}
for i = 2, #ARGV do values[i - 1] = redis.call('HGET', KEYS[1], ARGV[i]) end
return values";

impl Redis {
    pub(super) fn new(url: &Secret, timeout: Duration) -> anyhow::Result<Self> {
        // Sooner than the caller's own deadline, so that a connection that hangs is found out and replaced.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeout))
            .set_response_timeout(Some(timeout * 4 / 5));
        let connector = Connector::new_with_config(url.0.as_str(), config)
            // The error would show the URL, and with it the password.
            .map_err(|error| anyhow::anyhow!("the Redis URL is not one: {:?}", error.kind()))?;
        let pool = managed::Pool::builder(Manager(connector)).max_size(CONNECTIONS).build()?;
        Ok(Self { pool, swap: Script::new(SWAP), list: Script::new(LIST), get_many: Script::new(GET_MANY) })
    }

    pub(super) async fn ping(&self) -> Result<()> {
        self.command(&Cmd::new().arg("PING").to_owned()).await
    }

    pub(super) async fn get_many(&self, bucket: &Bucket, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
        match keys {
            [] => Ok(Vec::new()),
            [key] => {
                let mut get = deadpool_redis::redis::cmd("HGET");
                self.command(get.arg(bucket.as_bytes()).arg(*key)).await.map(|value| vec![value])
            }
            _ => {
                let mut call = self.get_many.key(bucket.as_bytes());
                call.arg(BATCH_BYTES_MAX);
                for key in keys {
                    call.arg(*key);
                }
                self.run(async |c| call.invoke_async(c).await).await
            }
        }
    }

    pub(super) async fn exists(&self, bucket: &Bucket, key: &[u8]) -> Result<bool> {
        let mut exists = deadpool_redis::redis::cmd("HEXISTS");
        self.command(exists.arg(bucket.as_bytes()).arg(key)).await
    }

    /// The cursor is HSCAN's own.
    pub(super) async fn list(&self, bucket: &Bucket, cursor: Option<&str>) -> Result<Page> {
        let cursor: u64 = cursor.unwrap_or("0").parse().map_err(|_not_a_number| Error::BadCursor)?;
        let mut call = self.list.key(bucket.as_bytes());
        call.arg(cursor).arg(BATCH_MAX);
        let (next, keys): (u64, Vec<Vec<u8>>) = self.run(async |c| call.invoke_async(c).await).await?;
        Ok(Page { keys, cursor: (next != 0).then(|| next.to_string()) })
    }

    pub(super) async fn write(&self, bucket: &Bucket, write: Write) -> Result<Written> {
        let bucket = bucket.as_bytes();
        match write {
            Write::Set(pairs) => {
                let mut set = deadpool_redis::redis::cmd("HSET");
                set.arg(bucket);
                for (key, value) in &pairs {
                    set.arg(key.as_slice()).arg(value.as_slice());
                }
                self.unless_empty(pairs.is_empty(), &set).await
            }
            Write::Delete(keys) => {
                let mut delete = deadpool_redis::redis::cmd("HDEL");
                delete.arg(bucket);
                for key in &keys {
                    delete.arg(key.as_slice());
                }
                self.unless_empty(keys.is_empty(), &delete).await
            }
            Write::Increment(key, delta) => {
                let mut increment = deadpool_redis::redis::cmd("HINCRBY");
                self.command(increment.arg(bucket).arg(key).arg(delta)).await.map(Written::Sum)
            }
            Write::Swap { key, expected, new } => {
                let mut call = self.swap.key(bucket);
                call.arg(key).arg(u8::from(expected.is_some())).arg(expected.unwrap_or_default()).arg(new);
                self.run(async |c| call.invoke_async(c).await).await.map(Written::Swapped)
            }
        }
    }

    async fn unless_empty(&self, empty: bool, command: &Cmd) -> Result<Written> {
        if !empty {
            self.command::<()>(command).await?;
        }
        Ok(Written::Done)
    }

    async fn command<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        self.run(async |c| command.query_async(c).await).await
    }

    /// One call on a shared connection, which is thrown away if it seems to be at fault.
    async fn run<T>(
        &self,
        call: impl AsyncFnOnce(&mut MultiplexedConnection) -> std::result::Result<T, RedisError>,
    ) -> Result<T> {
        let (mut connection, broken) = {
            // Making a connection is a future of 20 KiB, which must not sit in every caller.
            let shared = Box::pin(self.pool.get()).await.map_err(|error| {
                tracing::debug!(target: "store", error = %error, "no connection to Redis");
                Error::Unavailable
            })?;
            (shared.connection.clone(), Arc::clone(&shared.broken))
        };
        let answer = call(&mut connection).await;
        // Cancel safety: a call that is dropped says nothing of the connection, which others share.
        if answer.as_ref().err().is_some_and(spoils_connection) {
            broken.store(true, Ordering::Relaxed);
        }
        answer.map_err(|error| from_redis(&error))
    }
}

fn spoils_connection(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        || matches!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown)
        )
}

fn from_redis(error: &RedisError) -> Error {
    if error.is_timeout() {
        return Error::Timeout;
    }
    if spoils_connection(error) {
        return Error::Unavailable;
    }
    let detail = error.to_string();
    if detail.contains("TOOLARGE") {
        return Error::TooLarge("a batch may bring back 8 MiB");
    }
    if detail.contains("not an integer") || detail.contains("overflow") {
        return Error::NotANumber;
    }
    tracing::warn!(target: "store", kind = ?error.kind(), code = error.code(), "Redis refused a call");
    Error::Internal
}
