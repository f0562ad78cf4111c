//! `allowed_outbound_hosts`, and `allowed_http_hosts` of version 1: origins to send requests to, and addresses for Redis, which
//! are all the tenant's own namespace.

use crate::config::reader::At;
use crate::config::tenant_file::{granted_host, host_and_port, standard_port};
use crate::tenant::{Grant, GrantedHost};

pub(super) const WANTED: &str = "http, https or redis://HOST[:PORT], also with * for the scheme, the host, its first label or the port; or http://self; other \
                                 services are not served here";
pub(super) const WANTED_HOST: &str = "a host, a host and a port, or insecure:allow-all";

/// Takes one entry of a list; whether it is one.
pub(super) type Add = fn(&mut Allowed, &At<String>) -> bool;

#[derive(Debug, Default)]
pub(super) struct Allowed {
    pub(super) origins: Vec<Grant>,
    pub(super) redis: Vec<At<String>>,
}

impl Allowed {
    /// `scheme://host:port`, each of them also `*`; whether it is one.
    pub(super) fn origin(&mut self, at: &At<String>) -> bool {
        let Some((scheme, rest)) = at.value.split_once("://") else { return false };
        let rest = rest.trim_end_matches('/');
        if matches!(scheme, "redis" | "rediss") {
            let address = if rest.starts_with('*') { "*".to_owned() } else { format!("{scheme}://{rest}") };
            self.redis.push(At { value: address, place: at.place.clone() });
            return true;
        }
        let schemes: &[bool] = match scheme {
            "http" => &[false],
            "https" => &[true],
            "*" => &[false, true],
            _ => return false,
        };
        if scheme == "*" {
            let address = if rest.starts_with('*') { "*".to_owned() } else { format!("redis://{rest}") };
            self.redis.push(At { value: address, place: at.place.clone() });
        }
        schemes.iter().all(|&https| self.add(https, rest))
    }

    /// A host of version 1, by HTTP and HTTPS.
    pub(super) fn host(&mut self, at: &At<String>) -> bool {
        if at.value == "insecure:allow-all" {
            return self.add(true, "*:*") && self.add(false, "*:*");
        }
        match at.value.split_once("://") {
            Some(("http", rest)) => self.add(false, rest.trim_end_matches('/')),
            Some(("https", rest)) => self.add(true, rest.trim_end_matches('/')),
            Some(_) => false,
            None => self.add(true, &at.value) && self.add(false, &at.value),
        }
    }

    fn add(&mut self, https: bool, authority: &str) -> bool {
        let (host, port) = match host_and_port(authority) {
            (host, None) => (host, Some(standard_port(https))),
            (host, Some("*")) => (host, None),
            (host, Some(port)) => match port.parse() {
                Ok(port) => (host, Some(port)),
                Err(_no_port) => return false,
            },
        };
        let own_name = host.ends_with(".spin.internal").then(|| super::own_name(host));
        let host = own_name.as_deref().unwrap_or(if host == "self" { "self.alt" } else { host });
        let host = if host == "*" { Some(GrantedHost::Any) } else { granted_host(host) };
        let Some(host) = host else { return false };
        self.origins.push(Grant { https, host, port });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::problem::{Place, Source};

    fn allowed(text: &str, is_old: bool) -> Option<(usize, Vec<String>)> {
        let at =
            At { value: text.to_owned(), place: Place::whole(&Source::new(std::path::Path::new("x"), String::new())) };
        let mut allowed = Allowed::default();
        let is_one = if is_old { allowed.host(&at) } else { allowed.origin(&at) };
        is_one.then(|| (allowed.origins.len(), allowed.redis.into_iter().map(|at| at.value).collect()))
    }

    #[test]
    fn origins_and_redis_are_told_apart() {
        for (text, origins, redis) in [
            ("https://api.example.com", 1, &[][..]),
            ("http://127.0.0.1:3000/", 1, &[]),
            ("https://*.example.com", 1, &[]),
            ("https://api.example.com:*", 1, &[]),
            ("redis://localhost:6379", 0, &["redis://localhost:6379"]),
            ("http://self", 1, &[]),
            ("http://b_c.spin.internal", 1, &[]),
            ("redis://*:*", 0, &["*"]),
            ("*://*:*", 2, &["*"]),
        ] {
            let redis: Vec<String> = redis.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(allowed(text, false), Some((origins, redis)), "{text}");
        }
        for text in ["example.com", "postgres://db:5432", "http://10.0.0.0/8", "https://h:port"] {
            assert_eq!(allowed(text, false), None, "{text}");
        }
        assert_eq!(allowed("insecure:allow-all", true), Some((2, vec![])));
        assert_eq!(allowed("example.com:8080", true), Some((2, vec![])));
        assert_eq!(allowed("https://example.com", true), Some((1, vec![])));
        assert_eq!(allowed("ftp://example.com", true), None);
    }
}
