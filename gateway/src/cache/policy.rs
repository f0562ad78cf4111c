//! What may be kept, for how long, and for whom (RFC 9111), only by what the response itself says. `CDN-Cache-Control`
//! takes precedence over `Cache-Control` and `Expires` (RFC 9213).
//!
//! It is stricter than a shared cache must be: it does not keep a response without an explicit lifetime, one that sets a
//! cookie, or one that would need validation each time.

use std::time::{Duration, SystemTime};

use http::header::{AUTHORIZATION, CACHE_CONTROL, DATE, EXPIRES, HeaderMap, HeaderName, PRAGMA, SET_COOKIE, VARY};
use http::{HeaderValue, StatusCode};

use super::directives::{Directives, said_age};

/// The longest that any response is kept.
const LIFETIME_MAX: Duration = Duration::from_hours(24);
/// The most fields by which a response may vary.
const VARY_MAX: usize = 8;

/// How long a response is fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Freshness {
    /// Its age when it arrived.
    pub(super) age: Duration,
    pub(super) lifetime: Duration,
    /// For how long after that it may be served while it is fetched again (RFC 5861 §3).
    pub(super) while_revalidate: Duration,
    /// For how long after that it may be served instead of an error (RFC 5861 §4).
    pub(super) if_error: Duration,
}

/// How a response was selected: the fields that it varies by, and the request's values.
pub(super) type Selected = Vec<(HeaderName, Option<Vec<u8>>)>;

/// How long the response to this request may be kept. Nothing if it must not be. `took` is the response time.
pub(super) fn freshness(
    request: &HeaderMap,
    status: StatusCode,
    response: &HeaderMap,
    now: SystemTime,
    took: Duration,
) -> Option<Freshness> {
    let says = Directives::of_response(response);
    let is_final =
        matches!(status.as_u16(), 200 | 203 | 204 | 300..=303 | 307 | 308 | 404 | 405 | 410 | 414 | 451 | 501);
    let is_shared =
        !request.contains_key(AUTHORIZATION) || says.public || says.must_revalidate || says.shared_max_age.is_some();
    if !is_final
        || !is_shared
        // The cache knows all requirements of these statuses (§5.2.2.3).
        || (says.no_store && !says.must_understand)
        || says.no_cache
        || says.private
        || Directives::of(request).no_store
        || response.contains_key(SET_COOKIE)
    {
        return None;
    }
    let time = |name: HeaderName| {
        let mut values = response.get_all(name).iter();
        // Two values count as none.
        let only = values.next().filter(|_| values.next().is_none())?;
        httpdate::parse_http_date(only.to_str().ok()?).ok()
    };
    let lifetime = match says.shared_max_age.or(says.max_age) {
        Some(seconds) => Duration::from_secs(seconds),
        None if says.is_targeted => return None,
        // An invalid date counts as past (§5.3).
        None => time(EXPIRES)?.duration_since(time(DATE).unwrap_or(now)).ok()?,
    };
    // `s-maxage` implies `proxy-revalidate` (§5.2.2.10).
    let may_be_stale = !says.must_revalidate && !says.proxy_revalidate && says.shared_max_age.is_none();
    let stale = |said: Option<u64>| Duration::from_secs(said.filter(|_| may_be_stale).unwrap_or(0)).min(LIFETIME_MAX);
    // §4.2.3: the greater of the age by the origin's clock, and the stated age plus the response time.
    let apparent = time(DATE).and_then(|date| now.duration_since(date).ok()).unwrap_or_default();
    let age = apparent.max(said_age(response).saturating_add(took));
    let lifetime = lifetime.min(LIFETIME_MAX);
    let (while_revalidate, if_error) = (stale(says.while_revalidate), stale(says.if_error));
    (age < lifetime).then_some(Freshness { age, lifetime, while_revalidate, if_error })
}

/// The request's values that selected the response. Nothing if that cannot be determined.
pub(super) fn selected(request: &HeaderMap, response: &HeaderMap) -> Option<Selected> {
    let mut fields: Selected = Vec::new();
    for value in response.get_all(VARY) {
        for word in value.to_str().ok()?.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            // `*` is not a field name.
            let name = HeaderName::try_from(word).ok().filter(|name| name.as_str() != "*")?;
            if fields.iter().all(|(known, _)| *known != name) {
                let value = field(request, &name);
                fields.push((name, value));
            }
        }
    }
    (fields.len() <= VARY_MAX).then_some(fields)
}

/// Whether the response would also be selected for this request (§4.1).
pub(super) fn selects(selected: &Selected, request: &HeaderMap) -> bool {
    selected.iter().all(|(name, value)| field(request, name) == *value)
}

fn field(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let mut values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let first = values.next()?.trim_ascii().to_vec();
    Some(values.fold(first, |mut all, value| {
        all.extend(b", ");
        all.extend(value.trim_ascii());
        all
    }))
}

/// How a kept response applies to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Fresh,
    /// It may be served, and must be fetched again.
    Stale,
    /// It may be served only if nothing else is available.
    OnError,
    Not,
}

/// `age` is its present age.
pub(super) fn usable(request: &HeaderMap, kept: &Freshness, age: Duration) -> Use {
    let asks = Directives::of(request);
    let is_pragma = || {
        !request.contains_key(CACHE_CONTROL)
            && request.get_all(PRAGMA).iter().any(|value| value.as_bytes().eq_ignore_ascii_case(b"no-cache"))
    };
    let too_old = asks.max_age.is_some_and(|max| age > Duration::from_secs(max));
    if asks.no_cache || is_pragma() || too_old {
        return Use::Not;
    }
    let wanted = Duration::from_secs(asks.min_fresh.unwrap_or(0));
    match kept.lifetime.checked_sub(age) {
        Some(left) if !left.is_zero() => {
            if left >= wanted {
                Use::Fresh
            } else {
                Use::Not
            }
        }
        _ if !wanted.is_zero() => Use::Not,
        _ if age < kept.lifetime.saturating_add(kept.while_revalidate) => Use::Stale,
        _ if is_good_on_error(kept, age) => Use::OnError,
        _ => Use::Not,
    }
}

/// Whether it may be served instead of an error.
pub(super) fn is_good_on_error(kept: &Freshness, age: Duration) -> bool {
    age < kept.lifetime.saturating_add(kept.if_error)
}

/// Whether the client accepts only a kept response (§5.2.1.7).
pub(super) fn only_if_cached(request: &HeaderMap) -> bool {
    Directives::of(request).only_if_cached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&str, &str)| (HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in fields.iter().map(field) {
            headers.append(name, value);
        }
        headers
    }

    fn kept(request: &[(&str, &str)], response: &[(&str, &str)]) -> Option<(u64, u64)> {
        let fresh =
            freshness(&headers(request), StatusCode::OK, &headers(response), SystemTime::UNIX_EPOCH, Duration::ZERO)?;
        Some((fresh.lifetime.as_secs(), fresh.while_revalidate.as_secs()))
    }

    #[test]
    fn a_response_says_how_long_it_is_fresh() {
        let of = |value: &str| kept(&[], &[("cache-control", value)]);
        assert_eq!(of("max-age=60"), Some((60, 0)));
        assert_eq!(of("Public, Max-Age=60, s-maxage=90"), Some((90, 0)));
        assert_eq!(of("max-age=60, stale-while-revalidate=30"), Some((60, 30)));
        assert_eq!(of("max-age=60, must-revalidate, stale-while-revalidate=30"), Some((60, 0)));
        assert_eq!(of("s-maxage=60, stale-while-revalidate=30"), Some((60, 0)));
        assert_eq!(of("max-age=\"60\""), Some((60, 0)));
        assert_eq!(of("max-age=60, max-age=9"), Some((9, 0)));
        assert_eq!(of("max-age=99999999999999999999"), Some((86_400, 0)), "longer than anybody counts");
        assert_eq!(of("no-store, must-understand, max-age=60"), Some((60, 0)));
        assert_eq!(of("max-age=18446744073709551615"), Some((86_400, 0)));
        assert_eq!(of("x=\"a, no-store\", max-age=60"), Some((60, 0)));
        for not in ["", "public", "max-age=0", "max-age=x", "max-age=60, no-store", "max-age=60, no-cache"] {
            assert_eq!(of(not), None, "{not}");
        }
        for not in ["x=\"\\\"\", no-store, max-age=9", "x=\"open, max-age=9", "max-age=9, \u{e9}"] {
            assert_eq!(of(not), None, "{not}");
        }
        for not in ["max-age=60, private", "private=\"x, y\", max-age=60", "no-cache=\"set-cookie\", max-age=9"] {
            assert_eq!(of(not), None, "{not}");
        }
        let (epoch, minute) = ("Thu, 01 Jan 1970 00:00:00 GMT", "Thu, 01 Jan 1970 00:01:00 GMT");
        assert_eq!(kept(&[], &[("expires", minute)]), Some((60, 0)));
        assert_eq!(kept(&[], &[("expires", minute), ("date", epoch)]), Some((60, 0)));
        assert_eq!(kept(&[], &[("expires", minute), ("date", minute)]), None);
        assert_eq!(kept(&[], &[("expires", "0")]), None);
        assert_eq!(kept(&[], &[("expires", minute), ("cache-control", "max-age=5")]), Some((5, 0)));
        assert_eq!(kept(&[], &[("last-modified", epoch)]), None, "nothing is guessed");
    }

    #[test]
    fn some_responses_are_for_one_client_only() {
        let good = ("cache-control", "max-age=60");
        assert_eq!(kept(&[("authorization", "x")], &[good]), None);
        assert_eq!(kept(&[("authorization", "x")], &[("cache-control", "public, max-age=60")]), Some((60, 0)));
        assert_eq!(kept(&[("authorization", "x")], &[("cache-control", "proxy-revalidate, max-age=60")]), None);
        assert_eq!(kept(&[("cache-control", "no-store")], &[good]), None);
        assert_eq!(kept(&[], &[good, ("set-cookie", "a=b")]), None);
        assert_eq!(
            kept(&[], &[good, ("content-range", "bytes 0-1/2")]),
            Some((60, 0)),
            "of a 206 and a 416 it says something"
        );
        assert_eq!(kept(&[], &[good, ("age", "59")]), Some((60, 0)));
        assert_eq!(kept(&[], &[good, ("age", "60")]), None);
        assert_eq!(kept(&[], &[good, ("age", "much")]), Some((60, 0)));
        assert_eq!(kept(&[], &[good, ("age", "99999999999999999999")]), None);
        let status = |code| {
            let code = StatusCode::from_u16(code).unwrap();
            let (headers, now) = (headers(&[good]), SystemTime::UNIX_EPOCH);
            freshness(&HeaderMap::new(), code, &headers, now, Duration::ZERO).is_some()
        };
        assert!(status(404) && status(301));
        assert!(!status(206) && !status(500) && !status(304));
    }

    #[test]
    fn a_response_is_selected_by_the_fields_that_it_varies_by() {
        let request = headers(&[("accept-language", "de"), ("accept-language", "fr"), ("x", "1")]);
        let of = |vary: &str| selected(&request, &headers(&[("vary", vary)]));
        let by = of("Accept-Language, X, accept-language").unwrap();
        assert_eq!(by.len(), 2);
        assert!(selects(&by, &request));
        assert!(selects(&by, &headers(&[("accept-language", "de, fr"), ("x", "1"), ("y", "2")])));
        assert!(!selects(&by, &headers(&[("accept-language", "de"), ("x", "1")])));
        assert!(!selects(&by, &headers(&[("accept-language", "de, fr")])), "to say nothing is something else");
        assert_eq!(of("*"), None);
        assert_eq!(of("x, *"), None);
        assert_eq!(of("a, b, c, d, e, f, g, h, i"), None);
        assert_eq!(of("").unwrap(), []);
    }

    #[test]
    fn a_request_says_which_responses_it_accepts() {
        let seconds = Duration::from_secs;
        let (while_revalidate, if_error) = (seconds(30), seconds(90));
        let fresh = Freshness { age: Duration::ZERO, lifetime: seconds(60), while_revalidate, if_error };
        let at = |fields: &[(&str, &str)], age| usable(&headers(fields), &fresh, seconds(age));
        assert_eq!(
            (at(&[], 59), at(&[], 60), at(&[], 89), at(&[], 90)),
            (Use::Fresh, Use::Stale, Use::Stale, Use::OnError)
        );
        assert_eq!((at(&[], 149), at(&[], 150)), (Use::OnError, Use::Not));
        assert_eq!(at(&[("cache-control", "no-cache")], 0), Use::Not);
        assert_eq!(at(&[("pragma", "no-cache")], 0), Use::Not);
        assert_eq!(at(&[("pragma", "no-cache"), ("cache-control", "x")], 0), Use::Fresh);
        assert_eq!(
            (at(&[("cache-control", "max-age=5")], 5), at(&[("cache-control", "max-age=5")], 6)),
            (Use::Fresh, Use::Not)
        );
        assert_eq!(at(&[("cache-control", "min-fresh=30")], 30), Use::Fresh);
        assert_eq!(at(&[("cache-control", "min-fresh=30")], 31), Use::Not);
        assert_eq!(at(&[("cache-control", "min-fresh=30")], 61), Use::Not);
    }
}
