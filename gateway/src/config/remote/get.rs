//! GET over HTTP/1.1 with what registries need: a login, a token for it, and redirects to where a blob is stored.
//!
//! Security: a login is sent only to the registry that the gateway's file names and to the token server that this registry
//! names, over TLS unless the file allows plain HTTP. It is never sent to the target of a redirect.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, HOST, LOCATION, USER_AGENT, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{BYTES_MAX, Registry};
use crate::host::trusting;
use crate::http::list;
use crate::ids::Digest;

/// Time limit to resolve, connect and do the TLS handshake.
const CONNECT: Duration = Duration::from_secs(5);
const REDIRECTS_MAX: usize = 5;
/// Maximum size of a token response.
const TOKEN_BYTES_MAX: u64 = 64 << 10;

/// Why something was not fetched.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) why: String,
    /// Whether the server was unreachable or failed itself, so that other fetches from it need not be tried at once.
    pub(super) is_of_the_way: bool,
}

impl Failed {
    pub(super) const fn for_good(why: String) -> Self {
        Self { why, is_of_the_way: false }
    }

    pub(super) const fn of_the_way(why: String) -> Self {
        Self { why, is_of_the_way: true }
    }
}

/// Fetches from one registry.
pub(super) struct Get<'r> {
    tls: TlsConnector,
    registry: &'r Registry,
}

#[derive(Deserialize)]
struct Token {
    #[serde(alias = "access_token")]
    token: String,
}

impl<'r> Get<'r> {
    pub(super) fn new(ca: Option<&[u8]>, registry: &'r Registry) -> Result<Self, Failed> {
        let tls = trusting(ca).map_err(|error| Failed::for_good(error.to_string()))?;
        Ok(Self { tls: TlsConnector::from(Arc::new(tls)), registry })
    }

    /// The content at this URL of the registry, if it has this digest.
    pub(super) async fn verified(&self, url: &Uri, digest: Digest, accept: Option<&str>) -> Result<Bytes, Failed> {
        let first = self.get(url, accept, self.basic().as_deref(), BYTES_MAX).await?;
        let answer = match first.status() {
            StatusCode::UNAUTHORIZED => {
                let token = self.token(url, &first).await?;
                self.get(url, accept, Some(&format!("Bearer {token}")), BYTES_MAX).await?
            }
            _ => first,
        };
        if answer.status() != StatusCode::OK {
            let failed = format!("{url}: {}", answer.status());
            let is_of_the_way = answer.status().is_server_error();
            return Err(Failed { why: failed, is_of_the_way });
        }
        let bytes = answer.into_body();
        let found = Digest::of(&bytes);
        if found != digest {
            return Err(Failed::for_good(format!("{url}: sha256 {found}, which is not {digest}")));
        }
        Ok(bytes)
    }

    fn basic(&self) -> Option<String> {
        let (name, password) = self.registry.login.as_ref()?;
        let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{}", password.0));
        Some(format!("Basic {encoded}"))
    }

    /// Gets a token from the server that the registry names (the distribution project's token authentication).
    async fn token(&self, url: &Uri, refused: &Response<Bytes>) -> Result<String, Failed> {
        let asks = refused.headers().get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let Some(challenge) = asks.strip_prefix("Bearer ").or_else(|| asks.strip_prefix("bearer ")) else {
            return Err(Failed::for_good(format!("{url}: 401, with the challenge {asks:?}: check user and password")));
        };
        let said =
            |key: &str| parameters(challenge).find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value);
        let bad = || Failed::for_good(format!("{url}: 401, and its challenge {asks:?} names no realm"));
        let realm: Uri = said("realm").and_then(|realm| realm.parse().ok()).ok_or_else(bad)?;
        let is_safe = realm.scheme_str() == Some("https") || self.is_of_registry(&realm);
        if !is_safe {
            return Err(Failed::for_good(format!("{realm}: the gateway does not send a password without TLS")));
        }
        let mut query: Vec<String> = realm.query().map(str::to_owned).into_iter().collect();
        query.extend(["service", "scope"].iter().filter_map(|key| Some(format!("{key}={}", escaped(said(key)?)))));
        let authority = realm.authority().map(http::uri::Authority::as_str).ok_or_else(bad)?;
        let scheme = realm.scheme_str().unwrap_or("https");
        let asked: Uri =
            format!("{scheme}://{authority}{}?{}", realm.path(), query.join("&")).parse().map_err(|_bad| bad())?;
        let answer = self.get(&asked, None, self.basic().as_deref(), TOKEN_BYTES_MAX).await?;
        let token = serde_json::from_slice::<Token>(answer.body());
        token
            .map(|of| of.token)
            .map_err(|_no_token| Failed::for_good(format!("{realm}: {}, and no token", answer.status())))
    }

    fn is_of_registry(&self, url: &Uri) -> bool {
        url.scheme() == self.registry.url.scheme() && url.authority() == self.registry.url.authority()
    }

    /// One GET, including redirects. The login is sent only to the first server.
    async fn get(
        &self,
        url: &Uri,
        accept: Option<&str>,
        login: Option<&str>,
        bytes_max: u64,
    ) -> Result<Response<Bytes>, Failed> {
        let mut at = url.clone();
        for _redirect in 0..=REDIRECTS_MAX {
            let login = login.filter(|_| at.authority() == url.authority() && at.scheme() == url.scheme());
            let answer = self.once(&at, accept, login, bytes_max).await?;
            let leads = answer.status().is_redirection().then(|| answer.headers().get(LOCATION)).flatten();
            let Some(leads) = leads.and_then(|to| to.to_str().ok()) else { return Ok(answer) };
            let to = match (leads.strip_prefix('/'), at.scheme_str(), at.authority()) {
                (Some(path), Some(scheme), Some(authority)) => format!("{scheme}://{authority}/{path}"),
                _ => leads.to_owned(),
            };
            let to: Uri = to.parse().map_err(|_bad| Failed::for_good(format!("{at} redirects to {leads:?}")))?;
            if to.scheme_str() != Some("https") && !self.is_of_registry(&to) {
                return Err(Failed::for_good(format!("{at} redirects to {to}, which has no TLS")));
            }
            at = to;
        }
        Err(Failed::for_good(format!("{url}: too many redirects")))
    }

    async fn once(
        &self,
        url: &Uri,
        accept: Option<&str>,
        login: Option<&str>,
        bytes_max: u64,
    ) -> Result<Response<Bytes>, Failed> {
        let (Some(host), Some(authority)) = (url.host(), url.authority()) else {
            return Err(Failed::for_good(format!("{url} names no host")));
        };
        let is_tls = url.scheme_str() == Some("https");
        let port = url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let failed = |error: std::io::Error| Failed::of_the_way(format!("{url}: {error}"));
        let late = |_elapsed| Failed::of_the_way(format!("{url}: no answer within {} seconds", CONNECT.as_secs()));
        let mut request = Request::get(url.path_and_query().map_or("/", |path| path.as_str()))
            .header(HOST, authority.as_str())
            .header(USER_AGENT, concat!("tollgate/", env!("CARGO_PKG_VERSION")));
        for (name, value) in [(ACCEPT, accept), (AUTHORIZATION, login)] {
            request = value.into_iter().fold(request, |request, value| request.header(&name, value));
        }
        let request =
            request.body(Empty::<Bytes>::new()).map_err(|error| Failed::for_good(format!("{url}: {error}")))?;
        let connect = async {
            let tcp = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
            if !is_tls {
                return Ok(Stream::Plain(tcp));
            }
            let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(std::io::Error::other)?;
            Ok(Stream::Tls(Box::new(self.tls.connect(name, tcp).await?)))
        };
        let stream = tokio::time::timeout(CONNECT, connect).await.map_err(late)?.map_err(failed)?;
        match stream {
            Stream::Plain(stream) => exchange(stream, request, bytes_max).await,
            Stream::Tls(stream) => exchange(stream, request, bytes_max).await,
        }
        .map_err(|error| Failed::of_the_way(format!("{url}: {error}")))
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// One request on its own connection.
async fn exchange<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    request: Request<Empty<Bytes>>,
    bytes_max: u64,
) -> anyhow::Result<Response<Bytes>> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let asked = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let limit = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let body = Limited::new(body, limit).collect().await.map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(Response::from_parts(head, body.to_bytes()))
    };
    // If the connection ends early, the request ends with it.
    let driven = async {
        let _ended = connection.await;
        std::future::pending().await
    };
    tokio::select! {
        answer = asked => answer,
        never = driven => never,
    }
}

/// Splits a list of `name="value"`.
fn parameters(challenge: &str) -> impl Iterator<Item = (&str, &str)> {
    let parts = list(challenge).unwrap_or_default().into_iter();
    parts.filter_map(|part| part.split_once('=')).map(|(name, value)| (name.trim(), value.trim().trim_matches('"')))
}

/// Percent-encodes a value of a query (RFC 3986 §3.4).
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' => {
                out.push(char::from(byte))
            }
            _ => {
                use std::fmt::Write as _;
                let _infallible = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_may_have_commas_in_quotes() {
        let text = r#"realm="https://auth.example/token",service="a b", scope="repository:x:pull,push""#;
        let found: Vec<_> = parameters(text).collect();
        let expected =
            [("realm", "https://auth.example/token"), ("service", "a b"), ("scope", "repository:x:pull,push")];
        assert_eq!(found, expected);
        assert_eq!(escaped("repository:x/y:pull,push &"), "repository:x/y:pull%2Cpush%20%26");
    }
}
