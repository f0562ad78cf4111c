//! One name for this machine's own address, under `tollgate up`: requests for `[::1]` are requests for `localhost`.

use http::header::HOST;
use http::{HeaderValue, Request, Uri};

/// As clients write it. An IPv6 address is not a domain name.
const LOOPBACK: &str = "[::1]";
const NAME: &str = "localhost";

/// Replaces the loopback address by `localhost` wherever the request names its host.
pub(crate) fn name_loopback<B>(request: &mut Request<B>) {
    let host = request.headers().get(HOST).and_then(|host| renamed(host.to_str().ok()?));
    if let Some(host) = host.and_then(|host| HeaderValue::try_from(host).ok()) {
        request.headers_mut().insert(HOST, host);
    }
    if let Some(authority) = request.uri().authority().and_then(|authority| renamed(authority.as_str())) {
        let mut parts = request.uri().clone().into_parts();
        parts.authority = authority.parse().ok();
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
}

/// The authority with the name. Nothing if it is not the loopback address.
fn renamed(authority: &str) -> Option<String> {
    let port = authority.strip_prefix(LOOPBACK)?;
    (port.is_empty() || port.starts_with(':')).then(|| format!("{NAME}{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_loopback_address_gets_a_name() {
        let of = |target: &str, host: &str| {
            let mut request = Request::builder().uri(target).header(HOST, host).body(()).unwrap();
            name_loopback(&mut request);
            (request.uri().to_string(), request.headers()[HOST].to_str().unwrap().to_owned())
        };
        assert_eq!(of("/a", "[::1]:3000"), ("/a".to_owned(), "localhost:3000".to_owned()));
        assert_eq!(of("http://[::1]/a?b", "[::1]"), ("http://localhost/a?b".to_owned(), "localhost".to_owned()));
        for host in ["[::2]:3000", "127.0.0.1:3000", "[::1].example", "localhost"] {
            assert_eq!(of("/", host).1, host);
        }
    }
}
