//! A steady rate for a long time: does anything grow?

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;

use super::Plan;
use crate::load;
use crate::report::{Section, figures};
use crate::servers::Site;

/// Number of readings.
const PARTS: u32 = 10;

/// A metric without labels, from the gateway's Prometheus endpoint.
fn metric(site: &Site, admin: SocketAddr, name: &str) -> anyhow::Result<String> {
    let text = site.operators(admin, "/metrics")?;
    let line = text.lines().find(|line| line.starts_with(name) && line.as_bytes().get(name.len()) == Some(&b' '));
    Ok(line.and_then(|line| line.split(' ').nth(1)).context("no such metric")?.to_owned())
}

pub(super) async fn run(plan: &Plan) -> anyhow::Result<Vec<Section>> {
    let site = plan.site("soak", "")?;
    site.tenant("hello", &plan.hello, "")?;
    site.tenant("kv", &plan.guest("kv")?, "")?;
    site.tenant("echo", &plan.guest("echo")?, "")?;
    let (server, admin) = site.serve("hello.localhost")?;
    let at = |host: &str, path: &str| server.target.at(host, path);
    let targets = [at("hello.localhost", "/"), at("kv.localhost", "/-/get/k"), at("echo.localhost", "/head")];
    let connections = plan.connections.max(targets.len());
    let first = load::open(&targets, connections, 2000.0, Duration::from_secs(5)).await?;
    anyhow::ensure!(first.failed == 0, "{} of the first requests failed", first.failed);
    let rate = 1500.0;
    let (mut rows, mut bars) = (Vec::new(), Vec::new());
    for part in 1..=PARTS {
        let of = load::open(&targets, connections, rate, plan.soak / PARTS).await?;
        // Gauges go down a moment after their connections have ended.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (resident, anonymous) = server.memory()?;
        rows.push(vec![
            part.to_string(),
            of.latencies.len().to_string(),
            of.failed.to_string(),
            figures(of.quantile(0.5)),
            figures(of.quantile(0.99)),
            format!("{:.1}", load::to_f64(resident) / 1024.0),
            format!("{:.1}", load::to_f64(anonymous) / 1024.0),
            server.descriptors()?.to_string(),
            metric(&site, admin, "tollgate_instances")?,
        ]);
        bars.push((format!("part {part}"), load::to_f64(resident) / 1024.0));
    }
    Ok(vec![Section {
        name: "soak",
        title: format!("{} minutes at {rate} requests/s", plan.soak.as_secs() / 60),
        how: "Three tenants: a page, a key read of the embedded store, a head said back; every connection is opened anew for each part."
            .to_owned(),
        columns: vec!["part", "requests", "failed", "p50 ms", "p99 ms", "resident MiB", "anonymous MiB", "descriptors", "instances"],
        rows,
        plot: ("resident MiB", bars),
        worse: Vec::new(),
    }])
}
