//! The typical work of a gateway, for a build that records which code runs (`make pgo`): nothing is measured.

use super::Plan;
use crate::load::{self, Protocol, Target};

/// Tenants, their guests, and the path of their requests.
const TENANTS: [(&str, &str, &str); 4] = [
    ("hello", "hello-site", "/"),
    ("plain-hello", "plain-hello", "/"),
    ("async-hello", "async-hello", "/"),
    ("kv", "kv", "/-/get/k"),
];

pub(super) async fn run(plan: &Plan) -> anyhow::Result<()> {
    let site = plan.site("training", "")?;
    for (tenant, guest, _) in TENANTS {
        site.tenant(tenant, &plan.guest(guest)?, "")?;
    }
    site.tenant("reused", &plan.guest("async-hello")?, "component.reuse = 10_000")?;
    let (server, _admin) = site.serve("hello.localhost")?;
    let targets = TENANTS.iter().map(|(tenant, _, path)| (*tenant, *path)).chain([("reused", "/")]);
    for (tenant, path) in targets {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let target = Target { protocol, ..server.target.at(&format!("{tenant}.localhost"), path) };
            let run = load::closed(&target, plan.connections, plan.time).await?;
            anyhow::ensure!(run.failed == 0, "{tenant}: {} requests failed", run.failed);
        }
    }
    for resumes in [false, true] {
        load::handshakes(&server.target, resumes, plan.connections, plan.time).await?;
    }
    server.end()
}
