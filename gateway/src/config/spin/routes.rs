//! The routes of an application together: which of two equal ones answers, and in which order they are asked.

use super::App;
use crate::config::problem::{Kind, Place};
use crate::config::reader::{At, Reader};
use crate::route::PathPattern;

/// A route of the manifest, and whether it was taken out.
struct Listed<'a> {
    path: &'a mut At<PathPattern>,
    is_out: bool,
}

/// Ranks the routes, and warns of those that are never asked. Of two that are written alike Spin asks the later one, in the
/// earlier one's place; of two that match the same paths and are written otherwise, the earlier one.
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
