//! Has the components of plans compiled ahead of their first request, and says what is wrong with them.

mod verify;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt as _;

use crate::config::plan::{Plan, Planned, PlannedComponent};
use crate::config::problem::{Kind, Problem};
use crate::ids::Digest;
use crate::sandbox::{CompileError, Compiler};
use verify::verify;

/// Tenants looked at side by side by a command; the compiler has its own, smaller bound.
const TENANTS_AT_ONCE: usize = 64;

/// Looks at all plans, and leaves out every tenant with a component that will not do. `told` hears how many tenants were looked
/// at, of how many.
pub(crate) async fn prepare(planned: Planned, compiler: &Compiler, mut told: impl FnMut(usize, usize)) -> Planned {
    let Planned { plans, mut problems } = planned;
    let (mut count, all) = (0, plans.len());
    let looked = futures_util::stream::iter(plans)
        .map(async |(id, plan)| {
            let problems = look(&plan, compiler).await;
            (id, (plan, problems))
        })
        .buffer_unordered(TENANTS_AT_ONCE);
    let mut by_tenant = BTreeMap::new();
    let mut looked = std::pin::pin!(looked);
    while let Some((id, found)) = looked.next().await {
        count += 1;
        told(count, all);
        by_tenant.insert(id, found);
    }
    let mut good = BTreeMap::new();
    for (id, (plan, new)) in by_tenant {
        if new.iter().all(Problem::is_warning) {
            good.insert(id, plan);
        }
        problems.extend(new);
    }
    Planned { plans: good, problems }
}

/// Every problem of a plan's components, which are compiled where nobody has, one after the other.
pub(crate) async fn look(plan: &Plan, compiler: &Compiler) -> Vec<Problem> {
    let mut problems = Vec::new();
    for component in &plan.components {
        let report = match compiler.known(component.digest) {
            Some(known) => known,
            None => compiler.prepare(&plan.id, component.digest, || read(component)).await,
        };
        problems.extend(verify(plan, component, &report));
    }
    problems
}

/// The same where all of them were compiled before; nothing where one has to be.
pub(crate) fn look_now(plan: &Plan, compiler: &Compiler) -> Option<Vec<Problem>> {
    let mut problems = Vec::new();
    for component in &plan.components {
        problems.extend(verify(plan, component, &compiler.known(component.digest)?));
    }
    Some(problems)
}

/// Whether the machine is to blame for one of these, so that another try may do.
pub(crate) fn may_pass(problems: &[Problem]) -> bool {
    problems.iter().any(|problem| problem.kind == Kind::CompileFailed)
}

/// The bytes that a component is compiled from.
async fn read(component: &PlannedComponent) -> Result<Arc<[u8]>, CompileError> {
    let mut files = Vec::new();
    for path in component.paths() {
        files.push(tokio::fs::read(path).await.map_err(|error| CompileError::Failed(error.to_string()))?);
    }
    let wanted: Vec<String> = match &component.recipe {
        Some(recipe) => recipe.digests().map(str::to_owned).collect(),
        None => vec![component.digest.to_string()],
    };
    if !files.iter().map(|file| Digest::of(file).to_string()).eq(wanted) {
        return Err(CompileError::Failed("a file changed while it was being loaded".to_owned()));
    }
    let wasm = match &component.recipe {
        Some(recipe) => recipe.with(&files).map_err(CompileError::Misfit)?,
        None => files.swap_remove(0),
    };
    Ok(wasm.into())
}
