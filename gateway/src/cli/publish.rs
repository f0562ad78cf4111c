//! `tollgate publish`: publishes a message on one of a tenant's channels, in the running gateway.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::ffi::OsStringExt as _;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::client::tenant_id;
use super::{Common, running, runtime};
use crate::admin::Client;
use crate::store::Text;

const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn publish(common: &Common, id: &str, channel: OsString, message: OsString) -> anyhow::Result<ExitCode> {
    let id = tenant_id(id)?;
    let boot = match running(common) {
        Ok(boot) => boot,
        Err(code) => return Ok(code),
    };
    let mut client = Client::new(&boot, PATIENCE)?;
    let words = [Text(channel.into_vec()), Text(message.into_vec())];
    let body = json!({ "keys": words });
    runtime()?.block_on(client.post(&format!("/v1/tenants/{id}/data/publish"), &body))?;
    writeln!(std::io::stdout(), "published")?;
    Ok(ExitCode::SUCCESS)
}
