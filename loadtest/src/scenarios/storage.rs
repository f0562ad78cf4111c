//! A request that reads one key, through a guest and through a bare hyper, rustls and redis program.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use super::{Plan, Run, measured, summary};
use crate::load;
use crate::report::{Section, figures};
use crate::servers;

const VALUE_BYTES: usize = 100;

/// redis-server, on the cores that the load has.
struct Redis(Child);

impl Drop for Redis {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn redis(plan: &Plan) -> anyhow::Result<(Redis, String)> {
    let address = SocketAddr::from(([127, 0, 0, 1], servers::free_port()?));
    let child = servers::ending_with_us(Path::new("redis-server"))
        .args(["--save", "", "--bind", "127.0.0.1", "--port", &address.port().to_string(), "--dir"])
        .arg(plan.dir.path())
        .stdout(Stdio::null())
        .spawn()?;
    let mut redis = Redis(child);
    for _ in 0..500 {
        if std::net::TcpStream::connect(address).is_ok() {
            return Ok((redis, format!("redis://{address}")));
        }
        if let Some(status) = redis.0.try_wait()? {
            anyhow::bail!("redis-server ended with {status}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    anyhow::bail!("redis-server does not answer")
}

pub(super) async fn run(plan: &Plan) -> anyhow::Result<Vec<Section>> {
    let (_redis, url) = match redis(plan) {
        Ok(redis) => redis,
        Err(error) => {
            eprintln!("not measured: {error:#}");
            return Ok(Vec::new());
        }
    };
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
        let mut runs: [Vec<Run>; 2] = [Vec::new(), Vec::new()];
        for (_, target) in &targets {
            load::closed(target, connections, Duration::from_secs(1)).await?;
        }
        for _ in 0..plan.rounds {
            for ((server, target), runs) in targets.iter().zip(&mut runs) {
                runs.push(measured(server, load::closed(target, connections, plan.time)).await?);
            }
        }
        let limit = summary(&runs[0]);
        for ((server, _), runs) in targets.iter().zip(&runs) {
            let of = summary(runs);
            let name = format!("{}, {connections} connections", server.name);
            rows.push(vec![
                name.clone(),
                figures(of.per_second),
                format!("{:.3}", of.per_second / limit.per_second),
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
