//! A word to the gateway that is running, by its operators' listener.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::config::Boot;

const ANSWER_BYTES_MAX: usize = 64 << 20;

/// One connection, kept as long as the gateway keeps it.
pub(super) struct Client {
    address: SocketAddr,
    token: Option<String>,
    patience: Duration,
    connection: Option<(SendRequest<Full<Bytes>>, JoinHandle<()>)>,
}

impl Client {
    /// To the gateway of this configuration. `patience` is how long one answer may take.
    pub(super) const fn new(boot: &Boot, patience: Duration) -> Self {
        Self { address: boot.listen.admin, token: None, patience, connection: None }
    }

    /// The same, with the token that tenants' data need.
    pub(super) fn with_token(boot: &Boot, patience: Duration) -> anyhow::Result<Self> {
        let path = boot.state.join("admin.token");
        Ok(Self { token: Some(token(&path)?), ..Self::new(boot, patience) })
    }

    /// # Errors
    /// It is not running, does not answer in time, or says something else than that it was done.
    pub(super) async fn post(&mut self, path: &str, body: &Value) -> anyhow::Result<Bytes> {
        let (status, answer) = self.try_post(path, body).await?;
        if !status.is_success() {
            let text = String::from_utf8_lossy(&answer);
            bail!("the gateway at {} says {status}: {}", self.address, text.trim_end());
        }
        Ok(answer)
    }

    /// What the gateway says, whatever it is.
    pub(super) async fn try_post(&mut self, path: &str, body: &Value) -> anyhow::Result<(StatusCode, Bytes)> {
        let patience = self.patience;
        let exchange = tokio::time::timeout(patience, self.exchange(path, body));
        let answer = exchange.await.with_context(|| format!("no answer within {} seconds", patience.as_secs()));
        let answer = answer.and_then(|answer| answer);
        if answer.is_err() {
            self.connection = None;
        }
        answer.with_context(|| format!("the gateway at {} (is it running?)", self.address))
    }

    async fn exchange(&mut self, path: &str, body: &Value) -> anyhow::Result<(StatusCode, Bytes)> {
        let mut request = http::Request::post(path)
            .header(http::header::HOST, self.address.to_string())
            .header(http::header::CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(http::header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(Bytes::from(serde_json::to_vec(body)?)))?;
        // The gateway ends a connection after a while.
        let is_open = match &mut self.connection {
            Some((sender, _)) => sender.ready().await.is_ok(),
            None => false,
        };
        if !is_open {
            let stream = tokio::net::TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            let driven = tokio::spawn(async {
                // What it ends with, the request says too.
                let _ended = connection.await;
            });
            self.connection = Some((sender, driven));
        }
        let Some((sender, _)) = &mut self.connection else { bail!("there is no connection") };
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| anyhow::anyhow!(error))?;
        Ok((parts.status, body.to_bytes()))
    }
}

fn token(path: &Path) -> anyhow::Result<String> {
    let read = std::fs::read_to_string(path).with_context(|| {
        format!("cannot read {} (the gateway makes it when it starts; --state says where)", path.display())
    })?;
    Ok(read.trim().to_owned())
}
