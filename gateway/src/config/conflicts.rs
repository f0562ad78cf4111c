//! Hosts that two tenants claim: whoever has one keeps it.

use std::collections::{BTreeMap, BTreeSet};

use super::kind::Kind;
use super::problem::{Place, Problem};
use super::reader::At;
use super::resolve::Found;
use crate::domain::Pattern;
use crate::ids::TenantId;

/// Takes out tenants that claim a host of one whose files are wrong now: it is served as it was.
pub(super) fn keep_for_owners(
    found: &mut BTreeMap<TenantId, Found>,
    owners: &BTreeMap<Pattern, TenantId>,
    broken: &BTreeSet<TenantId>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    if broken.is_empty() {
        return problems;
    }
    found.retain(|id, tenant| {
        let taken = |claim: &&At<Pattern>| owners.get(&claim.value).is_some_and(|of| of != id && broken.contains(of));
        let Some(claim) = tenant.claims.iter().find(taken) else { return true };
        let owner = owners.get(&claim.value).map_or("", |owner| owner.as_str());
        problems.push(Problem {
            kind: Kind::HostConflict,
            tenant: Some(id.clone()),
            place: claim.place.clone(),
            summary: "this host is claimed twice".to_owned(),
            found: format!("{}, which {owner} has, whose file is wrong now", claim.value),
            wanted: "each host in one tenant's file, once".to_owned(),
            hint: Some(format!("{owner} keeps it; mend its file, or take the host out of one of the two")),
            also: None,
        });
        false
    });
    problems
}

/// Where two tenants claim one host, its present owner keeps it (or the first by name, where nobody has it) and the
/// other is left out with a problem that names both places.
pub(super) fn take_out_conflicts(
    found: &mut BTreeMap<TenantId, Found>,
    owners: &BTreeMap<Pattern, TenantId>,
) -> Vec<Problem> {
    let mut claims: BTreeMap<Pattern, Vec<(TenantId, Place)>> = BTreeMap::new();
    for (id, tenant) in &*found {
        for claim in tenant.claims.iter() {
            claims.entry(claim.value.clone()).or_default().push((id.clone(), claim.place.clone()));
        }
    }
    let mut problems = Vec::new();
    for (host, claims) in claims.iter().filter(|(_, claims)| claims.len() > 1) {
        let owner = owners.get(host).and_then(|owner| claims.iter().position(|(id, _)| id == owner)).unwrap_or(0);
        let Some((owner_id, owner_place)) = claims.get(owner) else { continue };
        for (index, (id, place)) in claims.iter().enumerate() {
            if index == owner {
                continue;
            }
            let same = id == owner_id;
            problems.push(Problem {
                kind: Kind::HostConflict,
                tenant: Some(id.clone()),
                place: place.clone(),
                summary: "this host is claimed twice".to_owned(),
                found: if same { format!("{host} again") } else { format!("{host}, which {owner_id} has") },
                wanted: "each host in one tenant's file, once".to_owned(),
                hint: (!same)
                    .then(|| format!("{owner_id} keeps it and {id} is left out; take it out of one of the files")),
                also: Some((owner_place.clone(), "claimed here".to_owned())),
            });
            found.remove(id);
        }
    }
    problems
}
