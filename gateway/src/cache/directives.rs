//! A message's cache directives: `Cache-Control` (RFC 9111 §5.2), or `CDN-Cache-Control` in its place (RFC 9213), and
//! `Age`.

use std::time::Duration;

use http::header::{AGE, CACHE_CONTROL, HeaderMap, HeaderName};

use super::structured::{Value, dictionary};
use crate::http::list;

const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// The directives of one message.
#[derive(Debug, Default)]
pub(super) struct Directives {
    pub(super) no_store: bool,
    pub(super) no_cache: bool,
    pub(super) private: bool,
    pub(super) public: bool,
    pub(super) must_revalidate: bool,
    pub(super) proxy_revalidate: bool,
    pub(super) must_understand: bool,
    pub(super) max_age: Option<u64>,
    pub(super) shared_max_age: Option<u64>,
    pub(super) while_revalidate: Option<u64>,
    pub(super) if_error: Option<u64>,
    pub(super) min_fresh: Option<u64>,
    pub(super) only_if_cached: bool,
    /// Whether they are meant only for caches like this one. Then `Expires` is for others.
    pub(super) is_targeted: bool,
}

/// Of two conflicting values the stricter one counts (§4.2.1).
fn least(known: &mut Option<u64>, value: u64) {
    *known = Some(known.map_or(value, |known| known.min(value)));
}

/// A number of seconds. A number that is too large counts as a long time (§1.2.2). Nothing if it is not a number.
fn seconds(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

impl Directives {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        for value in headers.get_all(CACHE_CONTROL) {
            // A field that cannot be read might forbid caching.
            let Some(words) = value.to_str().ok().and_then(list) else {
                found.no_store = true;
                continue;
            };
            for word in words {
                let (name, value) =
                    word.split_once('=').map_or((word, ""), |(name, value)| (name.trim(), value.trim()));
                // A time that is not a number counts as past.
                let seconds = seconds(value.trim_matches('"')).unwrap_or(0);
                found.add(&name.to_ascii_lowercase(), true, Some(seconds));
            }
        }
        found
    }

    /// The directives of a response: those for caches like this one, or else those for all caches.
    pub(super) fn of_response(headers: &HeaderMap) -> Self {
        let lines: Option<Vec<&str>> =
            headers.get_all(CDN_CACHE_CONTROL).iter().map(|line| line.to_str().ok()).collect();
        // An empty or malformed field counts for nothing (RFC 9213 §2.1).
        let Some(members) = lines.and_then(|lines| dictionary(&lines.join(", "))).filter(|members| !members.is_empty())
        else {
            return Self::of(headers);
        };
        let mut found = Self { is_targeted: true, ..Self::default() };
        for (name, value) in members {
            match value {
                Value::Integer(number) => found.add(&name, true, Some(number.try_into().unwrap_or(0))),
                Value::Boolean(is_so) => found.add(&name, is_so, None),
                // A prohibition counts with any value; a time must be a number.
                Value::Other => found.add(&name, true, None),
            }
        }
        found
    }

    /// Adds one directive, with its time if it has one.
    fn add(&mut self, name: &str, is_so: bool, seconds: Option<u64>) {
        match name {
            "no-store" => self.no_store |= is_so,
            "no-cache" => self.no_cache |= is_so,
            "private" => self.private |= is_so,
            "public" => self.public |= is_so,
            "must-revalidate" => self.must_revalidate |= is_so,
            "proxy-revalidate" => self.proxy_revalidate |= is_so,
            "must-understand" => self.must_understand |= is_so,
            "only-if-cached" => self.only_if_cached |= is_so,
            _ => {
                let Some(seconds) = seconds else { return };
                match name {
                    "max-age" => least(&mut self.max_age, seconds),
                    "s-maxage" => least(&mut self.shared_max_age, seconds),
                    "stale-while-revalidate" => least(&mut self.while_revalidate, seconds),
                    "stale-if-error" => least(&mut self.if_error, seconds),
                    "min-fresh" => self.min_fresh = Some(seconds),
                    _ => {}
                }
            }
        }
    }
}

/// The age that a response states: the first of all values, if it is a number (§5.1).
pub(super) fn said_age(response: &HeaderMap) -> Duration {
    let first = response.get(AGE).and_then(|value| value.to_str().ok()?.split(',').next());
    Duration::from_secs(first.and_then(|age| seconds(age.trim())).unwrap_or(0))
}
