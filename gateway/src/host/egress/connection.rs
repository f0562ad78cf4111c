//! A connection to an origin: opened, driven by a task of its own, and closed when nobody uses it.
//!
//! Plain connections use HTTP/1.1. Over TLS both versions are offered by ALPN, and the origin chooses (RFC 7301), as with
//! Spin 4.0.2. Spin's variable for HTTP/2 without TLS is not supported.
//!
//! Limit: for an HTTP/2 connection, [`HEAD_BYTES_MAX`] of a header list, [`STREAM_WINDOW`] unread bytes of each response,
//! and [`RESETS_MAX`] streams that either side reset. A connection is dropped if its origin does not answer PING while a
//! request runs.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wasmtime_wasi_http::Error;

use super::pool::{Destination, Exclusive, Key, Lease, Of, Shared};
use super::{ADDRESSES_MAX, Egress};
use crate::deadline::Deadline;
use crate::telemetry::Tasks;
use crate::tenant::Tenant;

/// The largest head of a response.
const HEAD_BYTES_MAX: u32 = 64 << 10;
const FIELDS_MAX: usize = 100;
/// What an origin may send of one response before the guest reads it: as much as the HTTP/1.1 buffer holds.
const STREAM_WINDOW: u32 = 64 << 10;
/// The same for all streams of a connection. It is larger, so that a guest that leaves responses unread does not block
/// others of its tenant.
const CONNECTION_WINDOW: u32 = 4 << 20;
const RESETS_MAX: usize = 64;
/// How long an origin may be silent before it gets a PING, and how long it has to answer.
const PING: Duration = Duration::from_secs(10);
/// How long an unused connection may take to close gracefully.
const CLOSING: Duration = Duration::from_secs(1);

/// A TLS client that trusts the public roots and these, in PEM.
///
/// # Errors
/// They are not PEM.
pub(crate) fn trusting(ca: Option<&[u8]>) -> anyhow::Result<rustls::ClientConfig> {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() };
    for certificate in ca.iter().flat_map(|pem| CertificateDer::pem_slice_iter(pem)) {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

impl Egress {
    /// Opens a connection to one of these addresses.
    pub(super) async fn open(
        self: &Arc<Self>,
        tenant: &Tenant,
        way: &Destination<'_>,
        limit: Deadline,
    ) -> Result<Lease, Error> {
        // From here on the tenant has its part of the pool.
        let tls = self.pool.tls_of(tenant);
        let (address, stream) = connect(way, limit).await?;
        let key = Key::new(tenant, way, address);
        let stop = tenant.ledger.stop();
        self.metrics.outbound_opened.inc();
        if !way.grant.https {
            return self.http1(key, stream, stop).await;
        }
        let name = ServerName::try_from(way.host.to_owned()).map_err(|_not_a_name| Error::HttpRequestUriInvalid)?;
        let connector = tokio_rustls::TlsConnector::from(tls);
        let connected = limit.run(connector.connect(name, stream)).await;
        let stream = connected.map_err(|_elapsed| Error::ConnectionTimeout)?.map_err(Error::Tls)?;
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            self.http2(key, stream, stop).await
        } else {
            self.http1(key, stream, stop).await
        }
    }

    async fn http1<IO>(&self, key: Key, stream: IO, stop: CancellationToken) -> Result<Lease, Error>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let received = Arc::<AtomicUsize>::default();
        let stream = Counted { stream, received: Arc::clone(&received) };
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX as usize)
            .max_headers(FIELDS_MAX)
            .handshake(TokioIo::new(stream))
            .await?;
        let (kept, driver) = driver(key, stop);
        let _driven = self.tasks.spawn(driver.run(connection, None));
        Ok(Lease::Exclusive(Box::new(Exclusive { sender, received, kept })))
    }

    async fn http2<IO>(&self, key: Key, stream: IO, stop: CancellationToken) -> Result<Lease, Error>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let cut = stop.child_token();
        let within = Within { tasks: self.tasks.clone(), running: TaskTracker::new(), cut: cut.clone() };
        let running = within.running.clone();
        let (sender, connection) = http2::Builder::new(within)
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEAD_BYTES_MAX)
            .max_concurrent_reset_streams(RESETS_MAX)
            .max_pending_accept_reset_streams(RESETS_MAX)
            .max_local_error_reset_streams(RESETS_MAX)
            .max_send_buf_size(STREAM_WINDOW as usize)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .handshake(TokioIo::new(stream))
            .await?;
        let streams_max = Arc::new(AtomicUsize::new(connection.current_max_send_streams()));
        let (kept, driver) = driver(key, cut);
        let said = Arc::clone(&streams_max);
        let mut connection = Box::pin(connection);
        let connection = std::future::poll_fn(move |cx| {
            let polled = connection.as_mut().poll(cx);
            said.store(connection.current_max_send_streams(), Ordering::Relaxed);
            polled
        });
        let _driven = self.tasks.spawn(driver.run(connection, Some(running)));
        let shared = Arc::new(Shared { sender, streams_max, kept });
        self.pool.keep(Lease::Shared(Arc::clone(&shared)));
        Ok(Lease::Shared(shared))
    }
}

async fn connect(way: &Destination<'_>, limit: Deadline) -> Result<(std::net::SocketAddr, TcpStream), Error> {
    let mut last = Error::DestinationIpProhibited;
    for address in way.addresses.iter().take(ADDRESSES_MAX) {
        match limit.run(TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let _best_effort = stream.set_nodelay(true);
                return Ok((*address, stream));
            }
            Ok(Err(error)) => last = Error::Connect(error),
            Err(_elapsed) => return Err(Error::ConnectionTimeout),
        }
    }
    Err(last)
}

/// Ends a connection: at once when its tenant is stopped, gracefully when nobody holds it any more.
struct Driver {
    held: CancellationToken,
    cut: CancellationToken,
}

fn driver(key: Key, cut: CancellationToken) -> (Of, Driver) {
    let held = CancellationToken::new();
    let driver = Driver { held: held.clone(), cut };
    (Of { key, born: Instant::now(), _held: held.drop_guard() }, driver)
}

impl Driver {
    /// `tasks` are those of HTTP/2, which outlive `connection`.
    async fn run<T>(self, connection: impl Future<Output = T>, tasks: Option<TaskTracker>) {
        let Self { held, cut } = self;
        let in_good_order = async {
            // The connection's user was told how it ended.
            let _told = connection.await;
            if let Some(tasks) = &tasks {
                held.cancelled().await;
                tasks.close();
                tasks.wait().await;
            }
        };
        let unused = async {
            held.cancelled().await;
            tokio::time::sleep(CLOSING).await;
        };
        tokio::select! {
            biased;
            () = cut.cancelled() => {}
            () = in_good_order => {}
            () = unused => {}
        }
        // Its remaining tasks end with it.
        if tasks.is_some() {
            cut.cancel();
        }
    }
}

/// The executor for HTTP/2's tasks, which are counted and end with the connection.
#[derive(Clone)]
struct Within {
    tasks: Tasks,
    running: TaskTracker,
    cut: CancellationToken,
}

impl<F> hyper::rt::Executor<F> for Within
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, work: F) {
        let cut = self.cut.clone();
        let work = self.running.track_future(async move {
            tokio::select! {
                biased;
                () = cut.cancelled() => {}
                _done = work => {}
            }
        });
        let _driven = self.tasks.spawn(work);
    }
}

/// Counts the bytes that arrive, which show whether a response began.
struct Counted<IO> {
    stream: IO,
    received: Arc<AtomicUsize>,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Counted<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.received.fetch_add(buf.filled().len() - before, Ordering::Relaxed);
        polled
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Counted<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}
