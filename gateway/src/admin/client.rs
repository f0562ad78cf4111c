//! A client of the running gateway's operators' listener.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

use super::running::Running;
use crate::config::Boot;

const ANSWER_BYTES_MAX: usize = 64 << 20;

/// The address of the gateway.
#[derive(Clone, Debug)]
enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// The gateway does not accept the token.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the gateway that runs takes another token: was admin.token changed since it started?")]
pub(crate) struct Unauthorized;

/// An address that can be called: a wildcard address becomes this machine's loopback address.
fn local(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    address
}

/// One connection, kept as long as the gateway keeps it.
pub(crate) struct Client {
    address: Address,
    /// The address of the page that a browser opens.
    page: SocketAddr,
    token: String,
    patience: Duration,
    connection: Option<(SendRequest<Full<Bytes>>, JoinHandle<()>)>,
}

impl Client {
    /// For the gateway of this configuration, with its token. `patience` limits the time of one answer.
    pub(crate) fn new(boot: &Boot, patience: Duration) -> anyhow::Result<Self> {
        Ok(Self::with(boot, patience, configured(boot)?))
    }

    /// For commands that only read: with the token that the running gateway wrote to its state folder, whatever token this
    /// configuration has.
    pub(crate) fn looking(boot: &Boot, patience: Duration) -> anyhow::Result<Self> {
        let token = Running::read(&boot.state).and_then(|running| running.looks_by);
        Ok(Self::with(boot, patience, token.map_or_else(|| configured(boot), Ok)?))
    }

    fn with(boot: &Boot, patience: Duration, token: String) -> Self {
        let operators = &boot.operators;
        let (socket, admin) = match Running::read(&boot.state).filter(|_| !operators.is_address_given) {
            Some(running) => (running.socket, running.admin),
            None => (operators.socket.clone().filter(|_| !operators.is_address_given), boot.listen.admin),
        };
        let address = socket.map_or(Address::Tcp(local(admin)), Address::Unix);
        Self { address, page: local(admin), token, patience, connection: None }
    }

    /// The URL that a person opens in a browser.
    pub(crate) fn page(&self) -> String {
        format!("http://{}/#token={}", self.page, self.token)
    }

    /// Gets the JSON at this path.
    ///
    /// # Errors
    /// The gateway is not running, does not answer in time, or refuses; [`Unauthorized`] if it does not accept the token.
    pub(crate) async fn get(&mut self, path: &str) -> anyhow::Result<Value> {
        let (status, answer) = self.within(self.patience, Method::GET, path, None).await?;
        if status == StatusCode::UNAUTHORIZED {
            return self.done(status, answer).map_err(|error| error.context(Unauthorized)).map(|_none| Value::Null);
        }
        Ok(serde_json::from_slice(&self.done(status, answer)?)?)
    }

    /// Drops the connection, so that the next call opens another.
    pub(crate) fn forget(&mut self) {
        self.connection = None;
    }

    /// The lines of a body that does not end by itself.
    pub(crate) async fn stream(&mut self, path: &str) -> anyhow::Result<Lines> {
        Ok(Lines { body: self.body(Method::GET, path).await?, rest: Vec::new() })
    }

    /// The pieces of a body of any length. Each must arrive within this client's patience.
    pub(crate) async fn pieces(&mut self, path: &str) -> anyhow::Result<Pieces> {
        Ok(Pieces { body: self.body(Method::POST, path).await?, patience: self.patience })
    }

    async fn body(&mut self, method: Method, path: &str) -> anyhow::Result<Incoming> {
        let response = tokio::time::timeout(self.patience, self.send(method, path, None)).await;
        let response = response.map_err(anyhow::Error::from).and_then(|response| response);
        let response = response.with_context(|| format!("the gateway at {} (is it running?)", self.address))?;
        let (parts, body) = response.into_parts();
        if !parts.status.is_success() {
            let text = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| anyhow::anyhow!(error))?;
            self.done(parts.status, text.to_bytes())?;
            bail!("the gateway at {} answers {}", self.address, parts.status);
        }
        Ok(body)
    }

    /// # Errors
    /// The gateway is not running, does not answer in time, or did not do it.
    pub(crate) async fn post(&mut self, path: &str, body: &Value) -> anyhow::Result<Bytes> {
        let (status, answer) = self.try_post(path, body).await?;
        self.done(status, answer)
    }

    /// The answer if it reports success; otherwise the error is the gateway's (RFC 9457).
    fn done(&self, status: StatusCode, answer: Bytes) -> anyhow::Result<Bytes> {
        if status.is_success() {
            return Ok(answer);
        }
        let detail = serde_json::from_slice::<Value>(&answer).ok();
        let detail = detail.as_ref().and_then(|problem| problem.get("detail")?.as_str());
        let text = detail.map_or_else(|| String::from_utf8_lossy(&answer).trim_end().to_owned(), str::to_owned);
        bail!("the gateway at {} answers {status}: {text}", self.address)
    }

    /// The gateway's answer, whatever its status.
    pub(crate) async fn try_post(&mut self, path: &str, body: &Value) -> anyhow::Result<(StatusCode, Bytes)> {
        self.within(self.patience, Method::POST, path, Some(body)).await
    }

    async fn within(
        &mut self,
        patience: Duration,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let exchange = async {
            let (parts, body) = self.send(method, path, body).await?.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| anyhow::anyhow!(error))?;
            anyhow::Ok((parts.status, body.to_bytes()))
        };
        let answer = tokio::time::timeout(patience, exchange).await;
        let answer = answer.with_context(|| format!("no answer within {} seconds", patience.as_secs()));
        let answer = answer.and_then(|answer| answer);
        if answer.is_err() {
            self.connection = None;
        }
        answer.with_context(|| format!("the gateway at {} (is it running?)", self.address))
    }

    async fn send(&mut self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Response<Incoming>> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "tollgate")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token));
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(body)))?;
        // The gateway ends a connection after a while.
        let is_open = match &mut self.connection {
            Some((sender, _)) => sender.ready().await.is_ok(),
            None => false,
        };
        if !is_open {
            self.connection = Some(connect(&self.address).await?);
        }
        let Some((sender, _)) = &mut self.connection else { bail!("there is no connection") };
        Ok(sender.send_request(request).await?)
    }
}

/// A body as it arrives.
pub(crate) struct Pieces {
    body: Incoming,
    patience: Duration,
}

impl Pieces {
    /// The next piece. Nothing at the end of the body.
    ///
    /// # Errors
    /// The connection broke off, or nothing arrived in time.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            let frame = tokio::time::timeout(self.patience, self.body.frame()).await;
            let frame =
                frame.with_context(|| format!("the gateway sent nothing for {} seconds", self.patience.as_secs()))?;
            let Some(frame) = frame else { return Ok(None) };
            // Trailers are ignored.
            if let Ok(piece) = frame.context("the gateway broke off")?.into_data() {
                return Ok(Some(piece));
            }
        }
    }
}

/// Whether an error means that nothing listens there.
pub(crate) fn is_nobody(error: &anyhow::Error) -> bool {
    let is_it = |kind| matches!(kind, std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::NotFound);
    error.chain().any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(|error| is_it(error.kind())))
}

/// The longest line that is accepted.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Lines of a body as they arrive.
pub(crate) struct Lines {
    body: Incoming,
    rest: Vec<u8>,
}

impl Lines {
    /// The next line with its line end. Nothing at the end of the body. Cancel safety: nothing is lost.
    ///
    /// # Errors
    /// The connection broke off, or a line is too long.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.rest) {
                return Ok(Some(self.rest.drain(..=end).collect()));
            }
            anyhow::ensure!(self.rest.len() <= LINE_BYTES_MAX, "a line is too long");
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            if let Ok(piece) = frame?.into_data() {
                self.rest.extend_from_slice(&piece);
            }
        }
    }

    /// Whether the next line has already arrived.
    pub(crate) fn has_next(&self) -> bool {
        memchr::memchr(b'\n', &self.rest).is_some()
    }
}

async fn connect(address: &Address) -> anyhow::Result<(SendRequest<Full<Bytes>>, JoinHandle<()>)> {
    match address {
        Address::Tcp(address) => {
            let stream = tokio::net::TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            over(stream).await
        }
        Address::Unix(path) => over(tokio::net::UnixStream::connect(path).await?).await,
    }
}

async fn over<S>(stream: S) -> anyhow::Result<(SendRequest<Full<Bytes>>, JoinHandle<()>)>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driven = tokio::spawn(async {
        // The request reports how the connection ended.
        let _ended = connection.await;
    });
    Ok((sender, driven))
}

/// The token of this configuration.
fn configured(boot: &Boot) -> anyhow::Result<String> {
    boot.operators.token.as_ref().map_or_else(|| token(&boot.state.join("admin.token")), |secret| Ok(secret.0.clone()))
}

fn token(path: &Path) -> anyhow::Result<String> {
    let read = std::fs::read_to_string(path).with_context(|| {
        format!("cannot read {} (the gateway creates it at its start; --state sets the folder)", path.display())
    })?;
    Ok(read.trim().to_owned())
}
