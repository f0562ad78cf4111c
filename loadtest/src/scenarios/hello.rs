//! One page under load: Tollgate, the limit of its stack, and its peers.

use std::rc::Rc;
use std::time::Duration;

use super::{Plan, Run, Summary, in_turn, measured};
use crate::load::{self, Outcome, Protocol, Target};
use crate::report::{Section, figures};
use crate::servers::{self, Server};

struct Peer {
    name: String,
    target: Target,
    /// The component that it runs, to compare peers that run the same one.
    component: &'static str,
    /// None if somebody else started it.
    server: Option<Rc<Server>>,
}

impl Peer {
    fn of(server: Server) -> Self {
        let (name, target) = (server.name.clone(), server.target.clone());
        Self { name, target, component: "", server: Some(Rc::new(server)) }
    }

    async fn run(&self, load: impl Future<Output = anyhow::Result<Outcome>>) -> anyhow::Result<Run> {
        match &self.server {
            Some(server) => measured(server, load).await,
            None => Ok(Run { outcome: load.await?, processor: Duration::ZERO }),
        }
    }
}

/// The page with a Rust framework (wstd), the page with only the bindings of wasi:http 0.2, and one line with wasi:http
/// 0.3.
const COMPONENTS: [&str; 3] = ["hello", "plain-hello", "async-hello"];

fn peers(plan: &Plan) -> anyhow::Result<Vec<Peer>> {
    let dir = plan.dir.path();
    let path = |component: &str| if component == "hello" { Ok(plan.hello.clone()) } else { plan.guest(component) };
    let site = plan.site("hello", "")?;
    for component in COMPONENTS {
        site.tenant(component, &path(component)?, "")?;
    }
    site.tenant("reused", &plan.guest("async-hello")?, "component.reuse = 10_000")?;
    let mut peers = vec![Peer::of(servers::bare(None)?)];
    let gateway = Rc::new(site.serve("hello.localhost")?.0);
    let tenants = COMPONENTS.map(|component| (component, component)).into_iter().chain([("reused", "async-hello")]);
    for (tenant, component) in tenants {
        let target = gateway.target.at(&format!("{tenant}.localhost"), "/");
        let name =
            if tenant == component { format!("Tollgate, {tenant}") } else { format!("Tollgate, {component}, reused") };
        peers.push(Peer { name, target, component, server: Some(Rc::clone(&gateway)) });
    }
    for component in COMPONENTS {
        match servers::wasmtime(&plan.wasmtime, &path(component)?) {
            Ok(server) => {
                peers.push(Peer { name: format!("wasmtime serve, {component}"), component, ..Peer::of(server) })
            }
            Err(error) => eprintln!("not measured: {error:#}"),
        }
    }
    for other in [servers::nginx(dir), servers::workerd(&plan.workerd, dir)] {
        match other {
            Ok(server) => peers.push(Peer::of(server)),
            Err(error) => eprintln!("not measured: {error:#}"),
        }
    }
    for said in &plan.peers {
        let (name, target) = servers::elsewhere(said)?;
        peers.push(Peer { name, target, component: "", server: None });
    }
    Ok(peers)
}

pub(super) async fn run(plan: &Plan) -> anyhow::Result<Vec<Section>> {
    let peers = peers(plan)?;
    let mut sections = Vec::new();
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut fit = Vec::new();
        // Without TLS there is no ALPN, and so no HTTP/2.
        for peer in peers.iter().filter(|peer| protocol == Protocol::Http1 || peer.target.is_tls) {
            let target = Target { protocol, ..peer.target.clone() };
            match load::closed(&target, plan.connections, Duration::from_secs(1)).await {
                Ok(warm) if !warm.latencies.is_empty() => fit.push((peer, target)),
                Ok(_) => eprintln!("not measured: {} answers nothing with 200 over {}", peer.name, protocol.name()),
                Err(error) => eprintln!("not measured: {} over {}: {error:#}", peer.name, protocol.name()),
            }
        }
        let full = in_turn(plan.rounds, &fit, async |(peer, target)| {
            peer.run(load::closed(target, plan.connections, plan.time)).await
        })
        .await?;
        let halves: Vec<_> = fit.iter().zip(full.iter().map(|full| full.per_second / 2.0)).collect();
        let half = in_turn(plan.rounds, &halves, async |((peer, target), rate)| {
            let at_half = |time| load::open(std::slice::from_ref(target), plan.connections, *rate, time);
            // The server has slept while the others had their turns, and its pages may have to be loaded again.
            at_half(Duration::from_secs(1)).await?;
            peer.run(at_half(plan.time)).await
        })
        .await?;
        let peers: Vec<&Peer> = fit.into_iter().map(|(peer, _)| peer).collect();
        sections.push(section(plan, protocol, &peers, (&full, &half)));
    }
    Ok(sections)
}

fn section(plan: &Plan, protocol: Protocol, peers: &[&Peer], (full, half): (&[Summary], &[Summary])) -> Section {
    let of = |name: &str| peers.iter().position(|peer| peer.name == name).and_then(|at| Some(full.get(at)?.per_second));
    let bare = peers.first().and_then(|bare| of(&bare.name));
    let ratio = |to: Option<f64>, rate: f64| to.map_or_else(|| "–".to_owned(), |to| format!("{:.3}", rate / to));
    let mut rows = Vec::new();
    for ((peer, full), half) in peers.iter().zip(full).zip(half) {
        rows.push(vec![
            peer.name.clone(),
            figures(full.per_second),
            ratio(bare, full.per_second),
            ratio(of(&format!("wasmtime serve, {}", peer.component)), full.per_second),
            figures(full.p50),
            figures(full.p99),
            figures(half.p50),
            figures(half.p99),
            figures(full.cost),
            format!("{:.0} %", full.busy * 100.0),
            (full.failed + half.failed).to_string(),
            full.spread.clone(),
        ]);
    }
    let name = if protocol == Protocol::Http1 { "hello-h1" } else { "hello-h2" };
    Section {
        name,
        title: format!("hello, {}, {} connections", protocol.name(), plan.connections),
        how: format!(
            "{} rounds of {} s each, in turn; medians. hello: Rust with wstd, wasi:http 0.2; plain-hello: the same page with the bindings \
             of wasi:http alone; async-hello: a line, wasi:http 0.3. Tollgate with fuel, fair turns, the ledger, metrics and the access log (to a \
             file), a new instance for each request where it does not say reused. Without TLS: wasmtime serve and workerd, which are spared that. Half: the \
             same connections at half of that rate, in as many rounds, from when a request was due.",
            plan.rounds,
            plan.time.as_secs()
        ),
        columns: vec![
            "server",
            "requests/s",
            "of bare",
            "of wasmtime serve",
            "p50 ms",
            "p99 ms",
            "half: p50",
            "half: p99",
            "core µs a request",
            "core",
            "failed",
            "rounds",
        ],
        rows,
        plot: ("requests/s", peers.iter().zip(full).map(|(peer, full)| (peer.name.clone(), full.per_second)).collect()),
        worse: Vec::new(),
    }
}
