//! `[tls]` of the machine's file: where certificates come from.

use std::path::Path;

use super::gateway_file::join;
use super::kind::Kind;
use super::reader::{Reader, Section};
use crate::tls::{self, AcmeSettings, Challenge};

/// Let's Encrypt's.
const DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// Where they come from, and which CA gives them where one does.
pub(super) fn read(reader: &Reader, file: &Section<'_>, base: &Path) -> (tls::Source, Option<AcmeSettings>) {
    let Some(section) = file.section("tls") else { return (tls::Source::Dev, None) };
    let words = [("dev", tls::Source::Dev), ("files", tls::Source::Files), ("acme", tls::Source::Acme)];
    let source = section.word("certificates", &words).map_or(tls::Source::Dev, |at| at.value);
    let asked = section.section("acme");
    let acme = (source == tls::Source::Acme).then(|| settings(reader, &section, asked.as_ref(), base));
    if let (None, Some(asked)) = (&acme, &asked) {
        let summary = "[tls.acme] says nothing without certificates = \"acme\"".to_owned();
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
    section.finish();
    (source, acme)
}

fn settings(reader: &Reader, section: &Section<'_>, asked: Option<&Section<'_>>, base: &Path) -> AcmeSettings {
    let agreed = asked.and_then(|asked| asked.boolean("agree_to_terms"));
    if !agreed.as_ref().is_some_and(|at| at.value) {
        let place = agreed.map_or_else(|| asked.unwrap_or(section).place(), |at| at.place);
        let summary = "the CA's terms of service are not agreed to".to_owned();
        reader.bad(
            Kind::MissingKey,
            &place,
            summary,
            "no agreement".to_owned(),
            "[tls.acme] with agree_to_terms = true, once they were read",
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
    AcmeSettings {
        directory: directory.map_or_else(|| DIRECTORY.to_owned(), |at| at.value),
        contacts: contacts.unwrap_or_default().into_iter().map(|at| at.value).collect(),
        challenges: if ways.is_empty() { vec![Challenge::TlsAlpn, Challenge::Http] } else { ways },
        ca: asked.and_then(|asked| asked.string("ca")).map(|at| join(base, &at.value)),
    }
}
