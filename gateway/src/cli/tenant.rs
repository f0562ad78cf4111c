//! `tollgate tenant suspend ID`, `resume ID` and `count ID`: a word to the gateway that is running, by its operators' listener.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;

use super::{Common, boot, runtime};
use crate::ids::{NAME_RULE, TenantId};

/// How long the gateway may take to answer, and to count, which goes through a server's keys.
const PATIENCE: Duration = Duration::from_secs(10);
const COUNTING: Duration = Duration::from_secs(600);
const ANSWER_BYTES_MAX: usize = 64 << 10;

pub(super) fn tenant(common: &Common, id: &str, change: &str) -> anyhow::Result<ExitCode> {
    let patience = if change == "count" { COUNTING } else { PATIENCE };
    let Some(id) = TenantId::parse(id) else {
        bail!("{id:?} is not a tenant's identity: {NAME_RULE}");
    };
    let address = match boot(common) {
        Ok(boot) => boot.listen.admin,
        Err(code) => return Ok(code),
    };
    let path = format!("/tenants/{id}/{change}");
    let posted = runtime()?.block_on(async {
        tokio::time::timeout(patience, post(address, &path))
            .await
            .with_context(|| format!("no answer within {} seconds", patience.as_secs()))?
    });
    let (status, text) = posted.with_context(|| format!("the gateway at {address} (is it running?)"))?;
    if !status.is_success() {
        bail!("the gateway at {address} says {status}: {}", text.trim_end());
    }
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

async fn post(address: SocketAddr, path: &str) -> anyhow::Result<(http::StatusCode, String)> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = http::Request::post(path)
        .header(http::header::HOST, address.to_string())
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Empty::<bytes::Bytes>::new())?;
    let exchange = async {
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| anyhow::anyhow!(error))?;
        anyhow::Ok((parts.status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    };
    tokio::select! {
        answered = exchange => answered,
        ended = connection => bail!("the connection ended early: {ended:?}"),
    }
}
