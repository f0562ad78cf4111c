//! The notes as a file: one line for each host with its tenant, rewritten as a whole.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::Noted;
use crate::domain::Pattern;
use crate::ids::TenantId;

/// Its name in the state folder.
const NAME: &str = "hosts";

pub(super) fn path(state: &Path) -> PathBuf {
    state.join(NAME)
}

/// Ignores pairs that are not a host and a tenant.
pub(super) fn parsed<'t>(pairs: impl Iterator<Item = (&'t str, &'t str)>) -> Noted {
    pairs.filter_map(|(host, id)| Some((Pattern::parse(host)?, TenantId::parse(id)?))).collect()
}

/// An empty set if there is no file yet.
pub(super) fn read(path: &Path) -> io::Result<Noted> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Noted::new()),
        Err(error) => return Err(error),
    };
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    Ok(parsed(lines.filter_map(|line| line.split_once(' '))))
}

/// Writes atomically: a reader finds either the previous file or this one.
pub(super) fn write(path: &Path, noted: &Noted) -> io::Result<()> {
    let whole = path.with_extension("new");
    let mut text =
        "# Which tenant has which host. The gateway writes this file; `tollgate host` changes it.\n".to_owned();
    noted.iter().for_each(|(host, id)| text += &format!("{host} {id}\n"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&whole)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&whole, path)?;
    // The rename is durable once the folder is synced.
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}
