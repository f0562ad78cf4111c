//! `[gateway] middleware` of the machine's file: the middleware around every component that answers HTTP.

use std::path::{Path, PathBuf};

use toml::de::DeValue;

use super::join;
use crate::config::disk::{self, Wasm};
use crate::config::problem::{Kind, Place};
use crate::config::reader::{Reader, Section};
use crate::ids::Digest;

const WANTED: &str = "a path, or a list of paths; the first one that fits a component is used";

/// One of the operator's middlewares, with one file for each version of wasi:http that it supports.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) place: Place,
    pub(crate) files: Vec<(PathBuf, Digest)>,
}

impl Layer {
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }
}

/// Reads `[gateway] middleware`, outermost first.
pub(crate) fn layers(reader: &Reader, file: &Section<'_>, base: &Path) -> Vec<Layer> {
    let Some(section) = file.section("gateway") else { return Vec::new() };
    let paths = |value: &DeValue<'_>| match value.as_array() {
        Some(items) => {
            let paths = items.iter().map(|item| Some(item.get_ref().as_str()?.to_owned())).collect::<Option<Vec<_>>>();
            paths.filter(|paths| !paths.is_empty())
        }
        None => Some(vec![value.as_str()?.to_owned()]),
    };
    let listed = section.list_of("middleware", WANTED, paths).unwrap_or_default();
    section.finish();
    let mut layers = Vec::new();
    for at in listed {
        let mut files = Vec::new();
        for path in at.value {
            let bad = |kind, found| {
                let summary = "this middleware cannot be used".to_owned();
                reader.bad(kind, &at.place, summary, found, "a WebAssembly component, in its binary form");
            };
            match disk::wasm(&join(base, &path)) {
                Wasm::Component(path, digest) => files.push((path, digest)),
                Wasm::Unreadable(found) => bad(Kind::Unreadable, found),
                Wasm::Other(found) | Wasm::Unfetched(found) => bad(Kind::NotAComponent, format!("{path}: {found}")),
            }
        }
        layers.push(Layer { place: at.place, files });
    }
    layers
}
