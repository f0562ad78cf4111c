//! Path patterns: `/exact`, `/users/:id`, `/files/...` from a tenant's own file, and routes of a Spin application.
//!
//! Among a tenant's own patterns the more specific one wins, segment by segment from the left: a literal before `:name`
//! before `...`. Spin's routes have their own grammar and order (`spin.rs`).

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;

use super::spin::{InSpinsOrder, SpinRoute};

/// A segment of a pattern. Segments are ordered by preference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Literal(Box<str>),
    Any,
}

/// The `path` of a route, or the `route` of a trigger.
#[derive(Clone, Debug)]
pub(crate) struct PathPattern {
    text: Box<str>,
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    /// A tenant's own pattern. `open` means that it ends in `/...`: anything may follow, or nothing.
    Own {
        segments: Vec<Segment>,
        open: bool,
    },
    Spin(SpinRoute),
}

/// Why a pattern is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathError {
    #[error("a path begins with /")]
    NoSlash,
    #[error("... must be the last segment")]
    DotsInside,
    #[error("a :name segment needs a name")]
    NoName,
    #[error("a path has no query, fragment, space or control byte")]
    Stray,
    #[error("* has no name")]
    NamedRest,
    #[error("* must be at the end")]
    RestInside,
}

/// What the names and the rest of a pattern matched in a path.
pub(crate) type Captured<'p> = (Vec<(&'p str, &'p str)>, Cow<'p, str>);

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
        Ok(Self { text: text.into(), form: Form::Own { segments, open } })
    }

    /// Parses a `route` of a Spin manifest.
    ///
    /// # Errors
    /// The route is invalid, or Spin would accept it and then fail on requests.
    pub(crate) fn spin(text: &str) -> Result<Self, PathError> {
        Ok(Self { text: text.into(), form: Form::Spin(SpinRoute::parse(text)?) })
    }

    /// The pattern as it was written.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The form in which a component is told which route matched.
    pub(crate) fn matched(&self) -> &str {
        match &self.form {
            Form::Own { .. } => &self.text,
            Form::Spin(route) => route.matched(),
        }
    }

    pub(crate) fn matches(&self, path: &str) -> bool {
        let (segments, open) = match &self.form {
            Form::Own { segments, open } => (segments, *open),
            Form::Spin(route) => return route.matches(path),
        };
        let Some(rest) = path.strip_prefix('/') else { return false };
        let mut given = rest.split('/');
        for segment in segments {
            let Some(given) = given.next() else { return false };
            match segment {
                Segment::Literal(literal) if **literal != *given => return false,
                Segment::Any if given.is_empty() => return false,
                Segment::Literal(_) | Segment::Any => {}
            }
        }
        open || given.next().is_none()
    }

    /// What the `:name` segments and the `...` of a matching pattern stand for. The part for `...` begins with a slash.
    pub(crate) fn captured<'p>(&'p self, path: &'p str) -> Captured<'p> {
        let (segments, open) = match &self.form {
            Form::Own { segments, open } => (segments, *open),
            Form::Spin(route) => return route.captured(path),
        };
        let (mut named, mut rest) = (Vec::new(), path);
        for segment in self.text.split('/').skip(1).take(segments.len()) {
            let given = rest.strip_prefix('/').unwrap_or(rest);
            let (given, after) = given.split_at(given.find('/').unwrap_or(given.len()));
            if let Some(name) = segment.strip_prefix(':') {
                named.push((name, given));
            }
            rest = after;
        }
        (named, if open { rest.into() } else { "".into() })
    }

    /// Whether both match exactly the same paths.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (&self.form, &other.form) {
            (Form::Own { segments, open }, Form::Own { segments: others, open: is_open }) => {
                segments == others && open == is_open
            }
            (Form::Spin(route), Form::Spin(other)) => route.is_same(other),
            (Form::Own { .. }, Form::Spin(_)) | (Form::Spin(_), Form::Own { .. }) => false,
        }
    }

    /// Orders by preference: of two patterns that match a path, the lesser wins.
    pub(crate) fn cmp(&self, other: &Self) -> Ordering {
        let (mine, theirs) = match (&self.form, &other.form) {
            (Form::Own { segments, open }, Form::Own { segments: others, open: is_open }) => {
                ((segments, open), (others, is_open))
            }
            // No tenant has both kinds.
            (Form::Own { .. }, Form::Spin(_)) => return Ordering::Less,
            (Form::Spin(_), Form::Own { .. }) => return Ordering::Greater,
            (Form::Spin(route), Form::Spin(other)) => return route.rank().cmp(&other.rank()),
        };
        for pair in mine.0.iter().zip(theirs.0) {
            let order = pair.0.cmp(pair.1);
            if order.is_ne() {
                return order;
            }
        }
        // Of two that agree so far, the longer one is more specific; of equal ones, the one without `...`.
        theirs.0.len().cmp(&mine.0.len()).then(mine.1.cmp(theirs.1))
    }

    /// Ranks the routes of one Spin application, given in the order of its manifest, by the order in which they are tried.
    pub(crate) fn rank<'p>(routes: impl IntoIterator<Item = &'p mut Self>) {
        let mut ordered = BTreeSet::new();
        for pattern in routes {
            if let Form::Spin(route) = &mut pattern.form {
                ordered.insert(InSpinsOrder(route));
            }
        }
        for (InSpinsOrder(route), rank) in ordered.into_iter().zip(0..) {
            route.set_rank(rank);
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
