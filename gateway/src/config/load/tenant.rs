//! Reads one tenant's folder: its own file, its application's manifest, and the files that both name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::materials;
use crate::config::files::boot::Boot;
use crate::config::files::tenant::{self, TenantFile};
use crate::config::problem::{Kind, Place, Problem, Source};
use crate::config::reader::reference::Reference;
use crate::config::reader::{At, Reader, near};
use crate::config::resolve::certificates::Served;
use crate::config::resolve::{self, Found};
use crate::config::watch::dirs_of;
use crate::config::{disk, spin};
use crate::ids::{Digest, NAME_RULE, TenantId};

/// A tenant's folder as it was read.
pub(crate) struct Folder {
    pub(crate) outcome: Result<(TenantId, Found), Vec<Problem>>,
    /// Problems that do not stop the tenant from being served.
    pub(crate) warnings: Vec<Problem>,
    /// The directories of its files, whether these are valid or not.
    pub(crate) dirs: BTreeSet<PathBuf>,
    /// Digest of all that was read, if everything was readable: equal stamps mean equal content.
    pub(crate) stamp: Option<Digest>,
}

pub(crate) fn read_folder(boot: &Boot, folder: &Path, served: &Served) -> Folder {
    let mut read_folder = Folder {
        outcome: Err(Vec::new()),
        warnings: Vec::new(),
        dirs: dirs_of(&folder.join("tenant.toml")),
        stamp: None,
    };
    read_folder.outcome =
        read(boot, folder, served, (&mut read_folder.dirs, &mut read_folder.stamp)).and_then(|(id, found, told)| {
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
    served: &Served,
    (dirs, stamp): (&mut BTreeSet<PathBuf>, &mut Option<Digest>),
) -> Result<(TenantId, Option<Found>, Vec<Problem>), Vec<Problem>> {
    let path = folder.join("tenant.toml");
    let source = disk::source(&path).map_err(|mut problem| {
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
        let materials = materials::gather(boot, folder, &file, variables);
        *stamp = materials::stamp(&texts, &materials);
        dirs.extend(materials::paths(&file, &materials).flat_map(|path| dirs_of(&folder.join(path))));
        resolve::tenant(
            (&id, stamp.unwrap_or_else(|| Digest::of(source.text.as_bytes()))),
            &source,
            file,
            materials,
            (boot, served),
            &mut problems,
        )
    });
    problems.iter_mut().for_each(|problem| problem.tenant = Some(id.clone()));
    Ok((id, plan, problems))
}

/// Reads a Spin application's manifest, which replaces the file's own components and routes.
pub(crate) fn app(
    (boot, id): (&Boot, &TenantId),
    folder: &Path,
    at: &At<String>,
    file: &mut TenantFile,
    variables: &[Result<String, String>],
    sources: &mut Vec<Arc<Source>>,
) -> Vec<Problem> {
    let path = folder.join(&at.value);
    let source = match disk::source(&path) {
        Ok(source) => source,
        Err(mut problem) => {
            problem.place = at.place.clone();
            return vec![*problem];
        }
    };
    sources.push(Arc::clone(&source));
    let given = file.variables.iter().zip(variables).filter_map(|((name, _), value)| {
        // A value that cannot be read is reported with the rest of the file.
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

/// Variables that the file sets but the manifest does not declare.
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
