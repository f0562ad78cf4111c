//! Files that a component may read: found by patterns in the application's folder, and copied for its tenant alone.
//!
//! Security: the kernel opens every file below the application's folder (openat2, RESOLVE_BENEATH), so that no symbolic
//! link and no `..` leads out of it, even if someone changes the folder meanwhile. A component sees a copy, named by the
//! digest of all of it: a change of the folder has no effect until it is loaded. Limit: [`FILES_MAX`] files and
//! `FILES_BYTES_MAX` for each component.

mod below;
mod files;
mod find;

use std::path::{Component as Part, Path, PathBuf};

use toml::de::DeValue;

use crate::config::reader::{At, Section};

pub(crate) use files::Files;

pub(crate) const FILES_MAX: usize = 2000;

/// One mount of a manifest.
#[derive(Clone, Debug)]
pub(crate) enum Mount {
    /// Files by name or pattern in the folder; the component sees the same names.
    Pattern(String),
    /// A file or folder, and where the component finds it.
    Placed { source: PathBuf, destination: PathBuf },
}

/// The mounts of one component.
#[derive(Clone, Debug)]
pub(crate) struct Mounts {
    /// The application's folder, relative to the tenant's.
    pub(crate) dir: PathBuf,
    pub(crate) mounts: Vec<At<Mount>>,
    pub(crate) excluded: Vec<glob::Pattern>,
}

/// Why files cannot be mounted, as text for the operator, and which mount is the cause.
#[derive(Debug)]
pub(crate) struct BadFiles {
    pub(crate) mount: usize,
    pub(crate) found: String,
}

const WANTED: &str =
    "a path or pattern below this folder, such as \"static/**/*\", or { source = \"assets\", destination = \"/\" }";

/// Reads `files` and `exclude_files` of a component.
pub(crate) fn read(section: &Section<'_>, dir: &Path) -> Option<Mounts> {
    let mount = |value: &DeValue<'_>| match value {
        DeValue::String(text) => {
            glob::Pattern::new(text).ok()?;
            is_below(Path::new(&**text)).then(|| Mount::Pattern(text.to_string()))
        }
        DeValue::Table(table) => {
            let text = |key: &str| Some(PathBuf::from(table.get(key)?.get_ref().as_str()?));
            let (source, destination) = (text("source")?, text("destination")?);
            let inside = destination.strip_prefix("/").unwrap_or(&destination).to_owned();
            let is_good = table.len() == 2 && is_below(&source) && (inside.as_os_str().is_empty() || is_below(&inside));
            is_good.then_some(Mount::Placed { source, destination: inside })
        }
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) => {
            None
        }
    };
    let mounts = section.list_of("files", WANTED, mount).unwrap_or_default();
    let excluded =
        section.list("exclude_files", "a pattern, such as \"**/*.bak\"", |text| glob::Pattern::new(text).ok());
    let excluded = excluded.unwrap_or_default().into_iter().map(|at| at.value).collect();
    (!mounts.is_empty()).then(|| Mounts { dir: dir.to_owned(), mounts, excluded })
}

fn is_below(path: &Path) -> bool {
    let is_plain = |part: Part<'_>| matches!(part, Part::Normal(_) | Part::CurDir);
    path.components().next().is_some() && path.components().all(is_plain)
}
