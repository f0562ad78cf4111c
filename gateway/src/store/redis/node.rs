//! One Redis server: a few shared, multiplexed connections, and a circuit breaker.
//!
//! A checkout clones a connection and returns it at once, so that many calls share one socket. deadpool limits their number
//! and creates new ones. Its stock manager would ask the server before each use (five sixths of the throughput); ours
//! checks a flag that a failed call sets.
//!
//! Invariant: nothing that blocks, watches or changes a connection's state is sent on these sockets. Calls that must watch,
//! which fetch large answers, have connections of their own, each for one call at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool::managed::{self, Metrics, RecycleError, RecycleResult};
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{
    self, AsyncConnectionConfig, Cmd, ErrorKind, RedisError, ScriptInvocation, ServerErrorKind, Value,
};
use futures_util::FutureExt as _;

use super::breaker::{Breaker, CallOutcome};
use super::login::Login;
use super::sentinels;
use crate::deadline::{Deadline, Moment};
use crate::store::{Error, Result};

/// Two, so that an answer of a mebibyte does not delay everybody; more gained nothing on two cores.
const CONNECTIONS: usize = 2;
/// For large answers.
const OWN_CONNECTIONS: usize = 4;
/// After this idle time, a checkout polls whether the connection's end was noticed, which wakes its task.
const BUSY: Duration = Duration::from_millis(10);
/// After this idle time, a connection gets a PING. Redis's shortest `timeout` is a second.
const IDLE: Duration = Duration::from_millis(900);
/// How often a large answer is tried while its keys change.
const ATTEMPTS: usize = 5;

pub(super) type Answer = std::result::Result<Value, RedisError>;

/// What is sent.
pub(super) enum Call<'a> {
    Command(&'a Cmd),
    /// A command that changes nothing. It is repeated if its connection ended.
    Read(&'a Cmd),
    /// A script by its hash, repeated with its text if the server does not know it yet.
    Script(&'a ScriptInvocation<'a>),
    /// A script that changes nothing.
    ReadScript(&'a ScriptInvocation<'a>),
    /// On a connection of its own.
    Watched(&'a Watched<'a>),
}

/// A command that runs only if its keys did not change since they were checked.
pub(super) struct Watched<'a> {
    pub(super) keys: Vec<Vec<u8>>,
    /// Without a check, the command runs as it is.
    pub(super) look: Option<&'a ScriptInvocation<'a>>,
    pub(super) command: &'a Cmd,
}

impl Watched<'_> {
    /// Returns what the check reported, and the command's answer; nil if the keys changed each time.
    async fn on(&self, connection: &mut MultiplexedConnection) -> Answer {
        let Some(look) = self.look else {
            let answer = self.command.query_async(connection).await?;
            return Ok(Value::Array(vec![Value::Int(0), answer]));
        };
        for _ in 0..ATTEMPTS {
            redis::cmd("WATCH").arg(&self.keys).query_async::<()>(connection).await?;
            let looked: Value = match look.invoke_async(connection).await {
                Ok(looked) => looked,
                Err(error) => {
                    redis::cmd("UNWATCH").query_async::<()>(connection).await?;
                    // The answer is not large any more: the next check returns it by the script.
                    if error.code() == Some("LARGE") {
                        continue;
                    }
                    return Err(error);
                }
            };
            let mut pipe = redis::pipe();
            pipe.atomic().add_command(self.command.clone());
            if let Value::Array(mut answers) = pipe.query_async(connection).await? {
                let work = if let Value::Array(parts) = looked { parts.into_iter().next() } else { None };
                let answer = answers.pop().unwrap_or(Value::Nil);
                return Ok(Value::Array(vec![work.unwrap_or(Value::Nil), answer]));
            }
        }
        Ok(Value::Nil)
    }
}

impl Call<'_> {
    async fn on(&self, connection: &mut MultiplexedConnection) -> Answer {
        match self {
            Self::Command(command) | Self::Read(command) => command.query_async(connection).await,
            Self::Script(script) | Self::ReadScript(script) => script.invoke_async(connection).await,
            Self::Watched(watched) => Box::pin(watched.on(connection)).await,
        }
    }
}

#[derive(Debug)]
struct Shared {
    connection: MultiplexedConnection,
    broken: Arc<AtomicBool>,
}

/// Creates connections.
struct Connector {
    login: Arc<Login>,
    to: To,
    config: AsyncConnectionConfig,
    /// Time limit for a PING on a connection that was idle.
    ping: Duration,
}

/// Where to connect.
enum To {
    /// The server at this address, or the one in the URL.
    Server(Option<String>),
    /// The primary that the sentinels name.
    Primary,
}

impl Connector {
    async fn connect(&self) -> std::result::Result<MultiplexedConnection, RedisError> {
        match &self.to {
            To::Server(address) => self.login.connect(address.as_deref(), &self.config).await,
            To::Primary => {
                let connected = self.to_primary().await;
                // The error does not tell whether the primary was found and refused the password, which the client needs to
                // ask for its role.
                if connected.is_err() && self.login.reload().await {
                    return self.to_primary().await;
                }
                connected
            }
        }
    }

    async fn to_primary(&self) -> std::result::Result<MultiplexedConnection, RedisError> {
        let mut sentinels = sentinels(&self.login.at, &self.login.infos())?;
        sentinels.get_async_connection_with_config(&self.config).await
    }
}

struct Manager(Arc<Connector>);

impl managed::Manager for Manager {
    type Type = Shared;
    type Error = RedisError;

    async fn create(&self) -> std::result::Result<Shared, RedisError> {
        Ok(Shared { connection: self.0.connect().await?, broken: Arc::new(AtomicBool::new(false)) })
    }

    async fn recycle(&self, shared: &mut Shared, used: &Metrics) -> RecycleResult<RedisError> {
        if shared.broken.load(Ordering::Relaxed) {
            return Err(RecycleError::message("a call on it failed"));
        }
        let idle = used.last_used();
        if idle < BUSY {
            return Ok(());
        }
        // The server or a firewall on the way may close idle connections: Redis by its `timeout`, a firewall without
        // notice.
        let ping = redis::cmd("PING");
        let ping = Box::pin(ping.query_async::<()>(&mut shared.connection));
        // An end that was noticed is reported at once, before anything is sent.
        let pinged = if idle < IDLE {
            ping.now_or_never()
        } else {
            Some(Deadline::after(self.0.ping).run(ping).await.unwrap_or_else(|_elapsed| Err(ended())))
        };
        match pinged {
            Some(Err(error)) if spoils_connection(&error) => Err(RecycleError::message("it ended while it was idle")),
            Some(_) | None => Ok(()),
        }
    }
}

fn ended() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

/// Time limits for a connection and an answer. They are shorter than the caller's own deadline, so that a hanging
/// connection is detected and replaced.
pub(super) fn connection_config(timeout: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(timeout / 2)).set_response_timeout(Some(timeout * 4 / 5))
}

pub(super) struct Node {
    pool: managed::Pool<Manager>,
    own: managed::Pool<Manager>,
    pub(super) breaker: Arc<Breaker>,
    timeout: Duration,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").finish_non_exhaustive()
    }
}

impl Node {
    /// The server at this address, or the one in the URL.
    pub(super) fn at(login: Arc<Login>, address: Option<String>, timeout: Duration) -> anyhow::Result<Self> {
        Self::made_by(login, To::Server(address), timeout)
    }

    pub(super) fn behind_sentinels(login: Arc<Login>, timeout: Duration) -> anyhow::Result<Self> {
        Self::made_by(login, To::Primary, timeout)
    }

    fn made_by(login: Arc<Login>, to: To, timeout: Duration) -> anyhow::Result<Self> {
        let maker = Arc::new(Connector { login, to, config: connection_config(timeout), ping: timeout / 4 });
        let pool = |size| managed::Pool::builder(Manager(Arc::clone(&maker))).max_size(size).build();
        let (pool, own) = (pool(CONNECTIONS)?, pool(OWN_CONNECTIONS)?);
        Ok(Self { pool, own, breaker: Arc::default(), timeout: timeout * 9 / 10 })
    }

    /// Sends one call on a connection, which is dropped if it seems broken. The outer error means that there is no
    /// connection, or that the breaker is open.
    pub(super) async fn call(&self, call: &Call<'_>) -> Result<Answer> {
        self.ask_if_due();
        if self.breaker.is_open() {
            return Err(Error::LeftAlone);
        }
        let is_connected = AtomicBool::new(false);
        let work = async {
            if let Call::Watched(_) = call {
                return self.on_its_own(call, &is_connected).await;
            }
            let answer = self.on_a_shared_one(call, &is_connected).await?;
            if !matches!(call, Call::Read(_) | Call::ReadScript(_)) || !answer.as_ref().is_err_and(has_ended) {
                return Ok(answer);
            }
            // If the server is down, the other connections have ended too; a new connection shows whether there is a
            // server.
            drop(self.pool.retain(|_, _| false));
            self.on_a_shared_one(call, &is_connected).await
        };
        let answer = Deadline::after(self.timeout).run(work).await.unwrap_or(Err(Error::Timeout));
        let seen = match &answer {
            Ok(Ok(_)) => CallOutcome::Answer,
            Ok(Err(error)) if serves_nobody(error) => CallOutcome::Gone,
            Ok(Err(error)) if spoils_connection(error) => CallOutcome::Late,
            Ok(Err(_)) => CallOutcome::Answer,
            Err(_) if is_connected.load(Ordering::Relaxed) => CallOutcome::Late,
            // A call that waited for another's turn has not reached the server.
            Err(_) if matches!(call, Call::Watched(_)) => CallOutcome::Late,
            Err(_) => CallOutcome::Gone,
        };
        self.breaker.note(seen, Moment::now());
        self.ask_if_due();
        answer
    }

    async fn on_a_shared_one(&self, call: &Call<'_>, is_connected: &AtomicBool) -> Result<Answer> {
        let (mut connection, broken) = self.connection().await?;
        is_connected.store(true, Ordering::Relaxed);
        let answer = call.on(&mut connection).await;
        // Cancel safety: a call that is dropped does not mean that the connection, which others share, is broken.
        if answer.as_ref().err().is_some_and(spoils_connection) {
            broken.store(true, Ordering::Relaxed);
        }
        Ok(answer)
    }

    async fn on_its_own(&self, call: &Call<'_>, is_connected: &AtomicBool) -> Result<Answer> {
        let mut shared = Box::pin(self.own.get()).await.map_err(|error| unreached(&error))?;
        is_connected.store(true, Ordering::Relaxed);
        // Cancel safety: a call that is dropped may leave a watched key or half an answer behind.
        let broken = Arc::clone(&shared.broken);
        broken.store(true, Ordering::Relaxed);
        let answer = call.on(&mut shared.connection).await;
        broken.store(answer.as_ref().err().is_some_and(spoils_connection), Ordering::Relaxed);
        Ok(answer)
    }

    /// Sends a PING on a connection of its own, if the breaker wants one.
    fn ask_if_due(&self) {
        if !self.breaker.wants_to_ask(Moment::now()) {
            return;
        }
        let (maker, breaker, timeout) = (Arc::clone(&self.pool.manager().0), Arc::clone(&self.breaker), self.timeout);
        tokio::spawn(async move {
            let ping = async {
                let mut connection = Box::pin(maker.connect()).await?;
                let pinged = redis::cmd("PING").query_async::<()>(&mut connection).await;
                if let Err(error) = &pinged {
                    maker.login.hear(error).await;
                }
                pinged
            };
            let is_there = matches!(Deadline::after(timeout).run(ping).await, Ok(Ok(())));
            breaker.asked(is_there, Moment::now());
        });
    }

    /// Sends one call that the server must accept although its slot is still moving there (ASKING), on a connection of its
    /// own: on a shared one, ASKING would apply to somebody else's next call.
    pub(super) async fn ask(&self, call: &Call<'_>) -> Result<Answer> {
        let maker = &self.pool.manager().0;
        let work = async {
            let mut connection = Box::pin(maker.connect()).await.map_err(|_error| Error::Unavailable)?;
            if let Err(error) = redis::cmd("ASKING").query_async::<()>(&mut connection).await {
                return Ok(Err(error));
            }
            Ok(call.on(&mut connection).await)
        };
        Deadline::after(self.timeout).run(work).await.unwrap_or(Err(Error::Timeout))
    }

    async fn connection(&self) -> Result<(MultiplexedConnection, Arc<AtomicBool>)> {
        // The future that creates a connection has 20 KiB; boxed so that not every caller contains it.
        let shared = Box::pin(self.pool.get()).await.map_err(|error| unreached(&error))?;
        Ok((shared.connection.clone(), Arc::clone(&shared.broken)))
    }
}

fn unreached(error: &managed::PoolError<RedisError>) -> Error {
    tracing::debug!(target: "store", error = %error, "no connection to Redis");
    Error::Unavailable
}

/// Whether the server says that another one must be asked, or that it is not ready.
fn serves_nobody(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown)
    )
}

/// Whether the connection ended before the answer, which says nothing about the server.
fn has_ended(error: &RedisError) -> bool {
    !error.is_timeout() && (error.is_io_error() || error.is_connection_dropped())
}

pub(super) fn spoils_connection(error: &RedisError) -> bool {
    // A server that now has a password requires it from new connections.
    let is_nobodys = error.code() == Some("NOAUTH");
    error.is_io_error() || error.is_timeout() || error.is_connection_dropped() || serves_nobody(error) || is_nobodys
}
