//! What strangers may not say of themselves: names of fields by which frameworks learn who asks, how, and by which path.
//!
//! Security: an application believes these, because behind its usual proxy only the proxy says them. Here the gateway is the
//! proxy: it says some itself, lets a configured proxy say others, and takes both from everybody else.

use http::HeaderName;

/// Whose word a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// The gateway's, and nobody else's.
    Ours,
    /// A trusted proxy's too.
    Proxys,
}

/// Nothing for a field that anybody may send. Names are in lower case.
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
        // `proxy` would be CGI's HTTP_PROXY, by which libraries send their requests.
        "forwarded" | "client-cert" | "client-cert-chain" | "proxy" => Some(Claim::Ours),
        "client-ip" | "true-client-ip" | "fastly-client-ip" | "fly-client-ip" | "cf-pseudo-ipv4"
        | "front-end-https" | "proxy-client-ip" | "wl-proxy-client-ip" | "remote-user" | "remote-addr"
        | "remote-host" => Some(Claim::Proxys),
        // What only this gateway says, of how a Spin route matched.
        _ if name.starts_with("spin-") => Some(Claim::Ours),
        _ => PREFIXES.iter().any(|prefix| name.starts_with(prefix)).then_some(Claim::Proxys),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_on_who_asks_are_ours_or_a_proxys_and_others_are_anybodys() {
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
