//! A developer's project: a Spin manifest, or a tenant's file that names one, and how its components are built.
//!
//! Reads only what building and watching need, and tolerantly: `config` reads everything and reports errors.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use toml::{Table, Value};

/// The folder beside the sources: the store, logs and compiled code of `tollgate up`.
pub(super) const OWN_DIR: &str = ".tollgate";

#[derive(Debug)]
pub(super) struct Project {
    /// Absolute.
    pub(super) dir: PathBuf,
    /// The Spin manifest, or the tenant's file if it names none.
    pub(super) manifest: PathBuf,
    /// Whether the folder has a tenant's file.
    pub(super) is_tenant: bool,
    /// A tenant id derived from its name.
    pub(super) id: String,
    pub(super) components: Vec<Component>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Component {
    pub(super) id: String,
    /// Run by the shell, one after the other.
    pub(super) commands: Vec<String>,
    /// Absolute.
    pub(super) workdir: PathBuf,
    /// Patterns relative to the workdir. A change to a matching file causes a build.
    pub(super) watch: Vec<String>,
    /// Patterns and paths relative to the manifest's folder. A change causes a reload.
    pub(super) loaded: Vec<String>,
}

impl Project {
    /// # Errors
    /// There is none, or it cannot be read.
    pub(super) fn find(path: &Path, profile: Option<&str>) -> anyhow::Result<Self> {
        let path = std::fs::canonicalize(path).with_context(|| format!("there is no {}", path.display()))?;
        let dir = if path.is_dir() { path.clone() } else { path.parent().unwrap_or(Path::new("/")).to_owned() };
        let named = if path.is_dir() { None } else { path.file_name().filter(|name| *name != "tenant.toml") };
        let tenant = dir.join("tenant.toml");
        let is_tenant = named.is_none() && tenant.is_file();
        let of_tenant = if is_tenant { read(&tenant)? } else { Table::new() };
        let said = |key: &str| of_tenant.get(key).and_then(Value::as_str);
        let manifest = match (named, said("app")) {
            (Some(name), _) => dir.join(name),
            (None, Some(app)) => dir.join(app),
            (None, None) if is_tenant => tenant,
            (None, None) => dir.join("spin.toml"),
        };
        let profile = profile.or(said("app_profile"));
        if !manifest.is_file() {
            bail!(
                "{} is not a project: it has neither spin.toml nor tenant.toml; `tollgate new` creates one",
                dir.display()
            );
        }
        let file = read(&manifest)?;
        let of = manifest.parent().unwrap_or(&dir).to_owned();
        let name = if is_tenant { dir.file_name().and_then(|name| name.to_str()) } else { name(&file) };
        let id = identity(name.unwrap_or("app"));
        Ok(Self { components: components(&file, &of, profile), dir, manifest, is_tenant, id })
    }

    /// The paths that components of the manifest answer. Empty for a manifest of another version.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn routes(&self) -> anyhow::Result<Vec<String>> {
        let file = read(&self.manifest)?;
        let triggers = file.get("trigger").and_then(|trigger| trigger.get("http")).and_then(Value::as_array);
        let route = |trigger: &Value| trigger.get("route").and_then(Value::as_str).map(str::to_owned);
        Ok(triggers.into_iter().flatten().filter_map(route).collect())
    }

    /// The folder of the manifest, to which its paths are relative.
    pub(super) fn base(&self) -> &Path {
        self.manifest.parent().unwrap_or(&self.dir)
    }
}

fn read(path: &Path) -> anyhow::Result<Table> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    text.parse().with_context(|| format!("{} is not TOML", path.display()))
}

fn name(file: &Table) -> Option<&str> {
    file.get("application").and_then(|application| application.get("name")).or_else(|| file.get("name"))?.as_str()
}

/// A name in the alphabet of tenant ids.
fn identity(name: &str) -> String {
    let letters = name.to_ascii_lowercase().replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
    let letters: String = letters.trim_matches('-').chars().take(32).collect();
    let starts_well = letters.starts_with(|letter: char| letter.is_ascii_lowercase());
    if starts_well { letters } else { format!("app-{letters}").trim_end_matches('-').to_owned() }
}

fn components(file: &Table, base: &Path, profile: Option<&str>) -> Vec<Component> {
    let of = |id: &str, value: &Value| component(id, value, base, profile);
    match file.get("component") {
        Some(Value::Table(named)) => named.iter().map(|(id, value)| of(id, value)).collect(),
        Some(Value::Array(listed)) => {
            let id = |value: &Value| value.get("id").or_else(|| value.get("name"))?.as_str().map(str::to_owned);
            listed.iter().filter_map(|value| Some(of(&id(value)?, value))).collect()
        }
        _ => Vec::new(),
    }
}

fn component(id: &str, value: &Value, base: &Path, profile: Option<&str>) -> Component {
    let other = profile.and_then(|name| value.get("profile")?.get(name));
    let of_either = |key: &str| other.and_then(|other| other.get(key)).or_else(|| value.get(key));
    let build = of_either("build");
    let texts = |value: Option<&Value>| match value {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(many)) => many.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    };
    let of_build = |key: &str| build.and_then(|build| build.get(key));
    let workdir = of_build("workdir").and_then(Value::as_str).map_or_else(|| base.to_owned(), |dir| base.join(dir));
    let mut loaded = texts(of_either("source"));
    for file in value.get("files").and_then(Value::as_array).into_iter().flatten() {
        let source = file.get("source").and_then(Value::as_str);
        loaded.extend(file.as_str().map(str::to_owned));
        loaded.extend(source.map(|source| format!("{source}/**/*")));
    }
    let (commands, watch) = (texts(of_build("command")), texts(of_build("watch")));
    Component { id: id.to_owned(), commands, workdir, watch, loaded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_identities() {
        for (name, id) in [
            ("hello", "hello"),
            ("Hello World!", "hello-world"),
            ("rps_app", "rps-app"),
            ("1st", "app-1st"),
            ("", "app"),
            ("ñ", "app"),
        ] {
            assert_eq!(identity(name), id, "{name}");
            assert!(crate::ids::TenantId::parse(id).is_some(), "{id}");
        }
    }

    #[test]
    fn both_manifest_versions_say_how_they_are_built() {
        let one = "[[component]]\nid = \"a\"\nsource = \"a.wasm\"\n[component.build]\ncommand = \"make\"\nworkdir = \"sub\"\n";
        let two = "[component.a]\nsource = \"a.wasm\"\nfiles = [\"x/*\", { source = \"s\", destination = \"/\" }]\n\
                   [component.a.build]\ncommand = [\"one\", \"two\"]\nwatch = [\"src/**\"]\n";
        let with = |text: &str, profile| components(&text.parse().unwrap(), Path::new("/p"), profile);
        let of = |text: &str| with(text, None);
        let [first] = of(one).try_into().unwrap();
        assert_eq!((first.commands, first.workdir), (vec!["make".to_owned()], PathBuf::from("/p/sub")));
        let [second] = of(two).try_into().unwrap();
        assert_eq!((second.commands.len(), second.watch), (2, vec!["src/**".to_owned()]));
        assert_eq!(second.loaded, ["a.wasm", "x/*", "s/**/*"]);
        let debug =
            "[component.a.profile.debug]\nsource = \"d.wasm\"\n[component.a.profile.debug.build]\ncommand = \"d\"\n";
        let [second] = with(&format!("{two}{debug}"), Some("debug")).try_into().unwrap();
        assert_eq!((second.commands, second.loaded.first()), (vec!["d".to_owned()], Some(&"d.wasm".to_owned())));
    }
}
