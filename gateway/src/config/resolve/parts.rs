//! What each planned component is composed of: its own dependencies and middleware, and the middleware that the gateway's
//! file puts around every component that answers HTTP.

use std::path::PathBuf;

use super::notes::Notes;
use crate::config::disk::Wasm;
use crate::config::files::boot::Boot;
use crate::config::files::component::ComponentRead;
use crate::config::files::middleware::Layer;
use crate::config::plan::PlannedPart;
use crate::config::problem::{Kind, Place};
use crate::ids::Digest;
use crate::sandbox::{Dependency, PARTS_MAX, Part, Recipe, Step};

/// The recipe of a component and the files of its parts; none if it has no parts, or if a part is not available.
pub(crate) fn plan(
    notes: &mut Notes<'_>,
    (read, main): (&ComponentRead, Digest),
    parts: Vec<Wasm>,
    boot: &Boot,
) -> Option<(Recipe, Vec<PlannedPart>)> {
    let layers = &boot.middleware;
    let count = 1 + parts.len() + layers.iter().map(|layer| layer.files.len()).sum::<usize>();
    if count == 1 {
        return None;
    }
    if count > PARTS_MAX {
        let (found, wanted) =
            (format!("{count} parts"), format!("at most {PARTS_MAX}, including itself and [gateway] middleware"));
        notes.add(Kind::TooMany, &read.name.place, ["a component has too many parts", &found, &wanted], None);
        return None;
    }
    let mut files = Vec::new();
    let mut own = Vec::new();
    for (part, wasm) in read.parts().zip(parts) {
        let (path, digest) = found(notes, wasm, &part.place)?;
        own.push(Part { digest: digest.to_string(), inherits: part.inherits.clone() });
        files.push(PlannedPart { path, place: part.place.clone() });
    }
    let middleware = own.split_off(read.dependencies.len());
    let around = files.split_off(read.dependencies.len());
    let dependencies = read.dependencies.iter().zip(own).map(|(dependency, part)| Dependency {
        name: dependency.name.clone(),
        export: dependency.export.clone(),
        part,
    });
    let of_layer = |layer: &Layer| Step {
        // The gateway's middleware is outermost: a request passes it before anything of the tenant's, and it inherits
        // nothing from the tenant.
        parts: layer
            .files
            .iter()
            .map(|(_, digest)| Part { digest: digest.to_string(), inherits: Vec::new() })
            .collect(),
        is_of_gateway: true,
    };
    let own_steps = middleware.into_iter().map(|part| Step { parts: vec![part], is_of_gateway: false });
    let recipe = Recipe {
        main: main.to_string(),
        dependencies: dependencies.collect(),
        middleware: layers.iter().map(of_layer).chain(own_steps).collect(),
    };
    let of_gateway = layers.iter().flat_map(|layer| {
        layer.files.iter().map(|(path, _)| PlannedPart { path: path.clone(), place: layer.place.clone() })
    });
    files.extend(of_gateway.chain(around));
    Some((recipe, files))
}

/// The file of a component or a part. Returns none and records a problem if it is not a component.
pub(crate) fn found(notes: &mut Notes<'_>, wasm: Wasm, place: &Place) -> Option<(PathBuf, Digest)> {
    match wasm {
        Wasm::Component(path, digest) => return Some((path, digest)),
        Wasm::Other(found) => {
            let texts = ["this is not a component", &found, "a WebAssembly component, in its binary form"];
            notes.add(Kind::NotAComponent, place, texts, None);
        }
        Wasm::Unfetched(found) => {
            let texts = ["the component cannot be fetched", &found, "a component with this digest"];
            notes.add(Kind::NotFetched, place, texts, None);
        }
        Wasm::Unreadable(found) => {
            let texts = ["the component cannot be read", &found, "a .wasm file, by a path relative to this file"];
            let hint = "build the component first, or correct the path";
            notes.add(Kind::Unreadable, place, texts, Some(hint.to_owned()));
        }
    }
    None
}
