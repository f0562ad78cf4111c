//! The I/O of configuration: finds and reads files. Other floors interpret them.

pub(crate) mod copies;
pub(crate) mod folders;
pub(crate) mod known;
pub(crate) mod left;
mod materials;
pub(crate) mod reach;
mod tenant;

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::disk;
use crate::config::files::boot::{Boot, Overrides};
use crate::config::files::gateway;
use crate::config::plan::Planned;
use crate::config::problem::Problem;
use crate::config::reader::Reader;
use crate::config::watch::Changed;
use crate::domain::Pattern;
use crate::ids::TenantId;
use known::{Before, Known};

/// Reads the machine's file.
///
/// # Errors
/// Every problem of it.
pub(crate) fn gateway(path: &Path, overrides: &Overrides) -> Result<Boot, Vec<Problem>> {
    let source = disk::source(path).map_err(|problem| vec![*problem])?;
    let base = path.parent().unwrap_or(Path::new(""));
    let reader = Reader::new(source, None);
    let (boot, problems) = reader.read(|reader, file| gateway::read(reader, file, base, overrides));
    match boot {
        Some(boot) if problems.is_empty() => Ok(boot),
        _ => Err(problems),
    }
}

/// Reads every tenant's folder, for a command that asks what a gateway would accept. `owners` says which tenant has which
/// host.
pub(crate) fn tenants(boot: &Boot, owners: &BTreeMap<Pattern, TenantId>) -> Planned {
    Known::default().read(boot, &Changed::All, &Before::of_a_check(owners.clone()))
}

/// The same for a gateway that starts, which does not serve better certificates yet.
pub(crate) fn tenants_at_a_start(boot: &Boot, owners: &BTreeMap<Pattern, TenantId>) -> Planned {
    Known::default().read(boot, &Changed::All, &Before { owners: owners.clone(), ..Before::default() })
}
