//! What a component is composed of beside itself: dependencies, which stand in the place of imports, and the middleware of a
//! trigger. Both kinds of file say them in one shape.
//!
//! Source: Spin's `crates/manifest/src/schema/v2.rs`. A part is a component of its own file; whatever else a manifest says of a
//! component that is named as a part is not the part's. Packages of a registry are refused: what a version stands for may
//! change, and nobody could say by what.

use std::path::Path;

use toml::de::DeValue;

use super::{App, Manifest};
use crate::config::files::tenant::ComponentRead;
use crate::config::problem::{Kind, Place};
use crate::config::reader::{At, Reader, Section};
use crate::config::remote::Origin;
use crate::host::CAPABILITIES;
use crate::ids::ComponentName;
use crate::sandbox::PARTS_MAX;

/// What a part may be.
const WANTED: &str =
    "{ path = \"lib.wasm\" }, { url = \"https://…\", digest = \"sha256:…\" } or { component = \"id\" }";
const INHERITED: &str = "true, false or a list of allowed_outbound_hosts, key_value_stores, variables, environment, files, \
                         sqlite_databases and ai_models";

/// A part as a file names it.
#[derive(Clone, Debug)]
pub(crate) struct PartRead {
    pub(crate) place: Place,
    source: Source,
    /// Keys of [`CAPABILITIES`], sorted.
    pub(crate) inherits: Vec<String>,
}

#[derive(Clone, Debug)]
enum Source {
    Origin(Origin),
    /// Another component of the same file, until [`settle`] has looked for it.
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
    /// Where it comes from; nothing where it names a component that does not exist, which was told.
    pub(crate) const fn origin(&self) -> Option<&Origin> {
        match &self.source {
            Source::Origin(origin) => Some(origin),
            Source::Component(_) => None,
        }
    }
}

/// Reads `dependencies` and `dependencies_inherit_configuration`. Paths start from `dir`.
pub(crate) fn read(reader: &Reader, section: &Section<'_>, dir: &Path) -> Vec<DependencyRead> {
    let for_all = section.boolean("dependencies_inherit_configuration");
    listed(reader, section, dir, for_all.as_ref())
}

/// Reads `dependencies`. `for_all` says of each whether it inherits, where it does not say so itself.
pub(super) fn listed(
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

/// Reads `middleware`, from the outermost to the innermost.
pub(crate) fn middleware(reader: &Reader, section: &Section<'_>, dir: &Path) -> Vec<PartRead> {
    let sections = section.sections("middleware");
    if sections.len() >= PARTS_MAX {
        too_many(reader, &section.place(), sections.len());
        return Vec::new();
    }
    sections.iter().filter_map(|entry| part(reader, entry, dir, "middleware")).collect()
}

/// One table that says where a part comes from, and what it inherits.
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

/// Looks for the components that parts name, and takes out those that are nothing but parts. A part is the file of the
/// component that it names, and nothing else of it.
pub(crate) fn settle(
    reader: &Reader,
    components: &mut Vec<ComponentRead>,
    is_started: impl Fn(&ComponentName) -> bool,
) {
    let origins: Vec<_> =
        components.iter().map(|of| (of.name.value.to_string(), of.source.value.clone(), named(of))).collect();
    let mut used = Vec::new();
    for component in components.iter_mut() {
        let own = component.name.value.to_string();
        let parts = component.dependencies.iter_mut().map(|of| &mut of.part).chain(&mut component.middleware);
        for part in parts {
            let Source::Component(id) = &part.source else { continue };
            let Some((_, origin, _)) = origins.iter().find(|(name, ..)| name == id) else {
                let summary = "there is no such component".to_owned();
                reader.bad(Kind::UnknownComponent, &part.place, summary, format!("`{id}`"), "one of this file");
                continue;
            };
            if leads_to(&origins, id, &own) {
                let summary = "a component is a part of itself".to_owned();
                let found = format!("{own} of {id}, and {id} of {own}");
                reader.bad(Kind::PartsMisfit, &part.place, summary, found, "parts that do not contain it");
            }
            used.push(id.clone());
            part.source = Source::Origin(origin.clone());
        }
    }
    let is_part = |component: &ComponentRead| used.iter().any(|id| *id == component.name.value.as_str());
    components.retain(|component| is_started(&component.name.value) || !is_part(component));
}

/// The components that one names as its parts.
fn named(component: &ComponentRead) -> Vec<String> {
    let parts = component.dependencies.iter().map(|of| &of.part).chain(&component.middleware);
    let name = |part: &PartRead| match &part.source {
        Source::Component(id) => Some(id.clone()),
        Source::Origin(_) => None,
    };
    parts.filter_map(name).collect()
}

/// Whether `from` is `to`, or has it among its parts' parts.
fn leads_to(all: &[(String, Origin, Vec<String>)], from: &str, to: &str) -> bool {
    let (mut next, mut seen) = (vec![from], Vec::new());
    while let Some(name) = next.pop() {
        if name == to {
            return true;
        }
        if !seen.contains(&name) {
            seen.push(name);
            let parts = all.iter().filter(|(other, ..)| other == name).flat_map(|(.., parts)| parts);
            next.extend(parts.map(String::as_str));
        }
    }
    false
}

/// The middleware of one trigger: of the route of this number, or of whatever reaches the component.
pub(super) struct Around {
    route: Option<usize>,
    component: String,
    parts: Vec<PartRead>,
}

impl Manifest<'_> {
    /// `dependencies.middleware` of a trigger, which goes around the component for its route.
    pub(super) fn around(&self, trigger: &Section<'_>, component: &At<String>, app: &mut App, has_route: bool) {
        let Some(section) = trigger.section("dependencies") else { return };
        let parts = middleware(self.reader, &section, &self.dir);
        section.finish();
        if !parts.is_empty() {
            let route = has_route.then_some(app.routes.len());
            app.around.push(Around { route, component: component.value.clone(), parts });
        }
    }
}

impl App {
    /// Puts middleware around components. Where something else starts the same component, a second one is made for the route:
    /// the same but for its middleware and its name, which is the component's with the number of the route.
    pub(super) fn surround(&mut self) {
        for Around { route, component: name, parts } in std::mem::take(&mut self.around) {
            let starts = self.routes.iter().map(|route| &route.component.value);
            let starts = starts.chain(self.subscriptions.iter().map(|subscription| &subscription.component.value));
            let starts = starts.chain(self.schedules.iter().map(|schedule| &schedule.component.value));
            let is_alone = starts.filter(|other| **other == name).count() <= 1;
            let is_it = |component: &&mut ComponentRead| component.name.value.as_str() == name;
            // That there is none of this name is told with the route.
            let Some(component) = self.components.iter_mut().find(is_it) else { continue };
            match route.and_then(|route| Some((route, self.routes.get_mut(route)?))) {
                Some((number, route)) if !is_alone => {
                    let mut second = component.clone();
                    let Some(name) = ComponentName::parse(&format!("{name}-route-{number}")) else { continue };
                    route.component.value = name.to_string();
                    second.name.value = name;
                    second.middleware = parts;
                    self.components.push(second);
                }
                Some(_) | None => component.middleware = parts,
            }
        }
    }
}
