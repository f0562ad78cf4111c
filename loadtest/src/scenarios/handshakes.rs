//! TLS handshakes only, full and resumed.

use std::time::Duration;

use super::{Plan, in_turn, measured};
use crate::load;
use crate::report::{Section, figures};
use crate::servers;

pub(super) async fn run(plan: &Plan) -> anyhow::Result<Vec<Section>> {
    let site = plan.site("handshakes", "")?;
    site.tenant("hello", &plan.hello, "")?;
    let servers = [servers::bare(None)?, site.serve("hello.localhost")?.0];
    let (mut rows, mut bars) = (Vec::new(), Vec::new());
    for (kind, resumes) in [("full", false), ("resumed", true)] {
        for server in &servers {
            load::handshakes(&server.target, resumes, plan.connections, Duration::from_secs(1)).await?;
        }
        let found = in_turn(plan.rounds, &servers, async |server| {
            measured(server, load::handshakes(&server.target, resumes, plan.connections, plan.time)).await
        })
        .await?;
        let bare = &found[0];
        for (server, of) in servers.iter().zip(&found) {
            rows.push(vec![
                format!("{}, {kind}", server.name),
                figures(of.per_second),
                format!("{:.3}", of.per_second / bare.per_second),
                figures(of.p99),
                figures(of.cost),
                format!("{:.3}", bare.cost / of.cost),
                format!("{:.0} %", of.busy * 100.0),
                of.failed.to_string(),
                of.spread.clone(),
            ]);
            bars.push((format!("{}, {kind}", server.name), of.per_second));
        }
    }
    Ok(vec![Section {
        name: "handshakes",
        title: format!("TLS 1.3 handshakes, {} clients at once", plan.connections),
        how: "Connect, shake hands, take the session's ticket, close. A client's side costs as much as a server's: where the \
              core is not all taken, the load was the limit, and the core's time says more."
            .to_owned(),
        columns: vec![
            "server",
            "handshakes/s",
            "of bare",
            "p99 ms",
            "core µs each",
            "bare's core time ÷ own",
            "core",
            "failed",
            "rounds",
        ],
        rows,
        plot: ("handshakes/s", bars),
        worse: Vec::new(),
    }])
}
