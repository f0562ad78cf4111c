//! What each file says, key by key, before it is combined with anything else. [`gateway`] reads `gateway.toml`, with one
//! file here for each group of its sections, and [`tenant`] reads `tenant.toml`. Spin's manifests have their own floor,
//! which produces the same types.

pub(crate) mod admin;
pub(crate) mod boot;
pub(crate) mod component;
pub(crate) mod defaults;
pub(crate) mod dependencies;
pub(crate) mod front;
pub(crate) mod gateway;
pub(crate) mod limits;
pub(crate) mod middleware;
pub(crate) mod parts;
pub(crate) mod project;
pub(crate) mod telemetry;
pub(crate) mod tenant;
pub(crate) mod tls;

use std::path::{Component, Path, PathBuf};

use crate::config::problem::Kind;
use crate::config::reader::{At, Reader, Section};

/// Joins a path to the file's folder, and removes each `..` that can be removed by name, so that messages show a short
/// path.
pub(crate) fn join(base: &Path, path: &str) -> PathBuf {
    let mut joined = base.to_owned();
    for part in Path::new(path).components() {
        match part {
            Component::ParentDir if joined.file_name().is_some() => {
                joined.pop();
            }
            Component::CurDir => {}
            Component::ParentDir | Component::Normal(_) | Component::RootDir | Component::Prefix(_) => {
                joined.push(part)
            }
        }
    }
    joined
}

/// Every file states the version of its format.
pub(crate) fn schema(reader: &Reader, file: &Section<'_>) {
    let schema = file.required("schema", file.count("schema"), "schema = 1, the version of this format");
    if let Some(schema) = schema.filter(|schema| schema.value != 1) {
        let summary = "this format version is not supported".to_owned();
        reader.bad(Kind::BadValue, &schema.place, summary, format!("schema {}", schema.value), "schema = 1");
    }
}

pub(crate) fn value<T>(given: Option<At<T>>, default: T) -> T {
    given.map_or(default, |at| at.value)
}
