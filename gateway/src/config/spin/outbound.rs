//! `allowed_outbound_hosts`, and `allowed_http_hosts` of version 1: origins that may get requests, and addresses for Redis,
//! all of which lead to the tenant's own namespace.
//!
//! Source: Spin's `outbound-networking-config`. A grant of another service is accepted too, because the gateway reaches no
//! such service, whatever is granted.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::files::tenant::standard_port;
use crate::config::reader::At;
use crate::domain::Domain;
use crate::tenant::{Grant, GrantedHost, Ports};

pub(super) const WANTED: &str = "SCHEME://HOST[:PORT], where HOST is a name, *.NAME, an address, a network such as 10.0.0.0/8, self or *, and PORT a number, \
                                 FIRST..END or *";
pub(super) const WANTED_HOST: &str = "a host, a host and a port, or insecure:allow-all";
pub(super) const WANTED_SERVICE: &str = "http, https or redis; a call of anything else is refused when it comes";

/// Adds one entry of a list.
pub(super) type Add = fn(&mut Allowed, &At<String>) -> Result<(), Not>;

/// Why an entry grants nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Not {
    /// Spin would refuse it too.
    AGrant,
    /// It is for a service that the gateway does not serve.
    Served,
}

#[derive(Debug, Default)]
pub(super) struct Allowed {
    pub(super) origins: Vec<Grant>,
    pub(super) redis: Vec<At<String>>,
}

impl Allowed {
    /// `scheme://host:port`, where each part may also be a pattern.
    pub(super) fn origin(&mut self, at: &At<String>) -> Result<(), Not> {
        let (scheme, rest) = at.value.trim().split_once("://").ok_or(Not::AGrant)?;
        let schemes: &[bool] = match scheme {
            "http" => &[false],
            "https" => &[true],
            "*" => &[false, true],
            _ if scheme.is_empty() || scheme.chars().any(|letter| !letter.is_alphabetic()) => return Err(Not::AGrant),
            _ => &[],
        };
        let (host, port) = parts(rest).ok_or(Not::AGrant)?;
        let port = match port {
            "" if schemes.is_empty() && known_port(scheme).is_none() => return Err(Not::AGrant),
            "" => None,
            port => Some(ports(port).ok_or(Not::AGrant)?),
        };
        for &https in schemes {
            let port = port.unwrap_or_else(|| Some(standard_port(https).into()));
            self.origins.push(Grant { https, host: host.clone(), port });
        }
        match scheme {
            "redis" | "rediss" | "*" => {
                self.redis.push(At { value: redis(scheme, rest, &host, port), place: at.place.clone() });
                Ok(())
            }
            "http" | "https" => Ok(()),
            _ => Err(Not::Served),
        }
    }

    /// A host of version 1, for HTTP and HTTPS.
    pub(super) fn host(&mut self, at: &At<String>) -> Result<(), Not> {
        let mut add = |text: &str, schemes: &[&str]| {
            schemes.iter().try_for_each(|scheme| {
                let value = format!("{scheme}://{text}");
                self.origin(&At { value, place: at.place.clone() })
            })
        };
        if at.value == "insecure:allow-all" {
            return add("*:*", &["http", "https"]);
        }
        match at.value.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => add(rest, &[scheme]),
            Some(_) => Err(Not::AGrant),
            None => add(&at.value, &["http", "https"]),
        }
    }
}

/// Splits the text after the scheme into host and port, either of which may be a pattern.
fn parts(rest: &str) -> Option<(GrantedHost, &str)> {
    let Some((before, port)) = rest.rsplit_once(':') else { return Some((host(rest)?, "")) };
    if let Some(host) = host(rest).filter(|_| !port.is_empty()) {
        // The colons of an IPv6 address do not separate a port.
        return Some((host, ""));
    }
    let (port, path) = port.split_once('/').unwrap_or((port, ""));
    path.is_empty().then_some((host(before)?, port))
}

fn host(text: &str) -> Option<GrantedHost> {
    let text = text.trim();
    match text {
        "*" => return Some(GrantedHost::Any),
        "self" | "self.alt" => return Some(GrantedHost::Itself),
        _ => {}
    }
    if let Ok(network) = text.parse::<IpNet>() {
        return Some(GrantedHost::Network(network.trunc()));
    }
    let text = text.strip_suffix('/').unwrap_or(text);
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    if let Ok(address) = bare.unwrap_or(text).parse::<IpAddr>() {
        return Some(GrantedHost::Address(address));
    }
    if let Some(parent) = text.strip_prefix("*.") {
        let is_address = parent.parse::<IpAddr>().is_ok();
        return Domain::parse(parent).filter(|_| !is_address).map(GrantedHost::Below);
    }
    if let Some(name) = Domain::parse(text) {
        return Some(GrantedHost::Name(crate::domain::Pattern::Exact(name)));
    }
    // Names outside of public domains, as in container networks: `my_service`, `back_end.spin.internal`.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (!text.is_empty() && text.bytes().all(plain)).then(|| GrantedHost::Plain(text.to_ascii_lowercase().into()))
}

/// `*`, a port, or `FIRST..END`, where END is exclusive. The inner None allows any port.
fn ports(text: &str) -> Option<Option<Ports>> {
    if text == "*" {
        return Some(None);
    }
    match text.split_once("..") {
        Some((first, end)) => Ports::range(first.parse().ok()?, end.parse().ok()?).map(Some),
        None => Some(Some(text.parse::<u16>().ok()?.into())),
    }
}

/// The default port of a scheme, if Spin knows it.
fn known_port(scheme: &str) -> Option<u16> {
    match scheme {
        "postgres" => Some(5432),
        "mysql" => Some(3306),
        "redis" | "rediss" => Some(6379),
        "mqtt" => Some(1883),
        _ => None,
    }
}

/// The Redis address that the component may open; `*` if the grant is a pattern.
fn redis(scheme: &str, rest: &str, host: &GrantedHost, port: Option<Option<Ports>>) -> String {
    let is_one = match host {
        GrantedHost::Name(_) | GrantedHost::Plain(_) | GrantedHost::ThisMachine(_) | GrantedHost::Address(_) => true,
        GrantedHost::Any | GrantedHost::Itself | GrantedHost::Below(_) | GrantedHost::Network(_) => false,
    };
    let is_one = is_one && port.is_none_or(|port| port.is_some_and(Ports::is_one));
    let scheme = if scheme == "*" { "redis" } else { scheme };
    if is_one { format!("{scheme}://{}", rest.trim_end_matches('/')) } else { "*".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::problem::{Place, Source};

    fn allowed(text: &str, is_old: bool) -> Result<(usize, Vec<String>), Not> {
        let at =
            At { value: text.to_owned(), place: Place::whole(&Source::new(std::path::Path::new("x"), String::new())) };
        let mut allowed = Allowed::default();
        if is_old { allowed.host(&at) } else { allowed.origin(&at) }?;
        Ok((allowed.origins.len(), allowed.redis.into_iter().map(|at| at.value).collect()))
    }

    #[test]
    fn origins_and_redis_are_told_apart() {
        for (text, origins, redis) in [
            ("https://api.example.com", 1, &[][..]),
            ("http://127.0.0.1:3000/", 1, &[]),
            ("http://h:/", 1, &[]),
            ("http://h:", 1, &[]),
            ("https://*.example.com", 1, &[]),
            ("https://api.example.com:*", 1, &[]),
            ("http://10.0.0.0/8", 1, &[]),
            ("http://10.0.0.0/8:8080", 1, &[]),
            ("http://fc00::/7", 1, &[]),
            ("http://[::1]:8080", 1, &[]),
            ("http://::1", 1, &[]),
            ("https://h:8000..9000", 1, &[]),
            ("http://my_service:80", 1, &[]),
            ("redis://localhost:6379", 0, &["redis://localhost:6379"]),
            ("redis://localhost", 0, &["redis://localhost"]),
            ("redis://localhost:6000..7000", 0, &["*"]),
            ("redis://10.0.0.0/8", 0, &["*"]),
            ("http://self", 1, &[]),
            ("http://b_c.spin.internal", 1, &[]),
            ("http://*.spin.internal", 1, &[]),
            ("redis://*:*", 0, &["*"]),
            ("*://*:*", 2, &["*"]),
            ("*://localhost:6379", 2, &["redis://localhost:6379"]),
        ] {
            let redis: Vec<String> = redis.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(allowed(text, false), Ok((origins, redis)), "{text}");
        }
        for text in ["postgres://db:5432", "postgres://db", "mysql://*:*", "mqtt://m", "ftp://h:21"] {
            assert_eq!(allowed(text, false), Err(Not::Served), "{text}");
        }
        for text in [
            "example.com",
            "http://10.0.0.0/33",
            "https://h:port",
            "https://h:9000..8000",
            "https://h/path",
            "http://h:80/path",
            "http://a.*.b",
            "http://*.*.b",
            "http://*.10.0.0.1/",
            "unix:///run/x.sock",
            "ftp://h",
            "{http,https}://h",
            "http://{a,b}",
            "http://",
        ] {
            assert_eq!(allowed(text, false), Err(Not::AGrant), "{text}");
        }
        assert_eq!(allowed("insecure:allow-all", true), Ok((2, vec![])));
        assert_eq!(allowed("example.com:8080", true), Ok((2, vec![])));
        assert_eq!(allowed("https://example.com", true), Ok((1, vec![])));
        assert_eq!(allowed("self", true), Ok((2, vec![])));
        assert_eq!(allowed("ftp://example.com", true), Err(Not::AGrant));
    }
}
