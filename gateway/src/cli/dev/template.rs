//! What `tollgate new` and `add` create: a component with its source, and its entry in a manifest.

use std::path::Path;

use anyhow::{Context as _, bail};

use super::project::{OWN_DIR, Project};
use super::templates::TEMPLATES;

pub(super) struct Template {
    pub(super) name: &'static str,
    pub(super) summary: &'static str,
    /// The entry in a manifest of version 2.
    pub(super) manifest: &'static str,
    /// Names and texts.
    pub(super) files: &'static [(&'static str, &'static str)],
    /// Name and bytes of a component that needs no toolchain.
    pub(super) component: Option<(&'static str, &'static [u8])>,
    pub(super) readme: &'static str,
}

/// The values of the placeholders.
pub(super) struct Made<'a> {
    pub(super) name: &'a str,
    /// The component's folder relative to the manifest's; empty if they are the same.
    pub(super) dir: &'a str,
    pub(super) route: &'a str,
    pub(super) channel: &'a str,
}

impl Template {
    /// # Errors
    /// There is no template with this name.
    pub(super) fn named(name: &str) -> anyhow::Result<&'static Self> {
        TEMPLATES.iter().find(|template| template.name == name).with_context(|| {
            let known = TEMPLATES.iter().map(|template| template.name).collect::<Vec<_>>().join(", ");
            format!("there is no template {name:?}; there are {known}")
        })
    }

    pub(super) fn is_http(&self) -> bool {
        self.manifest.contains("[[trigger.http]]")
    }

    /// Creates a project, in a folder that does not exist or is empty.
    ///
    /// # Errors
    /// Something exists already, or cannot be written.
    pub(super) fn make(&self, dir: &Path, made: &Made<'_>) -> anyhow::Result<()> {
        if std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
            bail!("{} exists and is not empty; choose another name, or use --output", dir.display());
        }
        let head = format!(
            "spin_manifest_version = 2\n\n[application]\nname = \"{}\"\nversion = \"0.1.0\"\nauthors = []\n\n",
            made.name
        );
        let tenant = format!("schema = 1\nhosts = [\"{}.localhost\"]\napp = \"spin.toml\"\n", made.name);
        self.write(dir, made)?;
        write(&dir.join("spin.toml"), (head + &made.fill(self.manifest)).as_bytes())?;
        write(&dir.join("tenant.toml"), tenant.as_bytes())?;
        let served = if self.is_http() { format!("http://{}.localhost:3000", made.name) } else { made.messages() };
        write(&dir.join("README.md"), made.fill(self.readme).replace("@SERVED@", &served).as_bytes())
    }

    /// Adds a component to a project with a manifest of version 2.
    ///
    /// # Errors
    /// The manifest has another version, has a component with this name, or cannot be written.
    pub(super) fn add(&self, project: &Project, made: &Made<'_>) -> anyhow::Result<()> {
        let path = &project.manifest;
        let before = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let file: toml::Table = before.parse().with_context(|| format!("{} is not TOML", path.display()))?;
        if file.get("spin_manifest_version").and_then(toml::Value::as_integer) != Some(2) {
            bail!("{} is not a Spin manifest of version 2; `add` supports only version 2", path.display());
        }
        if project.components.iter().any(|component| component.id == made.name) {
            bail!("{} already has a component {}", path.display(), made.name);
        }
        let dir = project.base().join(made.dir);
        if !self.files.is_empty() {
            if dir.exists() {
                bail!("{} exists already; choose another name, or use --output", dir.display());
            }
            self.write(&dir, made)?;
        }
        write(path, format!("{}\n\n{}", before.trim_end(), made.fill(self.manifest)).as_bytes())
    }

    fn write(&self, dir: &Path, made: &Made<'_>) -> anyhow::Result<()> {
        for (name, text) in self.files {
            let text = if *name == ".gitignore" { format!("{text}{OWN_DIR}/\n") } else { made.fill(text) };
            write(&dir.join(name), text.as_bytes())?;
        }
        self.component.map_or(Ok(()), |(name, bytes)| write(&dir.join(name), bytes))
    }
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let write = || {
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        std::fs::write(path, bytes)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

impl Made<'_> {
    /// How to use a project without HTTP when it is running.
    fn messages(&self) -> String {
        format!("it handles the messages of {}", self.channel)
    }

    fn fill(&self, text: &str) -> String {
        let prefix = if self.dir.is_empty() { String::new() } else { format!("{}/", self.dir) };
        let workdir = if self.dir.is_empty() { String::new() } else { format!("workdir = \"{}\"\n", self.dir) };
        text.replace("@NAME@", self.name)
            .replace("@CRATE@", &self.name.replace('-', "_"))
            .replace("@DIR@", &prefix)
            .replace("@WORKDIR@\n", &workdir)
            .replace("@ROUTE@", self.route)
            .replace("@CHANNEL@", self.channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made<'a>(name: &'a str, dir: &'a str) -> Made<'a> {
        Made { name, dir, route: "/...", channel: "orders" }
    }

    #[test]
    fn every_template_makes_a_project_and_can_be_added_to_one() {
        let root = tempfile::tempdir().unwrap();
        for template in &TEMPLATES {
            let dir = root.path().join(template.name);
            template.make(&dir, &made("first-one", "")).unwrap();
            let readme = std::fs::read_to_string(dir.join("README.md")).unwrap();
            assert!(readme.starts_with("# first-one\n") && !readme.contains("@S"), "{readme}");
            assert!(template.make(&dir, &made("first-one", "")).unwrap_err().to_string().contains("not empty"));
            let project = Project::find(&dir, None).unwrap();
            for other in &TEMPLATES {
                other.add(&project, &made(&format!("added-{}", other.name), &format!("more/{}", other.name))).unwrap();
            }
            let project = Project::find(&dir, None).unwrap();
            let text = std::fs::read_to_string(&project.manifest).unwrap();
            assert!(
                !text.contains("@NAME@") && !text.contains("@DIR") && !text.contains("@WORKDIR"),
                "a placeholder is left: {text}"
            );
            let of_code = project.components.iter().filter(|component| !component.commands.is_empty()).count();
            let ready_made = 1 + usize::from(template.component.is_some());
            assert_eq!(of_code + ready_made, project.components.len(), "each other one has a build command");
            for component in &project.components {
                assert!(component.workdir.is_dir(), "{component:?}");
            }
        }
    }

    #[test]
    fn a_manifest_of_version_1_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spin.toml");
        std::fs::write(&path, "spin_version = \"1\"\n").unwrap();
        let project = Project::find(&path, None).unwrap();
        let refused = TEMPLATES[0].add(&project, &made("a", "a")).unwrap_err().to_string();
        assert!(refused.contains("version 2"), "{refused}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "spin_version = \"1\"\n");
    }
}
