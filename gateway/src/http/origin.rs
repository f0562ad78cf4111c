//! The client's address behind proxies. Only configured proxies are trusted.

use std::net::{IpAddr, SocketAddr};

use http::header::HeaderMap;

use super::hygiene::{X_FORWARDED_FOR, X_FORWARDED_PROTO};
use crate::networks::Networks;

/// The client behind a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The port is 0 if a proxy reported the address.
    pub(crate) address: SocketAddr,
    /// Whether the client itself used plain HTTP.
    pub(crate) is_plain: bool,
    /// Whether a trusted proxy says so.
    pub(crate) by_proxy: bool,
}

/// The most addresses of a list that are read, from its end.
const HOPS_MAX: usize = 20;

impl Origin {
    /// Returns the peer; or, if the peer is a trusted proxy, the last address in `X-Forwarded-For` that is not a trusted
    /// proxy. An invalid address ends the list.
    pub(crate) fn of(headers: &HeaderMap, peer: SocketAddr, is_plain: bool, trusted: Option<&Networks>) -> Self {
        let Some(trusted) = trusted.filter(|trusted| trusted.contain(peer.ip())) else {
            return Self { address: peer, is_plain, by_proxy: false };
        };
        let lists = headers.get_all(&X_FORWARDED_FOR).iter();
        let all: Vec<&[u8]> = lists.flat_map(|list| list.as_bytes().split(|byte| *byte == b',')).collect();
        let mut address = peer;
        for word in all.iter().rev().take(HOPS_MAX) {
            let Some(hop) = address_of(word) else { break };
            address = SocketAddr::new(hop, 0);
            if !trusted.contain(hop) {
                break;
            }
        }
        let mut said = headers.get_all(&X_FORWARDED_PROTO).iter();
        let is_plain = match (said.next().map(http::HeaderValue::as_bytes), said.next()) {
            (Some(b"https"), None) => false,
            (Some(b"http"), None) => true,
            _ => is_plain,
        };
        Self { address, is_plain, by_proxy: true }
    }
}

/// An address, with a port if the proxy adds one.
fn address_of(word: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(word.trim_ascii()).ok()?;
    text.parse().ok().or_else(|| text.parse().ok().map(|with_port: SocketAddr| with_port.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_name_a_client() {
        let trusted = Networks::from_iter(["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()]);
        let of = |peer: &str, lists: &[&str]| {
            let mut headers = HeaderMap::new();
            for list in lists {
                headers.append(X_FORWARDED_FOR, list.parse().unwrap());
            }
            Origin::of(&headers, SocketAddr::new(peer.parse().unwrap(), 9), false, Some(&trusted)).address.to_string()
        };
        assert_eq!(of("192.0.2.1", &["6.6.6.6"]), "192.0.2.1:9");
        assert_eq!(of("10.0.0.1", &[]), "10.0.0.1:9");
        assert_eq!(of("10.0.0.1", &["6.6.6.6, 192.0.2.7"]), "192.0.2.7:0", "what the client claims is before it");
        assert_eq!(of("10.0.0.1", &["6.6.6.6", "192.0.2.7,10.0.0.2"]), "192.0.2.7:0");
        assert_eq!(of("2001:db8::1", &["2001:db9::7"]), "[2001:db9::7]:0");
        assert_eq!(of("10.0.0.1", &["6.6.6.6, unknown"]), "10.0.0.1:9", "what is no address ends the list");
        assert_eq!(of("10.0.0.1", &["6.6.6.6", "\u{ff}, 192.0.2.7:4711, 10.0.0.2"]), "192.0.2.7:0");
        assert_eq!(of("10.0.0.1", &["6.6.6.6", "\u{ff}"]), "10.0.0.1:9", "nor is this one, and no way around it");
        assert_eq!(of("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3:0");
    }

    #[test]
    fn a_trusted_proxy_says_which_scheme_the_client_used() {
        let trusted = Networks::from_iter(["10.0.0.0/8".parse().unwrap()]);
        let of = |peer: [u8; 4], values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(X_FORWARDED_PROTO, value.parse().unwrap());
            }
            Origin::of(&headers, SocketAddr::from((peer, 9)), false, Some(&trusted)).is_plain
        };
        assert!(of([10, 0, 0, 1], &["http"]));
        assert!(!of([10, 0, 0, 1], &["https"]));
        assert!(!of([10, 0, 0, 1], &["http", "http"]));
        assert!(!of([11, 0, 0, 1], &["http"]));
    }
}
