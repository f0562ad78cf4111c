//! Checks that a field section is a valid request or trailer section (RFC 9113 §8.1 to §8.3, RFC 9114 §4.1 to §4.4).
//!
//! h2 checks most of this and h3 little of it. Neither reports which request it refused and why.

use http::uri::Authority;
use http::{Method, Uri};

use super::Section;
use crate::fault::Fault;
use crate::http::grammar::{Form, agree, form, is_token, is_value, percent_encoded};

/// Connection-specific fields of HTTP/1.1 (RFC 9113 §8.2.2, RFC 9114 §4.2).
const OF_CONNECTIONS: [&[u8]; 5] =
    [b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"];
/// A field by which our reader tells the service about a request. No client may send it.
pub(in crate::http) const NOTE: &str = "tollgate-note";

/// Why a section is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Bad {
    /// It is not a valid request: a stream error.
    Malformed(&'static str),
    /// It is a valid request that is answered with this fault.
    Refused(Fault),
}

use Bad::{Malformed, Refused};

/// What the service needs to know about a valid request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::http) struct Head {
    /// Whether the client waits for 100 (RFC 9110 §10.1.1).
    pub(in crate::http) expects: bool,
    /// The normalised target, if it differs from the one that the client sent.
    target: Option<Vec<u8>>,
    /// Whether `Host` repeats `:authority` in another spelling.
    has_second_host: bool,
    /// Whether the client sent our own note field.
    has_note: bool,
}

impl Head {
    /// Whether the section is passed on unchanged.
    pub(in crate::http) const fn is_in_order(&self) -> bool {
        self.target.is_none() && !self.has_second_host && !self.has_note
    }

    /// The fields to pass on.
    pub(in crate::http) fn fields<'s>(&'s self, section: &'s Section) -> impl Iterator<Item = (&'s [u8], &'s [u8])> {
        section.fields().filter_map(|(name, value)| match name {
            b":path" => Some((name, self.target.as_deref().unwrap_or(value))),
            b"host" if self.has_second_host => None,
            _ if name == NOTE.as_bytes() => None,
            _ => Some((name, value)),
        })
    }
}

/// The pseudo-fields of requests. Each may occur once.
#[derive(Debug, Default)]
struct Pseudo<'s> {
    method: Option<&'s [u8]>,
    scheme: Option<&'s [u8]>,
    authority: Option<&'s [u8]>,
    path: Option<&'s [u8]>,
}

impl<'s> Pseudo<'s> {
    fn set(&mut self, name: &[u8], value: &'s [u8]) -> Result<(), Bad> {
        let place = match name {
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":authority" => &mut self.authority,
            b":path" => &mut self.path,
            _ => return Err(Malformed("a pseudo-field that requests do not have")),
        };
        if place.replace(value).is_some() { Err(Malformed("a pseudo-field comes twice")) } else { Ok(()) }
    }
}

/// Checks a request's field section.
///
/// # Errors
/// The section is malformed, or the request is refused.
pub(in crate::http) fn request(section: &Section) -> Result<Head, Bad> {
    let (mut pseudo, mut head) = (Pseudo::default(), Head::default());
    let (mut host, mut has_fields, mut has_length) = (None, false, false);
    for (name, value) in section.fields() {
        if name.first() == Some(&b':') {
            if has_fields {
                return Err(Malformed("a pseudo-field comes behind other fields"));
            }
            pseudo.set(name, value)?;
            continue;
        }
        has_fields = true;
        field(name, value)?;
        match name {
            b"host" => host = Some(value),
            b"expect" => head.expects |= value.eq_ignore_ascii_case(b"100-continue"),
            b"content-length" => {
                let is_number = !value.is_empty() && value.len() < 20 && value.iter().all(u8::is_ascii_digit);
                if std::mem::replace(&mut has_length, true) || !is_number {
                    return Err(Malformed("Content-Length is not one number"));
                }
            }
            _ => head.has_note |= name == NOTE.as_bytes(),
        }
    }
    if section.is_too_large() {
        return Err(Refused(Fault::HeadTooLarge));
    }
    whole(&pseudo, host, &mut head)?;
    Ok(head)
}

/// Checks that the pseudo-fields and `Host` form one request.
fn whole(pseudo: &Pseudo<'_>, host: Option<&[u8]>, head: &mut Head) -> Result<(), Bad> {
    let method = pseudo.method.filter(|method| !method.is_empty()).ok_or(Malformed("there is no :method"))?;
    if !method.iter().copied().all(is_token) {
        return Err(Malformed(":method is no token"));
    }
    if pseudo.authority.or(host).is_none_or(<[u8]>::is_empty) || host.is_some_and(<[u8]>::is_empty) {
        return Err(Malformed("there is neither :authority nor Host, or one is empty"));
    }
    if method == Method::CONNECT.as_str().as_bytes() {
        let is_tunnel = pseudo.authority.is_some() && pseudo.scheme.is_none() && pseudo.path.is_none();
        // A client that asks for a tunnel learns that there are none, and nothing about the target.
        return Err(if is_tunnel {
            Refused(Fault::NotSupported)
        } else {
            Malformed("CONNECT has a target of its own")
        });
    }
    let scheme = pseudo.scheme.ok_or(Malformed("there is no :scheme"))?;
    let path = pseudo.path.filter(|path| !path.is_empty()).ok_or(Malformed("there is no :path"))?;
    if !scheme.eq_ignore_ascii_case(b"https") && !scheme.eq_ignore_ascii_case(b"http") {
        return Err(Refused(Fault::Framing("the scheme is neither http nor https")));
    }
    for authority in [pseudo.authority, host].into_iter().flatten() {
        Authority::try_from(authority).map_err(|_no_authority| Refused(Fault::BadRequest))?;
    }
    if let (Some(authority), Some(host)) = (pseudo.authority, host)
        && authority != host
    {
        head.has_second_host = agree(scheme, authority, host);
        if !head.has_second_host {
            return Err(Refused(Fault::BadRequest));
        }
    }
    head.target = target(method, path)?;
    Ok(())
}

/// The normalised target, if it differs.
fn target(method: &[u8], path: &[u8]) -> Result<Option<Vec<u8>>, Bad> {
    // An absolute URL is not allowed here (RFC 9113 §8.3.1).
    if !matches!(path, [b'/', ..] | b"*") {
        return Err(Refused(Fault::Framing("the path does not begin with a slash")));
    }
    match form(method, path).map_err(|why| Refused(Fault::Framing(why)))? {
        Form::Fine => Ok(None),
        Form::Long => Err(Refused(Fault::HeadTooLarge)),
        Form::Raw => {
            let encoded = percent_encoded(path);
            Uri::try_from(encoded.as_slice()).map_err(|_long| Refused(Fault::HeadTooLarge))?;
            Ok(Some(encoded))
        }
    }
}

/// The request that replaces a refused one. It keeps HEAD, whose response has no content.
pub(in crate::http) fn instead(section: &Section) -> [(&'static [u8], &'static [u8]); 4] {
    let is_head = section.fields().any(|field| field == (&b":method"[..], &b"HEAD"[..]));
    let method: &[u8] = if is_head { b"HEAD" } else { b"-" };
    [(b":method", method), (b":scheme", b"https"), (b":authority", b"-"), (b":path", b"/")]
}

/// Checks the trailer section after a body.
///
/// # Errors
/// The section is malformed.
pub(in crate::http) fn trailers(section: &Section) -> Result<(), Bad> {
    section.fields().try_for_each(|(name, value)| {
        if name.first() == Some(&b':') {
            return Err(Malformed("a pseudo-field behind a body"));
        }
        field(name, value)
    })
}

/// Checks a field that is not one of [`Pseudo`].
fn field(name: &[u8], value: &[u8]) -> Result<(), Bad> {
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte) && !byte.is_ascii_uppercase()) {
        return Err(Malformed("a field's name has a byte that none has, or a capital"));
    }
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if !value.iter().copied().all(is_value) || is_space(value.first()) || is_space(value.last()) {
        return Err(Malformed("a field's value has a control byte, or white space around it"));
    }
    if OF_CONNECTIONS.contains(&name) {
        return Err(Malformed("a field of HTTP/1.1's connections"));
    }
    if name == b"te" && !value.eq_ignore_ascii_case(b"trailers") {
        return Err(Malformed("TE says more than `trailers`"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "https"), (":authority", "a.example"), (":path", "/")];

    fn section(fields: &[(&str, &str)]) -> Section {
        let mut section = Section::default();
        section.begin(1 << 16);
        fields.iter().for_each(|(name, value)| section.push(name.as_bytes(), value.as_bytes()));
        section
    }

    /// [`GET`] with some fields replaced or added.
    fn with(others: &[(&str, &str)]) -> Result<Head, Bad> {
        let is_other = |name: &str| others.iter().any(|(other, _)| *other == name);
        let all: Vec<_> = GET.iter().filter(|(name, _)| !is_other(name)).chain(others).copied().collect();
        request(&section(&all))
    }

    #[test]
    fn a_valid_request_is_passed_on_unchanged() {
        for more in [
            &[][..],
            &[("host", "a.example"), ("te", "trailers"), ("cookie", "a=1"), ("cookie", "b=2")],
            &[("content-length", "0"), ("x_y", "\u{e9}")],
        ] {
            assert_eq!(with(more), Ok(Head::default()), "{more:?}");
        }
        assert!(with(&[("expect", "100-Continue")]).unwrap().expects);
        assert!(request(&section(&[GET[0], GET[1], GET[3], ("host", "a.example")])).unwrap().is_in_order());
        assert!(with(&[(":method", "OPTIONS"), (":path", "*")]).unwrap().is_in_order());
    }

    #[test]
    fn two_spellings_become_one() {
        let spelt = |others: &[(&str, &str)]| {
            let head = with(others).unwrap();
            assert!(!head.is_in_order(), "{others:?}");
            let all: Vec<_> = GET.iter().chain(others).copied().collect();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let section = section(&all);
            head.fields(&section).map(|(name, value)| format!("{}={}", text(name), text(value))).collect::<Vec<_>>()
        };
        assert_eq!(spelt(&[("host", "A.example:443"), ("x", "y")]).last().unwrap(), "x=y");
        assert!(!spelt(&[("host", "A.example:443"), ("x", "y")]).iter().any(|field| field.starts_with("host")));
        assert!(spelt(&[(":path", "/\u{e9}?\"")]).contains(&":path=/%C3%A9?%22".to_owned()));
        assert!(!spelt(&[(NOTE, "1")]).iter().any(|field| field.starts_with(NOTE)), "only we say that");
    }

    #[test]
    fn a_malformed_section_is_a_stream_error() {
        let malformed = |fields: &[(&str, &str)]| matches!(request(&section(fields)), Err(Malformed(_)));
        for (leave_out, _) in GET {
            let rest: Vec<_> = GET.into_iter().filter(|(name, _)| *name != leave_out).collect();
            assert!(malformed(&rest), "without {leave_out}");
        }
        for twice in GET {
            assert!(malformed(&[&GET[..], &[twice]].concat()), "{twice:?} twice");
            assert!(malformed(&[&[("x", "y")], &GET[..]].concat()), "behind others");
        }
        for more in [
            (":status", "200"),
            (":protocol", "websocket"),
            (":", ""),
            ("", "x"),
            ("X", "y"),
            ("x y", "z"),
            ("x", "a\0b"),
            ("x", "a\nb"),
            ("x", " a"),
            ("x", "a\t"),
            ("connection", "close"),
            ("keep-alive", "1"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "gzip"),
            ("te", "trailers, gzip"),
            ("content-length", "+1"),
            ("content-length", ""),
            ("content-length", "99999999999999999999"),
            ("host", ""),
        ] {
            assert!(malformed(&[&GET[..], &[more]].concat()), "{more:?}");
        }
        for other in [(":path", ""), (":authority", ""), (":method", ""), (":method", "G T"), (":method", "CONNECT")] {
            assert!(matches!(with(&[other]), Err(Malformed(_))), "{other:?}");
        }
        assert!(malformed(&[&GET[..], &[("content-length", "1"), ("content-length", "1")]].concat()));
        assert!(malformed(&[(":method", "CONNECT"), ("host", "a:1")]));
        for (name, is_good) in [("x", true), (":path", false), (":x", false), ("connection", false), ("X", false)] {
            assert_eq!(trailers(&section(&[(name, "y")])).is_ok(), is_good, "{name}");
        }
    }

    #[test]
    fn a_refused_request_is_answered() {
        let connect = request(&section(&[(":method", "CONNECT"), (":authority", "a:1")]));
        assert_eq!(connect, Err(Refused(Fault::NotSupported)));
        for other in [
            (":path", "a"),
            (":path", "*"),
            (":path", "/a#b"),
            (":path", "/a b"),
            (":path", "https://a.example/"),
            (":scheme", "ftp"),
            (":authority", "a b"),
            ("host", "b.example"),
            ("host", "a.example:80"),
        ] {
            assert!(matches!(with(&[other]), Err(Refused(_))), "{other:?}");
        }
        let mut large = Section::default();
        large.begin(100);
        GET.iter().for_each(|(name, value)| large.push(name.as_bytes(), value.as_bytes()));
        assert_eq!(request(&large), Err(Refused(Fault::HeadTooLarge)));
    }
}
