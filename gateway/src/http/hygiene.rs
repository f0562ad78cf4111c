//! Cleans heads: one host, no tunnels, and no header that concerns only one connection.

use http::header::{CONNECTION, CONTENT_LENGTH, FORWARDED, HeaderMap, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderValue, Method, Request, StatusCode, Version};

use super::claims::{Claim, claim};
use super::grammar::drop_underscores;
use super::origin::Origin;
use crate::fault::Fault;
use crate::ids::RequestId;

/// Hop-by-hop headers (RFC 9110 §7.6.1), and headers that never pass a proxy.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authorization"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Fields that are not allowed in trailers, because the decision about them was made before the body (RFC 9110 §6.5.1).
const NO_TRAILERS: [&str; 13] = [
    "authorization",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "host",
    "max-forwards",
    "range",
    "trailer",
    "www-authenticate",
];

/// Protocols without which the request has no meaning: the client waits for the upgrade. A server may ignore all other
/// upgrades (RFC 9110 §7.8), such as `h2c` and `TLS/1.2`, which clients offer on a request that works without them.
const NEEDED: [&str; 4] = ["websocket", "connect-udp", "connect-ip", "connect-tcp"];

pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The client's certificate, for tenants that ask for one (Envoy's header of this name).
pub(crate) const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
/// Carries the request id to the guest and back to the client.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Cleans a request's head for the guest, and adds who the client is (RFC 7239).
///
/// # Errors
/// [`Fault::NotSupported`] for CONNECT and upgrades; [`Fault::BadRequest`] and [`Fault::Framing`] for ambiguous heads.
pub(crate) fn clean_request<B>(request: &mut Request<B>, origin: Origin, id: RequestId) -> Result<(), Fault> {
    if request.method() == Method::CONNECT || needs_upgrade(request) {
        return Err(Fault::NotSupported);
    }
    let headers = request.headers_mut();
    let lengths = headers.get_all(CONTENT_LENGTH).iter().count();
    if lengths > 1 || (lengths == 1 && headers.contains_key(TRANSFER_ENCODING)) {
        return Err(Fault::BadRequest);
    }
    remove(headers, |name| match claim(name) {
        Some(Claim::Ours) => true,
        Some(Claim::Proxys) => !origin.by_proxy,
        None => false,
    });
    let (client, scheme) = (origin.address.ip().to_canonical(), if origin.is_plain { "http" } else { "https" });
    let address = client.to_string();
    let (open, close) = if client.is_ipv6() { ("\"[", "]\"") } else { ("", "") };
    let forwarded = format!("for={open}{address}{close};proto={scheme}");
    for (name, text) in [(X_FORWARDED_FOR, address), (FORWARDED, forwarded)] {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(name, value);
        }
    }
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    if let Ok(id) = HeaderValue::try_from(id.to_string()) {
        headers.insert(X_REQUEST_ID, id);
    }
    Ok(())
}

/// Whether the request needs an upgrade to have a meaning. HTTP/1.0, 2 and 3 have no upgrades, and an `Upgrade` that
/// `Connection` does not name was not meant for us.
fn needs_upgrade<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let lists = |name, wanted: &dyn Fn(&str) -> bool| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|word| wanted(word.trim()))
    };
    let is_needed = |word: &str| {
        // A protocol may have a version.
        let name = word.split('/').next().unwrap_or_default();
        NEEDED.iter().any(|needed| name.eq_ignore_ascii_case(needed))
    };
    headers.contains_key(UPGRADE)
        && request.version() == Version::HTTP_11
        && lists(CONNECTION, &|word| word.eq_ignore_ascii_case("upgrade"))
        && lists(UPGRADE, &is_needed)
}

/// Cleans a request's trailers for the guest: they cannot say who the client is.
pub(super) fn clean_trailers(headers: &mut HeaderMap) {
    remove(headers, |name| claim(name).is_some() || NO_TRAILERS.contains(&name.as_str()));
    drop_underscores(headers);
}

/// Whether a response with this status has no content, whatever its guest wrote (RFC 9110 §15.3.5, §15.3.6, §15.4.5).
pub(crate) const fn has_no_content(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Cleans a guest's head for the client.
pub(crate) fn clean_response(headers: &mut HeaderMap) {
    remove(headers, |_name| false);
}

/// Removes hop-by-hop fields and others that must not pass. It inspects each field that is present, of which there are few;
/// to look up each possible name costs more.
fn remove(headers: &mut HeaderMap, else_not: impl Fn(&HeaderName) -> bool) {
    // Connection may name further ones.
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    let is_not_to_pass = |name: &&HeaderName| HOP_BY_HOP.contains(*name) || else_not(name);
    let removed: Vec<HeaderName> = headers.keys().filter(is_not_to_pass).cloned().collect();
    for name in named.into_iter().chain(removed) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};

    use super::*;

    const ORIGIN: Origin = Origin {
        address: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9),
        is_plain: false,
        by_proxy: false,
    };

    fn id() -> RequestId {
        RequestId::new()
    }

    #[test]
    fn hop_by_hop_and_forged_headers_are_removed() {
        let mut request = Request::get("/")
            .header("connection", "close, x-secret-hop")
            .header("x-secret-hop", "1")
            .header("te", "trailers")
            .header("x-forwarded-for", "10.0.0.1")
            .header("x-forwarded-host", "elsewhere")
            .header("x-original-url", "/admin")
            .header("x-request-id", "mine")
            .header("x-kept", "1")
            .body(())
            .unwrap();
        let id = id();
        clean_request(&mut request, ORIGIN, id).unwrap();
        let mut left: Vec<_> = request.headers().iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        left.sort();
        let expected = [
            "forwarded: for=192.0.2.1;proto=https",
            "x-forwarded-for: 192.0.2.1",
            "x-forwarded-proto: https",
            "x-kept: 1",
            &format!("x-request-id: {id}"),
        ];
        assert_eq!(left, expected);
    }

    #[test]
    fn a_trusted_proxy_may_set_more_fields_than_a_stranger_but_not_all() {
        let mut request = Request::get("/")
            .header("x-forwarded-prefix", "/app")
            .header("x-forwarded-for", "10.0.0.1")
            .header("spin-path-info", "/")
            .body(())
            .unwrap();
        clean_request(&mut request, Origin { by_proxy: true, ..ORIGIN }, id()).unwrap();
        assert_eq!(request.headers()["x-forwarded-prefix"], "/app");
        assert_eq!(request.headers()["x-forwarded-for"], "192.0.2.1");
        assert!(!request.headers().contains_key("spin-path-info"));
    }

    #[test]
    fn trailers_cannot_say_who_the_client_is() {
        let mut trailers = HeaderMap::new();
        for name in
            ["x-forwarded-for", "x-original-url", "authorization", "host", "te", "a_b", "grpc-status", "x-checksum"]
        {
            trailers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        clean_trailers(&mut trailers);
        let mut left: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["grpc-status", "x-checksum"]);
    }

    #[test]
    fn only_an_upgrade_that_a_request_depends_on_is_refused() {
        let get = |connection: &str, upgrade: &str| {
            let request = Request::get("/").header("connection", connection).header("upgrade", upgrade);
            clean_request(&mut request.body(()).unwrap(), ORIGIN, id())
        };
        for (connection, upgrade) in [
            ("upgrade, http2-settings", "h2c"),
            ("Upgrade", "TLS/1.2"),
            ("upgrade", "HTTP/2.0, SHTTP/1.3"),
            ("keep-alive", "websocket"),
        ] {
            assert_eq!(get(connection, upgrade), Ok(()), "{connection} {upgrade}");
        }
        for upgrade in ["websocket", "WebSocket", "h2c, websocket", "connect-udp", "websocket/13"] {
            assert_eq!(get("keep-alive, Upgrade", upgrade), Err(Fault::NotSupported), "{upgrade}");
        }
    }

    #[test]
    fn tunnels_and_double_framing_are_refused() {
        let refuse = |mut request: Request<()>| clean_request(&mut request, ORIGIN, id()).unwrap_err();
        assert_eq!(refuse(Request::connect("a:1").body(()).unwrap()), Fault::NotSupported);
        let both = Request::post("/").header("content-length", "1").header("transfer-encoding", "chunked");
        assert_eq!(refuse(both.body(()).unwrap()), Fault::BadRequest);
    }
}
