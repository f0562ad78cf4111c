//! `tollgate up`: serves one project here, as its gateway would, and shows what its components print.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use super::project::{OWN_DIR, Project};
use super::{Up, build, compile, dotenv, follow, note, spins, watch};
use crate::cli::serve;
use crate::config::{self, Overrides, Problem, Teller};
use crate::gateway::{Prepared, Takeover};

/// Limits for an application without a tenant's file: a developer looks for mistakes, not for limits.
const LIMITS: &str = "[limits]\nfuel = \"50G\"\nmemory = \"512MiB\"\ntime = \"60s\"\nstorage_ops = 1000\noutbound = 100\n\
                      [quota]\nmemory = \"2GiB\"\n";

/// How many ports are tried after one that is in use.
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
            bail!("{flag} {unknown}: there is no such component; the components are {}", known.join(", "));
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
    let mut boot = match config::gateway(&own.join("gateway.toml"), &overrides) {
        Ok(boot) => boot,
        Err(problems) => return Ok(crate::cli::tell(&problems)),
    };
    boot.listen.http.extend(both(asked, &boot.listen.http));
    let planned = config::tenants(&boot, &BTreeMap::new());
    let mut told = planned.problems.clone();
    let is_good = told.iter().all(Problem::is_warning);
    told.extend(planned.plans.values().flat_map(|plan| plan.notices.iter().cloned()));
    let teller = teller(&project, &own);
    if !told.is_empty() {
        teller.tell(&told);
    }
    if !is_good {
        return Ok(ExitCode::FAILURE);
    }
    let log = boot.state.join("logs").join(format!("{}.log", project.id));
    if asked.truncate_logs && log.exists() {
        std::fs::write(&log, "").with_context(|| format!("cannot empty {}", log.display()))?;
    }
    compile::compile(&boot, &planned)?;
    if let Some(served) = &mut boot.project {
        served.teller = teller;
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
    // Confinement would restrict a developer's machine more than it is worth: nothing is confined.
    serve::run(boot, Takeover::No, Prepared::default())
}

/// The address for HTTP, with the next free port if asked for.
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

/// Reports problems to a developer as `check` does, with the project's own paths.
fn teller(project: &Project, own: &Path) -> Teller {
    let own_tenant = own.join("tenants").join(&project.id);
    let here = std::env::current_dir().unwrap_or_default();
    let mut prefixes: Vec<String> = Vec::new();
    for folder in [&own_tenant, &project.dir, &here] {
        prefixes.extend(folder.to_str().map(|folder| format!("{folder}/")));
    }
    Teller::new(move |problems| {
        let shown: Vec<_> = problems.iter().map(|problem| problem.without(&prefixes)).collect();
        let _failed = crate::cli::tell(&shown);
    })
}

/// The other loopback address with the same port, if it exists and is free: `localhost` may be either.
fn both(asked: &Up, listened: &[SocketAddr]) -> Option<SocketAddr> {
    let [SocketAddr::V4(address)] = listened else { return None };
    let other = SocketAddr::from((Ipv6Addr::LOCALHOST, address.port()));
    let is_free = || std::net::TcpListener::bind(other).is_ok();
    (asked.https.is_none() && address.ip().is_loopback() && address.port() != 0 && is_free()).then_some(other)
}

/// What the flags, the environment and `.env` set over the project's own files.
fn said(project: &Project, asked: &Up) -> anyhow::Result<config::Project> {
    let mut variables: Vec<(String, String)> = Vec::new();
    for source in &asked.variable {
        for (name, value) in spins::variables(source)? {
            // The last one wins.
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
        teller: Teller::default(),
    })
}

/// Writes the configuration of a gateway that serves only this project.
fn lay_out(project: &Project, own: &Path, asked: &Up) -> anyhow::Result<()> {
    if std::fs::symlink_metadata(own).is_ok_and(|found| !found.is_dir()) {
        bail!("it is a link or a file; `tollgate up` requires a folder of its own");
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
            "# Generated at each start of `tollgate up`.\nschema = 1\nstate = {}\n[listen]\nhttps = []\nhttp = []\n\
             admin = \"{}\"\n[tenants]\ndir = \"tenants\"\nwatch = false\n[telemetry]\nlog = \"warn\"\nformat = \"text\"\n",
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

/// Quotes a text for TOML, which accepts JSON's escapes.
fn quoted(text: &str) -> serde_json::Result<String> {
    serde_json::to_string(text)
}
