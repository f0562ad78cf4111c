//! `tollgate tenant list`, `show`, `suspend`, `resume`, `count` and `reset-quota`.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::Subcommand;
use serde_json::Value;

use super::{Common, operate, running, runtime};
use crate::admin::Client;
use crate::ids::{NAME_RULE, TenantId};

#[derive(Debug, Subcommand)]
pub(super) enum Change {
    /// Which there are, and how they stand
    List {
        /// Only those with this in their names or hosts
        search: Option<String>,
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
    /// One in depth: routes, usage against every quota, faults
    Show {
        /// The name of the tenant's folder
        id: String,
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Answer 503 for this tenant from now on, and end its running guests; a restart does not forget it
    Suspend {
        /// The name of the tenant's folder
        id: String,
        #[command(flatten)]
        common: Common,
    },
    /// Count what this tenant has in the store; on Redis that goes through the server's keys, and repairs the sum
    Count {
        /// The name of the tenant's folder
        id: String,
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Have this tenant's rates begin anew, full, on all gateways of its Redis: after a limit that was too low
    ResetQuota {
        /// The name of the tenant's folder
        id: String,
        #[command(flatten)]
        common: Common,
    },
    /// Take the suspension back
    Resume {
        /// The name of the tenant's folder
        id: String,
        #[command(flatten)]
        common: Common,
    },
}

/// How long the gateway may take to answer, and to count, which goes through a server's keys.
const PATIENCE: Duration = Duration::from_secs(10);
const COUNTING: Duration = Duration::from_secs(600);

pub(super) fn change(asked: &Change) -> anyhow::Result<ExitCode> {
    match asked {
        Change::List { search, json, common } => operate::tenants(common, search.as_deref(), *json),
        Change::Show { id, json, common } => operate::tenant(common, id, *json),
        Change::Suspend { id, common } => ask(common, id, "suspend", false),
        Change::Resume { id, common } => ask(common, id, "resume", false),
        Change::Count { id, json, common } => ask(common, id, "count", *json),
        Change::ResetQuota { id, common } => ask(common, id, "reset-quota", false),
    }
}

fn ask(common: &Common, id: &str, change: &str, json: bool) -> anyhow::Result<ExitCode> {
    let patience = if change == "count" { COUNTING } else { PATIENCE };
    let id = tenant_id(id)?;
    let boot = match running(common) {
        Ok(boot) => boot,
        Err(code) => return Ok(code),
    };
    let mut client = Client::new(&boot, patience)?;
    let path = format!("/v1/tenants/{id}/{change}");
    let answer = runtime()?.block_on(client.post(&path, &serde_json::json!({})))?;
    let answer: Value = serde_json::from_slice(&answer)?;
    let text = match change {
        _ if json => format!("{answer:#}"),
        "count" => counted_text(id.as_str(), &answer),
        "reset-quota" => format!("{id}'s rates begin anew"),
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
