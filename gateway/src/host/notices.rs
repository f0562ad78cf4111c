//! The gateway's notices to a tenant's developer about a request: lines in the tenant's log, beside the guest's own.
//!
//! Limit: at most [`NOTICES_MAX`] for a request. Each is a line of the guest's standard error, and counts against the same
//! limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::stdio::LogStream;
use crate::http::cdn_loop;
use crate::tenant::{Budget, Component, MESSAGES_IN_A_LINE_MAX};

/// The most lines for a request. The last one says that no more follow.
const NOTICES_MAX: usize = 10;
/// The longest origin in a line, in bytes. A host name has at most 253.
const ORIGIN_BYTES_MAX: usize = 300;
/// The name of the own tenant in grants and in a request's URI.
const SELF: &str = "self";
const SELF_HOST: &str = "self.alt";

/// Clones share the limit.
#[derive(Clone)]
pub(super) struct Notices {
    log: LogStream,
    said: Arc<AtomicUsize>,
}

impl Notices {
    pub(super) fn new(log: LogStream) -> Self {
        Self { log, said: Arc::default() }
    }

    /// Resets it for another request.
    pub(super) fn begin_again(&self) {
        self.said.store(0, Ordering::Relaxed);
    }

    /// Writes a line, if the limit allows.
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

    /// Explains that `limits.outbound` refused a request which the grants allow.
    pub(super) fn outbound_used_up(&self, max: u64) {
        self.say(&format!(
            "an outbound request was refused: limits.outbound ({max} here) bounds a request together with all requests \
                that it sends to its own tenant"
        ));
    }

    /// Explains why a request to the own tenant will be refused, if it will.
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

    /// Explains why a message was not sent.
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

    /// Names the line that would grant the outbound request which was denied.
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

/// Scheme, host and port, as in a grant.
fn origin(uri: &http::Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("http");
    let host = match uri.host() {
        None | Some(SELF_HOST) => SELF,
        Some(host) => host,
    };
    // The parser accepts neither control characters nor quotation marks in a host.
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
