//! A tenant's certificates and the CAs of its clients: from the files to the types of `tls`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::notes::Notes;
use crate::config::files::tenant::{ClientsRead, PairRead};
use crate::config::problem::{Kind, Place, Source};
use crate::config::reader::At;
use crate::domain::Pattern;
use crate::ids::TenantId;
use crate::tls::{self, Clients, ClientsError, Doubt, Pair, PairError, Roots};

/// Long enough to get another certificate during working hours.
pub(crate) const EXPIRES_SOON: Duration = Duration::from_hours(24 * 14);

/// A file's bytes, or why it could not be read.
type Bytes = Result<Vec<u8>, String>;
/// The files of a certificate and of its key.
pub(crate) type PairFiles = (Bytes, Bytes);
/// The file of the CAs, and that of the CRL if one is named.
pub(crate) type ClientsFiles = (Bytes, Option<Bytes>);

fn readable(notes: &mut Notes<'_>, at: &At<String>, file: Bytes) -> Option<Vec<u8>> {
    match file {
        Ok(bytes) => Some(bytes),
        Err(found) => {
            let texts = ["a certificate file cannot be read", found.as_str(), "a PEM file"];
            notes.add(Kind::Unreadable, &at.place, texts, None);
            None
        }
    }
}

/// The certificates that are served while files are read.
#[derive(Debug)]
pub(crate) enum Served {
    /// The reader is not a gateway: its report must hold for a gateway that serves valid certificates.
    Unknown,
    These(BTreeMap<TenantId, Vec<Pair>>),
}

impl Default for Served {
    fn default() -> Self {
        Self::These(BTreeMap::new())
    }
}

impl Served {
    /// The certificates of a tenant; none if that is not known.
    pub(crate) fn of(&self, tenant: &TenantId) -> Option<&[Pair]> {
        match self {
            Self::Unknown => None,
            Self::These(pairs) => Some(pairs.get(tenant).map_or(&[], Vec::as_slice)),
        }
    }
}

/// What a certificate is judged by.
pub(crate) struct Judge<'j> {
    pub(crate) source: &'j Arc<Source>,
    pub(crate) roots: &'j Roots,
    /// The certificates that the tenant's clients get now; none if that is not known.
    pub(crate) served: Option<&'j [Pair]>,
    pub(crate) now: SystemTime,
}

impl Judge<'_> {
    /// Whether a certificate that clients refuse would replace a valid one, or might.
    fn has_better(&self) -> bool {
        self.served.is_none_or(|pairs| pairs.iter().any(|pair| pair.verdict.is_good(self.now)))
    }

    /// Whether the chain lacks an intermediate certificate that clients have got until now.
    fn lost_issuer(&self, pair: &Pair) -> bool {
        let served = self.served.unwrap_or_default();
        served.iter().any(|before| before.verdict.has_issuer_of(&pair.verdict))
    }
}

/// A tenant's certificates; an empty list if the tenant needs none of its own.
pub(crate) fn pairs(
    notes: &mut Notes<'_>,
    judge: &Judge<'_>,
    kind: tls::Source,
    read: Vec<(&PairRead, PairFiles)>,
    hosts: &[At<Pattern>],
) -> Option<Vec<Pair>> {
    if read.is_empty() {
        return without(notes, judge.source, kind, hosts).then(Vec::new);
    }
    let wanted = read.len();
    let mut pairs: Vec<Pair> = Vec::new();
    for (read, files) in read {
        let Some(pair) = pair(notes, judge, read, files, hosts) else { continue };
        if pairs.iter().any(|other| other.key.key.algorithm() == pair.key.key.algorithm()) {
            let found = format!("two of {:?}", pair.key.key.algorithm());
            let texts = [
                "both certificates have the same kind of key, so the second is never used",
                &found,
                "one ECDSA and one RSA certificate",
            ];
            notes.add(Kind::KeysDisagree, &read.cert.place, texts, None);
        }
        pairs.push(pair);
    }
    (pairs.len() == wanted).then_some(pairs)
}

/// Whether a tenant may be without its own certificate.
fn without(notes: &mut Notes<'_>, source: &Arc<Source>, kind: tls::Source, hosts: &[At<Pattern>]) -> bool {
    let wild = hosts.iter().find(|host| matches!(host.value, Pattern::Wildcard(_)));
    if let (tls::Source::Acme, Some(wild)) = (kind, wild) {
        let texts = [
            "the gateway cannot get a certificate for a wildcard by ACME, because it supports no DNS challenge",
            &wild.value.to_string(),
            "[tls] with cert and key in this file, or hosts without a wildcard",
        ];
        notes.add(Kind::NoCertificate, &wild.place, texts, None);
        return false;
    }
    if kind != tls::Source::Files {
        return true;
    }
    let texts = ["this tenant has no certificate", "no [tls]", "[tls] with cert and key, the paths of two PEM files"];
    let hint = "tls.certificates = \"dev\" in the gateway's file creates certificates for development";
    notes.add(Kind::NoCertificate, &Place::whole(source), texts, Some(hint.to_owned()));
    false
}

fn pair(
    notes: &mut Notes<'_>,
    judge: &Judge<'_>,
    read: &PairRead,
    (cert, key): PairFiles,
    hosts: &[At<Pattern>],
) -> Option<Pair> {
    let (cert, key) = (readable(notes, &read.cert, cert), readable(notes, &read.key, key));
    let pair = match Pair::parse(&cert?, &key?) {
        Ok(pair) => pair,
        Err(error) => {
            let place = if error == PairError::NoCertificate { &read.cert.place } else { &read.key.place };
            let hint = "openssl x509 -noout -pubkey -in CERT and openssl pkey -pubout -in KEY must print the same";
            let hint = (error == PairError::Mismatch).then(|| hint.to_owned());
            let texts = ["this certificate cannot be used", &error.to_string(), "a certificate and its private key"];
            notes.add(Kind::BadCertificate, place, texts, hint);
            return None;
        }
    };
    chain(notes, judge, &read.cert.place, &pair);
    dates(notes, judge, &read.cert.place, &pair);
    for host in hosts.iter().filter(|host| !pair.covers(&host.value)) {
        let names = pair.names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let found = format!("{} is not among the certificate's names: {names}", host.value);
        let texts = ["the certificate does not cover this host", &found, "a certificate for every host of the tenant"];
        let hint = "get a certificate that includes it, or remove the host from `hosts`";
        notes.add(Kind::HostNotCovered, &host.place, texts, Some(hint.to_owned()));
    }
    Some(pair)
}

/// Reports what clients may find wrong with the chain. A certificate that can never work is refused. One that some clients
/// may accept is refused only if it would replace a better one; otherwise it is served with a warning.
fn chain(notes: &mut Notes<'_>, judge: &Judge<'_>, place: &Place, pair: &Pair) {
    const WANTED: &str = "the server's certificate, then each issuer's certificate, without the root";
    for doubt in &pair.verdict.doubts {
        let (kind, summary, found) = match doubt {
            Doubt::Usage(found) => (Kind::CertificateUsage, "clients refuse this certificate for a server", found),
            Doubt::Chain(found) if judge.has_better() => {
                (Kind::CertificateChain, "clients cannot verify this certificate chain", found)
            }
            Doubt::Chain(found) => {
                (Kind::CertificateDoubtful, "most clients cannot verify this certificate chain", found)
            }
            Doubt::Issuer(_) if pair.is_known_to(judge.roots) => continue,
            Doubt::Issuer(found) if judge.lost_issuer(pair) => (
                Kind::CertificateChain,
                "an intermediate certificate is missing, which the current certificate has",
                found,
            ),
            Doubt::Issuer(found) => {
                (Kind::CertificateDoubtful, "an intermediate certificate is missing, or this CA is not public", found)
            }
            Doubt::Differs(found) => (Kind::CertificateDoubtful, "some clients may refuse this certificate", found),
        };
        notes.add(kind, place, [summary, found, WANTED], None);
    }
}

/// A certificate that has expired, or is not valid yet, is refused if it would replace a valid one. Otherwise it is served,
/// and clients decide.
fn dates(notes: &mut Notes<'_>, judge: &Judge<'_>, place: &Place, pair: &Pair) {
    const HINT: &str = "replace these files by a new certificate and its key: the gateway reloads them by itself";
    let days = |time: Duration| time.as_secs() / 86_400;
    let ([from, until], now) = (pair.verdict.good, judge.now);
    let of_issuer = if until < pair.not_after { "its issuer's certificate" } else { "it" };
    let kind = if judge.has_better() { Kind::CertificateExpired } else { Kind::CertificateOver };
    let mut add = |kind: Kind, summary: &str, found: &str, wanted: &str| {
        notes.add(kind, place, [summary, found, wanted], Some(HINT.to_owned()));
    };
    match until.duration_since(now) {
        _ if now < from => {
            let found = format!("it becomes valid in {} days", days(from.duration_since(now).unwrap_or_default()) + 1);
            add(kind, "the certificate is not valid yet", &found, "a certificate that is valid today");
        }
        Err(over) => {
            let found = format!("{of_issuer} expired {} days ago", days(over.duration()));
            add(kind, "the certificate has expired", &found, "a certificate that is valid today");
        }
        Ok(left) if left < EXPIRES_SOON => {
            let found = format!("{of_issuer} expires in {} days", days(left));
            add(
                Kind::CertificateExpires,
                "the certificate expires soon",
                &found,
                "a certificate that is valid for at least two weeks",
            );
        }
        Ok(_long) => {}
    }
}

/// The outer None is a problem; the inner None is a tenant that asks its clients for no certificate.
#[expect(clippy::option_option, reason = "a problem and an absence are two things")]
pub(crate) fn clients(
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
            let texts = ["client certificates cannot be verified", &error.to_string(), wanted];
            notes.add(Kind::BadCertificate, place, texts, None);
            None
        }
    }
}
