//! What may stand in a head: one host, no tunnels, and no header that concerns one connection only.

use std::borrow::Cow;

use http::header::{
    CONNECTION, CONTENT_LENGTH, FORWARDED, HOST, HeaderMap, HeaderName, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderValue, Method, Request, StatusCode, Uri, Version};

use super::FIELDS_MAX;
use super::front::Malformed;
use super::front::head::is_name;
use super::origin::Origin;
use super::path;
use crate::domain::Domain;
use crate::fault::Fault;
use crate::ids::RequestId;

/// Headers of one hop (RFC 9110 §7.6.1), and what never passes a proxy.
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

/// What a client may claim and a guest would believe: only the gateway says these.
const OURS: [HeaderName; 10] = [
    FORWARDED,
    CLIENT_CERT,
    CLIENT_CERT_CHAIN,
    X_FORWARDED_CLIENT_CERT,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-request-id"),
];

pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Whose certificate the client showed, for tenants that ask for one (Envoy's header of that name).
pub(crate) const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
/// The same in RFC 9440, which nobody may claim either.
const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");
/// Carries the request's id to the guest and back to the client.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The host a request is for, and the port if it says one.
///
/// HTTP/1.1 needs exactly one `Host` (RFC 9112 §3.2), which must agree with an absolute target; HTTP/2 has `:authority`.
///
/// # Errors
/// [`Fault::BadRequest`] where there is none, more than one, or they disagree; what was wrong before the request was one.
pub(crate) fn authority<B>(request: &Request<B>) -> Result<(Domain, Option<u16>), Fault> {
    if let Some(Malformed(fault)) = request.extensions().get() {
        return Err(*fault);
    }
    // hyper counts those of HTTP/1.1 itself.
    if request.headers().len() > FIELDS_MAX {
        return Err(Fault::HeadTooLarge);
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    let host = host.map(|host| host.to_str().ok().and_then(split).ok_or(Fault::BadRequest)).transpose()?;
    let target = request.uri().authority();
    if target.is_some_and(|target| target.as_str().contains('@')) {
        return Err(Fault::BadRequest);
    }
    let target = target.map(|target| split(target.as_str()).ok_or(Fault::BadRequest)).transpose()?;
    match (target, host) {
        _ if second.is_some() => Err(Fault::BadRequest),
        (Some(target), Some(host)) if target != host => Err(Fault::BadRequest),
        (Some(target), None) if is_framed(request) => Ok(target),
        (_, Some(host)) => Ok(host),
        (_, None) => Err(Fault::BadRequest),
    }
}

/// Whether frames carry it, in which the authority is a field of its own and nothing is upgraded.
fn is_framed<B>(request: &Request<B>) -> bool {
    matches!(request.version(), Version::HTTP_2 | Version::HTTP_3)
}

fn split(authority: &str) -> Option<(Domain, Option<u16>)> {
    let (name, port) = match authority.split_once(':') {
        Some((name, port)) => (name, Some(port.parse().ok()?)),
        None => (authority, None),
    };
    Some((Domain::parse(name)?, port))
}

/// Makes a head fit for a guest, and says who asks (RFC 7239).
///
/// # Errors
/// [`Fault::NotSupported`] for CONNECT and upgrades; [`Fault::BadRequest`] and [`Fault::Framing`] for what could be read in two
/// ways.
pub(crate) fn clean_request<B>(request: &mut Request<B>, origin: Origin, id: RequestId) -> Result<(), Fault> {
    let upgrade = request.headers().contains_key(UPGRADE) && !is_framed(request);
    if request.method() == Method::CONNECT || upgrade {
        return Err(Fault::NotSupported);
    }
    normalise(request)?;
    let headers = request.headers_mut();
    // HTTP/1 was read by `front`.
    if headers.keys().any(|name| !name.as_str().bytes().all(is_name)) {
        return Err(Fault::Framing("a header's name has an underscore"));
    }
    let lengths = headers.get_all(CONTENT_LENGTH).iter().count();
    if lengths > 1 || (lengths == 1 && headers.contains_key(TRANSFER_ENCODING)) {
        return Err(Fault::BadRequest);
    }
    remove(headers, |name| OURS.contains(name) || is_spins(name));
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

/// Gives the path its one spelling; what comes after it is the guest's.
fn normalise<B>(request: &mut Request<B>) -> Result<(), Fault> {
    let uri = request.uri();
    let Cow::Owned(path) = path::normal(uri.path())? else { return Ok(()) };
    let path = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path.parse().map_err(|_no_path| Fault::BadRequest)?);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_no_uri| Fault::BadRequest)?;
    Ok(())
}

/// What only this gateway says, of how a Spin route matched.
fn is_spins(name: &HeaderName) -> bool {
    name.as_str().starts_with("spin-")
}

/// Whether a response of this status has no content, whatever its guest wrote (RFC 9110 §15.3.5, §15.3.6, §15.4.5).
pub(crate) const fn has_no_content(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Makes a guest's head fit for a client.
pub(crate) fn clean_response(headers: &mut HeaderMap) {
    remove(headers, |_name| false);
}

/// Removes what is of one hop, and what else is not to pass. Each field that there is is looked at, which are few; to look for each
/// that might be there costs more.
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

    const ORIGIN: Origin =
        Origin { address: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9), is_plain: false };

    fn id() -> RequestId {
        RequestId::new()
    }

    #[test]
    fn a_request_names_one_host() {
        let host = |request: Request<()>| authority(&request).map(|(host, _)| host.to_string());
        let get = || Request::get("/");
        assert_eq!(host(get().header("host", "A.example:8443").body(()).unwrap()), Ok("a.example".into()));
        assert_eq!(host(get().body(()).unwrap()), Err(Fault::BadRequest));
        let two = get().header("host", "a").header("host", "a").body(()).unwrap();
        assert_eq!(host(two), Err(Fault::BadRequest));
        for bad in ["a b", "a:b", "", "[::1]", "a@b"] {
            let request = get().header("host", bad).body(()).unwrap();
            assert_eq!(host(request), Err(Fault::BadRequest), "{bad}");
        }
        let absolute = Request::get("https://a.example/").header("host", "b.example").body(()).unwrap();
        assert_eq!(host(absolute), Err(Fault::BadRequest));
        let h2 = Request::get("https://a.example/").version(Version::HTTP_2).body(()).unwrap();
        assert_eq!(host(h2), Ok("a.example".into()));
    }

    #[test]
    fn hop_by_hop_and_forged_headers_go() {
        let mut request = Request::get("/")
            .header("connection", "close, x-secret-hop")
            .header("x-secret-hop", "1")
            .header("te", "trailers")
            .header("x-forwarded-for", "10.0.0.1")
            .header("x-forwarded-host", "elsewhere")
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
    fn tunnels_and_double_framing_are_refused() {
        let refuse = |mut request: Request<()>| clean_request(&mut request, ORIGIN, id()).unwrap_err();
        assert_eq!(refuse(Request::connect("a:1").body(()).unwrap()), Fault::NotSupported);
        assert_eq!(refuse(Request::get("/").header("upgrade", "websocket").body(()).unwrap()), Fault::NotSupported);
        let both = Request::post("/").header("content-length", "1").header("transfer-encoding", "chunked");
        assert_eq!(refuse(both.body(()).unwrap()), Fault::BadRequest);
    }
}
