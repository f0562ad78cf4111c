//! First requests: to components whose code is on disk and not in memory, one at a time, and a thousand in a second beside
//! a warm tenant.

use std::path::Path;
use std::time::{Duration, Instant};

use super::{Plan, variants};
use crate::load::{self, Connection, Notes, Opened, Outcome, Protocol, Target};
use crate::report::{Section, figures};

/// Tenants whose first request is timed.
const SINGLE: usize = 200;
const STORM: usize = 1000;
/// Number of storms, each to tenants that have had no request yet.
const STORMS: usize = 3;
/// Requests a second to the warm tenant.
const WARM: f64 = 500.0;

/// The first request to each of `targets`, on a connection that is already open.
async fn first_requests(targets: &[Target]) -> anyhow::Result<Outcome> {
    let connector = load::connector(Protocol::Http1, false)?;
    let notes = Notes::begin()?;
    for target in targets {
        let mut connection = Connection::open(target, &connector).await?;
        let asked = Instant::now();
        match connection.ask().await? {
            200 => notes.answered(asked)?,
            _ => notes.failed(),
        }
    }
    Ok(notes.outcome())
}

fn row(name: &str, of: &Outcome) -> Vec<String> {
    let quantiles = [0.5, 0.99, 1.0].map(|quantile| figures(of.quantile(quantile)));
    [vec![name.to_owned(), of.latencies.len().to_string()], quantiles.to_vec(), vec![of.failed.to_string()]].concat()
}

async fn single(plan: &Plan, name: &str, component: &Path, count: usize) -> anyhow::Result<Vec<Vec<String>>> {
    let site = plan.site(&format!("cold-{name}"), "")?;
    let hosts = variants::tenants(&site, component, count)?;
    let (server, _admin) = site.serve("t0.localhost")?;
    let targets: Vec<Target> = hosts.iter().map(|host| server.target.at(host, "/")).collect();
    // One-time costs do not belong to any tenant's first request.
    first_requests(&targets[..1]).await?;
    let first = first_requests(&targets[1..]).await?;
    let second = first_requests(&targets[1..]).await?;
    Ok(vec![row(&format!("{name}, first request"), &first), row(&format!("{name}, second request"), &second)])
}

async fn storm(plan: &Plan) -> anyhow::Result<Vec<Vec<String>>> {
    let site = plan.site("storm", "")?;
    let hosts = variants::tenants(&site, &plan.hello, STORMS * STORM + 1)?;
    let (server, _admin) = site.serve("t0.localhost")?;
    let targets: Vec<Target> = hosts.iter().map(|host| server.target.at(host, "/")).collect();
    let (warm, cold) = targets.split_at(1);
    let second = Duration::from_secs(1);
    let [alone, beside, stormed] = [Notes::begin()?, Notes::begin()?, Notes::begin()?];
    load::open(warm, 8, WARM, 2 * second).await?;
    for cold in cold.chunks(STORM) {
        // All connections are open before the measurement begins.
        let [first, then] = [Opened::of(warm, 8).await?, Opened::of(warm, 8).await?];
        let storm = Opened::of(cold, cold.len()).await?;
        alone.add(&first.at(WARM, second).await?)?;
        let (warm, cold) = tokio::join!(then.at(WARM, second), storm.at(load::to_f64(STORM as u64), second));
        beside.add(&warm?)?;
        stormed.add(&cold?)?;
    }
    Ok(vec![
        row("warm tenant, alone", &alone.outcome()),
        row("warm tenant, beside the storm", &beside.outcome()),
        row("the storm's first requests", &stormed.outcome()),
    ])
}

pub(super) async fn run(plan: &Plan) -> anyhow::Result<Vec<Section>> {
    let mut rows = single(plan, "hello (Rust)", &plan.hello, SINGLE).await?;
    if let Some(large) = &plan.large {
        rows.extend(single(plan, "the large component", large, 20).await?);
    }
    rows.extend(storm(plan).await?);
    let bars = rows.iter().filter_map(|row| Some((row.first()?.clone(), row.get(2)?.parse().ok()?))).collect();
    Ok(vec![Section {
        name: "cold",
        title: "First requests".to_owned(),
        how: format!(
            "Compiled code on disk (in the kernel's cache), not in memory; on a connection that is open already; milliseconds. The \
             storm, {STORMS} times: {STORM} tenants with components of their own, a first request each within a second, while a warm tenant \
             has {WARM} requests in that second; alone: as many in the second before."
        ),
        columns: vec!["what", "requests", "p50 ms", "p99 ms", "worst ms", "failed"],
        rows,
        plot: ("p50, ms", bars),
        worse: Vec::new(),
    }])
}
