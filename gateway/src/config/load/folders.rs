//! Finds the tenants: the folders below the folder of all tenants.

use std::path::{Path, PathBuf};

use crate::config::disk::unreadable;
use crate::config::files::boot::Boot;
use crate::config::problem::{Kind, Place, Problem, Source};
use crate::confine;
use crate::ids::TenantId;

/// The name of Spin's manifest.
const MANIFEST: &str = "spin.toml";

/// Maximum number of warnings about manifests without a tenant.
const MANIFESTS_MAX: usize = 20;

/// The tenants that exist, whether their files are valid or not.
///
/// # Errors
/// If the folder cannot be read.
pub(crate) fn names(boot: &Boot) -> Result<Vec<TenantId>, Box<Problem>> {
    let name = |folder: &PathBuf| TenantId::parse(folder.file_name()?.to_str()?);
    Ok(folders(&boot.tenants_dir)?.tenants.iter().filter_map(name).collect())
}

/// The content of the folder of all tenants.
#[derive(Default)]
pub(crate) struct Listed {
    pub(crate) tenants: Vec<PathBuf>,
    /// Spin manifests in folders without a tenant file.
    manifests: Vec<PathBuf>,
}

impl Listed {
    /// One warning for each application that has a manifest and no tenant file.
    pub(crate) fn warnings(&self) -> Vec<Problem> {
        self.manifests.iter().filter_map(|path| without_tenant_file(path)).collect()
    }
}

fn without_tenant_file(manifest: &Path) -> Option<Problem> {
    let name = manifest.parent()?.file_name()?.to_string_lossy().into_owned();
    let text = format!("schema = 1, hosts = [\"{name}.example.com\"] and app = \"{MANIFEST}\", each on a line");
    Some(Problem {
        kind: Kind::NoTenantFile,
        tenant: None,
        place: Place::whole(&Source::new(manifest, String::new())),
        summary: "this folder is not served: it has a Spin manifest and no tenant.toml".to_owned(),
        found: MANIFEST.to_owned(),
        wanted: "a file tenant.toml beside it".to_owned(),
        hint: Some(format!("write one with {text}; or move the folder elsewhere")),
        also: None,
    })
}

pub(crate) fn folders(dir: &Path) -> Result<Listed, Box<Problem>> {
    let list = || -> std::io::Result<_> {
        let mut listed = Listed::default();
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if is_tenant(&path) {
                listed.tenants.push(path);
            } else if path.join(MANIFEST).is_file() && listed.manifests.len() < MANIFESTS_MAX {
                listed.manifests.push(path.join(MANIFEST));
            }
        }
        listed.tenants.sort();
        listed.manifests.sort();
        Ok(listed)
    };
    list().map_err(|error| {
        unreadable(dir, &confine::refused(dir, &error), "the folder that holds one folder for each tenant")
    })
}

/// A folder without this file is not a tenant: it may contain sources or notes.
pub(crate) fn is_tenant(folder: &Path) -> bool {
    match folder.join("tenant.toml").try_exists() {
        Ok(is_there) => is_there,
        // A file that cannot be checked counts as existing, and its problem is reported. If the path is not a folder, there
        // is no such file.
        Err(error) => error.kind() != std::io::ErrorKind::NotADirectory,
    }
}
