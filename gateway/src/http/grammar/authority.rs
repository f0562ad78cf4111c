//! The host that a request is for (RFC 3986 §3.2, RFC 9110 §4.2.3): one spelling for a host with its port.

use http::header::HOST;
use http::uri::Scheme;
use http::{Request, Version};

use super::HostPort;
use crate::domain::Domain;
use crate::fault::Fault;

/// The scheme's default port.
pub(crate) fn default_port(scheme: Option<&Scheme>) -> u16 {
    if scheme == Some(&Scheme::HTTP) { 80 } else { 443 }
}

/// The host that a request is for, and the port if the request states one.
///
/// HTTP/1.1 needs exactly one `Host` (RFC 9112 §3.2), which must agree with an absolute target. HTTP/2 and 3 have
/// `:authority`, which must agree with `Host` if that is present. Two agree if they name the same origin: case, a final dot
/// and the scheme's default port make no difference.
///
/// # Errors
/// [`Fault::BadRequest`] if there is no host, more than one, or they disagree.
pub(super) fn of<B>(request: &Request<B>) -> Result<HostPort, Fault> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    let host = host.map(|host| host.to_str().ok().and_then(split).ok_or(Fault::BadRequest)).transpose()?;
    let target = request.uri().authority();
    // User information is not allowed there (RFC 9110 §4.2.4).
    if target.is_some_and(|target| target.as_str().contains('@')) {
        return Err(Fault::BadRequest);
    }
    let target = target.map(|target| split(target.as_str()).ok_or(Fault::BadRequest)).transpose()?;
    let default = default_port(request.uri().scheme());
    match (target, host) {
        _ if second.is_some() => Err(Fault::BadRequest),
        (Some(target), Some(host)) if !target.agrees(&host, default) => Err(Fault::BadRequest),
        (Some(target), None) if is_framed(request) => Ok(target),
        (_, Some(host)) => Ok(host),
        (_, None) => Err(Fault::BadRequest),
    }
}

impl HostPort {
    /// Whether both name the same origin.
    fn agrees(&self, other: &Self, default: u16) -> bool {
        self.host == other.host && self.port.unwrap_or(default) == other.port.unwrap_or(default)
    }
}

/// Whether two authorities name the same origin of this scheme.
pub(in crate::http) fn agree(scheme: &[u8], one: &[u8], other: &[u8]) -> bool {
    let read = |bytes| std::str::from_utf8(bytes).ok().and_then(split);
    let default = if scheme.eq_ignore_ascii_case(b"http") { 80 } else { 443 };
    read(one).zip(read(other)).is_some_and(|(one, other)| one.agrees(&other, default))
}

/// Whether the version has frames. There, the authority is a field of its own.
fn is_framed<B>(request: &Request<B>) -> bool {
    matches!(request.version(), Version::HTTP_2 | Version::HTTP_3)
}

/// Splits a name and a port, which consists of digits and may be empty (RFC 3986 §3.2.3).
fn split(authority: &str) -> Option<HostPort> {
    let (name, port) = match authority.split_once(':') {
        None | Some((_, "")) => (authority.strip_suffix(':').unwrap_or(authority), None),
        Some((name, port)) => {
            let digits = Some(port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()))?;
            (name, Some(digits.parse().ok()?))
        }
    };
    Some(HostPort { host: Domain::parse(name)?, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(request: &Request<()>) -> Result<String, Fault> {
        of(request).map(|ours| ours.port.map_or_else(|| ours.host.to_string(), |port| format!("{}:{port}", ours.host)))
    }

    #[test]
    fn a_request_names_one_host() {
        let of = |text: &str| host(&Request::get("/").header("host", text).body(()).unwrap());
        for (text, named) in [
            ("A.example:8443", "a.example:8443"),
            ("a.example:", "a.example"),
            ("a.example.", "a.example"),
            ("a.example.:0443", "a.example:443"),
            ("a_b.example", "a_b.example"),
            ("127.0.0.1:80", "127.0.0.1:80"),
        ] {
            assert_eq!(of(text).as_deref(), Ok(named), "{text}");
        }
        for bad in
            ["a b", "a:b", "", ":", ":80", "[::1]", "a@b", "a:+80", "a:-80", "a:80:", "a::", "a:65536", "a: 80", "a,b"]
        {
            assert_eq!(of(bad), Err(Fault::BadRequest), "{bad}");
        }
        let get = || Request::get("/");
        assert_eq!(host(&get().body(()).unwrap()), Err(Fault::BadRequest));
        let two = get().header("host", "a").header("host", "a").body(()).unwrap();
        assert_eq!(host(&two), Err(Fault::BadRequest));
        let h2 = Request::get("https://a.example/").version(Version::HTTP_2).body(()).unwrap();
        assert_eq!(host(&h2).as_deref(), Ok("a.example"));
    }

    #[test]
    fn a_target_and_a_host_may_spell_one_origin_differently() {
        let of = |target: &str, text: &str| host(&Request::get(target).header("host", text).body(()).unwrap());
        for (target, text) in [
            ("https://a.example:443/", "a.example"),
            ("https://a.example/", "A.EXAMPLE.:443"),
            ("http://a.example:80/", "a.example:"),
            ("https://a.example:/", "a.example"),
            ("https://a.example:8443/", "a.example:8443"),
        ] {
            assert!(of(target, text).is_ok(), "{target} {text}");
        }
        for (target, text) in [
            ("https://a.example/", "b.example"),
            ("https://a.example:80/", "a.example"),
            ("http://a.example:443/", "a.example"),
            ("https://a.example:8443/", "a.example"),
            ("https://u@a.example/", "a.example"),
        ] {
            assert_eq!(of(target, text), Err(Fault::BadRequest), "{target} {text}");
        }
    }
}
