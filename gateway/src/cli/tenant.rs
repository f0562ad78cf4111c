//! `tollgate tenant suspend ID`, `resume ID` and `count ID`.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use serde_json::Value;

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
    let mut client = Client::new(&boot, patience)?;
    let path = format!("/v1/tenants/{id}/{change}");
    let answer = runtime()?.block_on(client.post(&path, &serde_json::json!({})))?;
    let answer: Value = serde_json::from_slice(&answer)?;
    let text = match change {
        "count" => counted_text(id.as_str(), &answer),
        _ => format!("{id} {}", if change == "suspend" { "suspended" } else { "resumed" }),
    };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(ExitCode::SUCCESS)
}

/// What it has, and what was believed where that was something else.
pub(super) fn counted_text(id: &str, counted: &Value) -> String {
    let [bytes, keys, booked_bytes, booked_keys] =
        ["bytes", "keys", "booked_bytes", "booked_keys"].map(|field| counted[field].as_u64().unwrap_or_default());
    let text = format!("{id} has {bytes} bytes in {keys} keys");
    if (bytes, keys) == (booked_bytes, booked_keys) {
        return text;
    }
    format!("{text}; {booked_bytes} in {booked_keys} were booked")
}

pub(super) fn tenant_id(text: &str) -> anyhow::Result<TenantId> {
    match TenantId::parse(text) {
        Some(id) => Ok(id),
        None => bail!("{text:?} is not a tenant's identity: {NAME_RULE}"),
    }
}
