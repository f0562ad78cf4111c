//! How to connect to the servers in a URL: user, password, TLS and sentinels.

use deadpool_redis::redis::io::tcp::TcpSettings;
use deadpool_redis::redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use deadpool_redis::redis::{
    self, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, TlsCertificates, TlsMode,
};

use super::At;
use crate::store::Tls;

/// The connection settings for each of the comma-separated URLs.
pub(super) fn connection_infos(at: &At) -> anyhow::Result<Vec<ConnectionInfo>> {
    let infos = at.urls.0.split(',').map(|url| {
        // Without it, the second of two small writes waits for the answer to the first: 40 ms.
        let prompt = TcpSettings::default().set_nodelay(true);
        let info = url.trim().into_connection_info().map(|info| info.set_tcp_settings(prompt));
        let info = info.map(|info| at.user.iter().fold(info, |info, user| user.on(info)));
        let info = info.and_then(|info| {
            if let ConnectionAddr::TcpTls { .. } = info.addr() {
                return Ok(Client::build_with_tls(info, certificates(&at.tls))?.get_connection_info().clone());
            }
            Ok(info)
        });
        // The error itself would show the URL with its password.
        info.map_err(|error| anyhow::anyhow!("a Redis URL, or a file of storage.tls, is invalid: {:?}", error.kind()))
    });
    infos.collect()
}

fn certificates(tls: &Tls) -> TlsCertificates {
    let pair = tls.pair.clone();
    let client_tls = pair.map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
    TlsCertificates { client_tls, root_cert: tls.ca.clone() }
}

/// User, password and database in the URLs belong to the primary; sentinels are asked without them.
pub(super) fn sentinels(at: &At, infos: &[ConnectionInfo]) -> redis::RedisResult<SentinelClient> {
    let addresses = infos.iter().map(|info| info.addr().clone());
    let mut builder = SentinelClientBuilder::new(addresses, at.primary.clone(), SentinelServerType::Master)?;
    let Some(first) = infos.first() else { return builder.build() };
    let settings = first.redis_settings();
    builder = builder.set_client_to_redis_db(settings.db());
    builder = builder.set_client_to_redis_tcp_settings(first.tcp_settings().clone());
    builder = builder.set_client_to_sentinel_tcp_settings(first.tcp_settings().clone());
    if let Some(user) = settings.username() {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = settings.password() {
        builder = builder.set_client_to_redis_password(password);
    }
    if let ConnectionAddr::TcpTls { .. } = first.addr() {
        builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        builder = builder.set_client_to_redis_certificates(certificates(&at.tls));
    }
    builder.build()
}
