//! Normalises a target (RFC 3986 §6.2.2). Routing, the cache and the guest see only the normalised form.
//!
//! In a path, escapes of unreserved characters are decoded, other escapes become upper case, bytes that need an escape get
//! one, and dot segments are resolved. An escaped slash stays as it is: it is data within a segment. The query belongs to
//! the guest; only bytes that no URI may contain become escapes.

use std::borrow::Cow;

use http::uri::PathAndQuery;
use http::{Method, Uri};

use crate::fault::Fault;

/// The longest target that [`Uri`] supports.
const TARGET_BYTES_MAX: usize = u16::MAX as usize - 1;
const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// The form of the target in an HTTP/1.1 request line (RFC 9112 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Form {
    /// Valid as it is.
    Fine,
    /// It has bytes that no URI may contain. [`percent_encoded`] escapes them.
    Raw,
    /// It is longer than allowed.
    Long,
}

/// How a byte of a path is treated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Byte {
    /// It stays as it is (`pchar` and the slash, RFC 3986 §3.3).
    Itself,
    Dot,
    Percent,
    Backslash,
    /// It must be escaped.
    Raw,
}

const fn of_path(byte: u8) -> Byte {
    match byte {
        b'.' => Byte::Dot,
        b'%' => Byte::Percent,
        b'\\' => Byte::Backslash,
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' | b'/' | b':' | b'@' => Byte::Itself,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' => Byte::Itself,
        _ => Byte::Raw,
    }
}

const fn table() -> [Byte; 256] {
    let (mut table, mut at) = ([Byte::Raw; 256], 0_u8);
    loop {
        table[at as usize] = of_path(at);
        if at == u8::MAX {
            return table;
        }
        at += 1;
    }
}

const PATH: [Byte; 256] = table();

/// Bytes that clients send in a path or query although no URI may contain them (RFC 3986 §2): quotes, angle brackets, the
/// grave accent, and all bytes above ASCII.
const fn is_raw(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'`' | 0x80..)
}

/// Checks an HTTP/1.1 target: a path, an absolute URL, or the special form of its method.
///
/// # Errors
/// The target has none of these forms, or has a byte with another meaning.
pub(in crate::http) fn form(method: &[u8], target: &[u8]) -> Result<Form, &'static str> {
    const WANTED: &str = "the request target is neither a path nor an absolute URL of http or https";
    let (mut is_raw_anywhere, mut is_bad) = (false, target.is_empty());
    for byte in target.iter().copied() {
        is_raw_anywhere |= is_raw(byte);
        // Clients never send a fragment (RFC 9112 §3.2).
        is_bad |= byte <= b' ' || byte == 0x7f || byte == b'#';
    }
    if is_bad {
        return Err("the request target has a byte that must be percent-encoded");
    }
    if target.len() > TARGET_BYTES_MAX {
        return Ok(Form::Long);
    }
    match target {
        [b'/', ..] => {}
        b"*" if method == Method::OPTIONS.as_str().as_bytes() => {}
        _ => {
            let encoded = percent_encoded(target);
            let uri = Uri::try_from(encoded.as_slice()).map_err(|_no_uri| WANTED)?;
            let is_absolute = matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some();
            // CONNECT is refused later with its own fault, whatever it names.
            if !is_absolute && method != Method::CONNECT.as_str().as_bytes() {
                return Err(WANTED);
            }
        }
    }
    Ok(if is_raw_anywhere { Form::Raw } else { Form::Fine })
}

/// Escapes the bytes of a target that no URI may contain.
pub(in crate::http) fn percent_encoded(target: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(target.len() + 16);
    for byte in target.iter().copied() {
        if is_raw(byte) { escape(&mut out, byte) } else { out.push(byte) }
    }
    out
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    let digit = |at: u8| HEX.get(usize::from(at)).copied().unwrap_or(b'0');
    out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
}

/// The normalised target, if it differs from this one.
///
/// # Errors
/// As for [`normal`].
pub(super) fn spelled(target: &PathAndQuery) -> Result<Option<String>, Fault> {
    let path = normal(target.path())?;
    let query = target.query().map(|query| {
        let is_fine = !query.bytes().any(is_raw);
        if is_fine { Cow::Borrowed(query) } else { Cow::Owned(text(percent_encoded(query.as_bytes()))) }
    });
    let is_same = matches!(path, Cow::Borrowed(_)) && !matches!(query, Some(Cow::Owned(_)));
    // A target may begin with its query.
    if is_same && target.as_str().starts_with('/') {
        return Ok(None);
    }
    Ok(Some(match query {
        Some(query) => format!("{path}?{query}"),
        None => path.into_owned(),
    }))
}

/// The bytes are ASCII, as they were or by escapes.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_default()
}

/// # Errors
/// [`Fault::Framing`] for ambiguous paths: an invalid escape, NUL, a backslash, and dots that climb above the root.
pub(super) fn normal(path: &str) -> Result<Cow<'_, str>, Fault> {
    let (mut has_dots, mut has_escapes, mut before) = (false, false, b'/');
    for byte in path.bytes() {
        match PATH[usize::from(byte)] {
            Byte::Itself => {}
            Byte::Dot => has_dots |= before == b'/',
            Byte::Percent | Byte::Raw => has_escapes = true,
            Byte::Backslash => return Err(Fault::Framing("a path has a backslash")),
        }
        before = byte;
    }
    if !has_dots && !has_escapes {
        return Ok(Cow::Borrowed(path));
    }
    let unescaped = escaped(path)?;
    if memchr::memmem::find(unescaped.as_bytes(), b"/.").is_none() {
        return Ok(Cow::Owned(unescaped));
    }
    let mut segments: Vec<&str> = Vec::new();
    let mut ends_open = false;
    for segment in unescaped.split('/').skip(1) {
        ends_open = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                segments.pop().ok_or(Fault::Framing("a path climbs out of its root"))?;
            }
            _ => segments.push(segment),
        }
    }
    let mut path = String::with_capacity(unescaped.len());
    for segment in segments {
        path.push('/');
        path.push_str(segment);
    }
    // `/a/.` and `/a/b/..` are folders.
    if ends_open || path.is_empty() {
        path.push('/');
    }
    Ok(Cow::Owned(path))
}

/// Spells each byte of a path, or of a pattern of paths, in its one form. Returns an invalid path unchanged.
pub(crate) fn one_spelling(path: &str) -> Cow<'_, str> {
    let is_spelled = path.bytes().all(|byte| matches!(PATH[usize::from(byte)], Byte::Itself | Byte::Dot));
    if is_spelled { Cow::Borrowed(path) } else { escaped(path).map_or(Cow::Borrowed(path), Cow::Owned) }
}

/// Each byte as itself or as an upper-case escape, as its kind requires.
fn escaped(path: &str) -> Result<String, Fault> {
    const NO_ESCAPE: Fault = Fault::Framing("a path has a % that begins no escape");
    let mut out = Vec::with_capacity(path.len() + 16);
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match PATH[usize::from(byte)] {
            Byte::Itself | Byte::Dot | Byte::Backslash => out.push(byte),
            Byte::Raw => escape(&mut out, byte),
            Byte::Percent => {
                let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16)).ok_or(NO_ESCAPE);
                let (high, low) = (digit()?, digit()?);
                match u8::try_from(high << 4 | low).map_err(|_no_byte| NO_ESCAPE)? {
                    0 => return Err(Fault::Framing("a path has a NUL")),
                    byte @ (b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~') => out.push(byte),
                    byte => escape(&mut out, byte),
                }
            }
        }
    }
    Ok(text(out))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_has_one_spelling() {
        for (path, expected) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("//a//", "//a//"),
            ("/%61/%7E%2d", "/a/~-"),
            ("/a%2fb/%c3%a9", "/a%2Fb/%C3%A9"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/..", "/"),
            ("/a/b/.", "/a/b/"),
            ("/a/b/..", "/a/"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a/...", "/a/..."),
            ("/a/..b", "/a/..b"),
            ("/a//../b", "/a/b"),
            ("/a%5Cb", "/a%5Cb"),
            ("/\u{e9}\"<>`{|}^", "/%C3%A9%22%3C%3E%60%7B%7C%7D%5E"),
            ("/%c3\u{a9}", "/%C3%C2%A9"),
            ("/a!$&'()*+,;=:@~", "/a!$&'()*+,;=:@~"),
        ] {
            assert_eq!(normal(path).unwrap(), expected, "{path}");
        }
        for bad in ["/..", "/../a", "/a/../..", "/%2e%2e/", "/%", "/%4", "/%zz", "/%00", "/a\\b", "/%+1"] {
            assert!(normal(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_query_stays_as_it_is_except_for_bytes_that_no_uri_may_contain() {
        let of = |target: &str| spelled(&target.parse().unwrap()).unwrap();
        for same in ["/", "/?", "/a?b=%7e/../{}|^"] {
            assert_eq!(of(same), None, "{same}");
        }
        for (target, expected) in
            [("/a?\u{e9}`", "/a?%C3%A9%60"), ("/./a?b", "/a?b"), ("?a", "/?a"), ("/\u{e9}?", "/%C3%A9?")]
        {
            assert_eq!(of(target).as_deref(), Some(expected), "{target}");
        }
    }

    #[test]
    fn an_http1_target_has_one_of_four_forms() {
        for (method, target, expected) in [
            ("GET", "/", Form::Fine),
            ("GET", "/a?b={}", Form::Fine),
            ("GET", "/a?b=\"<>", Form::Raw),
            ("GET", "/<a>`", Form::Raw),
            ("GET", "/\u{e9}", Form::Raw),
            ("GET", "http://x", Form::Fine),
            ("GET", "HTTPS://x:443/a?b", Form::Fine),
            ("GET", "http://x/\u{e9}", Form::Raw),
            ("OPTIONS", "*", Form::Fine),
            ("CONNECT", "x:443", Form::Fine),
        ] {
            assert_eq!(form(method.as_bytes(), target.as_bytes()), Ok(expected), "{method} {target}");
        }
        for (method, target) in [
            ("GET", ""),
            ("GET", "x"),
            ("GET", "x:443"),
            ("GET", "*"),
            ("GET", "ftp://x/"),
            ("GET", "http://"),
            ("GET", "http:///a"),
            ("GET", "http://x\u{e9}/"),
            ("GET", "/a#b"),
            ("GET", "/a b"),
            ("GET", "/\u{7f}"),
            ("CONNECT", "<x>"),
        ] {
            assert!(form(method.as_bytes(), target.as_bytes()).is_err(), "{method} {target}");
        }
        assert_eq!(form(b"GET", &[b'/'; TARGET_BYTES_MAX + 1]), Ok(Form::Long));
    }

    proptest! {
        /// hyper reports an invalid target without a reason, so it must accept every target that passes here.
        #[test]
        fn an_accepted_target_is_a_uri(target in "[/*a:x.?<>\"`{|}^\\\\\u{e9}%@\\[\\]]{1,20}|http://[a-z:@\\[\\]%]{0,10}/?.{0,10}") {
            if form(b"GET", target.as_bytes()).is_ok() {
                let uri = Uri::try_from(percent_encoded(target.as_bytes()));
                prop_assert!(uri.is_ok(), "{target:?} {uri:?}");
            }
        }

        /// Normalising twice is normalising once, and the result cannot be read in another way.
        #[test]
        fn a_normalised_path_stays_as_it_is(path in "/([a-c./%]|%2[eEfF5]|%61){0,30}") {
            if let Ok(once) = normal(&path) {
                prop_assert_eq!(normal(&once).unwrap(), once.clone());
                prop_assert!(once.starts_with('/') && !once.split('/').any(|segment| segment == "." || segment == ".."));
            }
        }
    }
}
