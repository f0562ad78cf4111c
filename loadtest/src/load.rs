//! The load: connections that send a request after the other (a closed loop), or at a rate (an open one), and handshakes.
//!
//! One thread on the cores that the servers do not have. HTTP/1.1 is written by hand, because a client that costs more than the
//! server it measures measures itself; HTTP/2 is hyper's.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsConnector, rustls};

/// By when whatever is asked for must be there.
const PATIENCE: Duration = Duration::from_secs(30);
const HEAD_BYTES_MAX: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Http1 => "h1",
            Self::Http2 => "h2",
        }
    }
}

/// What requests are sent to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) is_tls: bool,
    pub(crate) protocol: Protocol,
}

impl Target {
    pub(crate) fn at(&self, host: &str, path: &str) -> Self {
        Self { host: host.to_owned(), path: path.to_owned(), ..self.clone() }
    }
}

/// What came of a run. Latencies are in microseconds.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) took: Duration,
    pub(crate) latencies: Histogram<u64>,
    /// Answers with another status than 200, and connections that failed.
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

/// What clients of one run note together: a histogram for each of a thousand is 200 MB, and to make and add them up is a stall
/// of the load.
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

    /// What was asked for then is answered.
    pub(crate) fn answered(&self, asked: Instant) -> anyhow::Result<()> {
        Ok(self.found().0.record(micros(asked.elapsed()))?)
    }

    pub(crate) fn failed(&self) {
        self.found().1 += 1;
    }

    /// What they came to.
    pub(crate) fn outcome(&self) -> Outcome {
        let took = self.began.elapsed();
        let (latencies, failed) = self.found().clone();
        Outcome { took, latencies, failed }
    }

    /// The same once all clients have ended.
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

/// How a client says hello: with whatever certificate, and remembering sessions or not.
pub(crate) fn connector(protocol: Protocol, resumes: bool) -> anyhow::Result<TlsConnector> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![if protocol == Protocol::Http1 { b"http/1.1".to_vec() } else { b"h2".to_vec() }];
    if !resumes {
        config.resumption = rustls::client::Resumption::disabled();
    }
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Certificates are not what is measured, and everything is on this machine.
#[derive(Debug)]
struct Anybody(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &rustls::pki_types::CertificateDer<'_>,
        _intermediates: &[rustls::pki_types::CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &rustls::pki_types::CertificateDer<'_>,
        _dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &rustls::pki_types::CertificateDer<'_>,
        _dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// One connection, for one request after the other.
pub(crate) enum Connection {
    Http1 { stream: Box<dyn Stream>, request: Vec<u8>, buffer: Vec<u8> },
    Http2 { sender: http2::SendRequest<Empty<Bytes>>, uri: http::Uri },
}

pub(crate) async fn tls(target: &Target, connector: &TlsConnector) -> anyhow::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(target.address).await?;
    stream.set_nodelay(true)?;
    Ok(connector.connect(ServerName::try_from(target.host.clone())?, stream).await?)
}

impl Connection {
    pub(crate) async fn open(target: &Target, connector: &TlsConnector) -> anyhow::Result<Self> {
        tokio::time::timeout(PATIENCE, Box::pin(Self::opened(target, connector)))
            .await
            .context("no connection in time")?
    }

    async fn opened(target: &Target, connector: &TlsConnector) -> anyhow::Result<Self> {
        let scheme = if target.is_tls { "https" } else { "http" };
        match target.protocol {
            Protocol::Http1 => {
                let stream: Box<dyn Stream> = if target.is_tls {
                    Box::new(tls(target, connector).await?)
                } else {
                    let stream = TcpStream::connect(target.address).await?;
                    stream.set_nodelay(true)?;
                    Box::new(stream)
                };
                let request = format!(
                    "GET {} HTTP/1.1\r\nhost: {}\r\nuser-agent: loadtest\r\naccept: */*\r\n\r\n",
                    target.path, target.host
                );
                Ok(Self::Http1 { stream, request: request.into_bytes(), buffer: Vec::with_capacity(HEAD_BYTES_MAX) })
            }
            Protocol::Http2 => {
                let stream = TokioIo::new(tls(target, connector).await?);
                let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                    .initial_stream_window_size(1 << 20)
                    .handshake(stream)
                    .await?;
                tokio::spawn(connection);
                Ok(Self::Http2 { sender, uri: format!("{scheme}://{}{}", target.host, target.path).parse()? })
            }
        }
    }

    /// The status of one answer, read to its end.
    pub(crate) async fn ask(&mut self) -> anyhow::Result<u16> {
        match self {
            Self::Http1 { stream, request, buffer } => {
                stream.write_all(request).await?;
                stream.flush().await?;
                read_answer(stream, buffer).await
            }
            Self::Http2 { sender, uri } => {
                sender.ready().await?;
                let request = http::Request::get(uri.clone()).body(Empty::new())?;
                let answer = sender.send_request(request).await?;
                let status = answer.status().as_u16();
                let mut body = answer.into_body();
                while let Some(frame) = body.frame().await {
                    frame?;
                }
                Ok(status)
            }
        }
    }
}

enum Length {
    Bytes(usize),
    Chunked,
}

fn head_of(buffer: &[u8]) -> anyhow::Result<Option<(u16, usize, Length)>> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head) = response.parse(buffer)? else { return Ok(None) };
    let field = |name: &str| response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    let length = match field("content-length") {
        Some(field) => Length::Bytes(std::str::from_utf8(field.value)?.parse()?),
        None if field("transfer-encoding").is_some() => Length::Chunked,
        None => bail!("an answer without a length"),
    };
    Ok(Some((response.code.context("no status")?, head, length)))
}

/// Limit: a chunked body must not have an empty line, a zero and an empty line in it; those that are measured have none.
async fn read_answer(stream: &mut dyn Stream, buffer: &mut Vec<u8>) -> anyhow::Result<u16> {
    buffer.clear();
    let mut head = None;
    loop {
        if head.is_none() {
            head = head_of(buffer)?;
        }
        let is_whole = match &head {
            Some((_, start, Length::Bytes(length))) => buffer.len() >= start + length,
            Some((_, _, Length::Chunked)) => buffer.ends_with(b"\r\n0\r\n\r\n"),
            None => false,
        };
        if let (true, Some((status, ..))) = (is_whole, &head) {
            return Ok(*status);
        }
        if stream.read_buf(buffer).await? == 0 {
            bail!("the connection was closed in an answer");
        }
    }
}

/// Keeps this thread from sleeping, until it is dropped. A thread that sleeps must be woken by the server's write, which costs the
/// server 15 µs on a virtual machine; on a network it is a card that takes what is written.
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

/// Each connection asks again as soon as it was answered, for so long.
pub(crate) async fn closed(target: &Target, connections: usize, time: Duration) -> anyhow::Result<Outcome> {
    let connector = connector(target.protocol, false)?;
    let mut opened = Vec::new();
    for _ in 0..connections {
        opened.push(Connection::open(target, &connector).await?);
    }
    let _awake = Awake::stay();
    let notes = Notes::begin()?;
    let until = notes.began + time;
    let mut clients = JoinSet::new();
    for mut connection in opened {
        let notes = notes.clone();
        clients.spawn(async move {
            while Instant::now() < until {
                let asked = Instant::now();
                match tokio::time::timeout(PATIENCE, connection.ask()).await {
                    Ok(Ok(200)) => notes.answered(asked)?,
                    Ok(Ok(_status)) => notes.failed(),
                    Ok(Err(_)) | Err(_) => {
                        notes.failed();
                        break;
                    }
                }
            }
            Ok(())
        });
    }
    notes.after(clients).await
}

/// Requests at a rate, whatever the answers do; a latency counts from when a request was due.
pub(crate) async fn open(
    targets: &[Target],
    connections: usize,
    per_second: f64,
    time: Duration,
) -> anyhow::Result<Outcome> {
    let first = targets.first().context("no target")?;
    let connector = connector(first.protocol, false)?;
    let count = (per_second * time.as_secs_f64()).max(1.0);
    let next = Arc::new(AtomicU64::new(0));
    let mut opened = Vec::new();
    for of in 0..connections {
        let target = targets.get(of % targets.len()).context("no target")?;
        opened.push(Connection::open(target, &connector).await?);
    }
    let _awake = Awake::stay();
    let notes = Notes::begin()?;
    let mut clients = JoinSet::new();
    for mut connection in opened {
        let (next, notes) = (Arc::clone(&next), notes.clone());
        clients.spawn(async move {
            loop {
                let number = to_f64(next.fetch_add(1, Ordering::Relaxed));
                if number >= count {
                    return Ok(());
                }
                let due = notes.began + Duration::from_secs_f64(number / per_second);
                wait_until(due).await;
                match tokio::time::timeout(PATIENCE, connection.ask()).await {
                    Ok(Ok(200)) => notes.answered(due)?,
                    Ok(Ok(_status)) => notes.failed(),
                    Ok(Err(_)) | Err(_) => {
                        notes.failed();
                        return Ok(());
                    }
                }
            }
        });
    }
    notes.after(clients).await
}

/// tokio's clock has milliseconds; the rest is given to whoever else is ready.
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

/// Connections that shake hands, take what a session is resumed with, and go.
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
                    // The first has nothing to resume yet.
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

/// Whether the session was resumed.
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
