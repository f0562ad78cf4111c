//! A guest that sends one or four requests to an origin, one after the other, for each request that it answers: TLS on both
//! sides, and an origin that keeps its connections open.

use std::path::Path;
use std::time::Duration;

use super::{Plan, Summary, in_turn, measured};
use crate::load::{self, Protocol, Target};
use crate::report::{Section, figures};
use crate::servers::{self, Server, Site};

/// Large enough that no request waits for a permit.
const QUOTA: &str = "[defaults.quota]\nin_flight = 1000\nwaiting = 1000\noutbound_in_flight = 1000";

/// How often the guest asks the origin, and the part of the path that makes it do so.
const TIMES: [(u32, &str); 2] = [(1, "get"), (4, "get-4")];

struct Measured {
    name: String,
    server: Server,
    /// One target for each of [`TIMES`].
    targets: [Target; 2],
}

fn gateway(plan: &Plan, name: String, program: &Path, origin: &Server, cert: &Path) -> anyhow::Result<Measured> {
    let more = format!("[egress]\nca = \"{}\"\n{QUOTA}", cert.display());
    let site = Site::new(&plan.dir.path().join(name.replace([',', ' ', '/', '.'], "-")), program, &more)?;
    let address = origin.target.address;
    let grant = format!("[egress]\nallow = [\"https://{address}\"]");
    site.tenant("out", &plan.guest("outbound")?, &grant)?;
    let (server, _admin) = site.serve("out.localhost")?;
    let targets = TIMES.map(|(_, way)| server.target.at("out.localhost", &format!("/{way}/https/{address}/")));
    Ok(Measured { name, server, targets })
}

fn row(name: &str, times: f64, of: &Summary, first: f64) -> Vec<String> {
    vec![
        name.to_owned(),
        times.to_string(),
        figures(of.per_second * times),
        format!("{:.2}", of.per_second / first),
        figures(of.p50),
        figures(of.p99),
        figures(of.cost / times),
        format!("{:.0} %", of.busy * 100.0),
        of.failed.to_string(),
        of.spread.clone(),
    ]
}

pub(super) async fn run(plan: &Plan) -> anyhow::Result<Vec<Section>> {
    let (mut origins, mut gateways) = (Vec::new(), Vec::new());
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let cert = plan.dir.path().join(format!("origin-{}.pem", origins.len()));
        let origin = servers::origin(&cert, protocol)?;
        let builds = [("before", plan.before.as_ref()), ("Tollgate", Some(&plan.tollgate))];
        for (build, program) in builds.into_iter().filter_map(|(build, program)| Some((build, program?))) {
            let name = format!("{build}, origin of {}", protocol.name());
            gateways.push(gateway(plan, name, program, &origin, &cert)?);
        }
        origins.push(origin);
    }
    let (mut rows, mut bars) = (Vec::new(), Vec::new());
    for (at, (times, _)) in TIMES.iter().enumerate() {
        let targets: Vec<(&Measured, &Target)> =
            gateways.iter().filter_map(|gateway| Some((gateway, gateway.targets.get(at)?))).collect();
        for (_, target) in &targets {
            load::closed(target, plan.connections, Duration::from_secs(1)).await?;
        }
        let found = in_turn(plan.rounds, &targets, async |(gateway, target)| {
            measured(&gateway.server, load::closed(target, plan.connections, plan.time)).await
        })
        .await?;
        // The first gateway of each origin is the earlier build, if one is given.
        let builds = if plan.before.is_some() { 2 } else { 1 };
        let times = f64::from(*times);
        for (of_origin, gateways) in found.chunks(builds).zip(targets.chunks(builds)) {
            let first = of_origin.first().map_or(0.0, |first| first.per_second);
            for (of, (gateway, _)) in of_origin.iter().zip(gateways) {
                rows.push(row(&gateway.name, times, of, first));
                bars.push((format!("{}, {times} a request", gateway.name), of.per_second * times));
            }
        }
    }
    Ok(vec![Section {
        name: "outbound",
        title: format!("Requests to an origin, {} connections", plan.connections),
        how: format!(
            "{} rounds of {} s each, in turn; medians. A guest of wasi:http 0.2 that sends a GET over TLS to an origin (hyper + rustls, on \
             the load's core), once or four times, one after the other, and answers with what came; before: the build that --before \
             names.",
            plan.rounds,
            plan.time.as_secs()
        ),
        columns: vec![
            "gateway, origin",
            "outbound a request",
            "outbound requests/s",
            "of before",
            "p50 ms",
            "p99 ms",
            "core µs an outbound request",
            "core",
            "failed",
            "rounds",
        ],
        rows,
        plot: ("outbound requests/s", bars),
        worse: Vec::new(),
    }])
}
