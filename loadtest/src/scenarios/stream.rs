//! A gibibyte through a guest and back, and open idle connections: how much memory they take.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::Plan;
use crate::load::{self, Connection, Protocol, Target};
use crate::report::{Section, figures};
use crate::servers::{self, Server};

const BODY_BYTES: usize = 1 << 30;
const IDLE: usize = 10_000;

pub(super) async fn run(plan: &Plan) -> anyhow::Result<Vec<Section>> {
    let limits = "[limits]\nrequest_body = \"2GiB\"\ntime = \"10m\"\nfuel = \"1000G\"\n[quota]\nconnections = 30_000";
    let site = plan.site("stream", "")?;
    site.tenant("echo", &plan.guest("echo")?, limits)?;
    let (server, _admin) = site.serve("echo.localhost")?;
    // Everything is mapped and warm before we measure memory.
    gibibyte(&server, 16 << 20).await?;
    let before = server.memory()?.0;
    let (began, processor) = (Instant::now(), server.processor_time()?);
    let (bytes, most) = gibibyte(&server, BODY_BYTES).await?;
    let took = began.elapsed();
    let busy = server.processor_time()?.saturating_sub(processor).as_secs_f64() / took.as_secs_f64();
    let mib = |kib: u64| load::to_f64(kib) / 1024.0;
    let rate = load::to_f64(bytes as u64) / 1024.0 / 1024.0 / took.as_secs_f64();
    let mut rows = vec![
        vec![
            "a body of 1 GiB in and back out".to_owned(),
            format!("{} MiB/s each way, {:.0} % of the core", figures(rate), busy * 100.0),
        ],
        vec![
            "resident memory before, and at the most meanwhile".to_owned(),
            format!("{:.1} MiB, {:.1} MiB", mib(before), mib(most)),
        ],
    ];
    let bare = servers::bare(None)?;
    let mut bars = Vec::new();
    for server in [&bare, &server] {
        let each = idle(server).await?;
        rows.push(vec![
            format!("{IDLE} idle keep-alive TLS connections, {}", server.name),
            format!("{each:.1} KiB a connection"),
        ]);
        bars.push((server.name.clone(), each));
    }
    Ok(vec![Section {
        name: "stream",
        title: "A large body, and idle connections".to_owned(),
        how: "The body goes through the guest `echo` (wasi:http 0.2) and back at once, over HTTP/1.1 and TLS. Idle connections have \
              had one request each."
            .to_owned(),
        columns: vec!["what", "figure"],
        rows,
        plot: ("KiB an idle connection", bars),
        worse: Vec::new(),
    }])
}

/// Bytes that came back, and the maximum of resident memory meanwhile, in KiB.
async fn gibibyte(server: &Server, bytes: usize) -> anyhow::Result<(usize, u64)> {
    let target = server.target.clone();
    let connector = load::connector(Protocol::Http1, false)?;
    let stream = load::tls(&target, &connector).await?;
    let (mut from, mut to) = tokio::io::split(stream);
    let host = target.host.clone();
    let sending = tokio::spawn(async move {
        let head = format!("POST / HTTP/1.1\r\nhost: {host}\r\ncontent-length: {bytes}\r\nconnection: close\r\n\r\n");
        to.write_all(head.as_bytes()).await?;
        let piece = vec![b'x'; 64 << 10];
        for _ in 0..bytes / piece.len() {
            to.write_all(&piece).await?;
        }
        to.flush().await?;
        anyhow::Ok(to)
    });
    let (mut received, mut most) = (0, 0);
    let mut buffer = vec![0; 256 << 10];
    let mut looked = Instant::now();
    let mut tail = Vec::new();
    loop {
        let read =
            tokio::time::timeout(Duration::from_secs(30), from.read(&mut buffer)).await.context("it stopped")??;
        let read = buffer.get(..read).unwrap_or_default();
        received += read.len();
        // The last chunk and its end (RFC 9112 §7.1).
        tail.extend_from_slice(read.get(read.len().saturating_sub(7)..).unwrap_or_default());
        tail.drain(..tail.len().saturating_sub(7));
        if looked.elapsed() > Duration::from_millis(100) {
            looked = Instant::now();
            most = most.max(server.memory()?.0);
        }
        if read.is_empty() || tail == b"\r\n0\r\n\r\n" {
            break;
        }
    }
    let _to = sending.await??;
    anyhow::ensure!(received >= bytes, "{received} bytes came back of {bytes}");
    Ok((received.min(bytes), most.max(server.memory()?.0)))
}

/// KiB of resident memory per connection.
async fn idle(server: &Server) -> anyhow::Result<f64> {
    let target =
        if server.name == "Tollgate" { server.target.at("echo.localhost", "/head") } else { server.target.clone() };
    let target = Target { protocol: Protocol::Http1, ..target };
    let connector = load::connector(Protocol::Http1, false)?;
    let mut open = Vec::new();
    let ask = async |connection: &mut Connection| {
        anyhow::ensure!(connection.ask().await? == 200, "another status than 200");
        Ok(())
    };
    for _ in 0..100 {
        let mut connection = Connection::open(&target, &connector).await?;
        ask(&mut connection).await?;
        open.push(connection);
    }
    let before = server.memory()?.0;
    for _ in 0..IDLE {
        let mut connection = Connection::open(&target, &connector).await?;
        ask(&mut connection).await?;
        open.push(connection);
    }
    let after = server.memory()?.0;
    Ok(load::to_f64(after.saturating_sub(before)) / load::to_f64(IDLE as u64))
}
