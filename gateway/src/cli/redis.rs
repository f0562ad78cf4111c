//! `tollgate redis acl`: a Redis user for the gateway with access to its own keys only, and with `storage.tenant_users` one
//! for each tenant with access to that tenant's keys.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Subcommand;

use super::{Common, boot, runtime};
use crate::config;
use crate::store::acl::Grant;
use crate::store::{self, Kind, Secret, User};

#[derive(Debug, Subcommand)]
pub(super) enum Redis {
    /// Print the command that creates a Redis user for the gateway, with access to the gateway's own keys only
    Acl {
        /// Name of the user
        #[arg(long, default_value = "tollgate", value_name = "NAME")]
        user: String,
        /// File with the user's password
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        /// Create the user on every server, including replicas; the user in the storage URL must have permission for
        /// that
        #[arg(long)]
        apply: bool,
        #[command(flatten)]
        common: Common,
    },
}

pub(super) fn redis(asked: &Redis) -> anyhow::Result<ExitCode> {
    let Redis::Acl { user, password_file, apply, common } = asked;
    acl(common, user, password_file.as_deref(), *apply)
}

fn acl(common: &Common, user: &str, password: Option<&Path>, apply: bool) -> anyhow::Result<ExitCode> {
    let boot = match boot(common) {
        Ok(boot) => boot,
        Err(code) => return Ok(code),
    };
    let storage = &boot.storage;
    let tenants: Vec<Grant> = match &storage.tenant_users {
        Some(secret) => {
            let names = config::names(&boot).map_err(|problem| anyhow::anyhow!("{}", problem.line()))?;
            names.iter().map(|id| Grant::tenant(&storage.prefix, id, secret)).collect()
        }
        None => Vec::new(),
    };
    let is_name =
        !user.is_empty() && user.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if !is_name {
        bail!("{user:?} is not a valid user name; use letters, digits, - and _");
    }
    let text = if apply {
        let Some(path) = password else {
            bail!("--apply requires --password-file, with the password of the new user");
        };
        let read = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let secret = Secret(read.trim_end_matches(['\n', '\r']).to_owned());
        if secret.0.is_empty() {
            bail!("{} is empty: anyone could use a user without a password", path.display());
        }
        let Kind::Redis(servers) = &storage.kind else {
            bail!(
                "the storage is embedded; set the Redis server with --storage, or with storage.url in {}",
                common.config().display()
            );
        };
        let mut grants = vec![Grant::gateway(&storage.prefix, User { name: user.to_owned(), password: secret })];
        grants.extend(tenants);
        runtime()?.block_on(store::acl::apply(servers, &grants))?.concat()
    } else {
        let nobody = User { name: user.to_owned(), password: Secret(String::new()) };
        let gateway = Grant::gateway(&storage.prefix, nobody);
        let mut lines = format!("ACL SETUSER {user} {} >PASSWORD\n", gateway.rules().join(" "));
        for grant in tenants {
            let (name, words) = (&grant.user.name, grant.rules().join(" "));
            lines += &format!("ACL SETUSER {name} {words} {}\n", grant.hash());
        }
        lines
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
