//! Builds and loads anew when a source changes.
//!
//! Limit: [`FILES_MAX`] files are looked at, every [`REST`]; what a build made is not a source.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::project::{OWN_DIR, Project};
use super::{build, note};

const REST: Duration = Duration::from_millis(300);
const FILES_MAX: usize = 10_000;
/// Folders of what is made or fetched, which are no sources of a project that does not say what its sources are.
const MADE: [&str; 7] = [OWN_DIR, ".git", ".spin", ".venv", "node_modules", "target", "dist"];

type Seen = BTreeMap<PathBuf, (SystemTime, u64)>;

/// Starts to watch, as long as the process lives.
///
/// # Errors
/// No thread can be had.
pub(super) fn start(project: Project) -> std::io::Result<()> {
    std::thread::Builder::new().name("watch".to_owned()).spawn(move || {
        let mut sources: Vec<_> = project.components.iter().map(|one| sources_of(&project, &one.id)).collect();
        let mut loaded = loaded_of(&project);
        let mut is_good = true;
        loop {
            std::thread::sleep(REST);
            for (component, seen) in project.components.iter().zip(&mut sources) {
                let now = sources_of(&project, &component.id);
                if *seen != now && !component.commands.is_empty() {
                    is_good = built(&project, &component.id);
                    // What changed while it was built is built the next time; where nothing says what the sources are, a
                    // build may have written among them.
                    *seen = if component.watch.is_empty() { sources_of(&project, &component.id) } else { now };
                }
            }
            let now = loaded_of(&project);
            if is_good && now != loaded {
                loaded = now;
                // The gateway that runs here loads anew, as by `kill -HUP`.
                let _sent = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::HUP);
            }
        }
    })?;
    Ok(())
}

fn built(project: &Project, id: &str) -> bool {
    build::build(project, &[id.to_owned()]).unwrap_or_else(|error| {
        note(&format!("{error:#}"));
        false
    })
}

/// What one component is built from.
fn sources_of(project: &Project, id: &str) -> Seen {
    let mut seen = Seen::new();
    for component in project.components.iter().filter(|component| component.id == id) {
        if component.watch.is_empty() {
            tree(&component.workdir, &mut seen);
        }
        for pattern in &component.watch {
            matches(&component.workdir, pattern, &mut seen);
        }
    }
    seen
}

/// What the gateway loads: manifests, components, files.
fn loaded_of(project: &Project) -> Seen {
    let mut seen = Seen::new();
    look(&project.manifest, &mut seen);
    look(&project.dir.join("tenant.toml"), &mut seen);
    for pattern in project.components.iter().flat_map(|component| &component.loaded) {
        matches(project.base(), pattern, &mut seen);
    }
    seen
}

fn matches(base: &Path, pattern: &str, seen: &mut Seen) {
    let whole = format!("{}/{pattern}", glob::Pattern::escape(&base.to_string_lossy()));
    for path in glob::glob(&whole).into_iter().flatten().flatten() {
        look(&path, seen);
    }
}

fn tree(dir: &Path, seen: &mut Seen) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let is_made = name.to_str().is_some_and(|name| MADE.contains(&name));
        let is_wasm = path.extension().is_some_and(|extension| extension == "wasm");
        if is_made || is_wasm || seen.len() >= FILES_MAX {
            continue;
        }
        // A link to a folder is not followed: it may lead in circles.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) { tree(&path, seen) } else { look(&path, seen) }
    }
}

fn look(path: &Path, seen: &mut Seen) {
    let Ok(file) = std::fs::metadata(path) else { return };
    if file.is_file() && seen.len() < FILES_MAX {
        seen.insert(path.to_owned(), (file.modified().unwrap_or(SystemTime::UNIX_EPOCH), file.len()));
    }
}
