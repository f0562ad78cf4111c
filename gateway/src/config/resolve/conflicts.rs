//! Hosts that two tenants claim: the owner keeps its host, and a host without an owner goes to neither.

use std::collections::{BTreeMap, BTreeSet};

use super::materials::Found;
use crate::config::problem::{Kind, Place, Problem};
use crate::domain::Pattern;
use crate::ids::TenantId;

/// What every problem of this kind expects.
const WANTED: &str = "each host once, in the file of one tenant";

/// Removes every tenant that claims a host which it cannot have: the host belongs to another, or has no owner and another
/// tenant claims it too. A valid owner whose file no longer names the host has given it up.
pub(crate) fn take_out(
    found: &mut BTreeMap<TenantId, Found>,
    owners: &BTreeMap<Pattern, TenantId>,
    broken: &BTreeSet<TenantId>,
) -> Vec<Problem> {
    let mut claims: BTreeMap<&Pattern, Vec<(&TenantId, &Place)>> = BTreeMap::new();
    for (id, tenant) in &*found {
        for claim in tenant.claims.iter() {
            claims.entry(&claim.value).or_default().push((id, &claim.place));
        }
    }
    let mut problems = Vec::new();
    for (host, claims) in claims {
        let Some(first) = claims.first() else { continue };
        let claimed = |id: &TenantId| claims.iter().find(|(claimant, _)| *claimant == id);
        let owner = owners.get(host).filter(|owner| claimed(owner).is_some() || !found.contains_key(*owner));
        let is_contested = owner.is_none() && claims.iter().any(|(id, _)| id != &first.0);
        let mut seen = BTreeSet::new();
        for (id, place) in &claims {
            let earlier = claims.iter().find(|(other, _)| other == id);
            if !seen.insert(id) {
                let also = earlier.map(|(_, place)| *place);
                problems.push(problem(id, place, format!("{host} again"), None, also));
            } else if let Some(owner) = owner.filter(|owner| owner != id) {
                let (whose, hint) = told(host, id, owner, claimed(owner).is_some(), broken.contains(owner));
                problems.push(problem(id, place, whose, Some(hint), claimed(owner).map(|(_, place)| *place)));
            } else if is_contested {
                let other = claims.iter().find(|(other, _)| other != id);
                let name = other.map_or("", |(other, _)| other.as_str());
                let hint = format!(
                    "neither tenant gets it: remove it from one of the files, or assign it: tollgate host move {host} --to {id}"
                );
                let whose = format!("{host}, which {name} claims as well; no tenant has it yet");
                problems.push(problem(id, place, whose, Some(hint), other.map(|(_, place)| *place)));
            }
        }
    }
    for id in problems.iter().filter_map(|problem| problem.tenant.as_ref()) {
        found.remove(id);
    }
    problems
}

/// Who owns the host, and what to do about it.
fn told(host: &Pattern, id: &TenantId, owner: &TenantId, is_claimed: bool, is_broken: bool) -> (String, String) {
    let take = format!("tollgate host move {host} --to {id}");
    match (is_claimed, is_broken) {
        (true, _) => (
            format!("{host}, which {owner} has"),
            format!("{owner} keeps it and {id} is not served; remove it from one of the files"),
        ),
        (false, true) => (
            format!("{host}, which {owner} has, whose file is invalid now"),
            format!("{owner} keeps it; correct its file, or remove the host from one of the two"),
        ),
        (false, false) => (
            format!("{host}, which is recorded for {owner}, whose folder is gone"),
            format!("only an operator can assign it to another tenant: {take}"),
        ),
    }
}

fn problem(id: &TenantId, place: &Place, found: String, hint: Option<String>, also: Option<&Place>) -> Problem {
    Problem {
        kind: Kind::HostConflict,
        tenant: Some(id.clone()),
        place: place.clone(),
        summary: "more than one tenant claims this host".to_owned(),
        found,
        wanted: WANTED.to_owned(),
        hint,
        also: also.map(|place| (place.clone(), "claimed here".to_owned())),
    }
}
