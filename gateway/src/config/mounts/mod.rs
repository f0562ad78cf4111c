//! Files that a component may read: found by patterns in the application's folder, and put aside for its tenant alone.
//!
//! Security: every file is opened by the kernel below the application's folder (openat2, RESOLVE_BENEATH), so that no
//! symbolic link and no `..` leads out of it, whoever changes the folder meanwhile. What a component sees is a copy, under
//! the digest of all of it: a change of the folder changes nothing until it is loaded.
//! Limit: [`FILES_MAX`] files and [`FILES_BYTES_MAX`] a component.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Component as Part, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use toml::de::DeValue;

use crate::config::compile::is_known;
use crate::config::problem::{Kind, Problem};
use crate::config::reader::{At, Section};
use crate::config::{Plan, Planned};
use crate::ids::{Digest, TenantId};

pub(crate) const FILES_MAX: usize = 2000;
pub(crate) const FILES_BYTES_MAX: u64 = 256 << 20;
const DEPTH_MAX: usize = 32;
/// Files and folders that are looked at, whether they are taken or not.
const LOOKS_MAX: usize = 20_000;

/// What a manifest says of files.
#[derive(Clone, Debug)]
pub(crate) enum Mount {
    /// Files by their names from the folder, under which they are found by the component too.
    Pattern(String),
    /// A file or folder, and where the component finds it.
    Placed { source: PathBuf, destination: PathBuf },
}

/// The mounts of one component.
#[derive(Clone, Debug)]
pub(crate) struct Mounts {
    /// The application's, from the tenant's folder.
    pub(crate) dir: PathBuf,
    pub(crate) mounts: Vec<At<Mount>>,
    pub(crate) excluded: Vec<glob::Pattern>,
}

/// Why files cannot be given, in words for the operator, and which of the mounts it is about.
#[derive(Debug)]
pub(crate) struct BadFiles {
    pub(crate) mount: usize,
    pub(crate) found: String,
}

/// Files that were found, by the names that a component has for them.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    root: PathBuf,
    found: BTreeMap<PathBuf, (PathBuf, Digest)>,
    pub(crate) digest: Digest,
}

const WANTED: &str =
    "a path or pattern below this folder, such as \"static/**/*\", or { source = \"assets\", destination = \"/\" }";

/// `files` and `exclude_files` of a component.
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

impl Mounts {
    /// Finds and reads all of them, in the folder of their tenant.
    ///
    /// # Errors
    /// The first mount that will not do.
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
            // A folder that matches is no file; what is in it has a pattern of its own.
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

/// Opens what is below a folder, and nothing that a link or `..` leads to elsewhere.
fn open_below(root: &Path, name: &Path, flags: OFlags) -> Result<File, String> {
    let open = || {
        let folder = openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        openat2(folder, name, flags | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::BENEATH)
    };
    let opened = open().map_err(|error| match error {
        rustix::io::Errno::XDEV => format!("{} leads out of the application's folder", name.display()),
        rustix::io::Errno::ACCESS => crate::confine::refused(&root.join(name), &error.into()),
        error => format!("{}: {error}", name.display()),
    });
    opened.map(File::from)
}

fn read_below(root: &Path, name: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let file = open_below(root, name, OFlags::NONBLOCK)?;
    let told = |error: std::io::Error| format!("{}: {error}", name.display());
    if !file.metadata().map_err(told)?.is_file() {
        return Err(format!("{} is neither a file nor a folder", name.display()));
    }
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(told)?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!("{}: with this file, more than {} MiB of files", name.display(), FILES_BYTES_MAX >> 20));
    }
    Ok(bytes)
}

impl Files {
    /// Each file as it was found.
    pub(crate) fn sources(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.found.values().map(|(source, _)| self.root.join(source))
    }

    /// Where the copy of a tenant's stands, below the folder of all copies.
    pub(crate) fn place(&self, staged: &Path, tenant: &TenantId) -> PathBuf {
        staged.join(tenant.as_str()).join(self.digest.to_string())
    }

    /// Makes the copy, unless it is there.
    ///
    /// # Errors
    /// A file was changed since it was found, or cannot be copied.
    pub(crate) fn stage(&self, staged: &Path, tenant: &TenantId) -> anyhow::Result<()> {
        let place = self.place(staged, tenant);
        if place.is_dir() {
            return Ok(());
        }
        let parent = staged.join(tenant.as_str());
        std::fs::create_dir_all(&parent)?;
        let new = tempfile::Builder::new().prefix("new-").tempdir_in(&parent)?;
        for (name, (source, digest)) in &self.found {
            let bytes = read_below(&self.root, source, FILES_BYTES_MAX).map_err(anyhow::Error::msg)?;
            anyhow::ensure!(Digest::of(&bytes) == *digest, "{} was changed while it was loaded", source.display());
            let path = new.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap_or(new.path()))?;
            File::create(&path)?.write_all(&bytes)?;
        }
        std::fs::rename(new.keep(), place)?;
        Ok(())
    }
}

/// Makes the copies of all plans that are not among `before`; a tenant whose files cannot be copied is left out.
pub(crate) fn stage(planned: Planned, before: &BTreeMap<TenantId, Arc<Plan>>, staged: &Path) -> Planned {
    let Planned { mut plans, mut problems } = planned;
    plans.retain(|id, plan| {
        if is_known(before, plan) {
            return true;
        }
        for component in &plan.components {
            let Some(Err(error)) = component.files.as_ref().map(|files| files.stage(staged, id)) else { continue };
            problems.push(Problem {
                kind: Kind::BadFiles,
                tenant: Some(id.clone()),
                place: component.place.clone(),
                summary: "the gateway cannot copy this component's files".to_owned(),
                found: format!("{error:#}"),
                wanted: format!("free space and write permission below {}", staged.display()),
                hint: None,
                also: None,
            });
            return false;
        }
        true
    });
    Planned { plans, problems }
}

/// Where the copies of these plans stand.
pub(crate) fn files_of(plans: [&BTreeMap<TenantId, Arc<Plan>>; 2], staged: &Path) -> HashSet<PathBuf> {
    let of = |plan: &Arc<Plan>| {
        let place =
            |component: &crate::config::PlannedComponent| Some(component.files.as_ref()?.place(staged, &plan.id));
        plan.components.iter().filter_map(place).collect::<Vec<_>>()
    };
    plans.into_iter().flat_map(BTreeMap::values).flat_map(of).collect()
}

/// Removes the copies that nobody names any more.
pub(crate) fn clear_away(staged: &Path, is_used: impl Fn(&Path) -> bool) {
    let inside = |dir: &Path| {
        std::fs::read_dir(dir).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect::<Vec<_>>()
    };
    for tenant in inside(staged) {
        for copy in inside(&tenant).into_iter().filter(|copy| !is_used(copy)) {
            if let Err(error) = std::fs::remove_dir_all(&copy) {
                tracing::warn!(target: "config", path = %copy.display(), %error, "unused files could not be removed");
            }
        }
        // It goes when it is empty.
        let _kept = std::fs::remove_dir(&tenant);
    }
}

#[cfg(test)]
mod tests {
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
                // A pattern looks at no folder behind a link.
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
