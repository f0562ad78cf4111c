//! Names and values of fields, and fields that occur several times.

use bytes::BytesMut;
use http::HeaderValue;
use http::header::{COOKIE, HeaderMap, HeaderName};

/// RFC 9110 §5.6.2.
pub(in crate::http) const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

/// RFC 9110 §5.5: visible ASCII, bytes above ASCII, and white space between.
pub(in crate::http) const fn is_value(byte: u8) -> bool {
    byte >= b' ' && byte != 0x7f || byte == b'\t'
}

/// Joins a client's cookies in one field, in order (RFC 9113 §8.2.3, RFC 9114 §4.2.1). Servers read several `Cookie` fields
/// of HTTP/1.1 in the same way.
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    let mut all = headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (all.next(), all.next()) else { return };
    let mut joined = BytesMut::from(first.as_bytes());
    for cookie in std::iter::once(second).chain(all) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(cookie.as_bytes());
    }
    // The parts were valid values, so the whole is one.
    if let Ok(joined) = HeaderValue::from_maybe_shared(joined.freeze()) {
        headers.insert(COOKIE, joined);
    }
}

pub(super) fn drop_underscores(headers: &mut HeaderMap) -> u64 {
    let has_one = |name: &&HeaderName| memchr::memchr(b'_', name.as_str().as_bytes()).is_some();
    if !headers.keys().any(|name| has_one(&name)) {
        return 0;
    }
    let before = headers.len();
    let dropped: Vec<HeaderName> = headers.keys().filter(has_one).cloned().collect();
    for name in dropped {
        headers.remove(name);
    }
    (before - headers.len()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_become_one_field_and_other_fields_stay() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("cookie", "a=1"), ("x", "1"), ("cookie", "b=\u{e4}"), ("x", "2"), ("cookie", "")] {
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        join_cookies(&mut headers);
        let all = |name: &str| headers.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
        assert_eq!(all("cookie"), ["a=1; b=\u{e4}; ".as_bytes()]);
        assert_eq!(all("x"), [b"1", b"2"]);
    }

    #[test]
    fn only_fields_with_underscores_are_dropped() {
        let mut headers = HeaderMap::new();
        for name in ["x_real_ip", "x-real", "_", "content_length", "x_real_ip"] {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("1"));
        }
        assert_eq!(drop_underscores(&mut headers), 4);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-real"]);
        assert_eq!(drop_underscores(&mut headers), 0);
    }
}
