//! A tenant's certificate, and whose certificates its clients have: from the files to what TLS takes.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::kind::Kind;
use super::problem::{Place, Source};
use super::reader::At;
use super::resolve::Notes;
use super::tenant_file::{ClientsRead, PairRead};
use crate::domain::Pattern;
use crate::tls::{self, Clients, ClientsError, Pair, PairError};

/// Time enough to have another certificate, while somebody is at work.
const EXPIRES_SOON: Duration = Duration::from_hours(24 * 14);

/// A file's bytes, or why it could not be read.
type Bytes = Result<Vec<u8>, String>;
/// A certificate's file and its key's.
pub(super) type PairFiles = (Bytes, Bytes);
/// The CAs' file, and the list's where one is named.
pub(super) type ClientsFiles = (Bytes, Option<Bytes>);

fn readable(notes: &mut Notes<'_>, at: &At<String>, file: Bytes) -> Option<Vec<u8>> {
    match file {
        Ok(bytes) => Some(bytes),
        Err(found) => {
            let texts = ["a file of the certificate cannot be read", found.as_str(), "a PEM file"];
            notes.add(Kind::Unreadable, &at.place, texts, None);
            None
        }
    }
}

/// The outer nothing is a problem; the inner one is a tenant that needs no certificate of its own.
#[expect(clippy::option_option, reason = "a problem and an absence are two things")]
pub(super) fn pair(
    notes: &mut Notes<'_>,
    source: &Arc<Source>,
    kind: tls::Source,
    read: Option<(&PairRead, PairFiles)>,
    hosts: &[At<Pattern>],
    now: SystemTime,
) -> Option<Option<Pair>> {
    let Some((read, (cert, key))) = read else {
        let wild = hosts.iter().find(|host| matches!(host.value, Pattern::Wildcard(_)));
        if let (tls::Source::Acme, Some(wild)) = (kind, wild) {
            let texts = [
                "a CA is not asked for a wildcard, which takes a proof by DNS",
                &wild.value.to_string(),
                "[tls] with cert and key in this file, or hosts by their names",
            ];
            notes.add(Kind::NoCertificate, &wild.place, texts, None);
            return None;
        }
        if kind != tls::Source::Files {
            return Some(None);
        }
        let texts =
            ["this tenant has no certificate", "no [tls]", "[tls] with cert and key, the paths of two PEM files"];
        let hint = "tls.certificates = \"dev\" in the gateway's file makes certificates for development";
        notes.add(Kind::NoCertificate, &Place::whole(source), texts, Some(hint.to_owned()));
        return None;
    };
    let (cert, key) = (readable(notes, &read.cert, cert), readable(notes, &read.key, key));
    let pair = match Pair::parse(&cert?, &key?) {
        Ok(pair) => pair,
        Err(error) => {
            let place = if error == PairError::NoCertificate { &read.cert.place } else { &read.key.place };
            let hint = "openssl x509 -noout -pubkey -in CERT and openssl pkey -pubout -in KEY must print the same";
            let hint = (error == PairError::Mismatch).then(|| hint.to_owned());
            let texts =
                ["this certificate cannot be used", &error.to_string(), "a certificate and the key it was made for"];
            notes.add(Kind::BadCertificate, place, texts, hint);
            return None;
        }
    };
    expiry(notes, &read.cert.place, pair.not_after, now);
    for host in hosts.iter().filter(|host| !pair.covers(&host.value)) {
        let names = pair.names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let found = format!("{} is not among its names: {names}", host.value);
        let texts = ["the certificate does not cover this host", &found, "a certificate for every host of the tenant"];
        let hint = "have a certificate made that names it, or take the host out of `hosts`";
        notes.add(Kind::HostNotCovered, &host.place, texts, Some(hint.to_owned()));
    }
    Some(Some(pair))
}

fn expiry(notes: &mut Notes<'_>, place: &Place, not_after: SystemTime, now: SystemTime) {
    const HINT: &str =
        "put a new certificate and its key in the place of these files: the gateway takes them by itself";
    let days = |time: Duration| time.as_secs() / 86_400;
    match not_after.duration_since(now) {
        Err(over) => {
            let found = format!("it ended {} days ago", days(over.duration()));
            let texts = ["the certificate has expired", &found, "a certificate that is valid today"];
            notes.add(Kind::CertificateExpired, place, texts, Some(HINT.to_owned()));
        }
        Ok(left) if left < EXPIRES_SOON => {
            let found = format!("it ends in {} days", days(left));
            let texts = ["the certificate ends soon", &found, "one that lasts two weeks at least"];
            notes.add(Kind::CertificateExpires, place, texts, Some(HINT.to_owned()));
        }
        Ok(_long) => {}
    }
}

/// The outer nothing is a problem; the inner one is a tenant that asks its clients for nothing.
#[expect(clippy::option_option, reason = "a problem and an absence are two things")]
pub(super) fn clients(
    notes: &mut Notes<'_>,
    read: Option<(&ClientsRead, ClientsFiles)>,
) -> Option<Option<Arc<Clients>>> {
    let Some((read, (ca, revoked))) = read else { return Some(None) };
    let ca = readable(notes, &read.ca, ca);
    let list = read.revoked.as_ref().zip(revoked);
    let list = list.map(|(at, file)| readable(notes, at, file));
    if list.as_ref().is_some_and(Option::is_none) {
        return None;
    }
    let list = list.flatten();
    match Clients::parse(&ca?, list.as_deref(), read.is_required) {
        Ok(clients) => Some(Some(Arc::new(clients))),
        Err(error) => {
            let is_list = error == ClientsError::NoList;
            let place = read.revoked.as_ref().filter(|_| is_list).map_or(&read.ca.place, |at| &at.place);
            let wanted = if is_list {
                "a CRL in PEM, of each CA"
            } else {
                "the certificates of CAs, in PEM, one after the other"
            };
            let texts = ["clients' certificates cannot be looked at", &error.to_string(), wanted];
            notes.add(Kind::BadCertificate, place, texts, None);
            None
        }
    }
}
