//! One Redis server: a few shared, multiplexed connections, and a breaker.
//!
//! A checkout hands out a clone of a connection and gives the connection back at once, so many calls share one socket.
//! deadpool owns how many there are and makes new ones; where its stock manager asks the server before each use (five
//! sixths of the throughput), ours looks at a flag that a failed call sets.
//!
//! Invariant: nothing that blocks, watches or changes a connection's state is sent on these sockets. What must watch, which is
//! what brings large answers, has connections of its own, each for one call at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool::managed::{self, Metrics, RecycleError, RecycleResult};
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{
    self, AsyncConnectionConfig, Cmd, ErrorKind, RedisError, ScriptInvocation, ServerErrorKind, Value,
};
use futures_util::FutureExt as _;

use super::breaker::{Breaker, Seen};
use super::login::Login;
use super::sentinels;
use crate::deadline::{Deadline, Moment};
use crate::store::{Error, Result};

/// Two, so that an answer of a mebibyte does not hold up everybody; more bought nothing on two cores.
const CONNECTIONS: usize = 2;
/// For large answers.
const OWN_CONNECTIONS: usize = 4;
/// From when on it is looked whether a connection's end was seen, which wakes its task.
const BUSY: Duration = Duration::from_millis(10);
/// From when on a connection that nobody used is asked whether it is still one. Redis's shortest `timeout` is a second.
const IDLE: Duration = Duration::from_millis(900);
/// How often a large answer is tried while its keys change.
const ATTEMPTS: usize = 5;

pub(super) type Answer = std::result::Result<Value, RedisError>;

/// What is sent.
pub(super) enum Call<'a> {
    Command(&'a Cmd),
    /// One that changes nothing, and is done once more where its connection ended.
    Read(&'a Cmd),
    /// By its hash, and once more with its text where the server does not know it yet.
    Script(&'a ScriptInvocation<'a>),
    /// The same, of one that changes nothing.
    ReadScript(&'a ScriptInvocation<'a>),
    /// On a connection of its own.
    Watched(&'a Watched<'a>),
}

/// A command that is done only if its keys are as they were when it was looked at what they have.
pub(super) struct Watched<'a> {
    pub(super) keys: Vec<Vec<u8>>,
    /// Where there is none, the command is done as it is.
    pub(super) look: Option<&'a ScriptInvocation<'a>>,
    pub(super) command: &'a Cmd,
}

impl Watched<'_> {
    /// What the look said, and the command's answer; nil where the keys changed each time.
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
                    // It is not large any more, and comes back by the script.
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

/// Makes connections.
struct Maker {
    login: Arc<Login>,
    to: To,
    config: AsyncConnectionConfig,
    /// By when a server must have said that it is there, on a connection that nobody used for a while.
    ping: Duration,
}

/// To whom.
enum To {
    /// The server at this address, or at the URL's.
    Server(Option<String>),
    /// Whichever the sentinels say is the primary.
    Primary,
}

impl Maker {
    async fn connect(&self) -> std::result::Result<MultiplexedConnection, RedisError> {
        match &self.to {
            To::Server(address) => self.login.connect(address.as_deref(), &self.config).await,
            To::Primary => {
                let connected = self.to_primary().await;
                // It is not told whether the primary was found and refused the password, which it is asked for its role with.
                if connected.is_err() && self.login.read_anew().await {
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

struct Manager(Arc<Maker>);

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
        // The server, or something on the way, closes what nobody uses: Redis's own `timeout`, or a firewall, which says nothing.
        let ping = redis::cmd("PING");
        let ping = Box::pin(ping.query_async::<()>(&mut shared.connection));
        // An end that was seen is told at once, before anything is sent.
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

/// How long a connection and an answer may take: less than the caller's own deadline, so that a connection that hangs is
/// found out and replaced.
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
    /// The server at this address, or at the URL's.
    pub(super) fn at(login: Arc<Login>, address: Option<String>, timeout: Duration) -> anyhow::Result<Self> {
        Self::made_by(login, To::Server(address), timeout)
    }

    pub(super) fn behind_sentinels(login: Arc<Login>, timeout: Duration) -> anyhow::Result<Self> {
        Self::made_by(login, To::Primary, timeout)
    }

    fn made_by(login: Arc<Login>, to: To, timeout: Duration) -> anyhow::Result<Self> {
        let maker = Arc::new(Maker { login, to, config: connection_config(timeout), ping: timeout / 4 });
        let pool = |size| managed::Pool::builder(Manager(Arc::clone(&maker))).max_size(size).build();
        let (pool, own) = (pool(CONNECTIONS)?, pool(OWN_CONNECTIONS)?);
        Ok(Self { pool, own, breaker: Arc::default(), timeout: timeout * 9 / 10 })
    }

    /// One call on a connection, which is thrown away if it seems to be at fault. The outer error is that there is none, or
    /// that the breaker is open.
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
            // The others ended with it, where the server did: one that is new says whether there is a server.
            drop(self.pool.retain(|_, _| false));
            self.on_a_shared_one(call, &is_connected).await
        };
        let answer = Deadline::after(self.timeout).run(work).await.unwrap_or(Err(Error::Timeout));
        let seen = match &answer {
            Ok(Ok(_)) => Seen::Answer,
            Ok(Err(error)) if serves_nobody(error) => Seen::Gone,
            Ok(Err(error)) if spoils_connection(error) => Seen::Late,
            Ok(Err(_)) => Seen::Answer,
            Err(_) if is_connected.load(Ordering::Relaxed) => Seen::Late,
            // Who waits for another's turn was not at the server.
            Err(_) if matches!(call, Call::Watched(_)) => Seen::Late,
            Err(_) => Seen::Gone,
        };
        self.breaker.note(seen, Moment::now());
        self.ask_if_due();
        answer
    }

    async fn on_a_shared_one(&self, call: &Call<'_>, is_connected: &AtomicBool) -> Result<Answer> {
        let (mut connection, broken) = self.connection().await?;
        is_connected.store(true, Ordering::Relaxed);
        let answer = call.on(&mut connection).await;
        // Cancel safety: a call that is dropped says nothing of the connection, which others share.
        if answer.as_ref().err().is_some_and(spoils_connection) {
            broken.store(true, Ordering::Relaxed);
        }
        Ok(answer)
    }

    async fn on_its_own(&self, call: &Call<'_>, is_connected: &AtomicBool) -> Result<Answer> {
        let mut shared = Box::pin(self.own.get()).await.map_err(|error| unreached(&error))?;
        is_connected.store(true, Ordering::Relaxed);
        // Cancel safety: a call that is dropped may leave a key watched or half an answer to come.
        let broken = Arc::clone(&shared.broken);
        broken.store(true, Ordering::Relaxed);
        let answer = call.on(&mut shared.connection).await;
        broken.store(answer.as_ref().err().is_some_and(spoils_connection), Ordering::Relaxed);
        Ok(answer)
    }

    /// Asks the server whether it is there, on a connection of its own, if that is to be known.
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

    /// One call that the server is to take although the slot is still on its way to it, on a connection of its own: what
    /// says so would be taken for the next call of somebody else on a shared one.
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
        // Making a connection is a future of 20 KiB, which must not sit in every caller.
        let shared = Box::pin(self.pool.get()).await.map_err(|error| unreached(&error))?;
        Ok((shared.connection.clone(), Arc::clone(&shared.broken)))
    }
}

fn unreached(error: &managed::PoolError<RedisError>) -> Error {
    tracing::debug!(target: "store", error = %error, "no connection to Redis");
    Error::Unavailable
}

/// What a server says that is not the one to ask, or not yet.
fn serves_nobody(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown)
    )
}

/// Whether the connection ended before the answer, which is no word about the server.
fn has_ended(error: &RedisError) -> bool {
    !error.is_timeout() && (error.is_io_error() || error.is_connection_dropped())
}

pub(super) fn spoils_connection(error: &RedisError) -> bool {
    // A server that has a password now wants it of new connections.
    let is_nobodys = error.code() == Some("NOAUTH");
    error.is_io_error() || error.is_timeout() || error.is_connection_dropped() || serves_nobody(error) || is_nobodys
}
