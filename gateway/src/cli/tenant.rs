//! `tollgate tenant list`, `show`, `suspend`, `resume`, `count` and `reset-quota`.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use serde_json::Value;

use super::client::tenant_id;
use super::common::counted;
use super::{Common, operate, running, runtime};
use crate::admin::Client;

#[derive(Debug, Subcommand)]
pub(super) enum Change {
    /// List tenants and their state
    List {
        /// Only tenants with this text in their name or hosts
        search: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Show one tenant: routes, usage of every quota, faults
    Show {
        /// The name of the tenant's folder
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Suspend a tenant: its requests get 503, and its running instances are ended. This outlives a restart
    Suspend {
        /// The name of the tenant's folder
        id: String,
        #[command(flatten)]
        common: Common,
    },
    /// Recount a tenant's data in the store. On Redis, this scans the server's keys and corrects the tracked usage
    Count {
        /// The name of the tenant's folder
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Reset a tenant's rate limits to a full burst, on all gateways of its Redis, for example after a limit that was
    /// too low
    ResetQuota {
        /// The name of the tenant's folder
        id: String,
        #[command(flatten)]
        common: Common,
    },
    /// End a suspension
    Resume {
        /// The name of the tenant's folder
        id: String,
        #[command(flatten)]
        common: Common,
    },
}

/// Time limit for the gateway's answer, and for a recount, which scans a server's keys.
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
        "reset-quota" => format!("the rate limits of {id} are reset"),
        _ => format!("{id} {}", if change == "suspend" { "suspended" } else { "resumed" }),
    };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(ExitCode::SUCCESS)
}

/// The counted usage, and the tracked usage if it differs.
pub(super) fn counted_text(id: &str, usage: &Value) -> String {
    let [bytes, keys, booked_bytes, booked_keys] =
        ["bytes", "keys", "booked_bytes", "booked_keys"].map(|field| usage[field].as_u64().unwrap_or_default());
    let text = format!("{id} uses {} in {}", counted(bytes, "byte"), counted(keys, "key"));
    if (bytes, keys) == (booked_bytes, booked_keys) {
        return text;
    }
    format!("{text} (tracked: {}, {})", counted(booked_bytes, "byte"), counted(booked_keys, "key"))
}
