//! Finds the components of one file that others use as parts.

use super::component::ComponentRead;
use super::dependencies::{PartRead, Source};
use crate::config::problem::Kind;
use crate::config::reader::Reader;
use crate::config::remote::Origin;
use crate::ids::ComponentName;

/// Looks up the components that parts name, and removes those that are only parts. A part uses only the file of the
/// component that it names.
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

/// The components that this one names as its parts.
fn named(component: &ComponentRead) -> Vec<String> {
    let parts = component.dependencies.iter().map(|of| &of.part).chain(&component.middleware);
    let name = |part: &PartRead| match &part.source {
        Source::Component(id) => Some(id.clone()),
        Source::Origin(_) => None,
    };
    parts.filter_map(name).collect()
}

/// Whether `from` is `to`, or contains it as a part, directly or not.
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
