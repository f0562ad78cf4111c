//! Which folders a gateway reads once it runs: those of its own file, of its tenants, and of each file that one of them names.
//!
//! As for the watch, folders count and not files, so that a file that is replaced, or a link that is pointed elsewhere beside the
//! one before, is read as well.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Boot, load, watch};

/// Below so few parts of a path is much that is not ours: a file there is named by itself.
const PARTS_MIN: usize = 3;

/// Folders, and files that stand in none of their own.
pub(crate) fn reach(boot: &Boot) -> BTreeSet<PathBuf> {
    let mut read = BTreeSet::from([boot.tenants_dir.clone()]);
    read.extend(boot.sandbox.confine_read.iter().cloned());
    let middleware = boot.middleware.iter().flat_map(super::parts::Layer::paths);
    let named = middleware.chain(boot.acme.iter().filter_map(|acme| acme.ca.as_deref()));
    let own = Path::new(&boot.source.path);
    read.extend(std::iter::once(own).chain(named).flat_map(around));
    for folder in load::folders(&boot.tenants_dir).map(|listed| listed.tenants).unwrap_or_default() {
        read.extend(load::named_by(boot, &folder).iter().flat_map(|file| around(file)));
    }
    read
}

/// The folders in which a file is, or the file itself where that is much more than it.
fn around(file: &Path) -> Vec<PathBuf> {
    let dirs = watch::dirs_of(&std::path::absolute(file).unwrap_or_else(|_| file.to_owned()));
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
    fn a_file_of_a_wide_folder_is_named_by_itself() {
        assert_eq!(around(Path::new("/etc/hostname")), [Path::new("/etc/hostname")]);
        assert_eq!(around(Path::new("/usr/share/none")), [Path::new("/usr/share")]);
    }
}
