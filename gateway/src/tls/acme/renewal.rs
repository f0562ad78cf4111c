//! When the CA wants a certificate to be renewed (ACME renewal information, RFC 9773). Before an outage or a revocation the
//! CA may ask for an earlier renewal than the expiry would.
//!
//! The request is a plain GET without the account. Limit: a response has at most [`ANSWER_BYTES_MAX`] and arrives within
//! [`ASK_TIME`].

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail, ensure};
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use instant_acme::CertificateIdentifier;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, Der, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer as _, ParsedExtension, X509Certificate};

use super::Acme;
use crate::deadline::Deadline;
use crate::ids::TenantId;

const ANSWER_BYTES_MAX: usize = 64 << 10;
const ASK_TIME: Duration = Duration::from_secs(30);
/// Shortest time between two requests, whatever the CA says (RFC 9773 §4.3.2).
const AGAIN_MIN: Duration = Duration::from_mins(1);
const AGAIN_MAX: Duration = Duration::from_hours(24);
const AGAIN: Duration = Duration::from_hours(6);

/// The CA's suggestion for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suggestion {
    /// A random moment within its window, so that clients do not all renew at once (§4.2).
    pub(crate) renew_at: SystemTime,
    /// When to ask again.
    pub(crate) again: Duration,
}

impl Acme {
    /// The CA's suggestion for a tenant's certificate. Nothing if there is no certificate, or if the CA does not offer
    /// this.
    ///
    /// # Errors
    /// The CA does not answer, or its answer is not a window.
    pub(crate) async fn suggestion(&self, tenant: &TenantId) -> anyhow::Result<Option<Suggestion>> {
        let Some(pair) = self.kept.get(tenant) else { return Ok(None) };
        let Some(id) = pair.key.cert.first().and_then(identifier) else { return Ok(None) };
        let asked = async {
            let (directory, _) = self.get(&self.settings.directory).await?;
            let directory: serde_json::Value = serde_json::from_slice(&directory)?;
            let Some(at) = directory["renewalInfo"].as_str() else { return Ok(None) };
            let (said, again) = self.get(&format!("{}/{id}", at.trim_end_matches('/'))).await?;
            Ok::<_, anyhow::Error>(Some(Suggestion { renew_at: chosen(&said, rand::random_range(0.0..1.0))?, again }))
        };
        Deadline::after(ASK_TIME).run(asked).await?
    }

    /// Returns the JSON body, and how long to wait before the next request.
    async fn get(&self, url: &str) -> anyhow::Result<(Vec<u8>, Duration)> {
        let url: Uri = url.parse()?;
        ensure!(url.scheme_str() == Some("https"), "{url} is no https URL");
        let host = url.host().context("the CA's URL has no host")?.to_owned();
        let tcp = TcpStream::connect((host.trim_matches(['[', ']']), url.port_u16().unwrap_or(443))).await?;
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
        let stream = TlsConnector::from(Arc::new(self.trust()?)).connect(name, tcp).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driven = tokio::spawn(async {
            // The request reports how the connection ended.
            let _ended = connection.await;
        });
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let authority = url.authority().map(ToString::to_string).unwrap_or_default();
        let asked = Request::get(path).header(header::HOST, authority).body(Empty::<bytes::Bytes>::new())?;
        let (parts, body) = sender.send_request(asked).await?.into_parts();
        if parts.status != StatusCode::OK {
            bail!("the CA answers {} for {path}", parts.status);
        }
        let again = parts.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| anyhow::anyhow!(error))?;
        driven.abort();
        let again = again.map_or(AGAIN, Duration::from_secs).clamp(AGAIN_MIN, AGAIN_MAX);
        Ok((body.to_bytes().to_vec(), again))
    }

    fn trust(&self) -> anyhow::Result<rustls::ClientConfig> {
        let mut roots = RootCertStore::empty();
        match &self.settings.ca {
            Some(ca) => roots.add(CertificateDer::from_pem_file(ca)?)?,
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(config.with_root_certificates(roots).with_no_client_auth())
    }
}

/// The CA's name for the certificate: the identifier of the issuer's key, and the serial number (§4.1).
pub(super) fn identifier(leaf: &CertificateDer<'_>) -> Option<CertificateIdentifier<'static>> {
    let (_, read) = X509Certificate::from_der(leaf).ok()?;
    let key = read.extensions().iter().find_map(|extension| {
        if let ParsedExtension::AuthorityKeyIdentifier(of) = extension.parsed_extension() {
            of.key_identifier.as_ref().map(|id| id.0)
        } else {
            None
        }
    });
    let identifier = CertificateIdentifier::new(Der::from_slice(key?), Der::from_slice(read.raw_serial()));
    Some(identifier.into_owned())
}

/// The moment at this fraction of the window.
fn chosen(said: &[u8], part: f64) -> anyhow::Result<SystemTime> {
    let said: serde_json::Value = serde_json::from_slice(said)?;
    let date = |name: &str| -> anyhow::Result<SystemTime> {
        let text =
            said["suggestedWindow"][name].as_str().with_context(|| format!("there is no suggestedWindow.{name}"))?;
        Ok(chrono::DateTime::parse_from_rfc3339(text)?.into())
    };
    let (start, end) = (date("start")?, date("end")?);
    Ok(start + end.duration_since(start).context("the window ends before it begins")?.mul_f64(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_of_the_window_is_chosen() {
        let window = br#"{"suggestedWindow":{"start":"2026-01-02T04:00:00Z","end":"2026-01-03T04:00:00+00:00"},"explanationURL":"https://x"}"#;
        let at = |part| chosen(window, part).unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert_eq!([at(0.0), at(0.5), at(1.0)], [1_767_326_400, 1_767_369_600, 1_767_412_800]);
        let backwards = br#"{"suggestedWindow":{"start":"2026-01-03T04:00:00Z","end":"2026-01-02T04:00:00Z"}}"#;
        for bad in [&b"{}"[..], b"[]", b"no JSON", br#"{"suggestedWindow":{"start":"soon","end":"later"}}"#, backwards]
        {
            assert!(chosen(bad, 0.5).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
