//! How to connect to the servers: user, password and database from the URLs, which are read again when a server refuses
//! them and when the configuration is reloaded.
//!
//! Security: neither a URL nor a password appears in a log line or an error.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{
    self, AsyncConnectionConfig, Client, ConnectionInfo, ErrorKind, RedisConnectionInfo, RedisError, RedisResult,
};
use tokio::time::Instant;

use super::cluster::with_address;
use super::refusals::{Refusals, UNNAMED, code_of};
use super::{At, connection_infos};

/// How often the file is read at most.
const PAUSE: Duration = Duration::from_secs(1);

/// For one backend.
pub(super) struct Login {
    pub(super) at: At,
    infos: ArcSwap<Vec<ConnectionInfo>>,
    refusals: Arc<Refusals>,
    /// When the file was last read.
    looked: Mutex<Option<Instant>>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").finish_non_exhaustive()
    }
}

impl Login {
    /// # Errors
    /// A URL is invalid.
    pub(super) fn new(at: &At, refusals: &Arc<Refusals>) -> anyhow::Result<Arc<Self>> {
        let infos = ArcSwap::from_pointee(connection_infos(at)?);
        let looked = Mutex::default();
        Ok(Arc::new(Self { at: at.clone(), infos, refusals: Arc::clone(refusals), looked }))
    }

    /// One for each URL.
    pub(super) fn infos(&self) -> Arc<Vec<ConnectionInfo>> {
        self.infos.load_full()
    }

    /// Connects to the server at this address, or to the one in the URL. If it refuses the credentials, they are read
    /// again, and tried once more if they changed.
    pub(super) async fn connect(
        &self,
        address: Option<&str>,
        config: &AsyncConnectionConfig,
    ) -> RedisResult<MultiplexedConnection> {
        let info = self.info(address)?;
        match connect(info.clone(), config).await {
            Err(error) if is_of_the_login(&error) => {
                self.refusals.note(said_by(&info, &error, config).await);
                if !self.reload().await {
                    return Err(error);
                }
                connect(self.info(address)?, config).await
            }
            connected => connected,
        }
    }

    fn info(&self, address: Option<&str>) -> RedisResult<ConnectionInfo> {
        let infos = self.infos.load();
        let first = infos.first().ok_or((ErrorKind::InvalidClientConfig, "no URL"))?;
        let info = match address {
            Some(address) => with_address(first, address),
            None => Some(first.clone()),
        };
        Ok(info.ok_or((ErrorKind::InvalidClientConfig, "no address"))?)
    }

    /// The same as [`Self::read_now`], but at most once a second: a server that refuses causes a call for each connection.
    pub(super) async fn reload(&self) -> bool {
        {
            let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
            if looked.is_some_and(|at| at.elapsed() < PAUSE) {
                return false;
            }
            *looked = Some(Instant::now());
        }
        self.read_now().await
    }

    /// Reads the URLs again from their source. Returns whether the credentials differ from those that were used.
    pub(super) async fn read_now(&self) -> bool {
        let Some(source) = self.at.source.clone() else { return false };
        let read = tokio::task::spawn_blocking(move || source.read()).await;
        let urls = match read {
            Ok(Ok(urls)) => urls,
            Ok(Err(error)) => {
                tracing::warn!(target: "store", %error, "storage.url cannot be read again; the previous value stays in \
                    use");
                return false;
            }
            Err(_ended) => return false,
        };
        let infos = match connection_infos(&At { urls, ..self.at.clone() }) {
            Ok(infos) => infos,
            Err(error) => {
                tracing::warn!(target: "store", %error, "storage.url was read again and is invalid; the previous value \
                    stays in use");
                return false;
            }
        };
        let before = self.infos.load();
        let addresses = |infos: &[ConnectionInfo]| infos.iter().map(|info| info.addr().to_string()).collect::<Vec<_>>();
        if addresses(&before) != addresses(&infos) {
            tracing::warn!(target: "store", "storage.url names other servers now, which requires a restart; the new \
                credentials are used");
        }
        let login = |info: &ConnectionInfo| {
            let settings = info.redis_settings();
            (settings.username().map(str::to_owned), settings.password().map(str::to_owned))
        };
        let (Some(old), Some(new)) = (before.first(), infos.first()) else { return false };
        if login(old) == login(new) {
            return false;
        }
        // Another database would contain other data.
        let with_new = |info: &ConnectionInfo| {
            info.clone().set_redis_settings(new.redis_settings().clone().set_db(info.redis_settings().db()))
        };
        self.infos.store(Arc::new(before.iter().map(with_new).collect()));
        tracing::info!(target: "store", "the gateway uses the new credentials of storage.url");
        true
    }

    /// Notes the code with which a server refuses a call. If it now requires a password, the file is read again.
    pub(super) async fn hear(&self, error: &RedisError) {
        let Some(code) = code_of(error) else { return };
        self.refusals.note(code);
        if code == "NOAUTH" {
            let _changed = self.reload().await;
        }
    }
}

async fn connect(info: ConnectionInfo, config: &AsyncConnectionConfig) -> RedisResult<MultiplexedConnection> {
    let client = Client::open(info)?;
    Box::pin(client.get_multiplexed_async_connection_with_config(config)).await
}

/// Whether the server refuses the user or the password.
fn is_of_the_login(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed || matches!(error.code(), Some("WRONGPASS" | "NOAUTH" | "NOPERM"))
}

/// The code with which a server refuses these credentials. The redis crate omits it, so the gateway sends them once more by
/// hand.
async fn said_by(info: &ConnectionInfo, error: &RedisError, config: &AsyncConnectionConfig) -> &'static str {
    if let Some(code) = code_of(error) {
        return code;
    }
    let settings = info.redis_settings();
    let offered = async {
        let bare = info.clone().set_redis_settings(RedisConnectionInfo::default());
        let mut connection = connect(bare, config).await.ok()?;
        let mut auth = redis::cmd("AUTH");
        settings.username().iter().for_each(|name| _ = auth.arg(*name));
        let refused = auth.arg(settings.password()?).query_async::<()>(&mut connection).await.err()?;
        code_of(&refused)
    };
    Box::pin(offered).await.unwrap_or(UNNAMED)
}
