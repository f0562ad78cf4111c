//! Path patterns: `/exact`, `/users/:id`, `/files/...`.
//!
//! The more specific one wins, segment by segment from the left: a literal before `:name` before `...`.

use std::fmt;

/// A segment of a pattern. The order is the order of preference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Literal(Box<str>),
    Any,
}

/// What a route's `path` says.
#[derive(Clone, Debug)]
pub(crate) struct PathPattern {
    text: Box<str>,
    segments: Vec<Segment>,
    /// Whether it ends in `/...`: anything may follow, nothing too.
    open: bool,
}

/// What is wrong with a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathError {
    #[error("a path begins with /")]
    NoSlash,
    #[error("... stands at the end, as a segment of its own")]
    DotsInside,
    #[error("a :name segment needs a name")]
    NoName,
    #[error("a path has no query, fragment, space or control byte")]
    Stray,
}

impl PathPattern {
    pub(crate) fn parse(text: &str) -> Result<Self, PathError> {
        let rest = text.strip_prefix('/').ok_or(PathError::NoSlash)?;
        if text.bytes().any(|b| b <= b' ' || b == b'?' || b == b'#' || b == 0x7f) {
            return Err(PathError::Stray);
        }
        let (rest, open) = match rest.strip_suffix("...") {
            Some("") => (None, true),
            Some(before) => (Some(before.strip_suffix('/').ok_or(PathError::DotsInside)?), true),
            None => (Some(rest), false),
        };
        let mut segments = Vec::new();
        for segment in rest.iter().flat_map(|rest| rest.split('/')) {
            segments.push(match segment.strip_prefix(':') {
                Some("") => return Err(PathError::NoName),
                Some(_) => Segment::Any,
                None if segment.contains("...") => return Err(PathError::DotsInside),
                None => Segment::Literal(segment.into()),
            });
        }
        Ok(Self { text: text.into(), segments, open })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn matches(&self, path: &str) -> bool {
        let Some(rest) = path.strip_prefix('/') else { return false };
        let mut given = rest.split('/');
        for segment in &self.segments {
            let Some(given) = given.next() else { return false };
            match segment {
                Segment::Literal(literal) if **literal != *given => return false,
                Segment::Any if given.is_empty() => return false,
                Segment::Literal(_) | Segment::Any => {}
            }
        }
        self.open || given.next().is_none()
    }

    /// The same, where a slash at the end of the path is nothing.
    pub(crate) fn matches_loosely(&self, path: &str) -> bool {
        self.matches(path) || path.strip_suffix('/').is_some_and(|path| self.matches(path))
    }

    /// What the `:name` segments and the `...` of a pattern that matches stand for; of `...` with its slash.
    pub(crate) fn captured<'p>(&'p self, path: &'p str) -> (Vec<(&'p str, &'p str)>, &'p str) {
        let (mut named, mut rest) = (Vec::new(), path);
        for segment in self.text.split('/').skip(1).take(self.segments.len()) {
            let given = rest.strip_prefix('/').unwrap_or(rest);
            let (given, after) = given.split_at(given.find('/').unwrap_or(given.len()));
            if let Some(name) = segment.strip_prefix(':') {
                named.push((name, given));
            }
            rest = after;
        }
        (named, if self.open { rest } else { "" })
    }

    /// Whether both match exactly the same paths.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.segments == other.segments && self.open == other.open
    }

    /// Orders by preference: of two that match one path, the lesser wins.
    pub(crate) fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        for pair in self.segments.iter().zip(&other.segments) {
            let order = pair.0.cmp(pair.1);
            if order.is_ne() {
                return order;
            }
        }
        // Of two that agree so far, the longer says more; of two alike, the closed one.
        other.segments.len().cmp(&self.segments.len()).then(self.open.cmp(&other.open))
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
