//! The cost of a component of several parts beside the same code compiled into one component: a library's function that
//! each request calls once, and a layer of middleware that passes the request on. Beside that, the whole cost of the
//! middleware, with its own work. Same gateway, same path, one connection, in turn.

use std::path::Path;
use std::time::Duration;

use super::{Plan, in_turn, measured};
use crate::load;
use crate::report::{Section, figures};

/// How much slower a call of a dependency may be at the median than the same code in one component, in microseconds.
/// Middleware has no bound: it is one more instance, and a task if its calls are async.
const MORE_MAX_US: f64 = 20.0;

pub(super) async fn run(plan: &Plan) -> anyhow::Result<Vec<Section>> {
    let site = plan.site("composed", "")?;
    let quoted = |path: &Path| format!("{:?}", path.display().to_string());
    let library = format!("dependencies = {{ \"acme:lib\" = {{ path = {} }} }}", quoted(&plan.guest("compose-lib")?));
    let around = |name: &str| anyhow::Ok(format!("middleware = [{{ path = {} }}]", quoted(&plan.guest(name)?)));
    let tenants = [
        ("whole", "compose-whole", String::new()),
        ("parts", "compose-app", library),
        ("two", "plain-hello", String::new()),
        ("two-gated", "plain-hello", around("compose-gate-2")?),
        ("whole-three", "compose-whole-3", String::new()),
        ("three-gated", "async-hello", around("compose-gate")?),
        ("three", "async-hello", String::new()),
    ];
    for (id, guest, key) in &tenants {
        site.tenant(id, &plan.guest(guest)?, &format!("component.redis = [\"redis://localhost:6379\"]\n{key}"))?;
    }
    let (server, _admin) = site.serve("whole.localhost")?;
    let targets: Vec<_> =
        tenants.iter().map(|(id, ..)| server.target.at(&format!("{id}.localhost"), "/lib/nothing")).collect();
    for target in &targets {
        load::closed(target, 1, Duration::from_secs(1)).await?;
    }
    let found =
        in_turn(plan.rounds, &targets, async |target| measured(&server, load::closed(target, 1, plan.time)).await)
            .await?;
    let (mut rows, mut bars, mut worse) = (Vec::new(), Vec::new(), Vec::new());
    let [whole, parts, two, two_gated, whole_three, three_gated, three] = found.as_slice() else {
        return Ok(Vec::new());
    };
    let pairs = [
        ("a library that is called once", whole, parts, true),
        ("middleware of wasi:http 0.2, to the page alone", two, two_gated, false),
        ("middleware of wasi:http 0.3", whole_three, three_gated, false),
        ("the same, to the page alone", three, three_gated, false),
    ];
    for (name, without, with, is_bounded) in pairs {
        let more = (with.p50 - without.p50) * 1000.0;
        rows.push(vec![
            name.to_owned(),
            format!("{:.3}", without.p50),
            format!("{:.3}", with.p50),
            format!("{more:+.0}"),
            format!("{:+.0}", with.cost - without.cost),
            (without.failed + with.failed).to_string(),
            format!("{} | {}", without.spread, with.spread),
        ]);
        bars.push((name.to_owned(), more));
        if is_bounded && more > MORE_MAX_US {
            worse.push(format!("{name}: {} µs more at the median, over {MORE_MAX_US}", figures(more)));
        }
    }
    Ok(vec![Section {
        name: "composed",
        title: "Parts of one component".to_owned(),
        how: "The same request of one connection, one after the other: to a component that has its library compiled in and one that is \
              composed with it; to a page with a layer of middleware that hands the request on, compiled in and composed. To the page \
              alone is with all that the middleware itself does. A new instance each."
            .to_owned(),
        columns: vec!["what", "without, p50 ms", "with, p50 ms", "more, µs", "more of a core, µs", "failed", "rounds"],
        rows,
        plot: ("µs more, p50", bars),
        worse,
    }])
}
