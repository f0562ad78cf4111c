//! `tollgate tenant suspend ID`, `resume ID` and `count ID`.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;

use super::client::Client;
use super::{Common, boot, runtime};
use crate::ids::{NAME_RULE, TenantId};

/// How long the gateway may take to answer, and to count, which goes through a server's keys.
const PATIENCE: Duration = Duration::from_secs(10);
const COUNTING: Duration = Duration::from_secs(600);

pub(super) fn tenant(common: &Common, id: &str, change: &str) -> anyhow::Result<ExitCode> {
    let patience = if change == "count" { COUNTING } else { PATIENCE };
    let id = tenant_id(id)?;
    let boot = match boot(common) {
        Ok(boot) => boot,
        Err(code) => return Ok(code),
    };
    let mut client = Client::new(&boot, patience);
    let path = format!("/tenants/{id}/{change}");
    let text = runtime()?.block_on(client.post(&path, &serde_json::json!({})))?;
    std::io::stdout().lock().write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn tenant_id(text: &str) -> anyhow::Result<TenantId> {
    match TenantId::parse(text) {
        Some(id) => Ok(id),
        None => bail!("{text:?} is not a tenant's identity: {NAME_RULE}"),
    }
}
