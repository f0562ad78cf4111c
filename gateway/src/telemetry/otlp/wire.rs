//! OTLP over HTTP: one request on a connection of its own, every few seconds.

use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const ANSWER_BYTES_MAX: usize = 4 << 20;

/// What the connections share.
pub(super) struct Wire {
    tls: TlsConnector,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}

impl Wire {
    /// # Errors
    /// There is no TLS.
    pub(super) fn new() -> anyhow::Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)) })
    }

    /// Sends one request and returns its response. Limit: the caller sets a deadline.
    pub(super) async fn exchange(&self, request: Request<Bytes>) -> anyhow::Result<Response<Bytes>> {
        exchange(&self.tls, request).await
    }
}

async fn exchange(tls: &TlsConnector, mut request: Request<Bytes>) -> anyhow::Result<Response<Bytes>> {
    let uri = request.uri().clone();
    let host = uri.host().context("the endpoint has no host")?.to_owned();
    let is_tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
    request.headers_mut().insert(header::HOST, authority.parse()?);
    *request.uri_mut() = uri.path().parse()?;
    let name = host.trim_matches(['[', ']']).to_owned();
    let stream = TcpStream::connect((name.as_str(), port)).await?;
    if is_tls {
        let stream = tls.connect(ServerName::try_from(name)?, stream).await?;
        ask(stream, request).await
    } else {
        ask(stream, request).await
    }
}

async fn ask<S>(stream: S, request: Request<Bytes>) -> anyhow::Result<Response<Bytes>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driven = tokio::spawn(async {
        // The request reports how the connection ended.
        let _ended = connection.await;
    });
    let (parts, body) = sender.send_request(request.map(Full::new)).await?.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| anyhow::anyhow!(error))?;
    driven.abort();
    Ok(Response::from_parts(parts, body.to_bytes()))
}
