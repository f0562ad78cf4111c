//! The folders that a running gateway reads: those of its own file, of its tenants, and of each file that one of them
//! names.
//!
//! As in the watch, folders count and not files, so that the gateway can also read a file that was replaced, or the new
//! target of a link in the same folder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::folders::folders;
use super::materials::named;
use super::tenant::app;
use crate::config::disk;
use crate::config::files::boot::Boot;
use crate::config::files::middleware::Layer;
use crate::config::files::tenant;
use crate::config::reader::Reader;
use crate::config::watch::dirs_of;
use crate::ids::TenantId;

/// A folder with fewer path parts than this contains much that is not ours, so a file in it is named by itself.
const PARTS_MIN: usize = 3;

/// These folders, and files that are named by themselves.
pub(crate) fn reach(boot: &Boot) -> BTreeSet<PathBuf> {
    let mut read = BTreeSet::from([boot.tenants_dir.clone()]);
    read.extend(boot.sandbox.confine_read.iter().cloned());
    let middleware = boot.middleware.iter().flat_map(Layer::paths);
    let named = middleware.chain(boot.acme.iter().filter_map(|acme| acme.ca.as_deref()));
    let default = boot.default_pair.iter().flat_map(|(cert, key)| [cert.as_path(), key.as_path()]);
    let named = named.chain(default);
    let named = named.chain(boot.storage.file_of_urls());
    let own = Path::new(&boot.source.path);
    read.extend(std::iter::once(own).chain(named).flat_map(around));
    for folder in folders(&boot.tenants_dir).unwrap_or_default().tenants {
        read.extend(named_by(boot, &folder).iter().flat_map(|file| around(file)));
    }
    read
}

/// The files that a tenant's files name, without reading those. Problems are not reported here, but by the real load. Files
/// that a component may read are below the folder of its application's manifest, which is one of these.
fn named_by(boot: &Boot, folder: &Path) -> Vec<PathBuf> {
    let path = folder.join("tenant.toml");
    let mut files = vec![path.clone()];
    let id = folder.file_name().and_then(|name| TenantId::parse(name.to_str()?));
    let (Some(id), Ok(source)) = (id, disk::source(&path)) else { return files };
    let (file, _told) = Reader::new(source, Some(id.clone())).read(tenant::read);
    let Some(mut file) = file.flatten() else { return files };
    if let Some(at) = file.app.clone() {
        let variables: Vec<_> = file.variables.iter().map(|(_, reference)| reference.read(folder)).collect();
        let _told = app((boot, &id), folder, &at, &mut file, &variables, &mut Vec::new());
    }
    files.extend(named(&file).map(|path| folder.join(path)));
    files
}

/// The folders that contain a file, or the file itself if these contain much more.
fn around(file: &Path) -> Vec<PathBuf> {
    let dirs = dirs_of(&std::path::absolute(file).unwrap_or_else(|_| file.to_owned()));
    let narrow: Vec<PathBuf> = dirs.into_iter().filter(|dir| is_narrow(dir)).collect();
    if narrow.is_empty() { vec![file.to_owned()] } else { narrow }
}

fn is_narrow(dir: &Path) -> bool {
    dir.components().count() >= PARTS_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_a_broad_folder_is_named_by_itself() {
        assert_eq!(around(Path::new("/etc/hostname")), [Path::new("/etc/hostname")]);
        assert_eq!(around(Path::new("/usr/share/none")), [Path::new("/usr/share")]);
    }
}
