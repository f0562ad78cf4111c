//! Domain names: one spelling for each, patterns over them, and a table from pattern to value.
//!
//! TLS finds a certificate and `route` finds a tenant in this table, so that both read a name in the same way.

use std::collections::HashMap;
use std::fmt;

/// A domain name in its one spelling: lower case, ASCII (IDNA, UTS 46), without a trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Domain(Box<str>);

impl Domain {
    /// Parses a name or an IPv4 address as a client may write it, without a port. Returns nothing if it is invalid.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        // A plain ASCII name is the common case, and skips the tables and the allocation of IDNA. Host names have no
        // underscore, but clients ask for names that do (RFC 3986 §3.2.2).
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        let lower = text.bytes().all(plain).then(|| text.to_ascii_lowercase());
        let ascii = match lower.filter(|lower| !lower.contains("xn--")) {
            Some(lower) => lower,
            None => idna::domain_to_ascii_strict(text).ok()?,
        };
        let label = |l: &str| !l.is_empty() && l.len() <= 63 && !l.starts_with('-') && !l.ends_with('-');
        (ascii.len() <= 253 && ascii.split('.').all(label)).then(|| Self(ascii.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name, or `*.` and a name, which matches any one label below it. An exact pattern has no underscore, because no CA
/// certifies one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Pattern {
    Exact(Domain),
    /// `*.example.org` is stored as `example.org`.
    Wildcard(Domain),
}

impl Pattern {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let parse = |name: &str| Domain::parse(name).filter(|name| !name.0.contains('_'));
        match text.strip_prefix("*.") {
            Some(parent) => parse(parent).map(Self::Wildcard),
            None => parse(text).map(Self::Exact),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::Wildcard(parent) => write!(f, "*.{parent}"),
        }
    }
}

/// Maps patterns to values. An exact name wins over a wildcard. A lookup costs at most two hashes, whatever the size of the
/// table.
#[derive(Debug)]
pub(crate) struct Table<T> {
    exact: HashMap<Domain, T>,
    wildcard: HashMap<Domain, T>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), wildcard: HashMap::new() }
    }
}

impl<T> Table<T> {
    /// Adds a pattern. If the pattern exists, its value stays and is returned as the error.
    pub(crate) fn insert(&mut self, pattern: Pattern, value: T) -> Result<(), &T> {
        use std::collections::hash_map::Entry;
        let entry = match pattern {
            Pattern::Exact(name) => self.exact.entry(name),
            Pattern::Wildcard(parent) => self.wildcard.entry(parent),
        };
        match entry {
            Entry::Vacant(place) => {
                place.insert(value);
                Ok(())
            }
            Entry::Occupied(place) => Err(place.into_mut()),
        }
    }

    /// The value of exactly this pattern.
    pub(crate) fn get(&self, pattern: &Pattern) -> Option<&T> {
        match pattern {
            Pattern::Exact(name) => self.exact.get(name),
            Pattern::Wildcard(parent) => self.wildcard.get(parent),
        }
    }

    pub(crate) fn find(&self, name: &Domain) -> Option<&T> {
        self.exact.get(name).or_else(|| {
            let (_, parent) = name.0.split_once('.')?;
            self.wildcard.get(&Domain(parent.into()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_has_one_spelling() {
        for spelling in ["hello.localhost", "HELLO.localhost", "hello.LOCALHOST.", "Hello.Localhost"] {
            assert_eq!(Domain::parse(spelling).unwrap().as_str(), "hello.localhost");
        }
        let punycode = "xn--bcher-kva.example";
        assert_eq!(Domain::parse("Bücher.example").unwrap().as_str(), punycode);
        assert_eq!(Domain::parse(punycode).unwrap().as_str(), punycode);
    }

    #[test]
    fn an_invalid_domain_is_refused() {
        for bad in ["", ".", "a..b", "-a.b", "a-.b", "a b", "a/b", "a:80", "[::1]", "a\0b", "*.a", &"a".repeat(64)] {
            assert!(Domain::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn an_exact_name_wins_over_a_wildcard_of_one_label() {
        let mut table = Table::default();
        table.insert(Pattern::parse("*.example").unwrap(), "wild").unwrap();
        table.insert(Pattern::parse("a.example").unwrap(), "exact").unwrap();
        let find = |name| table.find(&Domain::parse(name).unwrap()).copied();
        assert_eq!(find("a.example"), Some("exact"));
        assert_eq!(find("b.example"), Some("wild"));
        assert_eq!(find("B_c.example."), Some("wild"));
        assert!(Pattern::parse("b_c.example").is_none() && Pattern::parse("*.b_c.example").is_none());
        assert_eq!(find("b.c.example"), None);
        assert_eq!(find("example"), None);
        assert_eq!(table.insert(Pattern::parse("A.example.").unwrap(), "second"), Err(&"exact"));
    }

    proptest::proptest! {
        #[test]
        fn parsing_is_idempotent(text in "\\PC{0,80}") {
            if let Some(domain) = Domain::parse(&text) {
                proptest::prop_assert_eq!(Domain::parse(domain.as_str()), Some(domain.clone()));
            }
        }
    }
}
