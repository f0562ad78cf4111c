//! The components of a plan, and a warning for those that nothing starts.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::notes::Notes;
use super::parts;
use crate::config::disk::Wasm;
use crate::config::files::boot::Boot;
use crate::config::files::component::ComponentRead;
use crate::config::mounts::{BadFiles, Files};
use crate::config::plan::{PlannedComponent, PlannedRoute, PlannedSubscription};
use crate::config::problem::Kind;
use crate::ids::StoreName;
use crate::sandbox::Recipe;
use crate::tenant::Grant;

/// What the tenant's file sets for all its components.
pub(crate) struct Common<'f> {
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) egress: &'f [Grant],
    pub(crate) boot: &'f Boot,
}

pub(crate) fn components(
    notes: &mut Notes<'_>,
    read: &[ComponentRead],
    (wasm, parts): (Vec<Wasm>, Vec<Vec<Wasm>>),
    files: Vec<Option<Result<Files, BadFiles>>>,
    common: &Common<'_>,
) -> Option<Vec<PlannedComponent>> {
    let mut components = Vec::new();
    let mut names = BTreeSet::new();
    for (((read, wasm), parts), files) in read.iter().zip(wasm).zip(parts).zip(files) {
        let files = files.and_then(|files| match files {
            Ok(files) => Some(Arc::new(files)),
            Err(BadFiles { mount, found }) => {
                let mount = read.files.as_ref().and_then(|files| files.mounts.get(mount));
                let place = mount.map_or(&read.name.place, |mount| &mount.place);
                let texts = ["the component cannot get these files", &found, "files below the application's folder"];
                notes.add(Kind::BadFiles, place, texts, None);
                None
            }
        });
        if !names.insert(&read.name.value) {
            let found = format!("a second component {}", read.name.value);
            let texts = ["two components have one name", &found, "a different name for each"];
            notes.add(Kind::Duplicate, &read.name.place, texts, None);
        }
        let Some((path, main)) = parts::found(notes, wasm, &read.source.place) else { continue };
        let had = notes.problems.len();
        let recipe = parts::plan(notes, (read, main), parts, common.boot);
        if notes.problems.len() > had {
            continue;
        }
        let (recipe, parts) = recipe.map_or((None, Vec::new()), |(recipe, parts)| (Some(recipe), parts));
        components.push(PlannedComponent {
            name: read.name.value.clone(),
            path,
            digest: recipe.as_ref().map_or(main, Recipe::digest),
            recipe,
            parts,
            reuse: read.reuse,
            handler: read.handler,
            stores: read
                .stores
                .iter()
                .map(|at| at.value.clone())
                .collect::<BTreeSet<StoreName>>()
                .into_iter()
                .collect(),
            redis: read.redis.iter().map(|at| at.value.clone()).collect(),
            environment: read.environment.iter().chain(&common.environment).cloned().collect(),
            files,
            variables: read.variables.as_ref().unwrap_or(&common.variables).clone(),
            egress: read.egress.iter().flatten().chain(common.egress).cloned().collect(),
            is_spin: read.is_spin,
            place: read.source.place.clone(),
        });
    }
    (components.len() == read.len()).then_some(components)
}

/// Warns of components that nothing starts. A component that may call its neighbours by name can start any of them.
pub(crate) fn idle(
    notes: &mut Notes<'_>,
    components: &[ComponentRead],
    egress: &[Grant],
    routes: &[PlannedRoute],
    subscriptions: &[PlannedSubscription],
) {
    let of_components = components.iter().filter_map(|component| component.egress.as_deref()).flatten();
    if egress.iter().chain(of_components).any(Grant::is_for_neighbours) {
        return;
    }
    for (index, component) in components.iter().enumerate() {
        let is_started = routes.iter().any(|route| route.component == index)
            || subscriptions.iter().any(|subscription| subscription.component == index);
        if !is_started {
            let found = format!("no route and no subscription names {}", component.name.value);
            let texts = ["nothing starts this component", &found, "a [[route]] or a [[subscription]] that names it"];
            notes.add(Kind::IdleComponent, &component.name.place, texts, Some("or remove the component".to_owned()));
        }
    }
}
