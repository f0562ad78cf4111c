//! `gateway.toml`: the sections for clients' connections, `[listen]` and `[http]`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use toml::de::DeValue;

use super::boot::Overrides;
use super::{defaults, value};
use crate::config::reader::{Section, units};
use crate::networks::Networks;
use crate::tenant::Rate;
use crate::{http, listener};

pub(crate) fn listen(file: &Section<'_>, overrides: &Overrides) -> listener::Settings {
    const WANTED: &str = "an address and a port, such as \"127.0.0.1:8443\" or \"[::]:443\"";
    let address = |text: &str| text.parse::<SocketAddr>().ok();
    let default = |text: &str| address(text).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    let section = file.section("listen");
    // The file is read even if a flag overrides it, so that the flag does not hide a mistake.
    let many = |key, over: Option<SocketAddr>, standard: &str| {
        let listed = section.as_ref().and_then(|section| section.list(key, WANTED, address));
        let listed = listed.map(|list| list.into_iter().map(|at| at.value).collect());
        over.map(|over| vec![over]).or(listed).unwrap_or_else(|| vec![default(standard)])
    };
    let one = |value: &DeValue<'_>| value.as_str().and_then(address);
    let admin = section.as_ref().and_then(|section| section.take("admin", WANTED, one));
    let admin = value(admin, default(defaults::ADMIN));
    let connections = value(section.as_ref().and_then(|s| s.count("connections")), defaults::CONNECTIONS);
    let port = |value: &DeValue<'_>| units::count(value).and_then(|port| u16::try_from(port).ok());
    let public_https = section.as_ref().and_then(|s| s.take("public_https", "a port, such as 443", port));
    let path = |value: &DeValue<'_>| value.as_str().filter(|path| is_path(path)).map(str::to_owned);
    let health = section.as_ref().and_then(|s| s.take("health", "a path, such as \"/healthz\"", path));
    let health = health.map(|at| at.value);
    let unhealthy = section.as_ref().and_then(|s| s.duration("unhealthy"));
    let unhealthy = value(unhealthy, if health.is_some() { defaults::UNHEALTHY } else { Duration::ZERO });
    let settings = listener::Settings {
        https: many("https", overrides.https, defaults::HTTPS),
        http: many("http", overrides.http, defaults::HTTP),
        admin: overrides.admin.unwrap_or(admin),
        public_https: overrides.public_https.or(public_https.map(|at| at.value)),
        health,
        unhealthy,
        connections,
        connections_per_address: value(
            section.as_ref().and_then(|s| s.count("connections_per_address")),
            connections.div_ceil(2),
        ),
        proxies: networks(section.as_ref(), "proxy_protocol_from"),
        is_plain: overrides.is_plain,
        quic: value(section.as_ref().and_then(|s| s.boolean("quic")), defaults::QUIC),
        drain: value(section.as_ref().and_then(|s| s.duration("drain")), defaults::DRAIN),
    };
    if let Some(section) = section {
        section.finish();
    }
    settings
}

/// Whether the text is a path as in a request, without a query.
fn is_path(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'%' | b'"' | b'<' | b'>');
    text.starts_with('/') && text.bytes().all(is_plain)
}

/// Networks of proxies; a single address also counts as one.
fn networks(section: Option<&Section<'_>>, key: &'static str) -> Networks {
    let network = |text: &str| text.parse().or_else(|_single| text.parse::<IpAddr>().map(IpNet::from)).ok();
    let listed = section.and_then(|s| s.list(key, "a network or an address, such as \"10.0.0.0/8\"", network));
    listed.unwrap_or_default().into_iter().map(|at| at.value).collect()
}

/// Maximum number of fields that may be allowed in a request: hyper reserves room for that many with each.
pub(crate) const FIELDS_MAX: u32 = 1000;
const FIELDS: &str = "a whole number from 1 to 1000";

/// Also returns how many requests one client address may send.
pub(crate) fn http(file: &Section<'_>) -> (http::Settings, Option<Rate>) {
    let section = file.section("http");
    let by_address = section.as_ref().and_then(|s| s.rate_of_counts("requests_per_address")).map(|at| at.value);
    let time = |key, default| value(section.as_ref().and_then(|s| s.duration(key)), default);
    let fields = |value: &DeValue<'_>| units::count(value).filter(|fields| *fields <= FIELDS_MAX);
    let settings = http::Settings {
        head_time: time("head_time", defaults::HEAD_TIME),
        handshake_time: time("handshake_time", defaults::HANDSHAKE_TIME),
        body_idle: time("body_idle", defaults::BODY_IDLE),
        idle: time("idle", defaults::IDLE),
        write_stall: time("write_stall", defaults::WRITE_STALL),
        rate_min: value(section.as_ref().and_then(|s| s.bytes("rate_min")), defaults::RATE_MIN),
        head_bytes: value(section.as_ref().and_then(|s| s.bytes("head_bytes")), defaults::HEAD_BYTES),
        fields: value(section.as_ref().and_then(|s| s.take("fields", FIELDS, fields)), defaults::FIELDS) as usize,
        trusted_proxies: networks(section.as_ref(), "trusted_proxies"),
        streams: value(section.as_ref().and_then(|s| s.count("streams")), defaults::STREAMS),
    };
    if let Some(section) = section {
        section.finish();
    }
    (settings, by_address)
}
