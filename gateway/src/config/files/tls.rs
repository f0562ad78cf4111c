//! `[tls]` of the machine's file: where certificates come from.

use std::path::{Path, PathBuf};

use base64::Engine as _;

use super::{admin, join};
use crate::config::problem::Kind;
use crate::config::reader::{Reader, Section};
use crate::tls::{self, AcmeSettings, Binding, Challenge, Pair, Roots};

/// Let's Encrypt's.
const DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// The settings of `[tls]`.
#[derive(Default)]
pub(crate) struct TlsFile {
    pub(crate) source: tls::Source,
    /// The CA that issues certificates, if there is one.
    pub(crate) acme: Option<AcmeSettings>,
    pub(crate) roots: Roots,
    /// The certificate chain and key for host names without a tenant.
    pub(crate) default: Option<(PathBuf, PathBuf)>,
}

/// Reads where certificates come from, and which roots they are checked against.
pub(crate) fn read(reader: &Reader, file: &Section<'_>, base: &Path) -> TlsFile {
    let Some(section) = file.section("tls") else { return TlsFile::default() };
    let words = [("dev", tls::Source::Dev), ("files", tls::Source::Files), ("acme", tls::Source::Acme)];
    let source = section.word("certificates", &words).map_or(tls::Source::Dev, |at| at.value);
    let asked = section.section("acme");
    let acme = (source == tls::Source::Acme).then(|| settings(reader, &section, asked.as_ref(), base));
    if let (None, Some(asked)) = (&acme, &asked) {
        let summary = "[tls.acme] has no effect without certificates = \"acme\"".to_owned();
        reader.bad(
            Kind::KeysDisagree,
            &asked.place(),
            summary,
            "certificates of another kind".to_owned(),
            "certificates = \"acme\"",
        );
    }
    if let Some(asked) = asked.filter(|_| acme.is_some()) {
        asked.finish();
    }
    let roots = roots(reader, &section, base);
    let default = default(reader, &section, base);
    section.finish();
    TlsFile { source, acme, roots, default }
}

/// The external account at a CA that requires one.
fn binding(reader: &Reader, asked: &Section<'_>, base: &Path) -> Option<Binding> {
    const WANTED: &str = "{ file = \"path\" } or { env = \"NAME\" }, with the MAC key that the CA issued, in base64url";
    let id = asked.string("eab_kid");
    let key = admin::secret(reader, asked, "eab_key", (WANTED, 1), base);
    let (id, key) = match (id, key) {
        (None, None) => return None,
        (Some(id), Some(key)) => (id, key),
        (id, _) => {
            let place = id.map_or_else(|| asked.place(), |at| at.place);
            let summary = "`eab_kid` and `eab_key` are required together".to_owned();
            reader.bad(Kind::MissingKey, &place, summary, "one of them".to_owned(), "eab_kid and eab_key");
            return None;
        }
    };
    let text = key.0.trim().trim_end_matches('=').replace('+', "-").replace('/', "_");
    match base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text) {
        Ok(key) => Some(Binding { id: id.value, key }),
        Err(_not_base64) => {
            let summary = "`eab_key` cannot be read".to_owned();
            reader.bad(Kind::BadValue, &id.place, summary, "a value that is not base64url".to_owned(), WANTED);
            None
        }
    }
}

/// The root certificates that clients trust.
fn roots(reader: &Reader, section: &Section<'_>, base: &Path) -> Roots {
    let Some(at) = section.string("roots") else { return Roots::default() };
    let read = std::fs::read(join(base, &at.value)).map_err(|error| error.to_string());
    read.and_then(|pem| Roots::with(&pem)).unwrap_or_else(|found| {
        let summary = "`tls.roots` cannot be read".to_owned();
        reader.bad(Kind::Unreadable, &at.place, summary, found, "a PEM file of CAs' certificates");
        Roots::default()
    })
}

/// The pair for host names without a tenant.
fn default(reader: &Reader, section: &Section<'_>, base: &Path) -> Option<(PathBuf, PathBuf)> {
    let (cert, key) = (section.string("default_cert"), section.string("default_key"));
    let (cert, key) = match (cert, key) {
        (Some(cert), Some(key)) => (cert, key),
        (None, None) => return None,
        (Some(at), None) | (None, Some(at)) => {
            let summary = "a certificate and its key are required together".to_owned();
            reader.bad(Kind::MissingKey, &at.place, summary, "one of them".to_owned(), "default_cert and default_key");
            return None;
        }
    };
    let (cert_path, key_path) = (join(base, &cert.value), join(base, &key.value));
    let read = |path: &Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let pair = read(&cert_path).and_then(|cert| {
        let key = read(&key_path)?;
        Pair::parse(&cert, &key).map_err(|error| error.to_string())
    });
    if let Err(found) = pair {
        let summary = "the default certificate cannot be used".to_owned();
        reader.bad(Kind::BadCertificate, &cert.place, summary, found, "a certificate and its private key");
    }
    Some((cert_path, key_path))
}

fn settings(reader: &Reader, section: &Section<'_>, asked: Option<&Section<'_>>, base: &Path) -> AcmeSettings {
    let agreed = asked.and_then(|asked| asked.boolean("agree_to_terms"));
    if !agreed.as_ref().is_some_and(|at| at.value) {
        let place = agreed.map_or_else(|| asked.unwrap_or(section).place(), |at| at.place);
        let summary = "you have not agreed to the CA's terms of service".to_owned();
        reader.bad(
            Kind::MissingKey,
            &place,
            summary,
            "no agreement".to_owned(),
            "[tls.acme] with agree_to_terms = true, after you read them",
        );
    }
    let is_url = |text: &str| text.starts_with("https://").then(|| text.to_owned());
    let url = |value: &toml::de::DeValue<'_>| value.as_str().and_then(is_url);
    let directory = asked.and_then(|asked| asked.take("directory", "an https URL", url));
    let contact = |text: &str| text.starts_with("mailto:").then(|| text.to_owned());
    let contacts = asked.and_then(|asked| asked.list("contacts", "\"mailto:ADDRESS\"", contact));
    let way = |text: &str| match text {
        "http-01" => Some(Challenge::Http),
        "tls-alpn-01" => Some(Challenge::TlsAlpn),
        _ => None,
    };
    let ways = asked.and_then(|asked| asked.list("challenges", "\"tls-alpn-01\" or \"http-01\"", way));
    let ways: Vec<_> = ways.unwrap_or_default().into_iter().map(|at| at.value).collect();
    let binding = asked.and_then(|asked| binding(reader, asked, base));
    AcmeSettings {
        binding,
        directory: directory.map_or_else(|| DIRECTORY.to_owned(), |at| at.value),
        contacts: contacts.unwrap_or_default().into_iter().map(|at| at.value).collect(),
        challenges: if ways.is_empty() { vec![Challenge::TlsAlpn, Challenge::Http] } else { ways },
        ca: asked.and_then(|asked| asked.string("ca")).map(|at| join(base, &at.value)),
    }
}
