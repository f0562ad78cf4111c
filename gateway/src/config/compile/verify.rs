//! Checks each compiled component against what the gateway serves and what the component was granted.

use crate::config::plan::{Plan, PlannedComponent};
use crate::config::problem::{Kind, Problem};
use crate::config::reader::units;
use crate::host::{NEED_REDIS, NEED_STORES, SERVED, Standing, standing};
use crate::sandbox::{CompileError, Misfit, Report};
use crate::tenant::Handler;

/// Returns every problem of one component of a plan.
pub(crate) fn verify(plan: &Plan, component: &PlannedComponent, report: &Result<Report, CompileError>) -> Vec<Problem> {
    let problem = |kind: Kind, texts: [&str; 3], hint: Option<String>| {
        let [summary, found, wanted] = texts.map(str::to_owned);
        let (tenant, place) = (Some(plan.id.clone()), component.place.clone());
        Problem { kind, tenant, place, summary, found, wanted, hint, also: None }
    };
    let report = match report {
        Ok(report) => report,
        Err(CompileError::Misfit(misfit)) => return vec![misfit_problem(plan, component, misfit)],
        Err(error) => return vec![compile_problem(error, problem)],
    };
    let mut problems = Vec::new();
    problems.extend(unserved_imports(report, problem));
    if let (Some(error), true) = (&report.link_error, report.unserved.is_empty()) {
        problems.push(problem(
            Kind::UnservedImport,
            [
                "the gateway serves an import of this component with another signature",
                error,
                "the interface as its WIT defines it",
            ],
            Some("the gateway may serve this version, but with other functions or types".to_owned()),
        ));
    }
    let index = plan.components.iter().position(|other| other.name == component.name);
    let is_routed = plan.routes.iter().any(|route| Some(route.component) == index);
    let is_scheduled = plan.schedules.iter().any(|schedule| Some(schedule.component) == index);
    let is_subscribed = plan.subscriptions.iter().any(|subscription| Some(subscription.component) == index);
    if is_subscribed && !report.listens && report.link_error.is_none() {
        let found = if report.exports.is_empty() { "no export".to_owned() } else { report.exports.join(", ") };
        problems.push(problem(
            Kind::NoListener,
            [
                "no message can start this component",
                &found,
                "an export of fermyon:spin/inbound-redis or spin:redis/inbound-redis@3.0.0",
            ],
            Some("remove the subscription, or name a component that handles messages".to_owned()),
        ));
    }
    if is_scheduled && !report.is_timed && report.link_error.is_none() {
        problems.push(no_timed(report, problem));
    }
    let is_started_otherwise = is_subscribed || is_scheduled;
    if report.handler.is_none() && report.handler_error.is_none() && (is_routed || !is_started_otherwise) {
        let found = if report.exports.is_empty() { "no export".to_owned() } else { report.exports.join(", ") };
        let wanted =
            "an export of wasi:http/incoming-handler@0.2.x, wasi:http/handler@0.3.x or fermyon:spin/inbound-http";
        problems.push(problem(
            Kind::NoHandler,
            ["this component has no HTTP handler", &found, wanted],
            Some("it may be a command or a library; a server exports one of these".to_owned()),
        ));
    }
    if let (Some(error), None) = (&report.handler_error, &report.link_error) {
        problems.push(problem(
            Kind::WrongHandler,
            ["this component's handler does not match wasi:http", error, "the function as its WIT defines it"],
            Some("build it with bindings that were generated from wasi:http's own WIT".to_owned()),
        ));
    }
    problems.extend(reuse(component, report, problem));
    problems.extend(handler(component, report, problem));
    if !component.is_spin {
        problems.extend(grants(component, report, problem));
    }
    problems.extend(memory(plan, component, report));
    problems
}

/// A handler that the file asks for and the component does not export.
fn handler(
    component: &PlannedComponent,
    report: &Report,
    problem: impl Fn(Kind, [&str; 3], Option<String>) -> Problem,
) -> Option<Problem> {
    let asked = component.handler?;
    let has_it = report.exports.iter().any(|export| export.starts_with(asked.export()));
    (!has_it && report.link_error.is_none()).then(|| {
        let wanted = format!("an export of {}.x, or no `handler`", asked.export());
        let texts = ["this component has no such handler", &report.exports.join(", "), &wanted];
        problem(Kind::BadValue, texts, Some("remove `handler`: it is for components that export both".to_owned()))
    })
}

/// A schedule starts the component, which has no handler for that.
fn no_timed(report: &Report, problem: impl Fn(Kind, [&str; 3], Option<String>) -> Problem) -> Problem {
    let found = if report.exports.is_empty() { "no export".to_owned() } else { report.exports.join(", ") };
    let wanted = "an export handle-cron-event, of fermyon:spin-cron@2.0.0";
    let hint = "remove the trigger, or name a component that was built for it".to_owned();
    problem(Kind::NoTimed, ["no schedule can start this component", &found, wanted], Some(hint))
}

/// Imports that the gateway does not serve: one problem for other versions, and one for unknown interfaces.
fn unserved_imports(report: &Report, problem: impl Fn(Kind, [&str; 3], Option<String>) -> Problem) -> Vec<Problem> {
    let mut problems = Vec::new();
    let (other_versions, unknown) = unserved(report);
    if !other_versions.is_empty() {
        let (found, mut wanted): (Vec<_>, Vec<_>) = other_versions.into_iter().unzip();
        wanted.dedup();
        problems.push(problem(
            Kind::UnservedImport,
            ["this component needs interface versions that are not served here", &listed(&found), &wanted.join("; ")],
            Some("build it with an SDK for one of these; sdks.md lists SDKs and the versions that they use".to_owned()),
        ));
    }
    if !unknown.is_empty() {
        let mut packages: Vec<&str> =
            SERVED.iter().filter_map(|(name, _)| name.split_once('/')).map(|(package, _)| package).collect();
        packages.sort_unstable();
        packages.dedup();
        let wanted = format!("interfaces of {}, as hosts.md lists them", packages.join(", "));
        problems.push(problem(
            Kind::UnservedImport,
            ["this component imports interfaces that are not served here", &listed(&unknown), &wanted],
            Some("build the component without them".to_owned()),
        ));
    }
    problems
}

/// Maximum number of imports that one problem names.
const IMPORTS_MAX: usize = 12;

fn listed(names: &[&str]) -> String {
    let shown = names.iter().take(IMPORTS_MAX).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(IMPORTS_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Imports whose interface the gateway serves in other versions, each with those versions; and imports of unknown
/// interfaces.
fn unserved(report: &Report) -> (Vec<(&str, String)>, Vec<&str>) {
    let (mut other_versions, mut unknown) = (Vec::new(), Vec::new());
    for import in &report.unserved {
        match standing(import) {
            Standing::OtherVersion(versions) => {
                let interface = import.split('@').next().unwrap_or_default();
                other_versions.push((import.as_str(), format!("{interface} {versions}")));
            }
            Standing::Unknown | Standing::Served => unknown.push(import.as_str()),
        }
    }
    (other_versions, unknown)
}

/// An instance of wasi:http 0.2 or Spin 1 answers one request, so `reuse` has no effect on it.
fn reuse(
    component: &PlannedComponent,
    report: &Report,
    problem: impl Fn(Kind, [&str; 3], Option<String>) -> Problem,
) -> Option<Problem> {
    let is_03 = match component.handler {
        Some(asked) => asked == Handler::V03,
        None => report.handler.as_deref().is_none_or(|handler| handler == "0.3"),
    };
    let is_in_vain = component.reuse > 1 && !is_03;
    is_in_vain.then(|| {
        let handler = match report.handler.as_deref() {
            Some("spin-1") => "Spin 1",
            _ => "wasi:http 0.2",
        };
        let found = format!("reuse = {}, and a handler of {handler}", component.reuse);
        let texts = [
            "an instance of this component cannot answer a second request",
            &found,
            "reuse with a component of wasi:http 0.3",
        ];
        problem(Kind::BadValue, texts, Some("remove `reuse`, or build the component for wasi:http 0.3".to_owned()))
    })
}

/// Imports of a capability that the component was not granted.
fn grants(
    component: &PlannedComponent,
    report: &Report,
    problem: impl Fn(Kind, [&str; 3], Option<String>) -> Problem,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let wants = |names: &[&str]| {
        let is_served = |import: &&String| !report.unserved.contains(import);
        report.imports.iter().filter(is_served).find(|import| names.iter().any(|name| import.starts_with(name)))
    };
    if let (Some(import), true) = (wants(&NEED_STORES), component.stores.is_empty()) {
        problems.push(problem(
            Kind::StoreNotGranted,
            [
                "this component uses a store, but was granted none",
                &format!("an import of {import}"),
                "stores, in its [[component]]",
            ],
            Some("add `stores = [\"default\"]` where the component is named".to_owned()),
        ));
    }
    // A component that handles messages imports Redis's types with its handler, and need not call Redis.
    if let (Some(import), true, false) = (wants(&NEED_REDIS), component.redis.is_empty(), report.listens) {
        problems.push(problem(
            Kind::RedisNotGranted,
            [
                "this component uses Redis, but was granted no address for it",
                &format!("an import of {import}"),
                "redis, in its [[component]]",
            ],
            Some(
                "add `redis = [\"redis://localhost:6379\"]`, with the address that the component opens: it leads to \
                    this tenant's own keys"
                    .to_owned(),
            ),
        ));
    }
    problems
}

fn compile_problem(error: &CompileError, problem: impl Fn(Kind, [&str; 3], Option<String>) -> Problem) -> Problem {
    const WANTED: &str = "a component that compiles within sandbox.compile_time and sandbox.compile_memory";
    let found = error.to_string();
    match error {
        CompileError::Invalid(_) | CompileError::Misfit(_) => {
            problem(Kind::NotAComponent, ["this component is not valid", &found, "a valid component"], None)
        }
        CompileError::NoHandler(_) => {
            let wanted = "a core module or component with a handler: of wasi:http, or fermyon:spin's inbound-http or \
                          inbound-redis";
            let hint =
                "build it with an SDK of one of these; a command that prints its answer (WAGI) is not served here";
            let texts = ["the gateway cannot start this core module", &found, wanted];
            problem(Kind::NoHandler, texts, Some(hint.to_owned()))
        }
        CompileError::TookTooLong(_) => {
            problem(Kind::CompileLimit, ["this component takes too long to compile", &found, WANTED], None)
        }
        CompileError::Crashed(_) | CompileError::TooMuchSaid => {
            problem(Kind::CompileLimit, ["this component cannot be compiled within the limits", &found, WANTED], None)
        }
        CompileError::Idle(_) | CompileError::Killed(_) | CompileError::Failed(_) => problem(
            Kind::CompileFailed,
            ["this component could not be compiled here", &found, "a compiler that runs"],
            Some("the cause is this machine, not the component; the gateway tries again by itself".to_owned()),
        ),
    }
}

/// A part that does not fit, reported where the file names it.
fn misfit_problem(plan: &Plan, component: &PlannedComponent, misfit: &Misfit) -> Problem {
    let part = misfit.part.checked_sub(1).and_then(|index| component.parts.get(index));
    Problem {
        kind: Kind::PartsMisfit,
        tenant: Some(plan.id.clone()),
        place: part.map_or(&component.place, |part| &part.place).clone(),
        summary: format!("{} cannot be composed: {}", component.name, misfit.summary),
        found: misfit.found.clone(),
        wanted: misfit.wanted.clone(),
        hint: Some("`wasm-tools component wit FILE` shows what a part imports and exports".to_owned()),
        also: None,
    }
}

/// The initial memory must fit the limit of every route: otherwise no request ever gets an instance.
fn memory(plan: &Plan, component: &PlannedComponent, report: &Report) -> Vec<Problem> {
    let routes = plan.routes.iter().filter(|route| {
        let of = plan.components.get(route.component).map(|component| &component.name);
        of == Some(&component.name) && report.memory_bytes_min > route.limits.memory
    });
    let mut problems: Vec<Problem> = Vec::new();
    for route in routes {
        let (needs, limit) = (units::bytes_text(report.memory_bytes_min), units::bytes_text(route.limits.memory));
        let problem = Problem {
            kind: Kind::MemoryLimit,
            tenant: Some(plan.id.clone()),
            place: route.memory_place.clone(),
            summary: format!("the component {} needs more memory than its limit", component.name),
            found: format!("limits.memory is {limit}"),
            wanted: format!("at least {needs}, which the component needs at its start"),
            hint: Some("raise limits.memory".to_owned()),
            also: None,
        };
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    problems
}
