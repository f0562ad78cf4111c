//! One spelling for a path (RFC 3986 §6.2.2): what routing sees, and the guest.
//!
//! Escapes of unreserved characters are taken out, the others are in capitals, and dot segments are resolved. An escaped
//! slash stays what it is: data within a segment.

use std::borrow::Cow;

use crate::fault::Fault;

/// # Errors
/// [`Fault::Framing`] for what is read in two ways: an escape that is none, NUL, a backslash, and dots that climb out of the
/// root.
pub(super) fn normal(path: &str) -> Result<Cow<'_, str>, Fault> {
    let bytes = path.as_bytes();
    if bytes.contains(&b'\\') {
        return Err(Fault::Framing("a path has a backslash"));
    }
    let has_dots = memchr::memmem::find(bytes, b"/.").is_some();
    if !has_dots && !bytes.contains(&b'%') {
        return Ok(Cow::Borrowed(path));
    }
    let unescaped = unescape(path)?;
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
    // `/a/.` and `/a/b/..` are the folder.
    if ends_open || path.is_empty() {
        path.push('/');
    }
    Ok(Cow::Owned(path))
}

/// A path, or a pattern of paths, without escapes of unreserved characters and with the others in capitals; as it is where
/// that cannot be said.
pub(crate) fn one_spelling(path: &str) -> Cow<'_, str> {
    if path.contains('%') { unescape(path).map_or(Cow::Borrowed(path), Cow::Owned) } else { Cow::Borrowed(path) }
}

fn unescape(path: &str) -> Result<String, Fault> {
    const NO_ESCAPE: Fault = Fault::Framing("a path has a % that begins no escape");
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let (digits, behind) = after.split_at_checked(2).ok_or(NO_ESCAPE)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(NO_ESCAPE);
        }
        let byte = u8::from_str_radix(digits, 16).map_err(|_no_digits| NO_ESCAPE)?;
        match byte {
            0 => return Err(Fault::Framing("a path has a NUL")),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => {
                out.push('%');
                out.push_str(&digits.to_ascii_uppercase());
            }
        }
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
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
        ] {
            assert_eq!(normal(path).unwrap(), expected, "{path}");
        }
        for bad in ["/..", "/../a", "/a/../..", "/%2e%2e/", "/%", "/%4", "/%zz", "/%00", "/a\\b", "/%+1"] {
            assert!(normal(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        /// Twice is once, and nothing is left that could be read in another way.
        #[test]
        fn a_normal_path_stays_as_it_is(path in "/([a-c./%]|%2[eEfF5]|%61){0,30}") {
            if let Ok(once) = normal(&path) {
                prop_assert_eq!(normal(&once).unwrap(), once.clone());
                prop_assert!(once.starts_with('/') && !once.split('/').any(|segment| segment == "." || segment == ".."));
            }
        }
    }
}
