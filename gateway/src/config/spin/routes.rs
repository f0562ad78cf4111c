//! All routes of an application: which of two equal routes answers, and the order in which they are tried.

use super::App;
use crate::config::problem::{Kind, Place};
use crate::config::reader::{At, Reader};
use crate::route::PathPattern;

/// A route of the manifest, and whether it was removed.
struct Listed<'a> {
    path: &'a mut At<PathPattern>,
    is_out: bool,
}

/// Ranks the routes, and warns of those that never match. Of two routes with the same text Spin uses the later one, at the
/// earlier one's place in the order. Of two that match the same paths but differ in their text, it uses the earlier one.
pub(super) fn arrange(reader: &Reader, app: &mut App) {
    let of_components = app.routes.iter_mut().map(|route| &mut route.path);
    let fixed = app.fixed.iter_mut().map(|fixed| &mut fixed.path);
    let mut paths: Vec<_> = of_components.chain(fixed).collect();
    paths.sort_by_key(|path| path.place.span.as_ref().map(|span| span.start));
    let mut listed: Vec<Listed<'_>> = Vec::new();
    let mut out: Vec<Place> = Vec::new();
    for path in paths {
        let twin = listed.iter_mut().find(|other| other.path.value.as_str() == path.value.as_str());
        match twin {
            Some(twin) => {
                warn(reader, &twin.path.place, &path.value, &path.place);
                out.push(twin.path.place.clone());
                twin.path = path;
            }
            None => listed.push(Listed { path, is_out: false }),
        }
    }
    for at in 1..listed.len() {
        let (before, after) = listed.split_at_mut(at);
        let Some(later) = after.first_mut() else { continue };
        let same = |other: &&mut Listed<'_>| !other.is_out && other.path.value.is_same(&later.path.value);
        if let Some(twin) = before.iter_mut().find(same) {
            warn(reader, &later.path.place, &twin.path.value, &twin.path.place);
            later.is_out = true;
        }
    }
    out.extend(listed.iter().filter(|listed| listed.is_out).map(|listed| listed.path.place.clone()));
    PathPattern::rank(listed.iter_mut().filter(|listed| !listed.is_out).map(|listed| &mut listed.path.value));
    app.routes.retain(|route| !out.contains(&route.path.place));
    app.fixed.retain(|fixed| !out.contains(&fixed.path.place));
}

fn warn(reader: &Reader, place: &Place, wins: &PathPattern, there: &Place) {
    let found = match there.line_and_column() {
        Some((line, _)) => format!("{wins} again, in line {line}, which answers"),
        None => format!("{wins} again, which answers"),
    };
    let summary = "no request reaches this route".to_owned();
    reader.bad(Kind::ShadowedRoute, place, summary, found, "each path once");
}
