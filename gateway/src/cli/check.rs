//! `tollgate check`, `tollgate explain` and `tollgate compile`: load the configuration as `serve` does, without serving.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};

use super::common::counted;
use super::{Common, runtime};
use crate::config::{self, Boot, Kind, Machine, Planned, Problem};
use crate::confine;
use crate::owners;
use crate::sandbox::{Compiler, Starter};
use crate::telemetry::Metrics;

/// Exit codes of `check`: only warnings with `--strict`, and problems.
const WARNED: u8 = 1;
const WRONG: u8 = 2;

pub(super) fn check(common: &Common, json: bool, strict: bool) -> anyhow::Result<ExitCode> {
    let (mut planned, boot) = load(common)?;
    let machine = Machine::here();
    let bounds = boot.as_ref().map(|boot| config::budget_bounds(boot, &machine)).unwrap_or_default();
    planned.problems.extend(boot.iter().flat_map(|boot| config::budget_warnings(boot, &machine)));
    planned.problems.extend(boot.iter().filter_map(config::left_behind));
    let outcome = boot.as_ref().filter(|boot| boot.sandbox.confine).map(|_| confine::ability());
    let missing = outcome.as_ref().and_then(confine::Outcome::missing);
    planned.problems.extend(boot.iter().zip(missing.clone()).map(|(boot, missing)| config::unconfined(boot, missing)));
    let text = if json {
        let problems: Vec<_> = planned.problems.iter().map(Problem::to_json).collect();
        let notices: Vec<_> = notices(&planned).map(Problem::to_json).collect();
        let tenants = planned.plans.len();
        let value = serde_json::json!({ "tenants": tenants, "problems": problems, "notices": notices, "bounds": bounds,
                "confine": { "by": outcome.as_ref().map(confine::Outcome::had), "missing": missing } });
        format!("{value:#}\n")
    } else {
        let colour = std::io::stdout().is_terminal();
        let told: Vec<_> = planned.problems.iter().chain(notices(&planned)).cloned().collect();
        config::render_all(&told, colour) + &summary(&planned) + "\n"
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    let (errors, warnings) = counts(&planned);
    Ok(match (errors, warnings) {
        (1.., _) => ExitCode::from(WRONG),
        (0, 1..) if strict => ExitCode::from(WARNED),
        (0, _) => ExitCode::SUCCESS,
    })
}

/// `tollgate explain CODE`.
pub(super) fn explain(asked: &str) -> anyhow::Result<ExitCode> {
    let Some(kind) = Kind::find(asked) else {
        let known: Vec<_> = Kind::ALL.iter().map(|kind| format!("  {}  {}", kind.code(), kind.name())).collect();
        anyhow::bail!("{asked:?} is not a problem code; the codes are\n{}", known.join("\n"));
    };
    std::io::stdout().lock().write_all(format!("{}\n", kind.story()).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Shows progress on a terminal if the work takes longer than a second.
struct Bar {
    began: Instant,
    shown: Option<ProgressBar>,
}

impl Default for Bar {
    fn default() -> Self {
        Self { began: Instant::now(), shown: None }
    }
}

impl Bar {
    const AFTER: Duration = Duration::from_secs(1);

    fn at(&mut self, count: usize, all: usize) {
        if self.began.elapsed() < Self::AFTER {
            return;
        }
        let style = || ProgressStyle::with_template("{bar:40} {pos} of {len} tenants' components, {eta} left").ok();
        // It draws nothing if standard error is not a terminal.
        let bar = self.shown.get_or_insert_with(|| {
            let bar = ProgressBar::new(all as u64);
            style().map_or(bar.clone(), |style| bar.with_style(style))
        });
        bar.set_position(count as u64);
    }

    fn clear(&self) {
        if let Some(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

/// Notices about tenants that would be served.
fn notices(planned: &Planned) -> impl Iterator<Item = &Problem> {
    planned.plans.values().flat_map(|plan| &plan.notices)
}

/// The numbers of errors and of warnings.
fn counts(planned: &Planned) -> (usize, usize) {
    let warnings = planned.problems.iter().filter(|problem| problem.is_warning()).count();
    (planned.problems.len() - warnings, warnings)
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
    Ok(if counts(&planned).0 == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn load(common: &Common) -> anyhow::Result<(Planned, Option<Boot>)> {
    let boot = match config::gateway(common.config(), &common.overrides()) {
        Ok(boot) => boot,
        Err(problems) => return Ok((Planned { plans: BTreeMap::new(), problems }, None)),
    };
    let compiler = Compiler::open(&boot.sandbox, Starter::Here, Arc::new(Metrics::default()))?;
    let runtime = runtime()?;
    // The notes about hosts that a gateway with this state folder or this Redis would find.
    let noted = runtime.block_on(owners::look(&boot.state, &boot.storage));
    let noted = noted.with_context(|| format!("cannot read {}/hosts", boot.state.display()))?;
    let planned = config::tenants(&boot, &noted);
    let mut bar = Bar::default();
    let prepared = config::prepare(planned, &compiler, |count, all| bar.at(count, all));
    let planned = runtime.block_on(prepared);
    bar.clear();
    Ok((planned, Some(boot)))
}

fn summary(planned: &Planned) -> String {
    let count = |n: usize, what: &str| counted(n as u64, what);
    let good = count(planned.plans.len(), "tenant");
    let (errors, warnings) = counts(planned);
    let also = |n: usize, what: &str| if n == 0 { String::new() } else { format!(", {}", count(n, what)) };
    let warned = also(warnings, "warning") + &also(notices(planned).count(), "notice");
    let first = planned.problems.iter().chain(notices(planned)).next().map(|problem| problem.kind.code());
    let more = first.map(|code| format!("\nfor more about a problem: tollgate explain {code}")).unwrap_or_default();
    match errors {
        0 => format!("{good}, no problem{warned}{more}"),
        n => format!("{}{warned}; {good} would be served{more}", count(n, "problem")),
    }
}
