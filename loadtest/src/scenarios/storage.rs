//! A request that reads one key, through a guest and through a bare program of hyper, rustls and redis.

use std::time::Duration;

use super::{Plan, in_turn, measured};
use crate::load;
use crate::report::{Section, figures};
use crate::servers;

const VALUE_BYTES: usize = 100;

pub(super) async fn run(plan: &Plan) -> anyhow::Result<Vec<Section>> {
    let redis = match servers::redis(plan.dir.path()) {
        Ok(redis) => redis,
        Err(error) => {
            eprintln!("not measured: {error:#}");
            return Ok(Vec::new());
        }
    };
    let url = format!("redis://{}", redis.target.address);
    let storage = format!(
        "[storage]\nbackend = \"redis\"\nurl = \"{url}\"\ntimeout = \"5s\"\n[defaults.quota]\nin_flight = 1000\nwaiting = 1000"
    );
    let site = plan.site("storage", &storage)?;
    site.tenant("kv", &plan.guest("kv")?, "")?;
    let bare = servers::bare(Some(&url))?;
    let (gateway, _admin) = site.serve("kv.localhost")?;
    let targets = [(&bare, bare.target.clone()), (&gateway, gateway.target.at("kv.localhost", "/-/get/k"))];
    let value = "x".repeat(VALUE_BYTES);
    load::post(&bare.target, &value).await?;
    load::post(&gateway.target.at("kv.localhost", "/-/set/k"), &value).await?;
    let (mut rows, mut bars) = (Vec::new(), Vec::new());
    for connections in [1, 32, 256] {
        for (_, target) in &targets {
            load::closed(target, connections, Duration::from_secs(1)).await?;
        }
        let found = in_turn(plan.rounds, &targets, async |(server, target)| {
            measured(server, load::closed(target, connections, plan.time)).await
        })
        .await?;
        let limit = found[0].per_second;
        for ((server, _), of) in targets.iter().zip(found) {
            let name = format!("{}, {connections} connections", server.name);
            rows.push(vec![
                name.clone(),
                figures(of.per_second),
                format!("{:.3}", of.per_second / limit),
                figures(of.p50),
                figures(of.p99),
                figures(of.cost),
                of.failed.to_string(),
                of.spread,
            ]);
            bars.push((name, of.per_second));
        }
    }
    Ok(vec![Section {
        name: "storage",
        title: "One key read a request".to_owned(),
        how: format!(
            "A guest that does one `get` of wasi:keyvalue, of {VALUE_BYTES} bytes, a new instance each, beside HGET by a bare hyper + \
             rustls + redis program; one redis-server for both, on the load's core, which the load never leaves idle."
        ),
        columns: vec!["server", "requests/s", "of bare", "p50 ms", "p99 ms", "core µs a request", "failed", "rounds"],
        rows,
        plot: ("requests/s", bars),
        worse: Vec::new(),
    }])
}
