//! What starts the components of a plan: routes, subscriptions and schedules, each of which names an existing component.

use std::sync::Arc;

use super::ceilings;
use super::notes::Notes;
use crate::config::files::boot::Policy;
use crate::config::files::component::ComponentRead;
use crate::config::files::limits::merge_limits;
use crate::config::files::tenant::{ScheduleRead, SubscriptionRead, TenantFile};
use crate::config::plan::{PlannedRoute, PlannedSchedule, PlannedSubscription};
use crate::config::problem::{Kind, Place, Source};
use crate::config::reader::{At, near};
use crate::route::{PathPattern, ROUTES_MAX, SCHEDULES_MAX, ScheduleId};
use crate::tenant::Limits;

/// The paths at which components answer, within the limits of each route.
pub(crate) fn routes(
    notes: &mut Notes<'_>,
    file: &TenantFile,
    limits: &Limits,
    policy: &Policy,
    source: &Arc<Source>,
) -> Vec<PlannedRoute> {
    let mut routes = Vec::new();
    let count = file.routes.len() + file.fixed.len();
    if count > ROUTES_MAX {
        let found = format!("{count} routes");
        let wanted = format!("at most {ROUTES_MAX}");
        notes.add(Kind::TooMany, &Place::whole(source), ["there are too many routes", &found, &wanted], None);
    }
    let mut paths: Vec<&At<PathPattern>> = Vec::new();
    for path in file.fixed.iter().map(|read| &read.path).chain(file.routes.iter().map(|read| &read.path)) {
        // The manifest's reader has already checked its own routes.
        if file.app.is_none() {
            unlike_earlier(notes, path, &paths);
        }
        paths.push(path);
    }
    for read in &file.routes {
        ceilings::limits(notes, &read.limits, &policy.ceilings.limits);
        let Some(component) = component_of(notes, &read.component, &file.components) else { continue };
        let memory = read.limits.memory.as_ref().or(file.limits.memory.as_ref());
        routes.push(PlannedRoute {
            pattern: read.path.value.clone(),
            component,
            limits: merge_limits(limits, &read.limits),
            is_spin: file.app.is_some(),
            memory_place: memory.map_or(&read.place, |memory| &memory.place).clone(),
        });
    }
    routes
}

/// Channels whose messages start components.
pub(crate) fn subscriptions(
    notes: &mut Notes<'_>,
    read: &[SubscriptionRead],
    components: &[ComponentRead],
) -> Vec<PlannedSubscription> {
    let mut subscriptions = Vec::new();
    for read in read {
        let Some(component) = component_of(notes, &read.component, components) else { continue };
        let channel = read.channel.value.clone();
        subscriptions.push(PlannedSubscription { channel, component, is_once: read.once.is_some() });
    }
    subscriptions
}

/// Only Redis keeps messages, and all subscriptions of a channel must use the same delivery.
pub(crate) fn deliveries(notes: &mut Notes<'_>, read: &[SubscriptionRead], is_embedded: bool) {
    for subscription in read {
        let Some(place) = &subscription.once else { continue };
        if is_embedded {
            let texts = ["delivery once requires Redis", "the embedded store", "a [storage] on Redis"];
            notes.add(Kind::KeysDisagree, place, texts, Some("or remove `delivery`".to_owned()));
        }
        let channel = &subscription.channel.value;
        if read.iter().any(|other| other.channel.value == *channel && other.once.is_none()) {
            let texts = ["a channel has two values of `delivery`", channel, "the same value in each subscription"];
            notes.add(Kind::KeysDisagree, place, texts, None);
        }
    }
}

/// The schedules that name an existing component. Two equal schedules count as two.
pub(crate) fn schedules(
    notes: &mut Notes<'_>,
    read: &[ScheduleRead],
    components: &[ComponentRead],
    source: &Arc<Source>,
) -> Vec<PlannedSchedule> {
    if read.len() > SCHEDULES_MAX {
        let place = read.first().map_or_else(|| Place::whole(source), |first| first.expression.place.clone());
        let (found, wanted) = (format!("{} schedules", read.len()), format!("at most {SCHEDULES_MAX}"));
        let hint = "one run may do the work of several".to_owned();
        notes.add(Kind::TooMany, &place, ["there are too many schedules", &found, &wanted], Some(hint));
    }
    let mut planned: Vec<PlannedSchedule> = Vec::new();
    for read in read {
        let Some(component) = component_of(notes, &read.component, components) else { continue };
        let expression = read.expression.value.clone();
        let is_same = |other: &&PlannedSchedule| other.component == component && other.expression == expression;
        let nth = planned.iter().filter(is_same).count();
        planned.push(PlannedSchedule {
            id: ScheduleId::of(&read.component.value, &expression, nth),
            expression,
            component,
        });
    }
    planned
}

fn component_of(notes: &mut Notes<'_>, named: &At<String>, components: &[ComponentRead]) -> Option<usize> {
    let wanted = named.value.as_str();
    let position = components.iter().position(|component| component.name.value.as_str() == wanted);
    if position.is_none() {
        let names = || components.iter().map(|component| component.name.value.as_str());
        let known = format!("one of {}", names().collect::<Vec<_>>().join(", "));
        let hint = near(wanted, names()).map(|near| format!("did you mean `{near}`?"));
        let hint = hint.or_else(|| Some("correct the route, or add a [[component]] of that name".to_owned()));
        let texts = ["there is no such component", &format!("`{wanted}`"), &known];
        notes.add(Kind::UnknownComponent, &named.place, texts, hint);
    }
    position
}

fn unlike_earlier(notes: &mut Notes<'_>, path: &At<PathPattern>, earlier: &[&At<PathPattern>]) {
    if let Some(twin) = earlier.iter().find(|other| other.value.is_same(&path.value)) {
        let found = format!("{} again", path.value);
        notes.add(Kind::Duplicate, &path.place, ["two routes match the same paths", &found, "each path once"], None);
        if let Some(problem) = notes.problems.last_mut() {
            problem.also = Some((twin.place.clone(), "the first is here".to_owned()));
        }
    }
}
