//! Rebuilds and reloads when a source file changes.
//!
//! Limit: [`FILES_MAX`] files are checked, every [`REST`]; the outputs of a build are not sources.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::project::{OWN_DIR, Project};
use super::{build, note};

const REST: Duration = Duration::from_millis(300);
const FILES_MAX: usize = 10_000;
/// Folders with generated or downloaded files, which are not sources of a project that does not name its sources.
const MADE: [&str; 7] = [OWN_DIR, ".git", ".spin", ".venv", "node_modules", "target", "dist"];

type Seen = BTreeMap<PathBuf, (SystemTime, u64)>;

/// Starts to watch, for as long as the process lives.
///
/// # Errors
/// The thread cannot start.
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
                    // Changes during a build cause the next one. If the project does not name its sources, the build itself
                    // may have written among them.
                    *seen = if component.watch.is_empty() { sources_of(&project, &component.id) } else { now };
                }
            }
            let now = loaded_of(&project);
            if is_good && now != loaded {
                loaded = now;
                // The gateway in this process reloads, as with `kill -HUP`.
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

/// The sources of one component.
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
        // Links to folders are not followed: they may form a cycle.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) { tree(&path, seen) } else { look(&path, seen) }
    }
}

fn look(path: &Path, seen: &mut Seen) {
    let Ok(file) = std::fs::metadata(path) else { return };
    if file.is_file() && seen.len() < FILES_MAX {
        seen.insert(path.to_owned(), (file.modified().unwrap_or(SystemTime::UNIX_EPOCH), file.len()));
    }
}
