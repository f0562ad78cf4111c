// Generates the reference pages under `gateway/docs` and compares them with the files: commands, metrics, faults, and what
// components may import. `TOLLGATE_GOLDEN=write` regenerates them. (`config/keys` has the reference of the configuration.)

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

const MADE: &str = "This page is generated from the code. A test compares it; `TOLLGATE_GOLDEN=write cargo nextest run -p gateway` regenerates it.";

/// The options of [`super::common::Common`], and the first command that has them.
const OPTIONS: [&str; 7] = ["config", "state", "storage", "https", "http", "admin", "public_https"];
const FIRST_WITH_OPTIONS: &str = "tollgate serve";

fn commands() -> String {
    let mut text = format!(
        "# Commands\n\n{MADE} `tollgate completions SHELL` prints shell completions, and `tollgate man --out DIR` writes manual pages.\n\n\
         Commands for a running gateway use its API (config/openapi.json), with the token of its configuration.\n"
    );
    let mut command = Arguments::command().term_width(110);
    command.build();
    of_command(&mut text, &mut command, "");
    text
}

fn of_command(text: &mut String, command: &mut clap::Command, above: &str) {
    let name = format!("{above} {}", command.get_name()).trim().to_owned();
    // The gateway's options are the same for most commands: the page shows them once.
    let is_first = name == FIRST_WITH_OPTIONS;
    let has_options = command.get_arguments().any(|arg| arg.get_id() == "config");
    let shown = command.clone().disable_help_subcommand(true);
    let hide = |arg: clap::Arg| if OPTIONS.contains(&arg.get_id().as_str()) { arg.hide(true) } else { arg };
    let mut shown = if has_options && !is_first { shown.mut_args(hide) } else { shown };
    let help = shown.render_help().to_string();
    let lines: String = help.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    let _infallible = write!(text, "\n## {name}\n\n```\n{}\n```\n", lines.trim_end());
    if has_options && !is_first {
        *text +=
            "\nThis command also has the [options of the gateway](#tollgate-serve): `--config` to `--public-https`.\n";
    }
    for below in command.get_subcommands_mut().filter(|below| !below.is_hide_set() && below.get_name() != "help") {
        of_command(text, below, &name);
    }
}

fn metrics() -> String {
    let mut text = format!(
        "# Metrics\n\n{MADE}\n\n\
         - The operators' listener serves the metrics at `/metrics`: in the text format of OpenMetrics 1.0 if the request's `Accept` asks for \
         it, otherwise in that of Prometheus 0.0.4.\n\
         - With `[telemetry.otlp]`, the gateway also exports them by OTLP. There, names begin with `tollgate.` instead of `tollgate_`, and \
         three metrics have the names of OpenTelemetry's conventions: `http.server.request.duration`, `http.server.active_requests`, \
         `db.client.operation.duration`.\n\
         - In OpenMetrics, buckets of `tollgate_request_duration_seconds` have an exemplar: the trace of one of their requests, if it was \
         sampled.\n\
         - No label comes from data that a client sent. `tenant` is the name of a tenant. It is `-` for requests that belong to no tenant (all \
         unknown hosts share it), and `+` for tenants beyond `telemetry.metrics_tenants`.\n\n| metric | type | labels | description |\n|---|---|---|---|\n"
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
        "# Faults\n\n{MADE} A request that fails or is refused gets a body of the type `application/problem+json` (RFC 9457). Its `type` is \
         `urn:tollgate:problem:` and the kind of fault, and its `request_id` is the id in the access log. The body says nothing else. The \
         kind is also the label `kind` of `tollgate_faults_total` and the field `fault` of the access log. If the response head was already \
         sent, the gateway aborts the stream.\n\n| kind | status | caused by | what happened |\n|---|---|---|---|\n"
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
        "# What components may import\n\n{MADE} The gateway refuses a component that imports another interface or another version, when it loads the component \
         (E0302).\n\n| interface | versions |\n|---|---|\n"
    );
    for (name, versions) in SERVED {
        let _infallible = writeln!(text, "| `{}` | {versions} |", name.trim_end_matches(['@', '/']));
    }
    text += "\n## Spin's own worlds\n\nThe table lists every interface that Spin's worlds import (`spin:up` 3.2.0 to 4.1.0, `fermyon:spin` 2.0.0 and without a \
             version), except WASI's 0.2 and 0.3 and Spin 1's `http`. Denied interfaces can be imported, so that the complete world of an SDK loads. A call to one returns \
             the interface's own error (`access-denied` if it has that case), and a line in the tenant's log names it.\n\n\
             | interface | here |\n|---|---|\n";
    for (name, stands) in OF_SPIN {
        let here = match stands {
            Stands::Served => "served",
            Stands::Denied => "each call is denied",
        };
        let _infallible = writeln!(text, "| `{name}` | {here} |");
    }
    text += "\n| to … | a component exports |\n|---|---|\n\
             | answer requests | `wasi:http/incoming-handler@0.2.x` (or that of a release candidate of 2023), `wasi:http/handler@0.3.x`, or Spin 1's \
             `fermyon:spin/inbound-http` |\n\
             | handle messages | `fermyon:spin/inbound-redis` or `spin:redis/inbound-redis@3.0.0` |\n\
             | be started by a schedule | `handle-cron-event` of `fermyon:spin-cron@2.0.0` |\n\n\
             If a component exports both handlers of wasi:http, the gateway calls that of 0.2. `handler = \"0.3\"` in its `[[component]]` \
             selects the other one.\n\n## What a part inherits\n\nA \
             dependency or middleware (composing.md) may use these interfaces of its component only with `inherit_configuration`; otherwise \
             they are denied. Interfaces that are not in this table are shared.\n\n| key | interfaces |\n|---|---|\n";
    for (key, interfaces) in CAPABILITIES {
        let names: Vec<_> = interfaces.iter().map(|name| format!("`{}`", name.trim_end_matches(['@', '/']))).collect();
        let names = if names.is_empty() { "none that is served here".to_owned() } else { names.join(", ") };
        let _infallible = writeln!(text, "| `{key}` | {names} |");
    }
    text += "\n## What the gateway keeps\n\n";
    text += &crate::host::resources::table();
    text += "\n## What it costs\n\nFuel is Wasmtime's \
             count of executed instructions (and of bytes that `memory.copy` and similar instructions move), plus the gateway's work for a component. The \
             same request costs the same fuel on every run. The processor time of one unit, function by function, is in \
             [prices.md](prices.md).\n\n";
    text + &cost::table()
}

#[test]
fn the_reference_pages_match_the_code() {
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
