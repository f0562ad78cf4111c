// The reference documentation under `gateway/docs` that is made from the code, and compared with it: commands, metrics, faults,
// what components may import. `TOLLGATE_GOLDEN=write` writes it anew. (That of configuration is `config/keys`'s.)

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use clap::CommandFactory as _;

use super::Arguments;
use crate::fault::{Blame, Fault};
use crate::host::{CAPABILITIES, OF_SPIN, SERVED, Stands};
use crate::ids::RequestId;
use crate::response;
use crate::telemetry::Metrics;
use crate::tenant::cost;

const MADE: &str =
    "Made from the code; a test compares it (`TOLLGATE_GOLDEN=write cargo nextest run -p gateway` writes it anew).";

fn commands() -> String {
    let mut text = format!(
        "# Commands\n\n{MADE} `tollgate completions SHELL` prints completions, `tollgate man --out DIR` writes manual pages.\n\nAll that \
         concerns the gateway that is running goes by its API (config/openapi.json), with the token of its configuration.\n"
    );
    let mut command = Arguments::command().term_width(110);
    command.build();
    of_command(&mut text, &mut command, "");
    text
}

fn of_command(text: &mut String, command: &mut clap::Command, above: &str) {
    let name = format!("{above} {}", command.get_name()).trim().to_owned();
    let help = command.clone().disable_help_subcommand(true).render_help().to_string();
    let lines: String = help.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    let _infallible = write!(text, "\n## {name}\n\n```\n{}\n```\n", lines.trim_end());
    for below in command.get_subcommands_mut().filter(|below| !below.is_hide_set() && below.get_name() != "help") {
        of_command(text, below, &name);
    }
}

fn metrics() -> String {
    let mut text = format!(
        "# Metrics\n\n{MADE} They are served by the operators' listener at `/metrics`, in the text format of OpenMetrics 1.0 for who asks for it (`Accept`) and else in Prometheus's 0.0.4, and sent by OTLP \
         where `[telemetry.otlp]` says so: there, `tollgate_` is `tollgate.`, and three have the names of OpenTelemetry's conventions \
         (`http.server.request.duration`, `http.server.active_requests`, `db.client.operation.duration`). Buckets of \
         `tollgate_request_duration_seconds` have the trace of one of their requests as an exemplar, where it was sampled, in OpenMetrics.\n\nNo label is \
         taken from what a stranger sent. `tenant` is a tenant's identity, `-` for what belongs to nobody (all unknown hosts share it), and `+` \
         for tenants beyond `telemetry.metrics_tenants`.\n\n| metric | type | labels | what it is |\n|---|---|---|---|\n"
    );
    let said = Metrics::with_one_of_each().text();
    let mut rows: BTreeMap<&str, [String; 3]> = BTreeMap::new();
    for line in said.lines() {
        let parts: Vec<&str> = line.splitn(4, ' ').collect();
        match parts.as_slice() {
            ["#", "HELP", name, help] => rows.entry(name).or_default()[2] = help.trim_end_matches('.').to_owned(),
            ["#", "TYPE", name, kind] => rows.entry(name).or_default()[0] = (*kind).to_owned(),
            ["#", ..] => {}
            _ => {
                let named = line.split_once('{').and_then(|(name, rest)| Some((name, rest.split_once('}')?.0)));
                let Some((name, labels)) = named else { continue };
                let Some((_, row)) = rows.iter_mut().rfind(|(family, _)| name.starts_with(**family)) else { continue };
                let names =
                    labels.split("\",").filter_map(|label| label.split('=').next()).filter(|name| *name != "le");
                row[1] = names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            }
        }
    }
    for (name, [kind, labels, help]) in rows {
        let end = if kind == "counter" { "_total" } else { "" };
        let _infallible = writeln!(text, "| `{name}{end}` | {kind} | {labels} | {help} |");
    }
    text
}

fn faults() -> String {
    let mut text = format!(
        "# Faults\n\n{MADE} A request that is not answered as its tenant wished is answered with `application/problem+json` (RFC 9457): the \
         `type` is `urn:tollgate:problem:` and the kind, `request_id` is the one of the access log, and nothing else is told. The same word \
         is the label `kind` of `tollgate_faults_total` and the field `fault` of the access log. When the head was sent already, the stream \
         is aborted.\n\n| kind | status | to blame | what happened |\n|---|---|---|---|\n"
    );
    for fault in Fault::ALL {
        let status = response::of_fault(fault, RequestId::new(), None).status().as_u16();
        let blame = match fault.blame() {
            Blame::Client => "the client",
            Blame::Tenant => "the tenant",
            Blame::Gateway => "the gateway",
        };
        let _infallible = writeln!(text, "| `{}` | {status} | {blame} | {fault} |", fault.kind());
    }
    text
}

fn hosts() -> String {
    let mut text = format!(
        "# What components may import\n\n{MADE} A component that imports anything else, or another version, is refused when it is loaded \
         (E0302).\n\n| interface | versions |\n|---|---|\n"
    );
    for (name, versions) in SERVED {
        let _infallible = writeln!(text, "| `{}` | {versions} |", name.trim_end_matches(['@', '/']));
    }
    text += "\n## Spin's own worlds\n\nEvery interface that Spin's worlds import (`spin:up` 3.2.0 to 4.1.0, `fermyon:spin` 2.0.0 and without a \
             version), beside WASI's 0.2 and 0.3 and Spin 1's `http`. What is denied links, so that an SDK's whole world loads; a call of it is \
             answered with the interface's own error (`access-denied` where it has that case), and a line in the tenant's log names it.\n\n\
             | interface | here |\n|---|---|\n";
    for (name, stands) in OF_SPIN {
        let here = match stands {
            Stands::Served => "served",
            Stands::Denied => "denied at the call",
        };
        let _infallible = writeln!(text, "| `{name}` | {here} |");
    }
    text += "\nA component exports `wasi:http/incoming-handler@0.2.x`, the same of a candidate of 2023, `wasi:http/handler@0.3.x` or Spin 1's \
             `fermyon:spin/inbound-http` to answer requests, and \
             `fermyon:spin/inbound-redis` or `spin:redis/inbound-redis@3.0.0` to take messages, and `handle-cron-event` of \
             `fermyon:spin-cron@2.0.0` to be started by a schedule. Of a component with both of wasi:http's handlers, 0.2's is called; \
             `handler = \"0.3\"` in its `[[component]]` says otherwise.\n\n## What a part inherits\n\nA \
             dependency or middleware (composing.md) has these of its component by `inherit_configuration`, and is refused otherwise. What \
             is not here is shared.\n\n| key | interfaces |\n|---|---|\n";
    for (key, interfaces) in CAPABILITIES {
        let names: Vec<_> = interfaces.iter().map(|name| format!("`{}`", name.trim_end_matches(['@', '/']))).collect();
        let names = if names.is_empty() { "none that is served here".to_owned() } else { names.join(", ") };
        let _infallible = writeln!(text, "| `{key}` | {names} |");
    }
    text += "\n## What the gateway keeps\n\n";
    text += &crate::host::resources::table();
    text += "\n## What it costs\n\nFuel is Wasmtime's \
             count of executed instructions (and of bytes that `memory.copy` and its like move), and what the gateway does for a guest. The \
             same request costs the same on every run. What the processor takes for a unit, function by function, is in \
             [prices.md](prices.md).\n\n";
    text + &cost::table()
}

#[test]
fn the_written_reference_is_what_the_code_says() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (path, text) in [
        ("docs/commands.md", commands()),
        ("docs/metrics.md", metrics()),
        ("docs/faults.md", faults()),
        ("docs/hosts.md", hosts()),
        ("../config/openapi.json", crate::admin::openapi()),
    ] {
        let path = top.join(path);
        if std::env::var_os("TOLLGATE_GOLDEN").is_some() {
            assert!(std::fs::write(&path, &text).is_ok(), "{} cannot be written", path.display());
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(text == written, "{} is out of date: TOLLGATE_GOLDEN=write", path.display());
    }
}
