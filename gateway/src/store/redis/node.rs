//! One Redis server: a few shared, multiplexed connections, and a breaker.
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
use deadpool_redis::redis::sentinel::SentinelClient;
use deadpool_redis::redis::{
    self, AsyncConnectionConfig, Cmd, ConnectionInfo, ErrorKind, RedisError, ScriptInvocation, ServerErrorKind, Value,
};
use tokio::sync::Mutex;

use super::breaker::Breaker;
use crate::deadline::{Deadline, Moment};
use crate::store::{Error, Result};

/// Two, so that one large answer does not hold up everybody; more bought nothing on two cores.
const CONNECTIONS: usize = 2;

pub(super) type Answer = std::result::Result<Value, RedisError>;

/// What is sent.
pub(super) enum Call<'a> {
    Command(&'a Cmd),
    /// By its hash, and once more with its text where the server does not know it yet.
    Script(&'a ScriptInvocation<'a>),
}

impl Call<'_> {
    async fn on(&self, connection: &mut MultiplexedConnection) -> Answer {
        match self {
            Self::Command(command) => command.query_async(connection).await,
            Self::Script(script) => script.invoke_async(connection).await,
        }
    }
}

#[derive(Debug)]
struct Shared {
    connection: MultiplexedConnection,
    broken: Arc<AtomicBool>,
}

/// Makes connections.
enum Manager {
    To(Connector),
    /// To whichever server the sentinels say is the primary.
    Primary(Mutex<SentinelClient>, AsyncConnectionConfig),
}

impl managed::Manager for Manager {
    type Type = Shared;
    type Error = RedisError;

    async fn create(&self) -> std::result::Result<Shared, RedisError> {
        let connection = match self {
            Self::To(connector) => managed::Manager::create(connector).await?,
            Self::Primary(sentinels, config) => {
                let mut sentinels = sentinels.lock().await;
                sentinels.get_async_connection_with_config(config).await?
            }
        };
        Ok(Shared { connection, broken: Arc::new(AtomicBool::new(false)) })
    }

    async fn recycle(&self, shared: &mut Shared, _: &Metrics) -> RecycleResult<RedisError> {
        if shared.broken.load(Ordering::Relaxed) {
            return Err(RecycleError::message("a call on it failed"));
        }
        Ok(())
    }
}

/// How long a connection and an answer may take: less than the caller's own deadline, so that a connection that hangs is
/// found out and replaced.
pub(super) fn connection_config(timeout: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(timeout / 2)).set_response_timeout(Some(timeout * 4 / 5))
}

pub(super) struct Node {
    pool: managed::Pool<Manager>,
    pub(super) breaker: Breaker,
    timeout: Duration,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").finish_non_exhaustive()
    }
}

impl Node {
    pub(super) fn at(info: ConnectionInfo, timeout: Duration) -> anyhow::Result<Self> {
        let connector = Connector::new_with_config(info, connection_config(timeout))
            // The error could show the URL, and with it the password.
            .map_err(|error| anyhow::anyhow!("the Redis URL is not one: {:?}", error.kind()))?;
        Self::made_by(Manager::To(connector), timeout)
    }

    pub(super) fn behind(sentinels: SentinelClient, timeout: Duration) -> anyhow::Result<Self> {
        Self::made_by(Manager::Primary(Mutex::new(sentinels), connection_config(timeout)), timeout)
    }

    fn made_by(manager: Manager, timeout: Duration) -> anyhow::Result<Self> {
        let pool = managed::Pool::builder(manager).max_size(CONNECTIONS).build()?;
        Ok(Self { pool, breaker: Breaker::default(), timeout: timeout * 9 / 10 })
    }

    /// One call on a shared connection, which is thrown away if it seems to be at fault. The outer error is that there is
    /// none, or that the breaker is open.
    pub(super) async fn call(&self, call: &Call<'_>) -> Result<Answer> {
        if !self.breaker.lets_through(Moment::now()) {
            return Err(Error::LeftAlone);
        }
        let work = async {
            let (mut connection, broken) = self.connection().await?;
            let answer = call.on(&mut connection).await;
            // Cancel safety: a call that is dropped says nothing of the connection, which others share.
            if answer.as_ref().err().is_some_and(spoils_connection) {
                broken.store(true, Ordering::Relaxed);
            }
            Ok(answer)
        };
        let answer = Deadline::after(self.timeout).run(work).await.unwrap_or(Err(Error::Timeout));
        let failed = match &answer {
            Ok(answer) => answer.as_ref().err().is_some_and(spoils_connection),
            Err(_none) => true,
        };
        self.breaker.note(failed, Moment::now());
        answer
    }

    /// One call that the server is to take although the slot is still on its way to it, on a connection of its own: what
    /// says so would be taken for the next call of somebody else on a shared one.
    pub(super) async fn ask(&self, call: &Call<'_>) -> Result<Answer> {
        let manager = self.pool.manager();
        let work = async {
            let made = Box::pin(managed::Manager::create(manager)).await.map_err(|_error| Error::Unavailable)?;
            let mut connection = made.connection;
            if let Err(error) = redis::cmd("ASKING").query_async::<()>(&mut connection).await {
                return Ok(Err(error));
            }
            Ok(call.on(&mut connection).await)
        };
        Deadline::after(self.timeout).run(work).await.unwrap_or(Err(Error::Timeout))
    }

    async fn connection(&self) -> Result<(MultiplexedConnection, Arc<AtomicBool>)> {
        // Making a connection is a future of 20 KiB, which must not sit in every caller.
        let shared = Box::pin(self.pool.get()).await.map_err(|error| {
            tracing::debug!(target: "store", error = %error, "no connection to Redis");
            Error::Unavailable
        })?;
        Ok((shared.connection.clone(), Arc::clone(&shared.broken)))
    }
}

pub(super) fn spoils_connection(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        || matches!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown)
        )
}
