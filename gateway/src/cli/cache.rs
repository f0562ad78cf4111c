//! `tollgate cache purge`: deletes kept responses of a tenant in the running gateway.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::tenant_id;
use super::{Common, running, runtime};
use crate::admin::Client;

const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Args, Debug)]
pub(super) struct Cache {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Delete kept responses
    Purge {
        /// The tenant (the name of its folder)
        #[arg(long, value_name = "ID")]
        tenant: String,
        /// Only URLs with this beginning: scheme, host, and the first part of the path
        target: Option<String>,
        #[command(flatten)]
        common: Common,
    },
}

pub(super) fn cache(asked: &Cache) -> anyhow::Result<ExitCode> {
    let What::Purge { tenant, target, common } = &asked.what;
    let id = tenant_id(tenant)?;
    let boot = match running(common) {
        Ok(boot) => boot,
        Err(code) => return Ok(code),
    };
    let body = target.as_ref().map_or_else(|| json!({}), |target| json!({ "target": target }));
    let mut client = Client::new(&boot, PATIENCE)?;
    let answer = runtime()?.block_on(client.post(&format!("/v1/tenants/{id}/purge"), &body))?;
    let answer: Value = serde_json::from_slice(&answer)?;
    writeln!(std::io::stdout(), "{} URLs of {id} deleted from the cache", answer["targets"])?;
    Ok(ExitCode::SUCCESS)
}
