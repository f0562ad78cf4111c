//! Has the components of plans compiled before their first request, and reports what is wrong with them.

mod verify;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt as _;

use crate::config::plan::{Plan, Planned, PlannedComponent};
use crate::config::problem::{Kind, Problem};
use crate::ids::Digest;
use crate::sandbox::{CompileError, Compiler};
use verify::verify;

/// Tenants that a command checks concurrently; the compiler has its own, lower limit.
const TENANTS_AT_ONCE: usize = 64;

/// Checks all plans, and leaves out every tenant with a component that cannot be served. Calls `told` with the number of
/// tenants checked, and of all.
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

/// Returns every problem of a plan's components. Compiles those that were never compiled, one after the other.
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

/// The same if all of them were compiled before; none if one must still be compiled.
pub(crate) fn look_now(plan: &Plan, compiler: &Compiler) -> Option<Vec<Problem>> {
    let mut problems = Vec::new();
    for component in &plan.components {
        problems.extend(verify(plan, component, &compiler.known(component.digest)?));
    }
    Some(problems)
}

/// Whether one of these is the machine's fault, so that a retry may succeed.
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
