//! Many tenants on one machine, each with its own component, most of them asleep.

use std::time::Instant;

use tokio::task::JoinSet;

use super::{Plan, variants};
use crate::load::{self, Connection, Notes, Outcome, Protocol};
use crate::report::{Section, figures};

/// Concurrent requests of the walk.
const AT_ONCE: usize = 4;

/// Resident memory of a gateway that serves one tenant, in KiB.
fn alone(plan: &Plan) -> anyhow::Result<u64> {
    let site = plan.site("alone", "")?;
    site.tenant("t0", &plan.hello, "")?;
    // Another process compiles the component, not the one that is measured.
    drop(site.serve("t0.localhost")?);
    Ok(site.serve("t0.localhost")?.0.memory()?.0)
}

pub(super) async fn run(plan: &Plan) -> anyhow::Result<Vec<Section>> {
    let alone = alone(plan)?;
    let site = plan.site("density", "")?;
    let hosts = variants::tenants(&site, &plan.hello, plan.tenants)?;
    let began = Instant::now();
    let (server, _admin) = site.serve("t0.localhost")?;
    let start = began.elapsed();
    let asleep = server.memory()?;
    let few = hosts.len().min(1000);
    walk(&server.target, &hosts[..few]).await?;
    let awake = server.memory()?;
    let first = walk(&server.target, &hosts).await?;
    let second = walk(&server.target, &hosts).await?;
    let all = server.memory()?;
    let mib = |kib: u64| format!("{:.0} MiB", load::to_f64(kib) / 1024.0);
    let a_tenant = |kib: u64, of: usize| format!("{:.1} KiB", load::to_f64(kib) / load::to_f64(of as u64));
    let row = |what: &str, figure: String| vec![what.to_owned(), figure];
    let quantiles = |of: &Outcome| {
        format!(
            "p50 {} ms, p99 {} ms, worst {} ms, {} failed",
            figures(of.quantile(0.5)),
            figures(of.quantile(0.99)),
            figures(of.quantile(1.0)),
            of.failed
        )
    };
    let rows = vec![
        row("tenants, each with a component of its own", hosts.len().to_string()),
        row("from start to listening", format!("{:.1} s", start.as_secs_f64())),
        row("resident memory, all asleep (with one tenant)", format!("{} ({})", mib(asleep.0), mib(alone))),
        row("more for each tenant", a_tenant(asleep.0.saturating_sub(alone), hosts.len())),
        row("more for each of 1,000 that are awake", a_tenant(awake.0.saturating_sub(asleep.0), few)),
        row(
            "of that anonymous (the rest is code that the kernel may drop)",
            a_tenant(awake.1.saturating_sub(asleep.1), few),
        ),
        row("a walk over all, first", quantiles(&first)),
        row("once more", quantiles(&second)),
        row("resident memory then", mib(all.0)),
        row("of that anonymous", mib(all.1)),
    ];
    let kib = |kib: u64| load::to_f64(kib) / 1024.0;
    Ok(vec![Section {
        name: "density",
        title: format!("{} tenants on one gateway", hosts.len()),
        how: format!(
            "hello's component, another digest and other files for each. The walk asks each tenant once, {AT_ONCE} at a time, each \
             on a connection of its own that is open already. `sandbox.cache` as it is by default, 2 GiB."
        ),
        columns: vec!["what", "figure"],
        rows,
        plot: (
            "resident MiB",
            vec![
                ("Tollgate, all asleep".to_owned(), kib(asleep.0)),
                ("Tollgate, 1,000 awake".to_owned(), kib(awake.0)),
                ("Tollgate, after all were asked".to_owned(), kib(all.0)),
            ],
        ),
        worse: Vec::new(),
    }])
}

/// Requests each of `hosts` once, in an order unrelated to the order of the start.
async fn walk(target: &load::Target, hosts: &[String]) -> anyhow::Result<Outcome> {
    let notes = Notes::begin()?;
    let mut walkers = JoinSet::new();
    for walker in 0..AT_ONCE {
        let own: Vec<_> = hosts.iter().skip(walker).step_by(AT_ONCE).map(|host| target.at(host, "/")).rev().collect();
        let connector = load::connector(Protocol::Http1, false)?;
        let notes = notes.clone();
        walkers.spawn(async move {
            for target in own {
                let mut connection = Connection::open(&target, &connector).await?;
                let asked = Instant::now();
                match connection.ask().await {
                    Ok(200) => notes.answered(asked)?,
                    _ => notes.failed(),
                }
            }
            Ok(())
        });
    }
    notes.after(walkers).await
}
