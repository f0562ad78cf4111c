//! `tollgate serve`.

use std::io::Write as _;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::{Common, boot, runtime};
use crate::config::{self, Boot, Machine, Standing};
use crate::gateway::Gateway;
use crate::telemetry;

pub(super) fn serve(common: &Common) -> anyhow::Result<ExitCode> {
    let boot = match boot(common) {
        Ok(boot) => boot,
        Err(code) => return Ok(code),
    };
    run(boot)
}

/// Serves until it is told to stop.
pub(super) fn run(boot: Boot) -> anyhow::Result<ExitCode> {
    let _lines_to_the_end = telemetry::start(&boot.telemetry)?;
    raise_descriptors();
    for warning in config::budget_lines(&boot, Machine::here()).1 {
        tracing::warn!(target: "config", "{warning}");
    }
    let dev = (boot.tls == crate::tls::Source::Dev && !boot.listen.is_plain).then(|| boot.state.join("tls/ca.pem"));
    runtime()?.block_on(async {
        // From here on SIGHUP does not end the process; what is loaded meanwhile is what is there.
        let _heard_later = signal(SignalKind::hangup())?;
        let gateway = Gateway::start(boot).await?;
        let said = announce(&gateway, dev.as_deref());
        // Nobody has to read it.
        let _closed = std::io::stdout().lock().write_all(said.as_bytes());
        gateway.run().await
    })?;
    Ok(ExitCode::SUCCESS)
}

/// As many descriptors as this process may have, without asking anybody.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::warn!(target: "listener", %error, "the limit on descriptors cannot be raised");
    }
}

/// The addresses, one line each, and a small table of the tenants.
fn announce(gateway: &Gateway, ca: Option<&std::path::Path>) -> String {
    let mut text = String::new();
    for address in &gateway.https {
        text += &format!("https  {address}\n");
    }
    for address in &gateway.http {
        text += &format!("http   {address}\n");
    }
    text += &format!("admin  {}\n", gateway.admin);
    if let Some(ca) = ca {
        text += &format!("ca     {}\n", ca.display());
    }
    let tenants = gateway.tenants();
    let width = tenants.iter().map(|(id, ..)| id.len()).max().unwrap_or(0);
    text += "\n";
    for (id, standing, url) in tenants {
        let note = match standing {
            Standing::Serving => "",
            Standing::Suspended => " (suspended)",
            Standing::Stale => " (stale: its files are wrong now)",
            Standing::Broken => " (left out: tollgate check says why)",
        };
        text += &format!("{id:width$}  {}{note}\n", url.as_deref().unwrap_or("-"));
    }
    text
}
