//! Reads the head of an HTTP/1.1 request strictly (RFC 9112 §2.2, §3, §5, §6), and refuses what two readers could read
//! differently.
//!
//! Security: request smuggling needs two readers that disagree about the end of a message. A head that is accepted here
//! states it once, in a form that every reader understands.

use memchr::memchr;

use crate::http::grammar::{Form, form, is_token, is_value};

/// Where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// After this many bytes; zero if the head does not say.
    Length(u64),
    Chunked,
}

/// Why a head is refused, in words for the client.
pub(crate) type Refusal = &'static str;

/// Why a head is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Malformed(Refusal),
    /// It has too many fields, or its target is too long. The caller checks the size in bytes.
    TooLarge,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self::Malformed(refusal)
    }
}

/// A complete head: its length in bytes, including the empty line, and where its body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) bytes: usize,
    pub(crate) framing: Framing,
    /// Whether the target has bytes that must be escaped.
    pub(crate) is_raw: bool,
}

/// Reads one head as its bytes arrive. Each line is read once.
#[derive(Debug)]
pub(crate) struct Reader {
    /// Where the next line begins.
    at: usize,
    /// The request line, once it is read.
    line: Option<Line>,
    /// How many more fields are allowed.
    fields_left: usize,
    said: Said,
}

/// The contents of the request line.
#[derive(Clone, Copy, Debug)]
struct Line {
    /// Whether it is HTTP/1.0.
    is_old: bool,
    is_raw: bool,
}

impl Reader {
    pub(crate) fn new(fields_max: usize) -> Self {
        Self { at: 0, line: None, fields_left: fields_max, said: Said::default() }
    }

    /// Continues with `bytes`, which begin with those of the last call. Returns nothing if the head is not complete.
    ///
    /// # Errors
    /// The head is malformed, states the end of its body in two ways, or is too long.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<Option<Head>, Refused> {
        while let Some(line) = self.line(bytes)? {
            let Some(first) = self.line else {
                self.line = Some(request_line(line)?);
                continue;
            };
            if line.is_empty() {
                let framing = self.said.framing(first.is_old)?;
                return Ok(Some(Head { bytes: self.at, framing, is_raw: first.is_raw }));
            }
            let (name, value) = field(line)?;
            self.said.field(name, value)?;
            self.fields_left = self.fields_left.checked_sub(1).ok_or(Refused::TooLarge)?;
        }
        Ok(None)
    }

    pub(super) const fn is_at_start(&self) -> bool {
        self.at == 0
    }

    /// The next line. It ends with CR LF and contains neither elsewhere.
    fn line<'b>(&mut self, bytes: &'b [u8]) -> Result<Option<&'b [u8]>, Refusal> {
        let rest = bytes.get(self.at..).unwrap_or_default();
        let Some(end) = memchr(b'\n', rest) else { return Ok(None) };
        let line = rest.get(..end).and_then(|line| line.strip_suffix(b"\r"));
        self.at += end + 1;
        line.map(Some).ok_or("a line does not end in CR LF")
    }
}

fn request_line(line: &[u8]) -> Result<Line, Refused> {
    const WANTED: Refusal = "the request line is not `METHOD target HTTP/1.1`";
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(WANTED.into());
    };
    if method.is_empty() || !method.iter().copied().all(is_token) || target.is_empty() {
        return Err(WANTED.into());
    }
    let is_old = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => return Err(WANTED.into()),
    };
    match form(method, target)? {
        Form::Fine => Ok(Line { is_old, is_raw: false }),
        Form::Raw => Ok(Line { is_old, is_raw: true }),
        Form::Long => Err(Refused::TooLarge),
    }
}

/// The name and the value of a field line; the value without surrounding white space.
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let colon = memchr(b':', line).ok_or("a header line has no colon")?;
    let (name, value) = line.split_at(colon);
    if name.is_empty() || !name.iter().copied().all(is_token) {
        // This also catches white space before the colon or at the start of the line.
        return Err("a header's name has a byte other than letters, digits and !#$%&'*+-.^_`|~");
    }
    let value = trim(value.get(1..).unwrap_or_default());
    if !value.iter().copied().all(is_value) {
        return Err("a header's value has a control byte");
    }
    Ok((name, value))
}

/// Removes spaces and tabs on both sides. Other control bytes do not count as white space.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// What the head has stated so far about the end of its body.
#[derive(Debug, Default)]
struct Said {
    length: Option<u64>,
    is_chunked: bool,
    has_host: bool,
}

impl Said {
    fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        if name.eq_ignore_ascii_case(b"content-length") {
            let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            let length = std::str::from_utf8(value).ok().filter(|_| is_number).and_then(|text| text.parse().ok());
            // hyper's own maximum is above this.
            let length = length.filter(|length| *length <= u64::MAX / 2).ok_or("Content-Length is not one number")?;
            if self.length.replace(length).is_some() {
                return Err("there is more than one Content-Length");
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err("Transfer-Encoding is not `chunked`");
            }
            if std::mem::replace(&mut self.is_chunked, true) {
                return Err("there is more than one Transfer-Encoding");
            }
        } else if name.eq_ignore_ascii_case(b"host") && std::mem::replace(&mut self.has_host, true) {
            return Err("there is more than one Host");
        } else if is_like(name) {
            return Err("a header's name is made to look like one that says where the body ends");
        }
        Ok(())
    }

    fn framing(&self, is_old: bool) -> Result<Framing, Refusal> {
        match (self.length, self.is_chunked) {
            (Some(_), true) => Err("there are both Content-Length and Transfer-Encoding"),
            (None, true) if is_old => Err("HTTP/1.0 has no Transfer-Encoding"),
            (None, true) => Ok(Framing::Chunked),
            (length, false) => Ok(Framing::Length(length.unwrap_or(0))),
        }
    }
}

/// Whether another reader could take the name for one that frames the body, because it trims or drops unknown bytes.
fn is_like(name: &[u8]) -> bool {
    let letters = || name.iter().filter(|byte| byte.is_ascii_alphabetic()).map(u8::to_ascii_lowercase);
    // The correct names were handled before.
    letters().eq(*b"contentlength") || letters().eq(*b"transferencoding")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS_MAX: usize = 100;

    fn told(head: &str) -> Result<Option<Head>, Refused> {
        let whole = Reader::new(FIELDS_MAX).read(head.as_bytes());
        // The same head, a byte at a time.
        let mut reader = Reader::new(FIELDS_MAX);
        let slowly = (1..=head.len()).map(|end| reader.read(&head.as_bytes()[..end]));
        let slowly = slowly.take_while(|read| *read != whole).last();
        assert!(slowly.is_none_or(|read| read == Ok(None)), "{head:?}");
        whole
    }

    #[test]
    fn a_head_states_once_where_its_body_ends() {
        let of = |fields: &str| {
            told(&format!("POST /a?b HTTP/1.1\r\nhost: x\r\n{fields}\r\nrest")).map(|head| head.unwrap().framing)
        };
        assert_eq!(of(""), Ok(Framing::Length(0)));
        assert_eq!(of("Content-Length:\t 12 \r\n"), Ok(Framing::Length(12)));
        assert_eq!(of("transfer-encoding: Chunked\r\n"), Ok(Framing::Chunked));
        for bad in [
            "content-length: 1\r\ncontent-length: 1\r\n",
            "content-length: 1, 1\r\n",
            "content-length: +1\r\n",
            "content-length:\r\n",
            "content-length: 99999999999999999999\r\n",
            "content-length: 1\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: chunked\r\ncontent-length: 1\r\n",
            "transfer-encoding: gzip, chunked\r\n",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: \x0bchunked\r\n",
            "transfer-encoding : chunked\r\n",
            "transfer_encoding: chunked\r\n",
            "content+length: 1\r\n",
            "x: a\r\n b\r\n",
            "x: a\0\r\n",
            "x: a\rb\r\n",
            "x: a\r\r\n",
            "x: \x0ca\r\n",
            "x: a\nb: c\r\n",
            "content_length: 1\r\n",
            "no colon\r\n",
            ": empty\r\n",
            "host: y\r\n",
        ] {
            assert!(of(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_request_line_has_three_parts() {
        for (good, is_raw) in [
            ("GET / HTTP/1.1", false),
            ("OPTIONS * HTTP/1.0", false),
            ("GET http://x/ HTTP/1.1", false),
            ("M-SEARCH /%20 HTTP/1.1", false),
            ("GET /\u{e4}?<\"> HTTP/1.1", true),
        ] {
            let head = told(&format!("{good}\r\na_b: c\r\n\r\n")).unwrap().unwrap();
            assert_eq!(head.is_raw, is_raw, "{good}");
        }
        for bad in [
            "GET  / HTTP/1.1",
            "GET / HTTP/1.1 ",
            " GET / HTTP/1.1",
            "GET /",
            "GET a HTTP/1.1",
            "GET * HTTP/1.1",
            "GET /#a HTTP/1.1",
            "GET / HTTP/1.2",
            "GET / HTTP/2.0",
            "GET / http/1.1",
            "G(T / HTTP/1.1",
            "GET\t/ HTTP/1.1",
            "",
        ] {
            assert!(told(&format!("{bad}\r\n\r\n")).is_err(), "{bad}");
        }
        assert_eq!(
            told("GET / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n"),
            Err("HTTP/1.0 has no Transfer-Encoding".into())
        );
        let many = |count| told(&format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count)));
        assert!(many(FIELDS_MAX).is_ok());
        assert_eq!(many(FIELDS_MAX + 1), Err(Refused::TooLarge));
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(70_000));
        assert_eq!(Reader::new(FIELDS_MAX).read(long.as_bytes()), Err(Refused::TooLarge));
    }

    #[test]
    fn an_incomplete_head_needs_more_bytes() {
        let whole = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        for end in 0..whole.len() {
            assert_eq!(told(&whole[..end]), Ok(None), "{end}");
        }
        assert_eq!(told(whole), Ok(Some(Head { bytes: whole.len(), framing: Framing::Length(0), is_raw: false })));
    }
}
