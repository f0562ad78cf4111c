//! Combines what the files say with what was read besides them, and fills in every default. Pure: no I/O, no clock.

mod ceilings;
pub(crate) mod certificates;
mod components;
pub(crate) mod conflicts;
mod materials;
mod notes;
mod notices;
mod parts;
mod triggers;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::config::files::boot::Boot;
use crate::config::files::component::ComponentRead;
use crate::config::files::limits::{QuotaRead, merge_limits, merge_quota};
use crate::config::files::project::Project;
use crate::config::files::tenant::TenantFile;
use crate::config::plan::Plan;
use crate::config::problem::{Kind, Place, Problem, Source};
use crate::config::reader::reference::Reference;
use crate::config::reader::{At, near, units};
use crate::ids::{Digest, StoreName, TenantId};
use crate::store::{self, VALUE_BYTES_MAX};
use crate::tenant::{Quota, StoreTtl};
use certificates::{Judge, Served};
use components::Common;
pub(crate) use materials::{Found, Materials};
use notes::Notes;

/// Minimum number of keys in a shard.
const SHARD_KEYS_MIN: u64 = 100;

/// One tenant's plan; none if a problem prevents it. Other problems may be recorded beside a plan.
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
    let limits = merge_limits(&policy.limits, &file.limits);
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
    let components = components::components(
        &mut notes,
        &file.components,
        (materials.wasm, materials.parts),
        materials.files,
        &common,
    );
    let subscriptions = triggers::subscriptions(&mut notes, &file.subscriptions, &file.components);
    triggers::deliveries(&mut notes, &file.subscriptions, matches!(boot.storage.kind, store::Kind::Embedded(_)));
    let schedules = triggers::schedules(&mut notes, &file.schedules, &file.components, source);
    let routes = triggers::routes(&mut notes, &file, &limits, policy, source);
    // Idle components of a manifest are its author's choice, and a misspelt name is reported where it is written.
    if file.app.is_none() && notes.problems.is_empty() {
        components::idle(&mut notes, &file.components, &file.egress, &routes, &subscriptions);
    }
    let quota = merge_quota(&policy.quota, &file.quota);
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

/// The lifetimes of stores. Warns of stores that no component may open.
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

/// Each shard gets its part of `quota.storage`. That part must be large enough for the largest value.
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

/// Values from the file, or from files that it names.
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
