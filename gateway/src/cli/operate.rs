//! Commands for the running gateway's API: `status`, `faults`, `tenant list` and `show`, `reload`, `drain`, `logs`,
//! `dashboard`, `schedule list`.

use std::io::{BufWriter, IsTerminal as _, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{PATIENCE, date, encoded, shown, tenant_id, text_of, with_client};
use super::common::counted;
use super::{Common, tenant_text};

/// A reload may compile.
const RELOADING: Duration = Duration::from_secs(600);
/// Problems that `status` and `reload` list.
const LISTED_MAX: usize = 10;

#[derive(Args, Debug)]
pub(super) struct Logs {
    /// The tenant (the name of its folder)
    #[arg(long, value_name = "ID")]
    tenant: String,
    /// Continue with new lines as they are written
    #[arg(short, long)]
    follow: bool,
    /// Number of lines to begin with
    #[arg(short = 'n', long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    lines: u32,
    /// Print the lines as JSON, as they are in the file
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
pub(super) enum Schedule {
    /// List schedules with the next run and the result of the last one; the next one that is due comes first
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
}

pub(super) fn status(common: &Common, json: bool) -> anyhow::Result<ExitCode> {
    let said = with_client(common, PATIENCE, async |client| {
        let status = client.get("/v1/status").await?;
        let problems = if json { Value::Null } else { client.get("/v1/problems").await? };
        Ok((status, problems))
    })?;
    let text = match said {
        Ok((status, _)) if json => format!("{status:#}\n"),
        Ok((status, problems)) => status_text(&status) + &listed(&problems),
        Err(code) => return Ok(code),
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Lists the running gateway's own problems. `tollgate check` may not find them: a confined gateway cannot read each file that the
/// operator can read.
fn listed(problems: &Value) -> String {
    let all = problems.as_array().map(Vec::as_slice).unwrap_or_default();
    let line = |problem: &Value| {
        let [severity, code, kind, file, summary, found] =
            ["severity", "code", "kind", "file", "summary", "found"].map(|field| text_of(&problem[field]));
        let line = problem["line"].as_u64().map(|line| format!(":{line}")).unwrap_or_default();
        let hint = problem["hint"].as_str().map(|hint| format!("  hint: {hint}\n")).unwrap_or_default();
        format!("{severity}[{code} {kind}] {file}{line}: {summary}\n  found: {found}\n{hint}")
    };
    let mut text: String = all.iter().take(LISTED_MAX).map(line).collect();
    if all.len() > LISTED_MAX {
        text += &format!("and {} more\n", all.len() - LISTED_MAX);
    }
    text
}

fn status_text(status: &Value) -> String {
    let of = |path: &str| status.pointer(path).map(text_of).unwrap_or_default();
    let bytes = |path: &str| {
        let bytes = status.pointer(path).and_then(Value::as_u64).unwrap_or_default();
        format!("{}", indicatif::BinaryBytes(bytes))
    };
    let draining = if status["is_draining"] == true { ", draining" } else { "" };
    let answers = if status["storage"]["answers"] == true { "answers" } else { "does not answer" };
    let refused = status["storage"]["refused"].as_str().map(|code| format!(", and refused a call by {code}"));
    format!(
        "tollgate {}, configuration {}{draining}\n\
             tenants      {} serving, {} suspended, {} stale, {} broken, {} loading\n\
             problems     {}, {}\n\
             storage      {}, {answers}{}\n\
             instances    {} of {}, {} waiting\n\
             memory       {} of {}\n\
             connections  {}, {} requests in flight, {} answered\n\
             latency      p50 {} ms, p99 {} ms since the start\n",
        of("/version"),
        of("/generation"),
        of("/tenants/serving"),
        of("/tenants/suspended"),
        of("/tenants/stale"),
        of("/tenants/broken"),
        of("/tenants/loading"),
        status["problems"],
        counted(status["warnings"].as_u64().unwrap_or_default(), "warning"),
        of("/storage/backend"),
        refused.unwrap_or_default(),
        of("/instances/now"),
        of("/instances/max"),
        of("/waiting"),
        bytes("/memory/now"),
        bytes("/memory/max"),
        of("/connections"),
        of("/in_flight"),
        of("/requests"),
        of("/latency/p50_ms"),
        of("/latency/p99_ms"),
    )
}

pub(super) fn faults(
    common: &Common,
    tenant: Option<&str>,
    request: Option<&str>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let of_tenant = tenant.map(|id| anyhow::Ok(format!("tenant={}", tenant_id(id)?))).transpose()?;
    let of_request = request.map(|id| format!("request={}", encoded(id)));
    let asked: Vec<String> = of_tenant.into_iter().chain(of_request).collect();
    let path = if asked.is_empty() { "/v1/faults".to_owned() } else { format!("/v1/faults?{}", asked.join("&")) };
    shown(common, &path, json, |faults| {
        let line = |fault: &Value| {
            let at = date(&fault["at_ms"]);
            let [kind, status, tenant, route, id] =
                ["kind", "status", "tenant", "route", "request_id"].map(|field| text_of(&fault[field]));
            let count = format!("{}x", fault["count"].as_u64().unwrap_or(1));
            format!("{at}  {count:>5} {kind:16} {status:>3}  {tenant:16} {route:20} {id}\n")
        };
        let rows = faults.as_array().map(Vec::as_slice).unwrap_or_default();
        match (rows, request) {
            ([], Some(id)) => format!(
                "no fault of {id} is kept (the gateway keeps the last 64 of each tenant); the access log has a line \
                    for every request\n"
            ),
            ([], None) if tenant.is_none() => {
                "no faults; those that clients cause: tollgate faults --tenant ID\n".to_owned()
            }
            (rows, _) => rows.iter().map(line).collect(),
        }
    })
}

pub(super) fn schedule(asked: &Schedule) -> anyhow::Result<ExitCode> {
    let Schedule::List { tenant, json, common } = asked;
    let of = tenant.as_deref().map(|id| anyhow::Ok(format!("?tenant={}", tenant_id(id)?))).transpose()?;
    shown(common, &format!("/v1/schedules{}", of.unwrap_or_default()), *json, |rows| {
        let line = |row: &Value| {
            let next = if row["next_ms"].is_null() { "never".to_owned() } else { date(&row["next_ms"]) };
            let last = if row["is_running"] == true { "running".to_owned() } else { text_of(&row["last_outcome"]) };
            let [tenant, component, expression] =
                ["tenant", "component", "expression"].map(|field| text_of(&row[field]));
            format!("{next:29}  {last:10} {tenant:16} {component:16} {expression}\n")
        };
        rows.as_array().into_iter().flatten().map(line).collect()
    })
}

pub(super) fn tenants(common: &Common, search: Option<&str>, json: bool) -> anyhow::Result<ExitCode> {
    // An operator may type characters that a query cannot contain.
    let search = search.map(|text| format!("&search={}", encoded(text))).unwrap_or_default();
    shown(common, &format!("/v1/tenants?limit=500{search}"), json, |page| {
        let rows = page["tenants"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut text = String::new();
        for row in rows {
            let hosts: Vec<_> = row["hosts"].as_array().into_iter().flatten().map(text_of).collect();
            text += &format!("{:24} {:10} {}\n", text_of(&row["id"]), text_of(&row["standing"]), hosts.join(" "));
        }
        let more = page["total"].as_u64().unwrap_or_default().saturating_sub(rows.len() as u64);
        if more > 0 { text + &format!("and {more} more; give a search text to find them\n") } else { text }
    })
}

pub(super) fn tenant(common: &Common, id: &str, json: bool) -> anyhow::Result<ExitCode> {
    shown(common, &format!("/v1/tenants/{}", tenant_id(id)?), json, tenant_text::tenant)
}

pub(super) fn reload(common: &Common, json: bool) -> anyhow::Result<ExitCode> {
    let done = with_client(common, RELOADING, async |client| {
        let answer = serde_json::from_slice::<Value>(&client.post("/v1/reload", &json!({})).await?)?;
        let problems = if json { Value::Null } else { client.get("/v1/problems").await? };
        Ok((answer, problems))
    })?;
    let (answer, problems_now) = match done {
        Ok(done) => done,
        Err(code) => return Ok(code),
    };
    if json {
        writeln!(std::io::stdout(), "{answer:#}")?;
        return Ok(exit_of_reload(&answer));
    }
    let [generation, problems, warnings, loading] =
        ["generation", "problems", "warnings", "loading"].map(|field| answer[field].as_u64().unwrap_or_default());
    let waiting =
        if loading == 0 { String::new() } else { format!("; components of {loading} tenants are still compiling") };
    let counts = format!("{}, {}", counted(problems, "problem"), counted(warnings, "warning"));
    let text = format!("configuration {generation} is in force, with {counts}{waiting}\n");
    let text =
        if problems == 0 { text } else { text + "each tenant with an error keeps its last valid configuration\n" };
    std::io::stdout().lock().write_all((text + &listed(&problems_now)).as_bytes())?;
    Ok(exit_of_reload(&answer))
}

/// 2, as `tollgate check` exits, if some tenant's new configuration is not in force.
fn exit_of_reload(answer: &Value) -> ExitCode {
    if answer["problems"] == 0 { ExitCode::SUCCESS } else { ExitCode::from(2) }
}

pub(super) fn drain(common: &Common) -> anyhow::Result<ExitCode> {
    let done = with_client(common, PATIENCE, async |client| client.post("/v1/drain", &json!({})).await)?;
    if let Err(code) = done {
        return Ok(code);
    }
    writeln!(std::io::stdout(), "the gateway drains: it finishes the requests in flight and exits")?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn dashboard(common: &Common) -> anyhow::Result<ExitCode> {
    // Checks that the gateway runs: a link to nothing does not help.
    let page = with_client(common, PATIENCE, async |client| {
        client.get("/v1/status").await?;
        Ok(client.page())
    })?;
    Ok(match page {
        Ok(page) => {
            writeln!(std::io::stdout(), "{page}")?;
            ExitCode::SUCCESS
        }
        Err(code) => code,
    })
}

pub(super) fn logs(asked: &Logs) -> anyhow::Result<ExitCode> {
    let Logs { tenant, follow, lines, json, common } = asked;
    let path = format!("/v1/tenants/{}/logs?lines={lines}&follow={follow}", tenant_id(tenant)?);
    let colour = std::io::stdout().is_terminal();
    let done = with_client(common, PATIENCE, async |client| {
        let mut lines = client.stream(&path).await?;
        let mut out = BufWriter::new(std::io::stdout());
        while let Some(line) = lines.next().await? {
            if *json {
                out.write_all(&line)?
            } else {
                write_line(&mut out, &line, colour)?
            }
            if !lines.has_next() {
                out.flush()?;
            }
        }
        Ok(())
    })?;
    Ok(done.map_or_else(|code| code, |()| ExitCode::SUCCESS))
}

fn write_line(out: &mut impl Write, line: &[u8], colour: bool) -> std::io::Result<()> {
    let Ok(said) = serde_json::from_slice::<Value>(line) else { return out.write_all(line) };
    let at = date(&said["unix_ms"]);
    let (dim, plain) = if colour { ("\u{1b}[2m", "\u{1b}[0m") } else { ("", "") };
    let (component, stream) = (text_of(&said["component"]), text_of(&said["stream"]));
    // A guest may print control sequences for a terminal.
    let text: String = text_of(&said["text"]).chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    writeln!(out, "{dim}{at} {component} {stream}{plain}  {text}")
}
