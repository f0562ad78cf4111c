//! Joins what the files say with what was found beside them, and fills in every default. Pure: no I/O, no clock.

pub(crate) mod ceilings;
pub(crate) mod certificates;
pub(crate) mod conflicts;
pub(crate) mod notices;
pub(crate) mod parts;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::config::files::bounds::QuotaRead;
use crate::config::files::gateway::{over, quota_over};
use crate::config::files::project::Project;
use crate::config::files::tenant::{ComponentRead, ScheduleRead, SubscriptionRead, TenantFile};
use crate::config::mounts::{BadFiles, Files};
use crate::config::problem::{Kind, Place, Problem, Source};
use crate::config::reader::reference::Reference;
use crate::config::reader::{At, near, units};
use crate::config::resolve::certificates::{self, ClientsFiles, Judge, PairFiles, Served};
use crate::config::resolve::{ceilings, notices, parts};
use crate::config::{Boot, Plan, PlannedComponent, PlannedRoute, PlannedSchedule, PlannedSubscription, Policy};
use crate::domain::Pattern;
use crate::ids::{Digest, StoreName, TenantId};
use crate::route::{PathPattern, ROUTES_MAX, SCHEDULES_MAX, ScheduleId};
use crate::sandbox::Recipe;
use crate::store::{self, VALUE_BYTES_MAX};
use crate::tenant::{Grant, Limits, Quota, StoreTtl};

/// What a shard must have room for.
const SHARD_KEYS_MIN: u64 = 100;

/// What stands beside a tenant's file.
pub(crate) struct Materials {
    /// One for each component.
    pub(crate) wasm: Vec<Wasm>,
    /// Of each component, one for each of its parts.
    pub(crate) parts: Vec<Vec<Wasm>>,
    /// Those that a component may read, or which mount cannot be had, and why.
    pub(crate) files: Vec<Option<Result<Files, BadFiles>>>,
    /// One for each pair of files.
    pub(crate) pairs: Vec<PairFiles>,
    pub(crate) clients: Option<ClientsFiles>,
    /// When all of this was read.
    pub(crate) now: SystemTime,
    /// One for each variable.
    pub(crate) variables: Vec<Result<String, String>>,
    /// One for each secret.
    pub(crate) secrets: Vec<Result<String, String>>,
}

/// What a component's source turned out to be.
pub(crate) enum Wasm {
    Component(PathBuf, Digest),
    Other(String),
    Unreadable(String),
    /// It is elsewhere, and could not be had.
    Unfetched(String),
}

/// A good tenant, and where it claims its hosts.
#[derive(Clone)]
pub(crate) struct Found {
    pub(crate) plan: Arc<Plan>,
    pub(crate) claims: Arc<[At<Pattern>]>,
}

/// Notes problems of one tenant.
pub(crate) struct Notes<'n> {
    id: &'n TenantId,
    pub(crate) problems: &'n mut Vec<Problem>,
}

impl Notes<'_> {
    pub(crate) fn add(&mut self, kind: Kind, place: &Place, texts: [&str; 3], hint: Option<String>) {
        let [summary, found, wanted] = texts.map(str::to_owned);
        let (tenant, place) = (Some(self.id.clone()), place.clone());
        let hint = hint.or_else(|| kind.hint().map(str::to_owned));
        self.problems.push(Problem { kind, tenant, place, summary, found, wanted, hint, also: None });
    }
}

/// One tenant's plan; nothing where a problem stands in its way (others may have been noted beside a plan).
pub(crate) fn tenant(
    (id, stamp): (&TenantId, Digest),
    source: &Arc<Source>,
    file: TenantFile,
    materials: Materials,
    (boot, served): (&Boot, &Served),
    problems: &mut Vec<Problem>,
) -> Option<Found> {
    let mut notes = Notes { id, problems };
    let policy = &boot.policy;
    ceilings::limits(&mut notes, &file.limits, &policy.ceilings.limits);
    ceilings::quota(&mut notes, &file.quota, &policy.ceilings.quota);
    let limits = over(&policy.limits, &file.limits);
    let tls = file.tls.as_ref();
    let pairs = tls.iter().flat_map(|tls| &tls.pairs).zip(materials.pairs).collect();
    let judge = Judge { source, roots: &boot.roots, served: served.of(id), now: materials.now };
    let pairs = certificates::pairs(&mut notes, &judge, boot.tls, pairs, &file.hosts);
    let clients = tls.and_then(|tls| tls.clients.as_ref()).zip(materials.clients);
    let clients = certificates::clients(&mut notes, clients);
    let environment = referenced(&mut notes, &file.secrets, materials.secrets);
    let environment: Vec<_> = file.env.iter().cloned().chain(environment).collect();
    let variables = referenced(&mut notes, &file.variables, materials.variables);
    let common = Common { environment, variables, egress: &file.egress, boot };
    let components =
        components(&mut notes, &file.components, (materials.wasm, materials.parts), materials.files, &common);
    let mut subscriptions = Vec::new();
    for read in &file.subscriptions {
        let Some(component) = component_of(&mut notes, &read.component, &file.components) else { continue };
        let channel = read.channel.value.clone();
        subscriptions.push(PlannedSubscription { channel, component, is_once: read.once.is_some() });
    }
    deliveries(&mut notes, &file.subscriptions, matches!(boot.storage.kind, store::Kind::Embedded(_)));
    let schedules = schedules(&mut notes, &file.schedules, &file.components, source);
    let routes = routes(&mut notes, &file, &limits, policy, source);
    // What a manifest leaves idle is its author's; and a misspelt name is told where it stands.
    if file.app.is_none() && notes.problems.is_empty() {
        idle(&mut notes, &file.components, &file.egress, &routes, &subscriptions);
    }
    let quota = quota_over(&policy.quota, &file.quota);
    let notices = notices::of(id, &file, quota.shards, boot);
    shards(&mut notes, &file.quota, &quota, source);
    let plan = Plan {
        id: id.clone(),
        stamp,
        enabled: file.enabled,
        hosts: match &boot.project {
            Some(_) => Project::hosts(&file.hosts),
            None => file.hosts.iter().map(|host| host.value.clone()).collect(),
        },
        pairs: pairs?,
        clients: clients?,
        compress: file.compress,
        quota,
        store_ttl: lasting(&mut notes, file.store_ttl, &file.components),
        limits,
        components: components?,
        routes,
        fixed: file.fixed.into_iter().map(|read| (read.path.value, Arc::new(read.answer))).collect(),
        subscriptions,
        schedules,
        notices,
    };
    Some(Found { plan: Arc::new(plan), claims: file.hosts.into() })
}

/// Where components answer, within the bounds of each route.
fn routes(
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
        // Those of a manifest were looked at with the manifest.
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
            limits: over(limits, &read.limits),
            is_spin: file.app.is_some(),
            memory_place: memory.map_or(&read.place, |memory| &memory.place).clone(),
        });
    }
    routes
}

/// How long stores last; warns of those that no component may open.
fn lasting(notes: &mut Notes<'_>, read: Vec<(At<StoreName>, Duration)>, components: &[ComponentRead]) -> StoreTtl {
    let stores = || components.iter().flat_map(|component| &component.stores).map(|store| &store.value);
    for (name, _) in read.iter().filter(|(name, _)| stores().all(|store| *store != name.value)) {
        let known: BTreeSet<&str> = stores().map(StoreName::as_str).collect();
        let wanted = format!("one of {}", known.iter().copied().collect::<Vec<_>>().join(", "));
        let hint = near(name.value.as_str(), known.into_iter()).map(|near| format!("did you mean `{near}`?"));
        let texts = ["no component may open this store", &format!("`{}`", name.value), &wanted];
        notes.add(Kind::WithoutEffect, &name.place, texts, hint);
    }
    StoreTtl(read.into_iter().map(|(name, ttl)| (name.value, ttl)).collect())
}

/// Each shard has its part of `quota.storage`, which must be worth having: the largest value fits in.
fn shards(notes: &mut Notes<'_>, read: &QuotaRead, quota: &Quota, source: &Arc<Source>) {
    let Some(space) = quota.storage.filter(|_| quota.shards > 1) else { return };
    let (bytes, keys) = (space.bytes / u64::from(quota.shards), space.keys / u64::from(quota.shards));
    if bytes > VALUE_BYTES_MAX as u64 && keys >= SHARD_KEYS_MIN {
        return;
    }
    let found = format!("{} and {keys} keys for each of {} shards", units::bytes_text(bytes), quota.shards);
    let place = read.shards.as_ref().map(|at| &at.place).or(read.storage.as_ref().map(|at| &at.place));
    let whole = Place::whole(source);
    let wanted = format!("more than 1MiB and {SHARD_KEYS_MIN} keys for each");
    let texts = ["quota.storage is too small for so many shards", &found, &wanted];
    notes.add(
        Kind::SmallShards,
        place.unwrap_or(&whole),
        texts,
        Some("a tenant with this quota needs one shard".to_owned()),
    );
}

/// What the tenant's file says for all its components.
struct Common<'f> {
    environment: Vec<(String, String)>,
    variables: Vec<(String, String)>,
    egress: &'f [Grant],
    boot: &'f Boot,
}

fn components(
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

/// Warns of components that nothing starts. Whoever may ask its neighbours by name can start any of them.
fn idle(
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

/// Messages are kept on Redis only, and all that listen to a channel have them delivered in one way.
fn deliveries(notes: &mut Notes<'_>, read: &[SubscriptionRead], is_embedded: bool) {
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

/// Those that name a component that there is. Two that say the same are two.
fn schedules(
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

/// What stands in the file, or in files that it names.
fn referenced(
    notes: &mut Notes<'_>,
    names: &[(At<String>, Reference)],
    read: Vec<Result<String, String>>,
) -> Vec<(String, String)> {
    let mut values = Vec::new();
    for ((name, _), value) in names.iter().zip(read) {
        match value {
            Ok(value) => values.push((name.value.clone(), value)),
            Err(found) => {
                let texts = ["a secret cannot be read", found.as_str(), "a file that holds it"];
                notes.add(Kind::Unreadable, &name.place, texts, None);
            }
        }
    }
    values
}
