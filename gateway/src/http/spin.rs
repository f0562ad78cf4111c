//! The `spin-*` headers that Spin's HTTP trigger adds, and that its SDKs' routers read.
//!
//! Source: `compute_default_headers` of Spin's trigger-http. The client's own headers of these names are removed.

use std::borrow::Cow;
use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};

/// How a request's path matched its route.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Matched<'a> {
    /// The route in the manifest, such as `/users/:id/...`.
    pub(crate) route: &'a str,
    /// The route with a leading slash and no trailing one, so that `/` is empty.
    pub(crate) matched: &'a str,
    /// What `...` matched, with its leading slash.
    pub(crate) rest: Cow<'a, str>,
    /// What the `:name` segments matched.
    pub(crate) named: Vec<(&'a str, &'a str)>,
}

/// Adds the headers. The client's own ones were removed with all other fields that only the gateway sets (`hygiene`).
pub(crate) fn tell(headers: &mut HeaderMap, matched: &Matched<'_>, url: &Uri, client: SocketAddr) {
    let component_route = matched.route.strip_suffix("/...").unwrap_or(matched.route);
    let texts = [
        ("spin-path-info", &*matched.rest),
        ("spin-full-url", &url.to_string()),
        ("spin-matched-route", matched.matched),
        ("spin-base-path", "/"),
        ("spin-raw-component-route", matched.route),
        ("spin-component-route", component_route),
        ("spin-client-addr", &client.to_string()),
    ];
    for (name, text) in texts {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    for (name, text) in &matched.named {
        let name = HeaderName::try_from(format!("spin-path-match-{}", name.to_ascii_lowercase().replace('_', "-")));
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(text)) {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_how_it_matched() {
        let mut headers = HeaderMap::new();
        let route = "/foo/:userID/...";
        let named = vec![("userID", "42"), ("path_segment", "x")];
        let matched = Matched { route, matched: route, rest: "/bar".into(), named };
        let url = "https://a.example/foo/42/bar?k=v".parse().unwrap();
        tell(&mut headers, &matched, &url, "192.0.2.1:80".parse().unwrap());
        let mut told: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        told.sort();
        let expected = [
            "spin-base-path: /",
            "spin-client-addr: 192.0.2.1:80",
            "spin-component-route: /foo/:userID",
            "spin-full-url: https://a.example/foo/42/bar?k=v",
            "spin-matched-route: /foo/:userID/...",
            "spin-path-info: /bar",
            "spin-path-match-path-segment: x",
            "spin-path-match-userid: 42",
            "spin-raw-component-route: /foo/:userID/...",
        ];
        assert_eq!(told, expected);
    }
}
