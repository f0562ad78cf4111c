//! The I/O of configuration: finds and reads files; what they mean is for the others of this room.

pub(crate) mod known;
pub(crate) mod left;
pub(crate) mod reach;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::files::gateway;
use crate::config::files::tenant::{self, ComponentRead, TenantFile};
use crate::config::load::known::Before;
use crate::config::load::reach;
use crate::config::mounts::Files;
use crate::config::problem::{Kind, Place, Problem, Source};
use crate::config::reader::reference::Reference;
use crate::config::reader::{At, Reader, near};
use crate::config::remote::{self, Origin};
use crate::config::resolve::{self, Found, Materials, Wasm};
use crate::config::spin::dependencies::PartRead;
use crate::config::{Boot, Overrides, spin, watch};
use crate::confine;
use crate::ids::{Digest, NAME_RULE, TenantId};

/// What Spin calls its manifest.
const MANIFEST: &str = "spin.toml";
/// The most manifests without a tenant that are warned of.
const MANIFESTS_MAX: usize = 20;
/// The largest file of configuration.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads the machine's file.
///
/// # Errors
/// Every problem of it.
pub(crate) fn gateway(path: &Path, overrides: &Overrides) -> Result<Boot, Vec<Problem>> {
    let source = source(path).map_err(|problem| vec![*problem])?;
    let base = path.parent().unwrap_or(Path::new(""));
    let reader = Reader::new(source, None);
    let (boot, problems) = reader.read(|reader, file| gateway::read(reader, file, base, overrides));
    match boot {
        Some(boot) if problems.is_empty() => Ok(boot),
        _ => Err(problems),
    }
}

/// The tenants there are, whatever stands in their files.
///
/// # Errors
/// The folder cannot be read.
pub(crate) fn names(boot: &Boot) -> Result<Vec<TenantId>, Box<Problem>> {
    let name = |folder: &PathBuf| TenantId::parse(folder.file_name()?.to_str()?);
    Ok(folders(&boot.tenants_dir)?.tenants.iter().filter_map(name).collect())
}

/// What the folder of all tenants holds.
#[derive(Default)]
pub(crate) struct Listed {
    pub(crate) tenants: Vec<PathBuf>,
    /// Spin manifests of folders without a tenant's file.
    manifests: Vec<PathBuf>,
}

impl Listed {
    /// One warning for each application that was copied here and is nobody's.
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

/// A folder without the file is not a tenant: it may hold sources or notes.
pub(crate) fn is_tenant(folder: &Path) -> bool {
    match folder.join("tenant.toml").try_exists() {
        Ok(is_there) => is_there,
        // One that cannot be looked at is there, and its problem is told; below a file there is none.
        Err(error) => error.kind() != std::io::ErrorKind::NotADirectory,
    }
}

/// A tenant's folder as it was read.
pub(crate) struct Folder {
    pub(crate) outcome: Result<(TenantId, Found), Vec<Problem>>,
    /// What keeps nobody from being served.
    pub(crate) warnings: Vec<Problem>,
    /// Where its files are, be they good or not.
    pub(crate) dirs: BTreeSet<PathBuf>,
    /// Of all that was read, if all could be: what has the same says the same.
    pub(crate) stamp: Option<Digest>,
}

pub(crate) fn tenant(boot: &Boot, folder: &Path, before: &Before) -> Folder {
    let mut read_folder = Folder {
        outcome: Err(Vec::new()),
        warnings: Vec::new(),
        dirs: watch::dirs_of(&folder.join("tenant.toml")),
        stamp: None,
    };
    read_folder.outcome =
        read(boot, folder, before, (&mut read_folder.dirs, &mut read_folder.stamp)).and_then(|(id, found, told)| {
            let (warnings, mut errors): (Vec<_>, Vec<_>) = told.into_iter().partition(Problem::is_warning);
            match found {
                Some(found) if errors.is_empty() => {
                    read_folder.warnings = warnings;
                    Ok((id, found))
                }
                _ => {
                    errors.extend(warnings);
                    Err(errors)
                }
            }
        });
    read_folder
}

fn read(
    boot: &Boot,
    folder: &Path,
    before: &Before,
    (dirs, stamp): (&mut BTreeSet<PathBuf>, &mut Option<Digest>),
) -> Result<(TenantId, Option<Found>, Vec<Problem>), Vec<Problem>> {
    let path = folder.join("tenant.toml");
    let source = source(&path).map_err(|mut problem| {
        problem.tenant = folder.file_name().and_then(|name| TenantId::parse(name.to_str()?));
        vec![*problem]
    })?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some(id) = TenantId::parse(&name) else {
        return Err(vec![Problem {
            kind: Kind::BadName,
            tenant: None,
            place: Place::whole(&source),
            summary: "this folder's name is not a valid tenant name".to_owned(),
            found: format!("{name:?}"),
            wanted: NAME_RULE.to_owned(),
            hint: Some("rename the folder; the name is the tenant's storage namespace and metric label".to_owned()),
            also: None,
        }]);
    };
    let reader = Reader::new(Arc::clone(&source), Some(id.clone()));
    let (file, mut problems) = reader.read(tenant::read);
    let plan = file.flatten().and_then(|mut file| {
        if let Some(project) = &boot.project {
            project.begin(&source, &mut file);
        }
        let variables: Vec<_> = file.variables.iter().map(|(_, reference)| reference.read(folder)).collect();
        let mut texts = vec![Arc::clone(&source)];
        if let Some(at) = file.app.clone() {
            problems.extend(app((boot, &id), folder, &at, &mut file, &variables, &mut texts));
        }
        if let Some(project) = &boot.project {
            project.end(&mut file);
        }
        let materials = materials(boot, folder, &file, variables);
        *stamp = stamped(&texts, &materials);
        dirs.extend(paths(&file, &materials).flat_map(|path| watch::dirs_of(&folder.join(path))));
        resolve::tenant(
            (&id, stamp.unwrap_or_else(|| Digest::of(source.text.as_bytes()))),
            &source,
            file,
            materials,
            (boot, &before.pairs),
            &mut problems,
        )
    });
    problems.iter_mut().for_each(|problem| problem.tenant = Some(id.clone()));
    Ok((id, plan, problems))
}

/// Reads a Spin application's manifest in the place of the file's own components and routes.
pub(crate) fn app(
    (boot, id): (&Boot, &TenantId),
    folder: &Path,
    at: &At<String>,
    file: &mut TenantFile,
    variables: &[Result<String, String>],
    sources: &mut Vec<Arc<Source>>,
) -> Vec<Problem> {
    let path = folder.join(&at.value);
    let source = match source(&path) {
        Ok(source) => source,
        Err(mut problem) => {
            problem.place = at.place.clone();
            return vec![*problem];
        }
    };
    sources.push(Arc::clone(&source));
    let given = file.variables.iter().zip(variables).filter_map(|((name, _), value)| {
        // What cannot be read is told with the rest of the file.
        Some((name.value.clone(), value.as_ref().ok()?.clone()))
    });
    let texts =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let below = boot.project.iter().flat_map(|project| project.spin_variables.iter().cloned());
    let given = spin::Given::new(id, texts, given).over(below);
    let dir = Path::new(&at.value).parent().unwrap_or(Path::new("")).to_owned();
    let reader = Reader::new(source, Some(id.clone()));
    let profile = file.app_profile.as_ref();
    let (app, mut problems) = reader.read(|reader, section| spin::read(reader, section, &given, dir, profile));
    if let Some(app) = app.flatten() {
        problems.extend(undeclared(&file.variables, &app.declared, &at.value));
        file.components = app.components;
        file.routes = app.routes;
        file.fixed = app.fixed;
        file.subscriptions = app.subscriptions;
        file.schedules = app.schedules;
    }
    problems
}

/// Variables that somebody gives, and the manifest does not ask for.
fn undeclared(given: &[(At<String>, Reference)], declared: &[String], manifest: &str) -> Vec<Problem> {
    let others = given.iter().filter(|(name, _)| !declared.contains(&name.value));
    let problem = |(name, _): &(At<String>, Reference)| Problem {
        kind: Kind::WithoutEffect,
        tenant: None,
        place: name.place.clone(),
        summary: "this variable reaches no component".to_owned(),
        found: format!("`{}`, which {manifest} does not declare", name.value),
        wanted: match declared {
            [] => "[variables] in the manifest".to_owned(),
            known => format!("one of {}", known.join(", ")),
        },
        hint: near(&name.value, declared.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`?")),
        also: None,
    };
    others.map(problem).collect()
}

fn materials(boot: &Boot, folder: &Path, file: &TenantFile, variables: Vec<Result<String, String>>) -> Materials {
    let read = |at: &At<String>| read_limited(&folder.join(&at.value), FILE_BYTES_MAX);
    Materials {
        wasm: file.components.iter().map(|component| component_of(boot, folder, &component.source.value)).collect(),
        parts: file.components.iter().map(|component| parts_of(boot, folder, component)).collect(),
        files: file.components.iter().map(|component| Some(component.files.as_ref()?.find(folder))).collect(),
        pairs: file.tls.iter().flat_map(|tls| &tls.pairs).map(|pair| (read(&pair.cert), read(&pair.key))).collect(),
        clients: file
            .tls
            .as_ref()
            .and_then(|tls| tls.clients.as_ref())
            .map(|clients| (read(&clients.ca), clients.revoked.as_ref().map(read))),
        now: std::time::SystemTime::now(),
        variables,
        secrets: file.secrets.iter().map(|(_, reference)| reference.read(folder)).collect(),
    }
}

/// Of what the files said and what was found beside them; nothing where something could not be read.
fn stamped(sources: &[Arc<Source>], materials: &Materials) -> Option<Digest> {
    let mut all = Vec::new();
    let mut add = |bytes: &[u8]| {
        all.extend((bytes.len() as u64).to_le_bytes());
        all.extend(bytes);
    };
    sources.iter().for_each(|source| add(source.text.as_bytes()));
    for wasm in materials.wasm.iter().chain(materials.parts.iter().flatten()) {
        let Wasm::Component(_, digest) = wasm else { return None };
        add(digest.to_string().as_bytes());
    }
    for files in materials.files.iter().flatten() {
        add(files.as_ref().ok()?.digest.to_string().as_bytes());
    }
    for file in materials.pairs.iter().flat_map(|(cert, key)| [cert, key]) {
        add(file.as_ref().ok()?);
    }
    for file in materials.clients.iter().flat_map(|(ca, revoked)| std::iter::once(ca).chain(revoked)) {
        add(file.as_ref().ok()?);
    }
    for value in materials.variables.iter().chain(&materials.secrets) {
        add(value.as_ref().ok()?.as_bytes());
    }
    Some(Digest::of(&all))
}

/// The files that a tenant's file names, and those that it finds.
fn paths<'f>(file: &'f TenantFile, materials: &'f Materials) -> impl Iterator<Item = PathBuf> + 'f {
    let found = materials.files.iter().filter_map(|files| files.as_ref()?.as_ref().ok()).flat_map(Files::sources);
    reach::named(file).chain(found)
}

fn component_of(boot: &Boot, folder: &Path, origin: &Origin) -> Wasm {
    match origin {
        Origin::Path(path) => wasm(&folder.join(path)),
        Origin::Url(..) | Origin::Image(_) => match boot.components.file(origin) {
            Ok((path, _digest)) => wasm(&path),
            Err(why) => Wasm::Unfetched(why),
        },
    }
}

/// What stands in the files of a component's parts, in their order.
fn parts_of(boot: &Boot, folder: &Path, component: &ComponentRead) -> Vec<Wasm> {
    let none = || Wasm::Unreadable("it names a component that does not exist".to_owned());
    let found = |part: &PartRead| part.origin().map_or_else(none, |origin| component_of(boot, folder, origin));
    component.parts().map(found).collect()
}

pub(crate) fn wasm(path: &Path) -> Wasm {
    match read_limited(path, remote::BYTES_MAX) {
        Err(error) => Wasm::Unreadable(error),
        Ok(bytes) => match bytes.get(..8) {
            // The two numbers after the magic are version and layer: 1 and 0 a module, 13 and 1 a component.
            // A core module is made a component when it is compiled.
            Some(b"\0asm\x0d\0\x01\0" | b"\0asm\x01\0\0\0") => Wasm::Component(path.to_owned(), Digest::of(&bytes)),
            Some([0, b'a', b's', b'm', ..]) => Wasm::Other("WebAssembly of an unknown version".to_owned()),
            _ => Wasm::Other("no WebAssembly".to_owned()),
        },
    }
}

fn read_limited(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let read = || -> std::io::Result<Vec<u8>> {
        use std::io::Read as _;
        if !std::fs::metadata(path)?.is_file() {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Err(error) => Err(confine::refused(path, &error)),
        Ok(bytes) if bytes.len() as u64 > bytes_max => Err(format!("{}: more than {bytes_max} bytes", path.display())),
        Ok(bytes) => Ok(bytes),
    }
}

pub(crate) fn source(path: &Path) -> Result<Arc<Source>, Box<Problem>> {
    let bytes = read_limited(path, FILE_BYTES_MAX);
    let text =
        bytes.and_then(|bytes| String::from_utf8(bytes).map_err(|error| format!("not UTF-8: {}", error.utf8_error())));
    text.map(|text| Source::new(path, text)).map_err(|error| unreadable(path, &error, "a file that can be read"))
}

fn unreadable(path: &Path, found: &str, wanted: &str) -> Box<Problem> {
    Box::new(Problem {
        kind: Kind::Unreadable,
        tenant: None,
        place: Place::whole(&Source::new(path, String::new())),
        summary: "this cannot be read".to_owned(),
        found: found.to_owned(),
        wanted: wanted.to_owned(),
        hint: None,
        also: None,
    })
}
