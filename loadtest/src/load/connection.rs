//! One connection: how it is opened, what it sends, and how it reads an answer.
//!
//! HTTP/1.1 is written by hand, because a client that costs more than the server measures itself; HTTP/2 is hyper's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsConnector, rustls};

/// Time limit for everything that a client waits for.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Initial capacity for an answer.
const ANSWER_BYTES: usize = 4 << 10;

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

/// Where requests are sent.
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

/// How a client opens TLS: it accepts any certificate, and remembers sessions or not.
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

/// Accepts every certificate: certificates are not measured, and everything runs on this machine.
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

/// One connection, which sends one request after the other.
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
                Ok(Self::Http1 { stream, request: request.into_bytes(), buffer: Vec::with_capacity(ANSWER_BYTES) })
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

    /// Sends a request, reads the answer to its end and returns its status.
    pub(crate) async fn ask(&mut self) -> anyhow::Result<u16> {
        tokio::time::timeout(PATIENCE, self.asked()).await.context("no answer in time")?
    }

    async fn asked(&mut self) -> anyhow::Result<u16> {
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

/// Limit: a chunked body must not contain an empty line, a zero and an empty line; those that we measure do not.
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

/// One request with a body, over HTTP/1.1.
pub(crate) async fn post(target: &Target, body: &str) -> anyhow::Result<()> {
    let connector = connector(Protocol::Http1, false)?;
    let mut connection = Connection::open(target, &connector).await?;
    if let Connection::Http1 { request, .. } = &mut connection {
        let (path, host, length) = (&target.path, &target.host, body.len());
        *request =
            format!("POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes();
    }
    let status = connection.ask().await?;
    anyhow::ensure!(status == 200, "{} of {} says {status}", target.path, target.host);
    Ok(())
}
