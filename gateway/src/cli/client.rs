//! Asks the gateway that runs, by its API, and shows what it answers: what the operators' commands have in common.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use serde_json::Value;

use super::{Common, running, runtime};
use crate::admin::Client;
use crate::ids::{NAME_RULE, TenantId};

pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Runs `act` with a client of the configured gateway.
pub(super) fn with_client<T>(
    common: &Common,
    patience: Duration,
    work: impl AsyncFnOnce(&mut Client) -> anyhow::Result<T>,
) -> anyhow::Result<Result<T, ExitCode>> {
    let boot = match running(common) {
        Ok(boot) => boot,
        Err(code) => return Ok(Err(code)),
    };
    let mut client = Client::new(&boot, patience)?;
    runtime()?.block_on(work(&mut client)).map(Ok)
}

/// Prints what is at a path, as text or as JSON.
pub(super) fn shown(
    common: &Common,
    path: &str,
    json: bool,
    text: impl FnOnce(&Value) -> String,
) -> anyhow::Result<ExitCode> {
    let said = with_client(common, PATIENCE, async |client| client.get(path).await)?;
    Ok(match said {
        Ok(value) => {
            let text = if json { format!("{value:#}\n") } else { text(&value) };
            std::io::stdout().lock().write_all(text.as_bytes())?;
            ExitCode::SUCCESS
        }
        Err(code) => code,
    })
}

pub(super) fn text_of(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => format!("{:.2}", number.as_f64().unwrap_or_default()),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// Formats milliseconds since 1970.
pub(super) fn date(unix_ms: &Value) -> String {
    let since = Duration::from_millis(unix_ms.as_u64().unwrap_or_default());
    httpdate::fmt_http_date(std::time::UNIX_EPOCH + since)
}

/// Encodes a part of a query (RFC 3986 §2.1).
pub(super) fn encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~*".contains(byte);
    text.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

pub(super) fn tenant_id(text: &str) -> anyhow::Result<TenantId> {
    match TenantId::parse(text) {
        Some(id) => Ok(id),
        None => bail!("{text:?} is not a valid tenant name: {NAME_RULE}"),
    }
}
