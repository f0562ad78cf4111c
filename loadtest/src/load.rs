//! The load: connections that send one request after the other (a closed loop) or at a rate (an open loop), and handshakes.
//!
//! One thread sends it, on the cores that the servers do not use.

mod connection;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use tokio::io::{AsyncRead as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio_rustls::{TlsConnector, rustls};

use self::connection::PATIENCE;
pub(crate) use self::connection::{Connection, Protocol, Target, connector, post, tls};

/// The result of a run. Latencies are in microseconds.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) took: Duration,
    pub(crate) latencies: Histogram<u64>,
    /// Answers with a status other than 200, requests without an answer, and requests that could not be sent.
    pub(crate) failed: u64,
}

impl Outcome {
    pub(crate) fn per_second(&self) -> f64 {
        to_f64(self.latencies.len()) / self.took.as_secs_f64()
    }

    /// In milliseconds.
    pub(crate) fn quantile(&self, quantile: f64) -> f64 {
        to_f64(self.latencies.value_at_quantile(quantile)) / 1000.0
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^53")]
pub(crate) const fn to_f64(count: u64) -> f64 {
    count as f64
}

/// What the clients of one run record together. A histogram for each of a thousand clients takes 200 MB, and creating and
/// adding them up stalls the load.
#[derive(Clone)]
pub(crate) struct Notes {
    began: Instant,
    found: Arc<Mutex<(Histogram<u64>, u64)>>,
}

impl Notes {
    pub(crate) fn begin() -> anyhow::Result<Self> {
        Ok(Self { found: Arc::new(Mutex::new((histogram()?, 0))), began: Instant::now() })
    }

    fn found(&self) -> MutexGuard<'_, (Histogram<u64>, u64)> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the latency of a request that was sent (or due) at `asked` and is answered now.
    pub(crate) fn answered(&self, asked: Instant) -> anyhow::Result<()> {
        Ok(self.found().0.record(micros(asked.elapsed()))?)
    }

    pub(crate) fn failed(&self) {
        self.found().1 += 1;
    }

    /// Adds another run's result.
    pub(crate) fn add(&self, other: &Outcome) -> anyhow::Result<()> {
        let mut found = self.found();
        found.0.add(&other.latencies)?;
        found.1 += other.failed;
        Ok(())
    }

    /// The result so far.
    pub(crate) fn outcome(&self) -> Outcome {
        let took = self.began.elapsed();
        let (latencies, failed) = self.found().clone();
        Outcome { took, latencies, failed }
    }

    /// The result once all clients have ended.
    pub(crate) async fn after(&self, mut clients: JoinSet<anyhow::Result<()>>) -> anyhow::Result<Outcome> {
        while let Some(client) = clients.join_next().await {
            client??;
        }
        Ok(self.outcome())
    }
}

pub(crate) fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000, 3)?)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1)
}

/// Keeps this thread from sleeping, until it is dropped. The server's write would have to wake a sleeping thread, which
/// costs the server 15 µs on a virtual machine; on a network, a network card takes the data instead.
struct Awake(tokio::task::AbortHandle);

impl Awake {
    fn stay() -> Self {
        let spins = tokio::spawn(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
        Self(spins.abort_handle())
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A closed loop: each connection sends its next request as soon as the last is answered, for `time`.
pub(crate) async fn closed(target: &Target, connections: usize, time: Duration) -> anyhow::Result<Outcome> {
    let opened = Opened::of(std::slice::from_ref(target), connections).await?;
    let _awake = Awake::stay();
    let notes = Notes::begin()?;
    let until = notes.began + time;
    let mut clients = JoinSet::new();
    for mut client in opened.0 {
        let notes = notes.clone();
        clients.spawn(async move {
            while Instant::now() < until {
                let asked = Instant::now();
                if !client.ask(&notes, asked).await? {
                    break;
                }
            }
            Ok(())
        });
    }
    notes.after(clients).await
}

/// Connections that are open before the first request is sent.
pub(crate) struct Opened(Vec<Client>);

/// A connection, and what is needed to open another like it.
struct Client {
    connection: Connection,
    target: Target,
    connector: TlsConnector,
}

impl Client {
    /// Sends a request. Returns whether the client can go on: a connection that fails is replaced if another can be opened.
    async fn ask(&mut self, notes: &Notes, asked: Instant) -> anyhow::Result<bool> {
        match self.connection.ask().await {
            Ok(200) => notes.answered(asked)?,
            Ok(_status) => notes.failed(),
            Err(_) => {
                notes.failed();
                let Ok(another) = Connection::open(&self.target, &self.connector).await else { return Ok(false) };
                self.connection = another;
            }
        }
        Ok(true)
    }
}

impl Opened {
    /// Opens this many connections to the targets, in turn.
    pub(crate) async fn of(targets: &[Target], connections: usize) -> anyhow::Result<Self> {
        let connector = connector(targets.first().context("no target")?.protocol, false)?;
        let mut opened = Vec::with_capacity(connections);
        for target in targets.iter().cycle().take(connections) {
            let connection = Connection::open(target, &connector).await?;
            opened.push(Client { connection, target: target.clone(), connector: connector.clone() });
        }
        Ok(Self(opened))
    }

    /// An open loop: sends requests at a rate, however slow the answers are. A latency counts from when the request was
    /// due.
    pub(crate) async fn at(self, per_second: f64, time: Duration) -> anyhow::Result<Outcome> {
        anyhow::ensure!(per_second > 0.0, "a rate of {per_second} requests/s");
        let count = (per_second * time.as_secs_f64()).max(1.0);
        let next = Arc::new(AtomicU64::new(0));
        let _awake = Awake::stay();
        let notes = Notes::begin()?;
        let mut clients = JoinSet::new();
        for mut client in self.0 {
            let (next, notes) = (Arc::clone(&next), notes.clone());
            clients.spawn(async move {
                loop {
                    let number = to_f64(next.fetch_add(1, Ordering::Relaxed));
                    if number >= count {
                        return Ok(());
                    }
                    let due = notes.began + Duration::from_secs_f64(number / per_second);
                    wait_until(due).await;
                    if !client.ask(&notes, due).await? {
                        return Ok(());
                    }
                }
            });
        }
        let outcome = notes.after(clients).await?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count, and not negative")]
        let unsent = (count.ceil() as u64).saturating_sub(outcome.latencies.len() + outcome.failed);
        Ok(Outcome { failed: outcome.failed + unsent, ..outcome })
    }
}

/// Requests at a rate over this many connections.
pub(crate) async fn open(
    targets: &[Target],
    connections: usize,
    per_second: f64,
    time: Duration,
) -> anyhow::Result<Outcome> {
    Opened::of(targets, connections).await?.at(per_second, time).await
}

/// tokio's timer counts milliseconds; for the rest, this yields to other tasks.
async fn wait_until(due: Instant) {
    if let Some(left) = due.checked_duration_since(Instant::now())
        && left > Duration::from_millis(2)
    {
        tokio::time::sleep(left - Duration::from_millis(2)).await;
    }
    while Instant::now() < due {
        tokio::task::yield_now().await;
    }
}

/// Connections that do a handshake, receive a session ticket and close.
pub(crate) async fn handshakes(
    target: &Target,
    resumes: bool,
    at_once: usize,
    time: Duration,
) -> anyhow::Result<Outcome> {
    let _awake = Awake::stay();
    let notes = Notes::begin()?;
    let until = notes.began + time;
    let mut clients = JoinSet::new();
    for _ in 0..at_once {
        let (target, connector, notes) = (target.clone(), connector(target.protocol, resumes)?, notes.clone());
        clients.spawn(async move {
            let mut is_first = true;
            while Instant::now() < until {
                let began = Instant::now();
                match tokio::time::timeout(PATIENCE, Box::pin(shake(&target, &connector))).await {
                    // The first connection has no session to resume yet.
                    Ok(Ok(was_resumed)) if was_resumed == resumes || is_first => notes.answered(began)?,
                    Ok(Ok(_) | Err(_)) | Err(_) => notes.failed(),
                }
                is_first = false;
            }
            Ok(())
        });
    }
    notes.after(clients).await
}

/// Returns whether the session was resumed.
async fn shake(target: &Target, connector: &TlsConnector) -> anyhow::Result<bool> {
    let mut stream = tls(target, connector).await?;
    let was_resumed = stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
    let mut buffer = [0; 1024];
    std::future::poll_fn(|cx| {
        let mut read = tokio::io::ReadBuf::new(&mut buffer);
        let polled = std::pin::Pin::new(&mut stream).poll_read(cx, &mut read);
        if polled.is_ready() || stream.get_ref().1.tls13_tickets_received() > 0 {
            return std::task::Poll::Ready(());
        }
        std::task::Poll::Pending
    })
    .await;
    stream.shutdown().await?;
    Ok(was_resumed)
}
