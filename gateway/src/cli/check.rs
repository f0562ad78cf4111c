//! `tollgate check` and `tollgate compile`: the loader of `serve`, without serving.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use super::{Common, runtime};
use crate::config::{self, Planned, Problem};
use crate::sandbox::Compiler;
use crate::telemetry::Metrics;

pub(super) fn check(common: &Common, json: bool) -> anyhow::Result<ExitCode> {
    let planned = load(common)?;
    let text = if json {
        let problems: Vec<_> = planned.problems.iter().map(Problem::to_json).collect();
        format!("{:#}\n", serde_json::json!({ "tenants": planned.plans.len(), "problems": problems }))
    } else {
        config::render_all(&planned.problems, std::io::stdout().is_terminal()) + &summary(&planned) + "\n"
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(if planned.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn compile(common: &Common) -> anyhow::Result<ExitCode> {
    let planned = load(common)?;
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

fn load(common: &Common) -> anyhow::Result<Planned> {
    let boot = match config::gateway(&common.config, &common.overrides()) {
        Ok(boot) => boot,
        Err(problems) => return Ok(Planned { plans: BTreeMap::new(), problems }),
    };
    let compiler = Compiler::open(&boot.sandbox, Arc::new(Metrics::default()))?;
    let planned = config::tenants(&boot, &BTreeMap::new());
    Ok(runtime()?.block_on(config::prepare(planned, &compiler)))
}

fn summary(planned: &Planned) -> String {
    let count = |n: usize, what: &str| if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") };
    let good = count(planned.plans.len(), "tenant");
    match planned.problems.len() {
        0 => format!("{good}, no problem"),
        n => format!("{}; {good} would be served", count(n, "problem")),
    }
}
