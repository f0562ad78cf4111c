//! `tollgate check` and `tollgate compile`: the loader of `serve`, without serving.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use super::{Common, runtime};
use crate::config::{self, Boot, Machine, Planned, Problem};
use crate::sandbox::Compiler;
use crate::telemetry::Metrics;

pub(super) fn check(common: &Common, json: bool) -> anyhow::Result<ExitCode> {
    let (planned, boot) = load(common)?;
    let (bounds, over) = boot.map(|boot| config::budget_lines(&boot, Machine::here())).unwrap_or_default();
    let text = if json {
        let problems: Vec<_> = planned.problems.iter().map(Problem::to_json).collect();
        let value = serde_json::json!({
            "tenants": planned.plans.len(),
            "problems": problems,
            "bounds": bounds,
            "warnings": over,
        });
        format!("{value:#}\n")
    } else {
        let colour = std::io::stdout().is_terminal();
        let warnings: String = over.iter().map(|warning| format!("warning: {warning}\n")).collect();
        config::render_all(&planned.problems, colour) + &warnings + &summary(&planned) + "\n"
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(if planned.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn compile(common: &Common) -> anyhow::Result<ExitCode> {
    let (planned, _boot) = load(common)?;
    let mut text = String::new();
    for plan in planned.plans.values() {
        for component in &plan.components {
            text += &format!("{}/{}  {}\n", plan.id, component.name, component.digest);
        }
    }
    text += &config::render_all(&planned.problems, std::io::stdout().is_terminal());
    text += &(summary(&planned) + "\n");
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(if planned.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn load(common: &Common) -> anyhow::Result<(Planned, Option<Boot>)> {
    let boot = match config::gateway(&common.config, &common.overrides()) {
        Ok(boot) => boot,
        Err(problems) => return Ok((Planned { plans: BTreeMap::new(), problems }, None)),
    };
    let compiler = Compiler::open(&boot.sandbox, Arc::new(Metrics::default()))?;
    let planned = config::tenants(&boot);
    let planned = runtime()?.block_on(config::prepare(planned, &BTreeMap::new(), &compiler));
    Ok((planned, Some(boot)))
}

fn summary(planned: &Planned) -> String {
    let count = |n: usize, what: &str| if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") };
    let good = count(planned.plans.len(), "tenant");
    match planned.problems.len() {
        0 => format!("{good}, no problem"),
        n => format!("{}; {good} would be served", count(n, "problem")),
    }
}
