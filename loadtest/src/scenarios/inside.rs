//! Where the time of one request goes inside the gateway: what its own access log says, and its system calls.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

use super::Plan;
use crate::load::{self, to_f64};
use crate::report::{Section, figures};

const STAGES: [(&str, &str); 4] = [
    ("instance_us", "an instance made"),
    ("guest_us", "from the instance's begin to the response's head"),
    ("queue_us", "waited for an instance"),
    ("duration_us", "from the request's head to the last of everything"),
];

pub(super) async fn run(plan: &Plan) -> anyhow::Result<Vec<Section>> {
    let site = plan.site("inside", "")?;
    site.tenant("hello", &plan.hello, "")?;
    let (server, _admin) = site.serve("hello.localhost")?;
    load::closed(&server.target, 1, Duration::from_secs(1)).await?;
    let log = site.dir.join("access.log");
    let skipped = std::fs::read_to_string(&log)?.lines().count();
    load::closed(&server.target, 1, plan.time).await?;
    // The gateway writes the log a few milliseconds later.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let text = std::fs::read_to_string(&log)?;
    let records: Vec<serde_json::Value> =
        text.lines().skip(skipped).map(serde_json::from_str).collect::<Result<_, _>>()?;
    let (mut rows, mut bars) = (Vec::new(), Vec::new());
    for (field, what) in STAGES {
        let mut times = load::histogram()?;
        for record in &records {
            times.record(record[field].as_u64().with_context(|| format!("no {field} in a record"))?.max(1))?;
        }
        let (half, most) = (times.value_at_quantile(0.5), times.value_at_quantile(0.99));
        rows.push(vec![what.to_owned(), format!("{half} µs"), format!("{most} µs")]);
        bars.push((what.to_owned(), to_f64(half)));
    }
    match system_calls(&server.pid().to_string(), &server.target).await {
        Err(error) => eprintln!("system calls are not counted: {error:#}"),
        Ok(calls) => rows.extend(
            calls
                .into_iter()
                .map(|(name, count)| vec![format!("system call {name}, a request"), figures(count), "–".to_owned()]),
        ),
    }
    Ok(vec![Section {
        name: "inside",
        title: "One request of hello, inside".to_owned(),
        how: format!(
            "{} requests, one after the other on one connection; stages as the access log has them; system calls of all threads by \
             strace, but for the sleep of threads that work by the clock (clock_nanosleep).",
            records.len()
        ),
        columns: vec!["what", "p50", "p99"],
        rows,
        plot: ("µs, p50", bars),
        worse: Vec::new(),
    }])
}

/// System calls of one request, by name.
///
/// # Errors
/// If strace is not installed or may not trace.
async fn system_calls(pid: &str, target: &load::Target) -> anyhow::Result<BTreeMap<String, f64>> {
    let strace = Command::new("strace")
        .args(["-f", "-c", "-qq", "-U", "name,calls", "-p", pid])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("strace")?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let sent = load::closed(target, 1, Duration::from_secs(3)).await?.latencies.len();
    let process = rustix::process::Pid::from_raw(i32::try_from(strace.id())?).context("no process")?;
    rustix::process::kill_process(process, rustix::process::Signal::INT)?;
    let said = strace.wait_with_output()?;
    let mut calls = BTreeMap::new();
    for line in String::from_utf8_lossy(&said.stderr).lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(Ok(count))) = (words.next(), words.next().map(str::parse::<u64>))
            && !["clock_nanosleep", "total"].contains(&name)
        {
            let each = to_f64(count) / to_f64(sent.max(1));
            if each >= 0.05 {
                calls.insert(name.to_owned(), each);
            }
        }
    }
    anyhow::ensure!(!calls.is_empty(), "strace says {}", String::from_utf8_lossy(&said.stderr));
    Ok(calls)
}
