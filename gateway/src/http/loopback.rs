//! One name for this machine's own address, under `tollgate up`: whoever asks `[::1]` asks `localhost`.

use http::header::HOST;
use http::{HeaderValue, Request, Uri};

/// As clients write it; an address of version 6 is no domain name.
const LOOPBACK: &str = "[::1]";
const NAME: &str = "localhost";

/// Says `localhost` in the place of the loopback address, wherever the request names its host.
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

/// The same authority by the name; nothing where it is another one.
fn renamed(authority: &str) -> Option<String> {
    let port = authority.strip_prefix(LOOPBACK)?;
    (port.is_empty() || port.starts_with(':')).then(|| format!("{NAME}{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_address_has_a_name_and_no_other_has() {
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
