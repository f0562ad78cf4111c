//! Which tenant has which host when a configuration comes into force: the notes to change, and the hosts that each tenant
//! then has.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;

use crate::config::{Boot, Plan, Snapshot};
use crate::domain::Pattern;
use crate::ids::TenantId;
use crate::owners::{Change, From, Noted, Owners};
use crate::store::Store;

/// The notes about hosts. A developer's single project has every host.
///
/// # Errors
/// The notes cannot be read.
pub(super) fn open(boot: &Boot, store: &Arc<Store>) -> anyhow::Result<Arc<Owners>> {
    let state = boot.project.is_none().then_some(boot.state.as_path());
    let owners = Owners::open(state, Arc::clone(store));
    Ok(Arc::new(owners.with_context(|| format!("cannot use {}/hosts", boot.state.display()))?))
}

/// The changes to note when `now` comes into force after `before`: hosts that no tenant had, and those that their owner's
/// own file gave up.
pub(super) fn changes(noted: &Noted, before: &Snapshot, now: &Snapshot) -> Vec<Change> {
    let mut changes: BTreeMap<&Pattern, Change> = BTreeMap::new();
    for (id, old) in &before.plans {
        let Some(new) = now.plans.get(id) else { continue };
        let is_given_up = |host: &&Pattern| noted.get(host) == Some(id) && !new.hosts.contains(host);
        for host in old.hosts.iter().filter(is_given_up) {
            changes.insert(host, Change { host: host.clone(), from: From::Tenant(id.clone()), to: None });
        }
    }
    for plan in now.plans.values() {
        for host in &plan.hosts {
            let is_had = before.routes.has(&plan.id, host);
            let from = match noted.get(host) {
                None => From::Nobody,
                Some(owner) if *owner == plan.id => continue,
                Some(owner) if may_go(owner, host, is_had, before, now) => From::Tenant(owner.clone()),
                Some(_) => continue,
            };
            let change = Change { host: host.clone(), from, to: Some(plan.id.clone()) };
            // If several tenants claim a host, the one that already answers there keeps it.
            if is_had || changes.get(host).is_none_or(|other| other.to.is_none()) {
                changes.insert(host, change);
            }
        }
    }
    changes.into_values().collect()
}

/// Whether its owner gave a host up. If the owner never named the host here, a gateway with newer files may serve the owner
/// under it, so a tenant that already answers there does not take it.
fn may_go(owner: &TenantId, host: &Pattern, is_had: bool, before: &Snapshot, now: &Snapshot) -> bool {
    let names = |snapshot: &Snapshot| snapshot.plans.get(owner).is_some_and(|plan| plan.hosts.contains(host));
    now.plans.contains_key(owner) && !names(now) && (names(before) || !is_had)
}

/// The hosts under which a plan answers: those that are noted for it, those that are noted for no tenant, and those that it
/// already had here while their noted owner does not name them here.
pub(super) fn of(plan: &Plan, noted: &Noted, before: &Snapshot, now: &Snapshot) -> Vec<Pattern> {
    let names = |owner: &TenantId, host: &Pattern| now.plan(owner).is_some_and(|plan| plan.hosts.contains(host));
    let has = |host: &&Pattern| match noted.get(host) {
        None => true,
        Some(owner) => *owner == plan.id || (before.routes.has(&plan.id, host) && !names(owner, host)),
    };
    plan.hosts.iter().filter(has).cloned().collect()
}

/// The owners of hosts for reading files: the notes, and hosts of tenants that are being loaded.
pub(super) fn owners(noted: &Noted, before: &Snapshot) -> Noted {
    let mut owners = noted.clone();
    for plan in before.loading.values() {
        for host in &plan.hosts {
            owners.entry(host.clone()).or_insert_with(|| plan.id.clone());
        }
    }
    owners
}
