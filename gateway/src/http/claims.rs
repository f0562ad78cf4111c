//! Header fields that clients must not send: names by which frameworks learn who the client is, how it connected, and to
//! which path.
//!
//! Security: an application trusts these fields, because behind its usual proxy only the proxy sets them. Here the gateway
//! is that proxy: it sets some fields, accepts others from a configured proxy, and removes both from all other requests.

use http::HeaderName;

/// Who may set a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Only the gateway.
    Ours,
    /// The gateway and trusted proxies.
    Proxys,
}

/// Returns nothing for a field that any client may send. Names are in lower case.
pub(super) fn claim(name: &HeaderName) -> Option<Claim> {
    let name = name.as_str();
    match name.strip_prefix("x-") {
        Some(rest) => of_x(rest),
        None => of_others(name),
    }
}

fn of_x(rest: &str) -> Option<Claim> {
    const PREFIXES: [&str; 8] =
        ["forwarded", "original-forwarded", "original-remote-", "remote-", "envoy-", "appengine-", "ssl-", "arr-"];
    match rest {
        "forwarded-for" | "forwarded-proto" | "forwarded-client-cert" | "request-id" => Some(Claim::Ours),
        "real-ip" | "real-port" | "client-ip" | "clientip" | "client-cert" | "client-verify" | "true-client-ip"
        | "cluster-client-ip" | "proxyuser-ip" | "azure-clientip" | "azure-socketip" | "original-url"
        | "original-uri" | "original-host" | "original-proto" | "original-for" | "original-method" | "rewrite-url"
        | "script-name" | "host" | "http-host-override" | "proto" | "scheme" | "url-scheme" => Some(Claim::Proxys),
        _ => PREFIXES.iter().any(|prefix| rest.starts_with(prefix)).then_some(Claim::Proxys),
    }
}

fn of_others(name: &str) -> Option<Claim> {
    const PREFIXES: [&str; 3] = ["forwarded-", "cf-connecting-", "ssl-client-"];
    match name {
        // CGI would turn `proxy` into HTTP_PROXY, through which libraries send their requests.
        "forwarded" | "client-cert" | "client-cert-chain" | "proxy" => Some(Claim::Ours),
        "client-ip" | "true-client-ip" | "fastly-client-ip" | "fly-client-ip" | "cf-pseudo-ipv4"
        | "front-end-https" | "proxy-client-ip" | "wl-proxy-client-ip" | "remote-user" | "remote-addr"
        | "remote-host" => Some(Claim::Proxys),
        // Only the gateway sets these: they say how a Spin route matched.
        _ if name.starts_with("spin-") => Some(Claim::Ours),
        _ => PREFIXES.iter().any(|prefix| name.starts_with(prefix)).then_some(Claim::Proxys),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_gateway_or_a_proxy_may_set_fields_about_the_client() {
        let of = |name: &'static str| claim(&HeaderName::from_static(name));
        for name in
            ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-request-id", "spin-path-info", "client-cert"]
        {
            assert_eq!(of(name), Some(Claim::Ours), "{name}");
        }
        for name in [
            "x-forwarded",
            "x-forwarded-host",
            "x-forwarded-port",
            "x-forwarded-prefix",
            "x-forwarded-ssl",
            "x-original-url",
            "x-original-forwarded-for",
            "x-rewrite-url",
            "x-client-ip",
            "x-real-ip",
            "true-client-ip",
            "cf-connecting-ip",
            "cf-connecting-ipv6",
            "front-end-https",
            "x-ssl-client-verify",
            "forwarded-for",
            "remote-user",
        ] {
            assert_eq!(of(name), Some(Claim::Proxys), "{name}");
        }
        for name in [
            "x-requested-with",
            "x-api-key",
            "x-csrf-token",
            "cookie",
            "authorization",
            "x-for",
            "accept",
            "x-client-id",
        ] {
            assert_eq!(of(name), None, "{name}");
        }
    }
}
