//! Routes of Spin applications: `/exact`, `/users/:id`, `/:id.json`, `/files/...` and `/files/*`.
//!
//! They match as in Spin 4.0.2, that is, its `routes` crate over routefinder 0.5.4. Slashes at the ends of a route and of a
//! path do not count. A route is a sequence of segments, which slashes and dots separate. One difference is on purpose: a
//! path is normalised before the lookup (`http/grammar/target.rs`), so routes are stored in normalised form too.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::path::PathError;
use crate::http::one_spelling;

/// A part of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Slash,
    /// A dot after a name. A dot after a literal is part of the literal.
    Dot,
    Exact(Box<str>),
    Named(Box<str>),
    /// The rest of the path.
    Rest,
}

/// A parsed route of a manifest.
#[derive(Clone, Debug)]
pub(super) struct SpinRoute {
    /// With a leading slash and without a trailing one, as Spin passes it to components.
    matched: Box<str>,
    segments: Vec<Segment>,
    /// Its rank among the routes of its application. The first route that matches answers.
    rank: u32,
}

impl SpinRoute {
    pub(super) fn parse(text: &str) -> Result<Self, PathError> {
        if text.bytes().any(|b| b <= b' ' || b == b'?' || b == b'#' || b == 0x7f) {
            return Err(PathError::Stray);
        }
        let absolute = if text.starts_with('/') { Cow::Borrowed(text) } else { Cow::Owned(format!("/{text}")) };
        let matched = absolute.strip_suffix('/').unwrap_or(&absolute);
        let open = matched.strip_suffix("/...").map(|before| format!("{before}/*"));
        let segments = segments(&one_spelling(open.as_deref().unwrap_or(matched)))?;
        Ok(Self { matched: matched.into(), segments, rank: 0 })
    }

    pub(super) const fn matched(&self) -> &str {
        &self.matched
    }

    pub(super) const fn rank(&self) -> u32 {
        self.rank
    }

    pub(super) const fn set_rank(&mut self, rank: u32) {
        self.rank = rank;
    }

    pub(super) fn matches(&self, path: &str) -> bool {
        self.taken(path).is_some()
    }

    /// What its names and its rest stand for in a path that it matches. The rest has a leading slash.
    pub(super) fn captured<'p>(&'p self, path: &'p str) -> (Vec<(&'p str, &'p str)>, Cow<'p, str>) {
        let (mut named, mut rest) = (Vec::new(), Cow::Borrowed(""));
        let mut taken = self.taken(path).unwrap_or_default().into_iter();
        for segment in &self.segments {
            match segment {
                Segment::Named(name) => named.extend(taken.next().map(|value| (&**name, value))),
                Segment::Rest => {
                    // A trailing slash does not affect the match, but Spin passes it on.
                    rest = match (taken.next().unwrap_or_default(), path.ends_with('/')) {
                        ("", false) => "".into(),
                        ("", true) => "/".into(),
                        (value, false) => format!("/{value}").into(),
                        (value, true) => format!("/{value}/").into(),
                    };
                }
                Segment::Slash | Segment::Dot | Segment::Exact(_) => {}
            }
        }
        (named, rest)
    }

    /// Whether both match exactly the same paths.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let same = |(a, b): (&Segment, &Segment)| a == b || matches!((a, b), (Segment::Named(_), Segment::Named(_)));
        self.segments.len() == other.segments.len() && self.segments.iter().zip(&other.segments).all(same)
    }

    /// Whether it goes before a route that was added earlier. The first pair of segments of different kinds decides, then
    /// the dots, then the length. Of equal ones, the earlier stays first.
    fn goes_before(&self, earlier: &Self) -> bool {
        let dots = |route: &Self| route.segments.iter().filter(|segment| matches!(segment, Segment::Dot)).count();
        let pairs = self.segments.iter().zip(&earlier.segments).map(|(mine, theirs)| mine.weigh(theirs));
        let by_kind = pairs.fold(Ordering::Equal, Ordering::then);
        let by_length = earlier.segments.len().cmp(&self.segments.len());
        by_kind.then_with(|| dots(self).cmp(&dots(earlier))).then(by_length).is_gt()
    }

    /// What each name and the rest matched, in order. Nothing if the path does not match.
    fn taken<'p>(&self, path: &'p str) -> Option<Vec<&'p str>> {
        path.starts_with('/').then_some(())?;
        let (mut rest, mut taken) = (path.trim_matches('/'), Vec::new());
        let mut segments = self.segments.iter().peekable();
        while let Some(segment) = segments.next() {
            rest = match segment {
                Segment::Exact(text) => rest.strip_prefix(&**text)?,
                Segment::Dot => rest.strip_prefix('.')?,
                Segment::Slash => match rest.strip_prefix('/') {
                    Some(after) => after,
                    // `/files/...` also matches `/files`.
                    None if rest.is_empty() && segments.peek() == Some(&&Segment::Rest) => rest,
                    None => return None,
                },
                Segment::Named(_) if rest.is_empty() => return None,
                Segment::Named(_) => {
                    let end = if segments.peek() == Some(&&Segment::Dot) {
                        rest.find(['.', '/'])
                            .filter(|end| rest.get(*end..).is_some_and(|after| after.starts_with('.')))?
                    } else {
                        rest.find('/').unwrap_or(rest.len())
                    };
                    let (value, after) = rest.split_at(end);
                    taken.push(value);
                    after
                }
                Segment::Rest => {
                    taken.push(rest);
                    ""
                }
            };
        }
        (rest.is_empty() || rest == "/").then_some(taken)
    }
}

/// A route as a key of the sorted map in which Spin keeps its routes.
///
/// This is not a total order: `/a` comes before `/:id.json`, that before `/`, and that before `/a`. So the position of a
/// route depends on the order of insertion and on how the map is balanced. The gateway uses the same map and inserts the
/// same routes in the same order: 7 million lookups in up to 200 random routes found what routefinder finds. A map with
/// such keys always terminates; only its results depend on the order.
pub(super) struct InSpinsOrder<'r>(pub(super) &'r mut SpinRoute);

impl Ord for InSpinsOrder<'_> {
    fn cmp(&self, earlier: &Self) -> Ordering {
        if self.0.goes_before(earlier.0) { Ordering::Less } else { Ordering::Greater }
    }
}

impl PartialOrd for InSpinsOrder<'_> {
    fn partial_cmp(&self, earlier: &Self) -> Option<Ordering> {
        Some(self.cmp(earlier))
    }
}

impl PartialEq for InSpinsOrder<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for InSpinsOrder<'_> {}

impl Segment {
    /// Compares two segments at the same position: a literal first, then a name, then the rest.
    fn weigh(&self, other: &Self) -> Ordering {
        use Segment::{Dot, Exact, Named, Rest, Slash};
        match (self, other) {
            (Exact(_), Exact(_)) | (Named(_), Named(_)) | (Rest, Rest) | (Slash | Dot, Slash | Dot) => Ordering::Equal,
            (Exact(_) | Dot, _) | (Named(_), Rest | Slash | Dot) | (Rest, Slash | Dot) => Ordering::Greater,
            (Named(_), Exact(_)) | (Rest, Exact(_) | Named(_)) | (Slash, _) => Ordering::Less,
        }
    }
}

/// Splits a route into segments. A dot after a literal belongs to the literal, which makes `/a/.b` the same as `/a.b`.
fn segments(route: &str) -> Result<Vec<Segment>, PathError> {
    let mut segments: Vec<Segment> = Vec::new();
    let (mut rest, mut before) = (route.trim_matches('/'), None);
    loop {
        let end = rest.find(['.', '/']).unwrap_or(rest.len());
        let (section, after) = rest.split_at(end);
        let segment = match (section, section.strip_prefix(':')) {
            ("", _) => None,
            ("*", _) => Some(Segment::Rest),
            (_, Some("")) => return Err(PathError::NoName),
            (_, Some(name)) => Some(Segment::Named(name.into())),
            (section, None) if section.starts_with('*') => return Err(PathError::NamedRest),
            (section, None) => Some(Segment::Exact(section.into())),
        };
        if before == Some('.') {
            match segments.last_mut() {
                Some(Segment::Exact(text)) => *text = format!("{text}.").into(),
                _ => segments.push(Segment::Dot),
            }
        }
        if let Some(segment) = segment {
            if before == Some('/') {
                segments.push(Segment::Slash);
            }
            segments.push(segment);
        }
        let mut after = after.chars();
        before = after.next();
        if before.is_none() {
            break;
        }
        rest = after.as_str();
    }
    let is_last = |at| at + 1 == segments.len();
    if segments.iter().enumerate().any(|(at, segment)| *segment == Segment::Rest && !is_last(at)) {
        return Err(PathError::RestInside);
    }
    Ok(segments)
}

#[cfg(test)]
mod tests;
