//! The parts that a component is composed with: dependencies, which satisfy its imports, and the middleware of a trigger.
//! Both kinds of file use the same form.
//!
//! Source: Spin's `crates/manifest/src/schema/v2.rs`. A part is a component in its own file; if a manifest's component is
//! named as a part, its other settings do not apply to the part. Packages of a registry are refused: a version may later
//! stand for other content, and nothing would pin it.

use std::path::Path;

use toml::de::DeValue;

use crate::config::problem::{Kind, Place};
use crate::config::reader::{At, Reader, Section};
use crate::config::remote::Origin;
use crate::host::CAPABILITIES;
use crate::sandbox::PARTS_MAX;

/// The forms that a part may have.
const WANTED: &str =
    "{ path = \"lib.wasm\" }, { url = \"https://…\", digest = \"sha256:…\" } or { component = \"id\" }";
const INHERITED: &str = "true, false or a list of allowed_outbound_hosts, key_value_stores, variables, environment, files, \
                         sqlite_databases and ai_models";

/// A part as a file names it.
#[derive(Clone, Debug)]
pub(crate) struct PartRead {
    pub(crate) place: Place,
    pub(crate) source: Source,
    /// Keys of [`CAPABILITIES`], sorted.
    pub(crate) inherits: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) enum Source {
    Origin(Origin),
    /// Another component of the same file, until `parts::settle` has looked it up.
    Component(String),
}

/// One of `[component.ID.dependencies]`.
#[derive(Clone, Debug)]
pub(crate) struct DependencyRead {
    pub(crate) name: String,
    pub(crate) export: Option<String>,
    pub(crate) part: PartRead,
}

impl PartRead {
    /// Where it comes from. None if it names a component that does not exist, which is already reported.
    pub(crate) const fn origin(&self) -> Option<&Origin> {
        match &self.source {
            Source::Origin(origin) => Some(origin),
            Source::Component(_) => None,
        }
    }
}

/// Reads `dependencies` and `dependencies_inherit_configuration`. Paths are relative to `dir`.
pub(crate) fn read(reader: &Reader, section: &Section<'_>, dir: &Path) -> Vec<DependencyRead> {
    let for_all = section.boolean("dependencies_inherit_configuration");
    listed(reader, section, dir, for_all.as_ref())
}

/// Reads `dependencies`. `for_all` sets for each whether it inherits, unless the dependency sets that itself.
pub(crate) fn listed(
    reader: &Reader,
    section: &Section<'_>,
    dir: &Path,
    for_all: Option<&At<bool>>,
) -> Vec<DependencyRead> {
    let Some(dependencies) = section.section("dependencies") else { return Vec::new() };
    let names = dependencies.entries(WANTED, |_, value| (value.is_table() || value.is_str()).then_some(value.is_str()));
    if names.len() >= PARTS_MAX {
        too_many(reader, &dependencies.place(), names.len());
        return Vec::new();
    }
    let read = |(name, is_version): (At<String>, bool)| {
        if is_version {
            registry(reader, &name.place, &name.value);
            return None;
        }
        let entry = dependencies.table(&name.value)?;
        let export = entry.string("export");
        let has_own = entry.has("inherit_configuration");
        let mut part = part(reader, &entry, dir, &name.value)?;
        part.place = name.place.clone();
        match (for_all, has_own) {
            (Some(_), Some(place)) => {
                let summary = "the configuration that a dependency inherits is set twice".to_owned();
                let found = "inherit_configuration beside dependencies_inherit_configuration".to_owned();
                reader.bad(Kind::KeysDisagree, &place, summary, found, "one of them");
            }
            (Some(all), None) if all.value => part.inherits = all_of_them(),
            (Some(_) | None, _) => {}
        }
        let is_whole_package = name.value.contains(':') && !name.value.contains('/');
        if let Some(export) = export.as_ref().filter(|_| is_whole_package) {
            let summary = "`export` requires the name of one interface".to_owned();
            let wanted = "a name with an interface, such as \"acme:lib/api\"";
            reader.bad(Kind::KeysDisagree, &export.place, summary, format!("{:?}", name.value), wanted);
        }
        Some(DependencyRead { name: name.value, export: export.map(|at| at.value), part })
    };
    names.into_iter().filter_map(read).collect()
}

/// Reads `middleware`, outermost first.
pub(crate) fn middleware(reader: &Reader, section: &Section<'_>, dir: &Path) -> Vec<PartRead> {
    let sections = section.sections("middleware");
    if sections.len() >= PARTS_MAX {
        too_many(reader, &section.place(), sections.len());
        return Vec::new();
    }
    sections.iter().filter_map(|entry| part(reader, entry, dir, "middleware")).collect()
}

/// One table that says where a part comes from and what it inherits.
fn part(reader: &Reader, section: &Section<'_>, dir: &Path, name: &str) -> Option<PartRead> {
    let (path, url, component) = (section.string("path"), section.string("url"), section.string("component"));
    let digest = section.string("digest").or_else(|| section.string("sha256"));
    let inherits = section.take("inherit_configuration", INHERITED, inherited);
    if section.has("version").is_some() {
        section.has("registry");
        section.has("package");
        section.finish();
        registry(reader, &section.place(), name);
        return None;
    }
    section.finish();
    let url = url.map(|url| (url, digest.map(|at| at.value).unwrap_or_default()));
    let source = match (path, url, component) {
        (Some(path), None, None) => {
            dir.join(path.value).to_str().map(|path| Source::Origin(Origin::Path(path.to_owned())))
        }
        (None, Some((url, digest)), None) => {
            let digest = digest.strip_prefix("sha256:").unwrap_or(&digest);
            Origin::at(&url.value, digest).map(Source::Origin)
        }
        (None, None, Some(component)) => Some(Source::Component(component.value)),
        _ => None,
    };
    let Some(source) = source else {
        let summary = format!("`{name}` has no source");
        reader.bad(Kind::BadValue, &section.place(), summary, "no source, or another".to_owned(), WANTED);
        return None;
    };
    let inherits = inherits.map(|at| at.value).unwrap_or_default();
    Some(PartRead { place: section.place(), source, inherits })
}

fn inherited(value: &DeValue<'_>) -> Option<Vec<String>> {
    if let Some(all) = value.as_bool() {
        return Some(if all { all_of_them() } else { Vec::new() });
    }
    let known = |key: &str| CAPABILITIES.iter().any(|(name, _)| *name == key).then(|| key.to_owned());
    let mut keys = value.as_array()?.iter().map(|item| known(item.get_ref().as_str()?)).collect::<Option<Vec<_>>>()?;
    keys.sort();
    keys.dedup();
    Some(keys)
}

fn all_of_them() -> Vec<String> {
    let mut keys: Vec<_> = CAPABILITIES.iter().map(|(key, _)| (*key).to_owned()).collect();
    keys.sort();
    keys
}

fn registry(reader: &Reader, place: &Place, name: &str) {
    let summary = format!("`{name}` is a package of a registry, which the gateway does not fetch");
    let wanted = "path = \"lib.wasm\" beside the manifest, or url = \"https://…\" with digest = \"sha256:…\"";
    reader.bad(Kind::NotServed, place, summary, "a version".to_owned(), wanted);
}

fn too_many(reader: &Reader, place: &Place, count: usize) {
    let summary = "a component has too many parts".to_owned();
    let wanted = format!("{} at most, dependencies and middleware together", PARTS_MAX - 1);
    reader.bad(Kind::TooMany, place, summary, count.to_string(), &wanted);
}
