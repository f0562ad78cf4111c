//! `tollgate host list`, `move` and `release`: which tenant has which host in the running gateway.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use serde_json::{Value, json};

use super::Common;
use super::client::tenant_id;
use super::client::{shown, text_of, with_client};

/// A change is in force when it is answered, and other tenants may compile meanwhile.
const CHANGING: Duration = Duration::from_secs(600);

#[derive(Debug, Subcommand)]
pub(super) enum Host {
    /// List hosts and their tenants, including tenants that are gone
    List {
        /// Only this tenant (the name of its folder)
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Assign a host to a tenant, even if another tenant has it: after a rename, or if two tenants claim it
    Move {
        /// A domain name, or `*.` and a domain name, as in the tenant's file
        host: String,
        /// The tenant that gets the host (the name of its folder)
        #[arg(long, value_name = "ID")]
        to: String,
        #[command(flatten)]
        common: Common,
    },
    /// Release a host whose tenant is gone or no longer lists it; the next tenant that claims the host gets it
    Release {
        host: String,
        #[command(flatten)]
        common: Common,
    },
}

pub(super) fn host(asked: &Host) -> anyhow::Result<ExitCode> {
    match asked {
        Host::List { tenant, json, common } => list(common, tenant.as_deref(), *json),
        Host::Move { host, to, common } => {
            let to = tenant_id(to)?;
            change(common, "move", &json!({ "host": host, "to": to.as_str() }), |answer| {
                let note = match (answer["is_served"] == true, answer["is_named"] == true) {
                    (true, _) => "",
                    (false, true) => "; it is not served yet, see tollgate check",
                    (false, false) => {
                        "; the tenant's file does not list it yet: add it to `hosts`. Until then, the tenant that answers for it goes \
                         on, and gets it back at the next start"
                    }
                };
                format!("{} now belongs to {to}{note}", text_of(&answer["host"]))
            })
        }
        Host::Release { host, common } => change(common, "release", &json!({ "host": host }), |_| {
            format!("{host} was released and belongs to no tenant")
        }),
    }
}

fn list(common: &Common, tenant: Option<&str>, json: bool) -> anyhow::Result<ExitCode> {
    let of = tenant.map(|id| anyhow::Ok(format!("?tenant={}", tenant_id(id)?))).transpose()?;
    shown(common, &format!("/v1/hosts{}", of.unwrap_or_default()), json, |hosts| {
        let line = |row: &Value| {
            let note = match (row["is_served"] == true, row["is_named"] == true) {
                (true, _) => "",
                (false, true) => "  (not served)",
                (false, false) => "  (its file does not list it, or the tenant is gone)",
            };
            format!("{:40} {}{note}\n", text_of(&row["host"]), text_of(&row["tenant"]))
        };
        hosts.as_array().into_iter().flatten().map(line).collect()
    })
}

fn change(common: &Common, what: &str, body: &Value, text: impl FnOnce(&Value) -> String) -> anyhow::Result<ExitCode> {
    let path = format!("/v1/hosts/{what}");
    let done = with_client(common, CHANGING, async |client| client.post(&path, body).await)?;
    let answer = match done {
        Ok(answer) => serde_json::from_slice(&answer).unwrap_or(Value::Null),
        Err(code) => return Ok(code),
    };
    writeln!(std::io::stdout(), "{}", text(&answer))?;
    Ok(ExitCode::SUCCESS)
}
