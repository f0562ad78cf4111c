//! `tollgate up`: one project served here, as its gateway would, with what its components print.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use super::project::{OWN_DIR, Project};
use super::{Up, build, follow, watch};
use crate::cli::serve;
use crate::config::{self, Overrides};

/// What an application without a tenant's file may use: a developer looks for mistakes, and not for limits.
const LIMITS: &str = "[limits]\nfuel = \"50G\"\nmemory = \"512MiB\"\ntime = \"60s\"\nstorage_ops = 1000\noutbound = 100\n\
                      [quota]\nmemory = \"2GiB\"\n";

pub(super) fn up(asked: &Up) -> anyhow::Result<ExitCode> {
    let project = asked.at.project()?;
    let unknown = asked.follow.iter().find(|name| project.components.iter().all(|component| component.id != **name));
    if let Some(unknown) = unknown {
        let known: Vec<_> = project.components.iter().map(|component| component.id.as_str()).collect();
        bail!("--follow {unknown}: there is no such component; there are {}", known.join(", "));
    }
    if asked.build && !build::build(&project, &[])? {
        return Ok(ExitCode::FAILURE);
    }
    let own = project.dir.join(OWN_DIR);
    lay_out(&project, &own, asked).with_context(|| format!("cannot write below {}", own.display()))?;
    let overrides = Overrides {
        state: Some(own.join("state")),
        storage: asked.storage.clone(),
        admin: None,
        https: asked.https,
        http: asked.https.is_none().then_some(asked.listen),
        is_plain: asked.https.is_none(),
    };
    let boot = match config::gateway(&own.join("gateway.toml"), &overrides) {
        Ok(boot) => boot,
        Err(problems) => return Ok(crate::cli::tell(&problems)),
    };
    let planned = config::tenants(&boot);
    if !planned.problems.is_empty() {
        return Ok(crate::cli::tell(&planned.problems));
    }
    if !asked.quiet {
        let whose = if asked.follow.is_empty() || asked.follow_all {
            follow::Whose::All
        } else {
            follow::Whose::Of(asked.follow.clone())
        };
        follow::start(boot.state.join("logs").join(format!("{}.log", project.id)), whose)?;
    }
    if asked.watch {
        watch::start(project)?;
    }
    serve::run(boot, false)
}

/// Writes the configuration of a gateway that serves this project alone.
fn lay_out(project: &Project, own: &Path, asked: &Up) -> anyhow::Result<()> {
    if std::fs::symlink_metadata(own).is_ok_and(|found| !found.is_dir()) {
        bail!("it is a link or a file, and should be a folder of `tollgate up`'s own");
    }
    let tenant = own.join("tenants").join(&project.id);
    if own.join("tenants").exists() {
        std::fs::remove_dir_all(own.join("tenants"))?;
    }
    std::fs::create_dir_all(own.join("tenants"))?;
    std::fs::write(own.join(".gitignore"), "*\n")?;
    std::fs::write(
        own.join("gateway.toml"),
        format!(
            "# Made anew by each `tollgate up`.\nschema = 1\nstate = \"state\"\n[listen]\nhttps = []\nhttp = []\n\
             admin = \"{}\"\n[tenants]\ndir = \"tenants\"\nwatch = false\n[telemetry]\nlog = \"warn\"\n",
            asked.admin
        ),
    )?;
    if project.is_tenant {
        if !asked.env.is_empty() || !asked.variable.is_empty() || asked.at.profile.is_some() {
            bail!("--env, --variable and --profile are for applications without a tenant.toml: write them there");
        }
        std::os::unix::fs::symlink(&project.dir, tenant)?;
        return Ok(());
    }
    std::fs::create_dir_all(&tenant)?;
    let manifest = project.manifest.to_str().context("the manifest's path is not UTF-8")?;
    let hosts = format!("[\"localhost\", \"{}.localhost\"]", project.id);
    let mut file = format!("schema = 1\nhosts = {hosts}\napp = {}\n", quoted(manifest)?);
    if let Some(profile) = &asked.at.profile {
        file += &format!("app_profile = {}\n", quoted(profile)?);
    }
    file += LIMITS;
    for (table, pairs) in [("env", &asked.env), ("variables", &asked.variable)] {
        file += &format!("[{table}]\n");
        for (name, value) in pairs {
            file += &format!("{} = {}\n", quoted(name)?, quoted(value)?);
        }
    }
    std::fs::write(tenant.join("tenant.toml"), file)?;
    Ok(())
}

/// A text as TOML has it, which takes JSON's escapes.
fn quoted(text: &str) -> serde_json::Result<String> {
    serde_json::to_string(text)
}
