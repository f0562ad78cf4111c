//! What the gateway tells a tenant's developer about a request: lines in the tenant's log, beside what the guest prints.
//!
//! Limit: an instance has [`NOTICES_MAX`] of them a request. Each is a line of the guest's standard error, which counts
//! against the same bounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::stdio::LogStream;
use crate::http::cdn_loop;
use crate::tenant::{Budget, Component, MESSAGES_IN_A_LINE_MAX};

/// The most lines that a request has; the last one says that no more follow.
const NOTICES_MAX: usize = 10;
/// Of what a guest asked for, in a line. A host name has 253 at most.
const ORIGIN_BYTES_MAX: usize = 300;
/// What a tenant calls itself in its grants, and in a request's URI.
const SELF: &str = "self";
const SELF_HOST: &str = "self.alt";

/// Clones share the bound.
#[derive(Clone)]
pub(super) struct Notices {
    log: LogStream,
    said: Arc<AtomicUsize>,
}

impl Notices {
    pub(super) fn new(log: LogStream) -> Self {
        Self { log, said: Arc::default() }
    }

    /// For another request.
    pub(super) fn begin_again(&self) {
        self.said.store(0, Ordering::Relaxed);
    }

    /// Writes a line, while there is room for one.
    pub(super) fn say(&self, text: &str) {
        let said = self.said.fetch_add(1, Ordering::Relaxed);
        match (said + 1).cmp(&NOTICES_MAX) {
            std::cmp::Ordering::Less => self.log.line(&format!("tollgate: {text}")),
            std::cmp::Ordering::Equal => {
                self.log.line("tollgate: (further lines of this kind are omitted for this request)");
            }
            std::cmp::Ordering::Greater => {}
        }
    }

    /// Says why an outbound request went nowhere that every grant allows.
    pub(super) fn outbound_used_up(&self, max: u64) {
        self.say(&format!(
            "an outbound request was refused: limits.outbound ({max} here) bounds a request together with all requests \
                that it sends to its own tenant"
        ));
    }

    /// Says why a request to the own tenant is about to be refused, where it is.
    pub(super) fn will_be_refused(&self, chain: &http::HeaderValue, budget: &Budget) {
        if cdn_loop::is_full(chain) {
            self.say(&format!(
                "a request to its own tenant was refused: {} requests came before it, each made by the one before",
                cdn_loop::HOPS_MAX
            ));
        } else if budget.check().is_err() {
            self.say(
                "a request to its own tenant was refused: it would use the rest of limits.fuel and limits.time of the \
                    request that makes it, and too little is left",
            );
        }
    }

    /// Says why a message was not sent.
    pub(super) fn too_many_messages(&self, budget: &Budget) {
        if budget.next_message().is_none() {
            self.say(&format!(
                "a message was refused: {MESSAGES_IN_A_LINE_MAX} messages came before it in its line, each sent by the \
                    handler of the one before"
            ));
        } else {
            let (max, cause) = (budget.messages_max(), budget.line().cause);
            self.say(&format!(
                "a message was refused: handlers already sent {max} messages that have the same cause: {cause}"
            ));
        }
    }

    /// Says which line grants what an outbound request asked for and was denied.
    pub(super) fn denied(&self, component: &Component, uri: &http::Uri) {
        let origin = origin(uri);
        let name = &component.name;
        let text = if component.is_spin {
            format!(
                "an outbound request to {origin} was denied: no grant names it. To allow it, add \"{origin}\" to \
                 allowed_outbound_hosts in [component.{name}] of spin.toml (of a manifest of version 1: its host to \
                 allowed_http_hosts in that [[component]])"
            )
        } else {
            format!(
                "an outbound request to {origin} was denied: no grant names it. To allow it, add \"{origin}\" to `allow` in \
                 [egress] of tenant.toml"
            )
        };
        self.say(&text);
    }
}

/// Scheme, host and port, as a grant names them.
fn origin(uri: &http::Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("http");
    let host = match uri.host() {
        None | Some(SELF_HOST) => SELF,
        Some(host) => host,
    };
    // The parser lets neither control characters nor quotation marks into a host.
    let mut text = format!("{scheme}://{}", host.to_ascii_lowercase());
    if let Some(port) = uri.port_u16().filter(|_| host != SELF) {
        text += &format!(":{port}");
    }
    if let Some((end, _)) = text.char_indices().nth(ORIGIN_BYTES_MAX) {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_written_as_a_grant_has_it() {
        for (uri, wanted) in [
            ("https://API.example/path?q=1", "https://api.example"),
            ("http://api.example:8080/", "http://api.example:8080"),
            ("http://[::1]:80/", "http://[::1]:80"),
            ("http://self.alt/x", "http://self"),
            ("http://self.alt:80/x", "http://self"),
            ("/relative", "http://self"),
        ] {
            assert_eq!(origin(&uri.parse().unwrap()), wanted, "{uri}");
        }
        let long = origin(&format!("http://{}/", "a".repeat(5000)).parse().unwrap());
        assert!(long.len() < ORIGIN_BYTES_MAX + 4 && long.ends_with('…'), "{long}");
    }
}
