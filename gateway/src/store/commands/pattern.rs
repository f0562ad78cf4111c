//! Matches the patterns of HSCAN, SSCAN and ZSCAN in the gateway: on the server, matching has no limit and delays
//! everybody.
//!
//! The syntax is Redis's: `*`, `?`, `[a-c]`, `[^a]`, and `\` before a literal character. Limit: [`STEPS_MAX`] steps for one
//! answer. The steps are reported and charged.

use super::{Error, Result};

/// About four milliseconds.
const STEPS_MAX: u64 = 2_000_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// Any number of bytes.
    Any,
    /// Any one byte.
    One,
    Byte(u8),
    Class {
        is_not: bool,
        ranges: Vec<(u8, u8)>,
    },
}

impl Piece {
    fn is(&self, byte: u8) -> bool {
        match self {
            Self::Any => false,
            Self::One => true,
            Self::Byte(own) => *own == byte,
            Self::Class { is_not, ranges } => ranges.iter().any(|(from, to)| (*from..=*to).contains(&byte)) != *is_not,
        }
    }
}

impl Pattern {
    pub(super) fn parse(text: &[u8]) -> Self {
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some((&byte, more)) = rest.split_first() {
            rest = more;
            pieces.push(match byte {
                b'*' => {
                    if pieces.last() == Some(&Piece::Any) {
                        continue;
                    }
                    Piece::Any
                }
                b'?' => Piece::One,
                b'[' => class(&mut rest),
                b'\\' => match rest.split_first() {
                    Some((&meant, more)) => {
                        rest = more;
                        Piece::Byte(meant)
                    }
                    None => Piece::Byte(b'\\'),
                },
                byte => Piece::Byte(byte),
            });
        }
        Self(pieces)
    }

    /// Whether it matches this text. Counts each step.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if it takes more than [`STEPS_MAX`] steps.
    pub(super) fn is_of(&self, text: &[u8], steps: &mut u64) -> Result<bool> {
        // Only the last star has to be tried again: what an earlier star gives up, a later one can take.
        let (mut at, mut piece, mut star) = (0, 0, None);
        loop {
            *steps += 1;
            if *steps > STEPS_MAX {
                return Err(Error::TooLarge(
                    "this pattern takes too much work; ask for fewer (COUNT), or match yourself",
                ));
            }
            match (self.0.get(piece), text.get(at)) {
                (None, None) => return Ok(true),
                (Some(Piece::Any), _) => {
                    star = Some((piece, at));
                    piece += 1;
                }
                (Some(wanted), Some(&byte)) if wanted.is(byte) => {
                    at += 1;
                    piece += 1;
                }
                _ => {
                    let Some((of_star, taken)) = star.filter(|(_, taken)| *taken < text.len()) else {
                        return Ok(false);
                    };
                    star = Some((of_star, taken + 1));
                    (piece, at) = (of_star + 1, taken + 1);
                }
            }
        }
    }
}

/// Parses what follows `[`, up to `]` or the end.
fn class(rest: &mut &[u8]) -> Piece {
    let is_not = rest.first() == Some(&b'^');
    let mut text = rest.get(usize::from(is_not)..).unwrap_or_default();
    let mut ranges = Vec::new();
    loop {
        let (range, more) = match text {
            [] => break,
            [b']', more @ ..] => {
                text = more;
                break;
            }
            [b'\\', one, more @ ..] => ((*one, *one), more),
            [from, b'-', to, more @ ..] => ((*from.min(to), *from.max(to)), more),
            [one, more @ ..] => ((*one, *one), more),
        };
        ranges.push(range);
        text = more;
    }
    *rest = text;
    Piece::Class { is_not, ranges }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(pattern: &str, text: &str) -> bool {
        Pattern::parse(pattern.as_bytes()).is_of(text.as_bytes(), &mut 0).unwrap()
    }

    #[test]
    fn patterns_are_read_as_redis_reads_them() {
        for (pattern, good, bad) in [
            ("h?llo", &["hello", "hallo"][..], &["hllo", "helllo"][..]),
            ("h*llo", &["hllo", "heeeello"], &["hell"]),
            ("h[ae]llo", &["hello", "hallo"], &["hillo"]),
            ("h[^e]llo", &["hallo"], &["hello"]),
            ("h[a-b]llo", &["hallo", "hbllo"], &["hcllo"]),
            ("h[b-a]llo", &["hallo", "hbllo"], &["hcllo"]),
            ("h\\*llo", &["h*llo"], &["hello"]),
            ("[\\]]", &["]"], &["\\"]),
            ("*", &["", "anything"], &[]),
            ("", &[""], &["a"]),
            ("*a*b", &["ab", "xaxxb", "aabab"], &["ba", "a"]),
            ("user:*:name", &["user:1:name", "user::name:name"], &["user:1:names"]),
            ("a[", &[], &["a", "ab"]),
        ] {
            good.iter().for_each(|text| assert!(is(pattern, text), "{pattern} {text}"));
            bad.iter().for_each(|text| assert!(!is(pattern, text), "{pattern} {text}"));
        }
    }

    #[test]
    fn the_work_of_matching_is_bounded() {
        let pattern = Pattern::parse(b"*aaaaaaaab");
        let mut steps = 0;
        let text = vec![b'a'; 4096];
        let error = (0..1000).find_map(|_| pattern.is_of(&text, &mut steps).err()).unwrap();
        assert!(error.to_string().starts_with("too-large: this pattern"), "{error}");
        assert_eq!(steps, STEPS_MAX + 1);
    }
}
