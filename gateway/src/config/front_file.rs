//! `gateway.toml`: what clients meet first, `[listen]` and `[http]`.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use toml::de::DeValue;

use super::gateway_file::value;
use super::reader::Section;
use super::{Overrides, defaults, units};
use crate::networks::Networks;
use crate::{http, listener};

pub(super) fn listen(file: &Section<'_>, overrides: &Overrides) -> listener::Settings {
    const WANTED: &str = "an address and a port, such as \"127.0.0.1:8443\" or \"[::]:443\"";
    let address = |text: &str| text.parse::<SocketAddr>().ok();
    let default = |text: &str| address(text).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    let section = file.section("listen");
    // The file is read also where a flag wins, so that a mistake in it is not hidden.
    let many = |key, over: Option<SocketAddr>, standard: &str| {
        let listed = section.as_ref().and_then(|section| section.list(key, WANTED, address));
        let listed = listed.map(|list| list.into_iter().map(|at| at.value).collect());
        over.map(|over| vec![over]).or(listed).unwrap_or_else(|| vec![default(standard)])
    };
    let one = |value: &DeValue<'_>| value.as_str().and_then(address);
    let admin = section.as_ref().and_then(|section| section.take("admin", WANTED, one));
    let admin = value(admin, default(defaults::ADMIN));
    let connections = value(section.as_ref().and_then(|s| s.count("connections")), defaults::CONNECTIONS);
    let settings = listener::Settings {
        https: many("https", overrides.https, defaults::HTTPS),
        http: many("http", overrides.http, defaults::HTTP),
        admin: overrides.admin.unwrap_or(admin),
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

/// Networks of proxies; a single address is one too.
fn networks(section: Option<&Section<'_>>, key: &'static str) -> Networks {
    let network = |text: &str| text.parse().or_else(|_single| text.parse::<IpAddr>().map(IpNet::from)).ok();
    let listed = section.and_then(|s| s.list(key, "a network or an address, such as \"10.0.0.0/8\"", network));
    listed.unwrap_or_default().into_iter().map(|at| at.value).collect()
}

/// The most fields that a request may be allowed: hyper makes room for so many with each.
pub(super) const FIELDS_MAX: u32 = 1000;
const FIELDS: &str = "a whole number from 1 to 1000";

pub(super) fn http(file: &Section<'_>) -> http::Settings {
    let section = file.section("http");
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
    settings
}
