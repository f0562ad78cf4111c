//! CDN-Loop (RFC 8586): a guest's outbound request lists the tenants that it went through. A request that comes back is
//! refused.
//!
//! A guest can neither remove its tenant from the list nor avoid being added: the gateway builds the field of an outbound
//! request from the incoming request, whatever the guest sends. A client that forges an entry harms only its own request.
//! An entry also states how many messages of components came before, and what started them (`m`), so that a chain of
//! messages that leaves by HTTP, through another tenant, is still counted. Limit: [`HOPS_MAX`] entries of this gateway, of
//! any tenant.

use http::header::HeaderMap;
use http::{HeaderName, HeaderValue};

use crate::fault::Fault;
use crate::ids::{Digest, Line, TenantId};

pub(crate) const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");
/// Our cdn-id, which the RFC calls a pseudonym.
const PSEUDONYM: &str = "tollgate";
/// The most tenants that one request may pass through.
pub(crate) const HOPS_MAX: usize = 8;
/// The most bytes that are kept of other servers' entries.
const CHAIN_BYTES_MAX: usize = 4096;

/// One tenant's entry. Other servers read it, so it does not reveal the tenant's name.
fn entry(tenant: &TenantId) -> String {
    let digest = Digest::of(format!("cdn-loop:{tenant}").as_bytes()).to_string();
    format!("{PSEUDONYM}; t={}", &digest[..16])
}

fn entries(headers: &HeaderMap) -> impl Iterator<Item = String> {
    let values = headers.get_all(CDN_LOOP).iter().filter_map(|value| value.to_str().ok());
    let entries = values.flat_map(|value| value.split(','));
    // `tollgate;t=x` and `tollgate ; t=x` are the same entry.
    entries.map(|entry| entry.split(';').map(str::trim).collect::<Vec<_>>().join("; "))
}

/// # Errors
/// [`Fault::Loop`] if the request was at this tenant before, or at too many others.
pub(crate) fn check(headers: &HeaderMap, tenant: &TenantId) -> Result<(), Fault> {
    if !headers.contains_key(CDN_LOOP) {
        return Ok(());
    }
    let own = entry(tenant);
    let is_own = |entry: String| entry.strip_prefix(&own).is_some_and(|rest| rest.is_empty() || rest.starts_with(';'));
    if ours(headers).any(is_own) { Err(Fault::Loop) } else { check_depth(headers) }
}

/// The check for a request from one component of a tenant to another. It may come back to the tenant, but its depth is
/// limited too.
///
/// # Errors
/// [`Fault::Loop`] if the request passed through too many tenants.
pub(crate) fn check_depth(headers: &HeaderMap) -> Result<(), Fault> {
    if ours(headers).count() >= HOPS_MAX { Err(Fault::Loop) } else { Ok(()) }
}

/// The entries of this gateway.
fn ours(headers: &HeaderMap) -> impl Iterator<Item = String> {
    entries(headers).filter(|entry| entry.split(';').next() == Some(PSEUDONYM))
}

/// Whether [`check_depth`] refuses a request with this chain.
pub(crate) fn is_full(onward: &HeaderValue) -> bool {
    check_depth(&HeaderMap::from_iter([(CDN_LOOP, onward.clone())])).is_err()
}

/// The messages of components that came before this request. If several entries state them, the longest chain counts.
pub(crate) fn line(headers: &HeaderMap) -> Option<Line> {
    if !headers.contains_key(CDN_LOOP) {
        return None;
    }
    let said = |entry: String| entry.split("; ").find_map(|part| Line::parse(part.strip_prefix("m=")?));
    ours(headers).filter_map(said).max_by_key(|line| line.number)
}

/// Whether a guest, of this gateway or of another one, sent the request that produced this chain: the last entry is our
/// tenant's, and another one precedes it.
pub(crate) fn came_from_a_guest(onward: &HeaderValue) -> bool {
    onward.to_str().is_ok_and(|chain| chain.matches(PSEUDONYM).count() > 1)
}

/// Whether a guest, of this gateway or of another one, sent a request with these fields.
pub(crate) fn is_of_a_guest(headers: &HeaderMap) -> bool {
    ours(headers).next().is_some()
}

/// The field value for outbound requests of this request, given the messages that came before it.
pub(crate) fn onward(headers: &HeaderMap, tenant: &TenantId, line: Line) -> HeaderValue {
    let mut own = entry(tenant);
    if line.number > 0 {
        own += &format!("; m={line}");
    }
    let mut chain: Vec<String> = entries(headers).collect();
    let room = CHAIN_BYTES_MAX - own.len();
    // If the chain is too long, other servers' entries are dropped: ours detect loops.
    if chain.iter().map(|entry| entry.len() + 2).sum::<usize>() > room {
        chain.retain(|entry| entry.starts_with(PSEUDONYM));
        chain.truncate(HOPS_MAX);
    }
    chain.push(own);
    // Cannot fail: the parts are from a header value and our own ASCII.
    HeaderValue::try_from(chain.join(", ")).unwrap_or(HeaderValue::from_static(PSEUDONYM))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::RequestId;

    fn none() -> Line {
        Line::none(RequestId::new())
    }

    fn id(name: &str) -> TenantId {
        TenantId::parse(name).unwrap()
    }

    fn headers(value: &HeaderValue) -> HeaderMap {
        HeaderMap::from_iter([(CDN_LOOP, value.clone())])
    }

    #[test]
    fn a_request_may_pass_each_tenant_once() {
        check(&HeaderMap::new(), &id("a")).unwrap();
        let after_a = headers(&onward(&HeaderMap::new(), &id("a"), none()));
        assert_eq!(check(&after_a, &id("a")), Err(Fault::Loop));
        check(&after_a, &id("b")).unwrap();
        let after_b = headers(&onward(&after_a, &id("b"), none()));
        assert_eq!(check(&after_b, &id("a")), Err(Fault::Loop));
        assert!(!format!("{after_b:?}").contains("\"a\""), "no tenant's name leaves");
    }

    #[test]
    fn spelling_and_other_servers_entries_change_nothing() {
        let own = entry(&id("a")).replace("; ", " ;  ");
        let spelt = HeaderValue::try_from(format!("fastly, {own} ,cloudflare; x=1")).unwrap();
        assert_eq!(check(&headers(&spelt), &id("a")), Err(Fault::Loop));
        let others = HeaderValue::from_static("fastly, tollgate.example, cloudflare");
        check(&headers(&others), &id("a")).unwrap();
    }

    #[test]
    fn a_request_that_a_guest_sent_is_recognised() {
        let of = |headers: &HeaderMap| came_from_a_guest(&onward(headers, &id("a"), none()));
        assert!(!of(&HeaderMap::new()));
        assert!(!of(&headers(&HeaderValue::from_static("fastly, cloudflare"))));
        assert!(of(&headers(&onward(&HeaderMap::new(), &id("a"), none()))), "by a neighbour");
        assert!(of(&headers(&onward(&HeaderMap::new(), &id("b"), none()))), "by another tenant");
    }

    #[test]
    fn a_chain_is_bounded() {
        let mut chain = HeaderMap::new();
        let mut hops = 0;
        while check(&chain, &id("last")).is_ok() {
            chain = headers(&onward(&chain, &id(&format!("t{hops}")), none()));
            hops += 1;
        }
        assert_eq!(hops, HOPS_MAX);
        let long = headers(&HeaderValue::try_from("x".repeat(10_000)).unwrap());
        let onward = onward(&long, &id("a"), none());
        assert!(onward.len() <= CHAIN_BYTES_MAX);
        assert_eq!(check(&headers(&onward), &id("a")), Err(Fault::Loop));
    }

    #[test]
    fn earlier_messages_stay_counted_and_change_no_entry() {
        assert_eq!(line(&HeaderMap::new()), None);
        let seven = Line { number: 7, cause: RequestId::new() };
        let after_a = headers(&onward(&HeaderMap::new(), &id("a"), seven));
        assert_eq!(line(&after_a), Some(seven));
        assert_eq!(check(&after_a, &id("a")), Err(Fault::Loop), "it is the same tenant's entry");
        let after_b = headers(&onward(&after_a, &id("b"), seven));
        assert_eq!(line(&after_b), Some(seven));
        let others = HeaderValue::from_static("fastly; m=9, tollgate; t=x; m=-1, tollgate; t=x; m=many");
        assert_eq!(line(&headers(&others)), None, "others' words, and none of ours");
    }
}
