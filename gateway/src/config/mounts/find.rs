//! Finds the files of mounts, within limits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::below::{FILES_BYTES_MAX, open_below, read_below};
use super::files::Files;
use super::{BadFiles, FILES_MAX, Mount, Mounts};
use crate::ids::Digest;

const DEPTH_MAX: usize = 32;

/// Maximum number of files and folders that are looked at, whether they match or not.
const LOOKS_MAX: usize = 20_000;

impl Mounts {
    /// Finds and reads all of them, in the folder of their tenant.
    ///
    /// # Errors
    /// The first mount that cannot be used.
    pub(crate) fn find(&self, folder: &Path) -> Result<Files, BadFiles> {
        let root = folder.join(&self.dir);
        let mut search = Search { root: &root, excluded: &self.excluded, found: BTreeMap::new(), bytes: 0, looks: 0 };
        for (at, mount) in self.mounts.iter().enumerate() {
            search.add(&mount.value).map_err(|found| BadFiles { mount: at, found })?;
        }
        let found = search.found;
        let list: String = found.iter().map(|(name, (_, digest))| format!("{digest} {}\n", name.display())).collect();
        Ok(Files { digest: Digest::of(list.as_bytes()), root, found })
    }
}

struct Search<'m> {
    root: &'m Path,
    excluded: &'m [glob::Pattern],
    found: BTreeMap<PathBuf, (PathBuf, Digest)>,
    bytes: u64,
    looks: usize,
}

const MATCHING: glob::MatchOptions =
    glob::MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

impl Search<'_> {
    fn add(&mut self, mount: &Mount) -> Result<(), String> {
        let (source, destination) = match mount {
            Mount::Placed { source, destination } => (source.clone(), destination.clone()),
            Mount::Pattern(name) if self.root.join(name).exists() => (PathBuf::from(name), PathBuf::from(name)),
            Mount::Pattern(pattern) => return self.add_matches(pattern),
        };
        self.add_tree(&source, &destination, 0)
    }

    fn add_matches(&mut self, pattern: &str) -> Result<(), String> {
        let whole = format!("{}/{pattern}", glob::Pattern::escape(&self.root.to_string_lossy()));
        let paths = glob::glob_with(&whole, MATCHING).map_err(|error| error.to_string())?;
        for path in paths {
            self.look()?;
            let path = path.map_err(|error| error.to_string())?;
            let name = path.strip_prefix(self.root).map_err(|error| error.to_string())?;
            // A folder that matches is not a file; its content has its own pattern.
            if !path.is_dir() {
                self.add_file(name, name)?;
            }
        }
        Ok(())
    }

    fn look(&mut self) -> Result<(), String> {
        self.looks += 1;
        if self.looks > LOOKS_MAX { Err(format!("more than {LOOKS_MAX} files and folders")) } else { Ok(()) }
    }

    fn add_tree(&mut self, source: &Path, destination: &Path, depth: usize) -> Result<(), String> {
        self.look()?;
        let path = self.root.join(source);
        if !path.is_dir() {
            return self.add_file(source, destination);
        }
        if depth > DEPTH_MAX {
            return Err(format!("{}: folders more than {DEPTH_MAX} deep", source.display()));
        }
        open_below(self.root, source, OFlags::DIRECTORY)?;
        let entries = std::fs::read_dir(&path).map_err(|error| format!("{}: {error}", source.display()))?;
        for entry in entries {
            let name = entry.map_err(|error| format!("{}: {error}", source.display()))?.file_name();
            self.add_tree(&source.join(&name), &destination.join(&name), depth + 1)?;
        }
        Ok(())
    }

    fn add_file(&mut self, source: &Path, destination: &Path) -> Result<(), String> {
        if self.excluded.iter().any(|pattern| pattern.matches_path_with(source, MATCHING)) {
            return Ok(());
        }
        if destination.to_str().is_none() {
            return Err(format!("{}: a name that is not UTF-8", source.display()));
        }
        let bytes = read_below(self.root, source, FILES_BYTES_MAX - self.bytes)?;
        self.bytes += bytes.len() as u64;
        self.found.insert(destination.to_owned(), (source.to_owned(), Digest::of(&bytes)));
        if self.found.len() > FILES_MAX {
            return Err(format!("more than {FILES_MAX} files"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::is_below;
    use super::*;

    fn find(root: &Path, mounts: &[Mount], excluded: &[&str]) -> Result<Vec<String>, String> {
        let excluded: Vec<_> = excluded.iter().map(|text| glob::Pattern::new(text).unwrap()).collect();
        let mut search = Search { root, excluded: &excluded, found: BTreeMap::new(), bytes: 0, looks: 0 };
        for mount in mounts {
            search.add(mount)?;
        }
        Ok(search.found.keys().map(|name| name.display().to_string()).collect())
    }

    fn placed(source: &str, destination: &str) -> Mount {
        Mount::Placed { source: source.into(), destination: destination.into() }
    }

    fn pattern(text: &str) -> Mount {
        Mount::Pattern(text.into())
    }

    #[test]
    fn files_are_found_by_name_pattern_and_folder() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("a.txt", "a"), ("site/index.html", "i"), ("site/css/x.css", "x"), ("site/old.bak", "o")] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let find = |mounts: &[Mount], excluded: &[&str]| find(dir.path(), mounts, excluded).unwrap();
        assert_eq!(find(&[pattern("a.txt")], &[]), ["a.txt"]);
        assert_eq!(find(&[pattern("site/*")], &[]), ["site/index.html", "site/old.bak"]);
        let all = ["site/css/x.css", "site/index.html"];
        assert_eq!(find(&[pattern("site/**/*")], &["**/*.bak"]), all);
        assert_eq!(find(&[pattern("site")], &["site/*.bak"]), all);
        assert_eq!(find(&[placed("site", "")], &["site/old.bak"]), ["css/x.css", "index.html"]);
        assert_eq!(find(&[placed("a.txt", "lib/b.txt"), pattern("nothing*")], &[]), ["lib/b.txt"]);
    }

    #[test]
    fn nothing_leads_out_of_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let app = dir.path().join("app");
        std::fs::create_dir_all(app.join("site")).unwrap();
        std::fs::write(dir.path().join("secret"), "s").unwrap();
        std::fs::write(app.join("site/good"), "g").unwrap();
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, app.join(name)).unwrap();
        link("good", "site/inside");
        assert_eq!(find(&app, &[pattern("site")], &[]).unwrap(), ["site/good", "site/inside"]);
        for (to, what) in [("../../secret", "site/bad"), ("/etc", "site/etc"), ("../..", "site/up")] {
            link(to, what);
            for mount in [pattern("site"), pattern("site/**/*"), placed("site", ""), pattern(&format!("{what}*"))] {
                let refused = find(&app, std::slice::from_ref(&mount), &[]);
                // A pattern does not look into a folder behind a link.
                let is_good = refused.as_ref().is_err_and(|error| error.contains("leads out"))
                    || refused.is_ok_and(|found| {
                        found.iter().all(|name| name.starts_with("site/good") || name == "site/inside")
                    });
                assert!(is_good, "{to} by {mount:?}");
            }
            std::fs::remove_file(app.join(what)).unwrap();
        }
        for bad in ["../secret", "/etc/passwd", "", "a/../../b"] {
            assert!(!is_below(Path::new(bad)), "{bad}");
        }
        link(".", "site/loop");
        let refused = find(&app, &[placed("site", "")], &[]).unwrap_err();
        assert!(refused.contains("folders more than"), "{refused}");
    }
}
