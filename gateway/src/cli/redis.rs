//! `tollgate redis acl`: a Redis user for the gateway that reaches its own keys and nothing else.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use super::{Common, boot, runtime};
use crate::store::{self, Kind, Secret};

pub(super) fn acl(common: &Common, user: &str, password: Option<&Path>, apply: bool) -> anyhow::Result<ExitCode> {
    let storage = match boot(common) {
        Ok(boot) => boot.storage,
        Err(code) => return Ok(code),
    };
    let is_name =
        !user.is_empty() && user.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if !is_name {
        bail!("{user:?} is no name for a user: letters, digits, - and _ are");
    }
    let text = if apply {
        let Some(path) = password else {
            bail!("--apply needs --password-file: the user is made with the password that stands there");
        };
        let read = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let secret = Secret(read.trim_end_matches(['\n', '\r']).to_owned());
        if secret.0.is_empty() {
            bail!("{} is empty: a user without a password would be open to all", path.display());
        }
        let Kind::Redis(servers) = &storage.kind else {
            bail!(
                "the storage is embedded: --storage, or storage.url in {}, says which Redis",
                common.config.display()
            );
        };
        let work = store::acl::apply(servers, &storage.prefix, (user, &secret));
        runtime()?.block_on(work)?.concat()
    } else {
        format!("ACL SETUSER {user} {} >PASSWORD\n", store::acl::rules(&storage.prefix).join(" "))
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
