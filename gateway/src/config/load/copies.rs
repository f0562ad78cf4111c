//! The copies of files that components may read: made for new plans, and removed once no plan names them.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::plan::{Plan, Planned, PlannedComponent, is_known};
use crate::config::problem::{Kind, Problem};
use crate::ids::TenantId;

/// Makes the copies for all plans that are not in `before`. Leaves out a tenant whose files cannot be copied.
pub(crate) fn stage(planned: Planned, before: &BTreeMap<TenantId, Arc<Plan>>, staged: &Path) -> Planned {
    let Planned { mut plans, mut problems } = planned;
    plans.retain(|id, plan| {
        if is_known(before, plan) {
            return true;
        }
        for component in &plan.components {
            let Some(Err(error)) = component.files.as_ref().map(|files| files.stage(staged, id)) else { continue };
            problems.push(Problem {
                kind: Kind::BadFiles,
                tenant: Some(id.clone()),
                place: component.place.clone(),
                summary: "the gateway cannot copy this component's files".to_owned(),
                found: format!("{error:#}"),
                wanted: format!("free space and write permission below {}", staged.display()),
                hint: None,
                also: None,
            });
            return false;
        }
        true
    });
    Planned { plans, problems }
}

/// The folders of these plans' copies.
pub(crate) fn files_of(plans: [&BTreeMap<TenantId, Arc<Plan>>; 2], staged: &Path) -> HashSet<PathBuf> {
    let of = |plan: &Arc<Plan>| {
        let place = |component: &PlannedComponent| Some(component.files.as_ref()?.place(staged, &plan.id));
        plan.components.iter().filter_map(place).collect::<Vec<_>>()
    };
    plans.into_iter().flat_map(BTreeMap::values).flat_map(of).collect()
}

/// Removes the copies that are no longer used.
pub(crate) fn clear_away(staged: &Path, is_used: impl Fn(&Path) -> bool) {
    let inside = |dir: &Path| {
        std::fs::read_dir(dir).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect::<Vec<_>>()
    };
    for tenant in inside(staged) {
        for copy in inside(&tenant).into_iter().filter(|copy| !is_used(copy)) {
            if let Err(error) = std::fs::remove_dir_all(&copy) {
                tracing::warn!(target: "config", path = %copy.display(), %error, "unused files could not be removed");
            }
        }
        // This removes the folder only if it is empty.
        let _kept = std::fs::remove_dir(&tenant);
    }
}
