//! Parses dictionaries of structured fields (RFC 9651 §4.2.2), such as `CDN-Cache-Control`: the keys of members, and their
//! values as far as cache directives use them. Parameters are parsed and ignored (RFC 9213 §2.1).

/// A member's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Integer(i64),
    Boolean(bool),
    /// A value of another type, or a list.
    Other,
}

/// The most digits of an integer, and of a decimal before its point.
const DIGITS_MAX: usize = 15;
const DECIMAL_DIGITS_MAX: usize = 12;

/// The members of a dictionary; of two with the same key the last. Nothing if it is malformed: then no part of it counts.
pub(super) fn dictionary(text: &str) -> Option<Vec<(String, Value)>> {
    let mut rest = Rest(text.trim_matches(' ').as_bytes());
    let mut members: Vec<(String, Value)> = Vec::new();
    while !rest.0.is_empty() {
        let name = rest.key()?;
        let value = if rest.skip(b'=') { rest.item_or_list()? } else { Value::Boolean(true) };
        rest.parameters()?;
        members.retain(|(known, _)| *known != name);
        members.push((name, value));
        rest.blanks();
        if rest.0.is_empty() {
            break;
        }
        if !rest.skip(b',') {
            return None;
        }
        rest.blanks();
        // A trailing comma is not allowed.
        if rest.0.is_empty() {
            return None;
        }
    }
    Some(members)
}

/// The rest of the text.
struct Rest<'t>(&'t [u8]);

impl<'t> Rest<'t> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn skip(&mut self, wanted: u8) -> bool {
        let is_there = self.0.first() == Some(&wanted);
        if is_there {
            self.0 = self.0.get(1..).unwrap_or_default();
        }
        is_there
    }

    fn take(&mut self, of: impl Fn(&u8) -> bool) -> &'t [u8] {
        let end = self.0.iter().position(|byte| !of(byte)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    fn blanks(&mut self) {
        self.take(|byte| matches!(byte, b' ' | b'\t'));
    }

    fn key(&mut self) -> Option<String> {
        let is_first = self.0.first().is_some_and(|byte| matches!(byte, b'a'..=b'z' | b'*'));
        let key = self.take(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'*'));
        is_first.then(|| String::from_utf8_lossy(key).into_owned())
    }

    fn parameters(&mut self) -> Option<()> {
        while self.skip(b';') {
            self.take(|byte| *byte == b' ');
            self.key()?;
            if self.skip(b'=') {
                self.item()?;
            }
        }
        Some(())
    }

    fn item_or_list(&mut self) -> Option<Value> {
        if !self.skip(b'(') {
            return self.item();
        }
        loop {
            self.take(|byte| *byte == b' ');
            if self.skip(b')') {
                return Some(Value::Other);
            }
            self.item()?;
            self.parameters()?;
            // Members are separated by at least one space.
            if !matches!(self.0.first(), Some(b' ' | b')')) {
                return None;
            }
        }
    }

    fn item(&mut self) -> Option<Value> {
        match *self.0.first()? {
            b'-' | b'0'..=b'9' => self.number(),
            b'"' => self.text(),
            b'*' | b'a'..=b'z' | b'A'..=b'Z' => {
                self.take(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(byte));
                Some(Value::Other)
            }
            b':' => {
                self.next();
                self.take(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(byte));
                self.skip(b':').then_some(Value::Other)
            }
            b'?' => {
                self.next();
                match self.next()? {
                    b'1' => Some(Value::Boolean(true)),
                    b'0' => Some(Value::Boolean(false)),
                    _ => None,
                }
            }
            // A date.
            b'@' => {
                self.next();
                matches!(self.number()?, Value::Integer(_)).then_some(Value::Other)
            }
            // A display string.
            b'%' => {
                self.next();
                self.skip(b'"').then_some(())?;
                self.take(|byte| matches!(byte, 0x20..=0x7e) && *byte != b'"');
                self.skip(b'"').then_some(Value::Other)
            }
            _ => None,
        }
    }

    fn number(&mut self) -> Option<Value> {
        let is_less = self.skip(b'-');
        let digits = self.take(u8::is_ascii_digit);
        if self.skip(b'.') {
            let (whole, parts) = (digits.len(), self.take(u8::is_ascii_digit).len());
            let is_decimal = (1..=DECIMAL_DIGITS_MAX).contains(&whole) && (1..=3).contains(&parts);
            return is_decimal.then_some(Value::Other);
        }
        if !(1..=DIGITS_MAX).contains(&digits.len()) {
            return None;
        }
        let number = digits.iter().fold(0_i64, |number, digit| number * 10 + i64::from(digit - b'0'));
        Some(Value::Integer(if is_less { -number } else { number }))
    }

    fn text(&mut self) -> Option<Value> {
        self.next();
        loop {
            match self.next()? {
                b'"' => return Some(Value::Other),
                b'\\' => {
                    matches!(self.next()?, b'"' | b'\\').then_some(())?;
                }
                0x20..=0x7e => {}
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dictionary_is_parsed_completely_or_not_at_all() {
        let of = |text| dictionary(text).map(|members| format!("{members:?}"));
        let members = |members: &[(&str, Value)]| {
            let members: Vec<_> = members.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
            Some(format!("{members:?}"))
        };
        use Value::{Boolean, Integer, Other};
        assert_eq!(of(""), members(&[]));
        assert_eq!(of("max-age=60"), members(&[("max-age", Integer(60))]));
        assert_eq!(
            of("a=-7;x=1;y, b ,c=?0, d=\"q\\\"\", e=1.5, f=tok/en:, g=:YQ==:, h=(1 \"two\";p three), i=@17, *j=%\"x\""),
            members(&[
                ("a", Integer(-7)),
                ("b", Boolean(true)),
                ("c", Boolean(false)),
                ("d", Other),
                ("e", Other),
                ("f", Other),
                ("g", Other),
                ("h", Other),
                ("i", Other),
                ("*j", Other),
            ])
        );
        assert_eq!(of("a=1, b, a=2"), members(&[("b", Boolean(true)), ("a", Integer(2))]), "the last counts");
        assert_eq!(of("a=(),b=( 1 )"), members(&[("a", Other), ("b", Other)]));
        for bad in [
            "A=1",
            "a=1,",
            "a==1",
            "a= 1",
            "a =1",
            "a=",
            "a=&",
            "a=1 b",
            "a=\"x",
            "a=\"\\x\"",
            "a=?2",
            "a=1.",
            "a=1.2345",
            "a=1234567890123456",
            "a=-",
            "a=(1",
            "a=(1\"x\")",
            "a=@1.5",
            "=1",
            "a;=1",
            "a=\"\u{e9}\"",
            "&&&",
            ", a",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
