//! A guest that asks an origin once for each request that it answers: TLS on both sides, and an origin that keeps connections.

use std::path::Path;
use std::time::Duration;

use super::{Plan, in_turn, measured};
use crate::load::{self, Protocol, Target};
use crate::report::{Section, figures};
use crate::servers::{self, Server, Site};

/// Enough that no request waits for a place.
const QUOTA: &str = "[defaults.quota]\nin_flight = 1000\nwaiting = 1000\noutbound_in_flight = 1000";

struct Measured {
    name: String,
    server: Server,
    target: Target,
}

fn gateway(plan: &Plan, name: String, program: &Path, origin: &Server, cert: &Path) -> anyhow::Result<Measured> {
    let more = format!("[egress]\nca = \"{}\"\n{QUOTA}", cert.display());
    let site = Site::new(&plan.dir.path().join(name.replace([',', ' ', '/', '.'], "-")), program, &more)?;
    let address = origin.target.address;
    let grant = format!("[egress]\nallow = [\"https://{address}\"]");
    site.tenant("out", &plan.guest("outbound")?, &grant)?;
    let (server, _admin) = site.serve("out.localhost")?;
    let target = server.target.at("out.localhost", &format!("/get/https/{address}/"));
    Ok(Measured { name, server, target })
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
    for gateway in &gateways {
        load::closed(&gateway.target, plan.connections, Duration::from_secs(1)).await?;
    }
    let found = in_turn(plan.rounds, &gateways, async |gateway| {
        measured(&gateway.server, load::closed(&gateway.target, plan.connections, plan.time)).await
    })
    .await?;
    let first = found.first().map_or(0.0, |first| first.per_second);
    let (mut rows, mut bars) = (Vec::new(), Vec::new());
    for (gateway, of) in gateways.iter().zip(found) {
        rows.push(vec![
            gateway.name.clone(),
            figures(of.per_second),
            format!("{:.2}", of.per_second / first),
            figures(of.p50),
            figures(of.p99),
            figures(of.cost),
            format!("{:.0} %", of.busy * 100.0),
            of.failed.to_string(),
            of.spread,
        ]);
        bars.push((gateway.name.clone(), of.per_second));
    }
    Ok(vec![Section {
        name: "outbound",
        title: format!("One request to an origin a request, {} connections", plan.connections),
        how: format!(
            "{} rounds of {} s each, in turn; medians. A guest of wasi:http 0.2 that sends a GET over TLS to an origin (hyper + rustls, on \
             the load's core) and answers with what came; before: the build that --before names.",
            plan.rounds,
            plan.time.as_secs()
        ),
        columns: vec![
            "gateway, origin",
            "requests/s",
            "of the first",
            "p50 ms",
            "p99 ms",
            "core µs a request",
            "core",
            "failed",
            "rounds",
        ],
        rows,
        plot: ("requests/s", bars),
        worse: Vec::new(),
    }])
}
