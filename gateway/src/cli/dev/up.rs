//! `tollgate up`: one project served here, as its gateway would, with what its components print.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use super::project::{OWN_DIR, Project};
use super::{Up, build, dotenv, follow, note, spins, watch};
use crate::cli::serve;
use crate::config::{self, Overrides, Problem};
use crate::gateway::Prepared;

/// What an application without a tenant's file may use: a developer looks for mistakes, and not for limits.
const LIMITS: &str = "[limits]\nfuel = \"50G\"\nmemory = \"512MiB\"\ntime = \"60s\"\nstorage_ops = 1000\noutbound = 100\n\
                      [quota]\nmemory = \"2GiB\"\n";

/// Ports that are tried after one that is taken.
const PORTS_TRIED: u16 = 100;

pub(super) fn up(asked: &Up) -> anyhow::Result<ExitCode> {
    asked.refused.check()?;
    if asked.experimental_wasi_otel {
        note("wasi:otel is served without --experimental-wasi-otel");
    }
    let project = asked.at.project()?;
    for (flag, names) in [("--follow", &asked.follow), ("--component-id", &asked.component)] {
        let unknown = names.iter().find(|name| project.components.iter().all(|component| component.id != **name));
        if let Some(unknown) = unknown {
            let known: Vec<_> = project.components.iter().map(|component| component.id.as_str()).collect();
            bail!("{flag} {unknown}: there is no such component; there are {}", known.join(", "));
        }
    }
    if asked.build && !build::build(&project, &[])? {
        return Ok(ExitCode::FAILURE);
    }
    let own = project.dir.join(OWN_DIR);
    lay_out(&project, &own, asked).with_context(|| format!("cannot write below {}", own.display()))?;
    let overrides = Overrides {
        state: None,
        storage: asked.storage.clone(),
        admin: None,
        public_https: None,
        https: asked.https,
        http: asked.https.is_none().then(|| listen(asked)),
        is_plain: asked.https.is_none(),
        project: Some(said(&project, asked)?),
    };
    let boot = match config::gateway(&own.join("gateway.toml"), &overrides) {
        Ok(boot) => boot,
        Err(problems) => return Ok(crate::cli::tell(&problems)),
    };
    let planned = config::tenants(&boot);
    let mut told = planned.problems;
    let is_good = told.iter().all(Problem::is_warning);
    told.extend(planned.plans.values().flat_map(|plan| plan.notices.iter().cloned()));
    if !told.is_empty() {
        let _failed = crate::cli::tell(&told);
    }
    if !is_good {
        return Ok(ExitCode::FAILURE);
    }
    let log = boot.state.join("logs").join(format!("{}.log", project.id));
    if asked.truncate_logs && log.exists() {
        std::fs::write(&log, "").with_context(|| format!("cannot empty {}", log.display()))?;
    }
    if !asked.quiet {
        let whose = if asked.follow.is_empty() || asked.follow_all {
            follow::Whose::All
        } else {
            follow::Whose::Of(asked.follow.clone())
        };
        follow::start(log, whose)?;
    }
    if asked.watch {
        watch::start(project)?;
    }
    // What a developer's machine runs besides is worth more than this: nothing is confined.
    serve::run(boot, false, Prepared::default())
}

/// The address for HTTP, or with the next port that is free.
fn listen(asked: &Up) -> SocketAddr {
    let mut address = asked.listen;
    let is_taken = |address: SocketAddr| std::net::TcpListener::bind(address).is_err();
    for _ in 0..PORTS_TRIED {
        if !asked.find_free_port || address.port() == 0 || !is_taken(address) {
            return address;
        }
        address.set_port(address.port().checked_add(1).unwrap_or(0));
    }
    asked.listen
}

/// What the flags, the environment and `.env` say over the project's own files.
fn said(project: &Project, asked: &Up) -> anyhow::Result<config::Project> {
    let mut variables: Vec<(String, String)> = Vec::new();
    for source in &asked.variable {
        for (name, value) in spins::variables(source)? {
            // The last one stands.
            variables.retain(|(known, _)| *known != name);
            variables.push((name, value));
        }
    }
    Ok(config::Project {
        profile: asked.at.profile.clone(),
        env: asked.env.clone(),
        variables,
        spin_variables: dotenv::variables(project.base())?,
        components: asked.component.clone(),
        key_values: asked.key_value.clone(),
    })
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
    let state = match &asked.state_dir {
        Some(dir) => std::path::absolute(dir)?.to_str().context("--state-dir is not UTF-8")?.to_owned(),
        None => "state".to_owned(),
    };
    std::fs::write(
        own.join("gateway.toml"),
        format!(
            "# Made anew by each `tollgate up`.\nschema = 1\nstate = {}\n[listen]\nhttps = []\nhttp = []\n\
             admin = \"{}\"\n[tenants]\ndir = \"tenants\"\nwatch = false\n[telemetry]\nlog = \"warn\"\n",
            quoted(&state)?,
            asked.admin
        ),
    )?;
    if project.is_tenant {
        std::os::unix::fs::symlink(&project.dir, tenant)?;
        return Ok(());
    }
    std::fs::create_dir_all(&tenant)?;
    let manifest = project.manifest.to_str().context("the manifest's path is not UTF-8")?;
    let hosts = format!("[\"localhost\", \"{}.localhost\"]", project.id);
    let file = format!("schema = 1\nhosts = {hosts}\napp = {}\n{LIMITS}", quoted(manifest)?);
    std::fs::write(tenant.join("tenant.toml"), file)?;
    Ok(())
}

/// A text as TOML has it, which takes JSON's escapes.
fn quoted(text: &str) -> serde_json::Result<String> {
    serde_json::to_string(text)
}
