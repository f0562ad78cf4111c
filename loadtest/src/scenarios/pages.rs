//! Pages in languages that carry an interpreter or a garbage collector, at full load: with the default quotas no request is
//! refused. Any answer but 200 fails the run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use super::Plan;
use crate::load::{self, Outcome};
use crate::report::{Section, figures};

/// A template, the project that is made from it, and its name in the table.
const PAGES: [(&str, &str, &str); 3] =
    [("http-js", "script", "JavaScript"), ("http-python", "snake", "Python"), ("http-go", "gopher", "Go")];
const CORES: [(&str, &str); 2] = [("0", "one"), ("0,1", "two")];
const CONNECTIONS: [usize; 3] = [4, 16, 64];
/// Long enough to see requests that are refused only for a moment.
const TIME_MIN: Duration = Duration::from_secs(10);

/// The folder where pages are built, once.
fn folder() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    cache.unwrap_or_else(home).join("tollgate/pages")
}

/// The component of a page, built from its template if it does not exist yet.
fn page(plan: &Plan, template: &str, name: &str) -> anyhow::Result<PathBuf> {
    let folder = folder();
    let component = folder.join(format!("{name}/{name}.wasm"));
    if component.exists() {
        return Ok(component);
    }
    std::fs::create_dir_all(&folder)?;
    let run = |words: &[&str], at: &Path| -> anyhow::Result<()> {
        let done = Command::new(&plan.tollgate).args(words).current_dir(at).envs(toolchain()?).status()?;
        anyhow::ensure!(done.success(), "tollgate {} failed: {done}", words.join(" "));
        Ok(())
    };
    if !folder.join(name).exists() {
        run(&["new", template, name], &folder)?;
    }
    run(&["build"], &folder.join(name))?;
    Ok(component)
}

/// The environment for Go, which may not be installed here.
fn toolchain() -> anyhow::Result<Vec<(String, String)>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests/go.sh");
    let said = Command::new(&script).output().with_context(|| format!("{}", script.display()))?;
    anyhow::ensure!(said.status.success(), "{}: {}", script.display(), String::from_utf8_lossy(&said.stderr));
    let lines = String::from_utf8(said.stdout)?;
    Ok(lines
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect())
}

/// Moves all threads of a server to these cores.
fn move_to(cores: &str, process: u32) -> anyhow::Result<()> {
    let mut command = Command::new("taskset");
    let moved = command.args(["-a", "-p", "-c", cores, &process.to_string()]).output().context("taskset")?;
    anyhow::ensure!(moved.status.success(), "taskset: {}", String::from_utf8_lossy(&moved.stderr));
    Ok(())
}

pub(super) async fn run(plan: &Plan) -> anyhow::Result<Vec<Section>> {
    let site = plan.site("pages", "")?;
    let mut pages = Vec::new();
    for (template, name, language) in PAGES {
        match page(plan, template, name) {
            Ok(component) => {
                site.tenant(name, &component, "")?;
                pages.push((name, language));
            }
            Err(error) => eprintln!("not measured: {language}: {error:#}"),
        }
    }
    let Some((first, _)) = pages.first() else { return Ok(Vec::new()) };
    let (server, _admin) = site.serve(&format!("{first}.localhost"))?;
    let (mut rows, mut bars, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for (cores, words) in CORES {
        move_to(cores, server.pid())?;
        for (name, language) in &pages {
            let target = server.target.at(&format!("{name}.localhost"), "/");
            until_compiled(&target).await?;
            for connections in CONNECTIONS {
                let outcome = load::closed(&target, connections, plan.time.max(TIME_MIN)).await?;
                if outcome.failed > 0 {
                    failed.push(format!("{language}, {connections} connections, {words} core(s): {}", outcome.failed));
                }
                bars.push((format!("{language}, {connections} connections, {words} core(s)"), outcome.per_second()));
                rows.push(row(language, words, connections, &outcome));
            }
        }
    }
    anyhow::ensure!(failed.is_empty(), "answers that were not 200:\n{}", failed.join("\n"));
    Ok(vec![Section {
        name: "pages",
        title: "Pages of JavaScript, Python and Go at full load".to_owned(),
        how: "The templates' pages, a closed loop over HTTP/1.1, quotas as they are by default. Any answer but 200 would have failed \
              the run. With two cores, the load has the second one, too."
            .to_owned(),
        columns: vec!["page", "cores", "connections", "requests/s", "p50 ms", "p99 ms", "not 200"],
        rows,
        plot: ("requests a second", bars),
        worse: Vec::new(),
    }])
}

fn row(language: &str, cores: &str, connections: usize, outcome: &Outcome) -> Vec<String> {
    vec![
        language.to_owned(),
        cores.to_owned(),
        connections.to_string(),
        figures(outcome.per_second()),
        figures(outcome.quantile(0.5)),
        figures(outcome.quantile(0.99)),
        outcome.failed.to_string(),
    ]
}

/// The first requests arrive while the component is still being compiled.
async fn until_compiled(target: &load::Target) -> anyhow::Result<()> {
    for _ in 0..300 {
        let tried = load::closed(target, 1, Duration::from_millis(200)).await?;
        if tried.failed == 0 && !tried.latencies.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    anyhow::bail!("{} is not served", target.host)
}
