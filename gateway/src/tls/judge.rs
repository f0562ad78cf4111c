//! Judges a certificate chain as clients do: who signed it, when all of it is valid, and whether it is for a server.
//!
//! From what the server sends, a client builds a path from the leaf to one of its own roots. Some clients fetch or cache
//! missing certificates; most refuse. Source: RFC 5280 §6, RFC 8446 §4.4.2. Webpki checks signatures and the rules of a
//! path, as it does in rustls's own clients.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer as _, ParsedExtension, X509Certificate};

/// Reasons why clients may refuse a certificate, beside its dates and names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// It is not for servers: no client accepts it.
    Usage(String),
    /// The certificates of the file do not form a chain.
    Chain(String),
    /// The issuer is missing: only clients that already have it accept the certificate.
    Issuer(String),
    /// Some clients refuse it.
    Differs(String),
}

impl Doubt {
    /// The reason, in words for an operator.
    pub(crate) fn words(&self) -> &str {
        match self {
            Self::Usage(words) | Self::Chain(words) | Self::Issuer(words) | Self::Differs(words) => words,
        }
    }
}

/// What the chain alone shows. No clock is read.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    /// The time from which, and until which, all certificates that clients need are valid.
    pub(crate) good: [SystemTime; 2],
    pub(crate) doubts: Vec<Doubt>,
    /// The issuers in the chain that are not roots, by their encoded names.
    intermediates: Vec<Vec<u8>>,
    /// The issuer of the last certificate, if the file does not contain it.
    issuer: Option<Vec<u8>>,
}

impl Verdict {
    /// Whether a client that has the root finds nothing wrong at this time.
    pub(crate) fn is_good(&self, at: SystemTime) -> bool {
        let is_broken = |doubt: &Doubt| matches!(doubt, Doubt::Usage(_) | Doubt::Chain(_));
        let [from, until] = self.good;
        from <= at && at < until && !self.doubts.iter().any(is_broken)
    }

    /// Whether this chain contains the intermediate that the other chain lacks: the issuer of its last certificate.
    pub(crate) fn has_issuer_of(&self, other: &Self) -> bool {
        other.issuer.as_ref().is_some_and(|issuer| self.intermediates.contains(issuer))
    }

    /// Judges a chain, leaf first. `text` is the file, from which not every certificate may have been read.
    pub(super) fn of(chain: &[CertificateDer<'_>], text: &[u8]) -> Option<Self> {
        let (leaf, rest) = chain.split_first()?;
        let (_, leaf_read) = X509Certificate::from_der(leaf).ok()?;
        let mut doubts = usage(&leaf_read);
        doubts.extend(unread(chain.len(), text));
        let rest: Vec<_> =
            rest.iter().map(|der| (der, X509Certificate::from_der(der).ok().map(|(_, read)| read))).collect();
        if let Some(at) = rest.iter().position(|(_, read)| read.is_none()) {
            doubts.push(Doubt::Chain(format!("certificate {} of the file cannot be read", at + 2)));
        }
        let rest: Vec<_> = rest.iter().filter_map(|(der, read)| Some((*der, read.as_ref()?))).collect();
        let path = path(&leaf_read, &rest);
        let on_path: Vec<_> = path.iter().filter_map(|at| rest.get(*at)).collect();
        let last = on_path.last().map_or(&leaf_read, |(_, read)| *read);
        let good = dates(&leaf_read, on_path.iter().map(|(_, read)| *read));
        let is_no_servers = doubts.iter().any(|doubt| matches!(doubt, Doubt::Usage(_)));
        if is_no_servers {
            // The usage comes first: below, its error could not be told apart from that of an issuer.
        } else if let Some(doubt) = linked(leaf, &leaf_read, &on_path, rest.len(), good) {
            doubts.push(doubt);
        } else if path.iter().enumerate().any(|(at, of)| at != *of) {
            doubts.push(Doubt::Differs(
                "its certificates are not in order: each must come before the certificate of its issuer".to_owned(),
            ));
        }
        let issuer = (!is_self_signed(last)).then(|| last.issuer().as_raw().to_vec());
        let intermediates = on_path.iter().filter(|(_, read)| !is_self_signed(read));
        let intermediates = intermediates.map(|(_, read)| read.subject().as_raw().to_vec()).collect();
        if on_path.is_empty() && issuer.is_some() && rest.is_empty() {
            doubts.push(Doubt::Issuer(format!(
                "the file has no certificate of its issuer, {}: only clients that trust this issuer as a root accept it",
                leaf_read.issuer()
            )));
        }
        Some(Self { good, doubts, intermediates, issuer })
    }
}

/// When the first certificate on the leaf's path expires. Nothing is verified.
pub(super) fn ends(chain: &[CertificateDer<'_>]) -> Option<SystemTime> {
    let (leaf, rest) = chain.split_first()?;
    let (_, leaf) = X509Certificate::from_der(leaf).ok()?;
    let read: Vec<_> = rest.iter().filter_map(|der| Some((der, X509Certificate::from_der(der).ok()?.1))).collect();
    let rest: Vec<_> = read.iter().map(|(der, read)| (*der, read)).collect();
    let above = path(&leaf, &rest).into_iter().filter_map(|at| rest.get(at).map(|(_, read)| *read));
    Some(dates(&leaf, above)[1])
}

fn is_self_signed(certificate: &X509Certificate<'_>) -> bool {
    certificate.subject().as_raw() == certificate.issuer().as_raw()
}

/// Reasons why this certificate is not for a server (RFC 5280 §4.2.1.3, §4.2.1.12).
fn usage(leaf: &X509Certificate<'_>) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    if let Ok(Some(extended)) = leaf.extended_key_usage()
        && !extended.value.server_auth
    {
        doubts.push(if extended.value.any {
            Doubt::Differs("its extended key usage is `any`, which some clients refuse for a server".to_owned())
        } else {
            Doubt::Usage("its extended key usage has no serverAuth".to_owned())
        });
    }
    if let Ok(Some(usage)) = leaf.key_usage()
        && !usage.value.digital_signature()
    {
        doubts.push(if usage.value.key_encipherment() || usage.value.key_agreement() {
            Doubt::Differs("its key usage has no digitalSignature, which current TLS handshakes require".to_owned())
        } else {
            Doubt::Usage("its key usage has no digitalSignature: its key may not be used in a handshake".to_owned())
        });
    }
    if leaf.is_ca() && !is_self_signed(leaf) {
        doubts.push(Doubt::Differs("it is the certificate of a CA, which some clients refuse for a server".to_owned()));
    }
    doubts
}

/// Counts certificates that the file begins but that were not read: a BEGIN line must stand alone (RFC 7468 §2).
fn unread(read: usize, text: &[u8]) -> Option<Doubt> {
    const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
    let begun = memchr::memmem::find_iter(text, BEGIN).count();
    (begun > read).then(|| {
        Doubt::Chain(format!(
            "{begun} certificates begin in the file, but only {read} can be read: each BEGIN and END must be on a line \
                of its own"
        ))
    })
}

/// The leaf's issuer, the issuer's issuer and so on, as far as the file has them: their indices in `rest`.
fn path(leaf: &X509Certificate<'_>, rest: &[(&CertificateDer<'_>, &X509Certificate<'_>)]) -> Vec<usize> {
    let mut path: Vec<usize> = Vec::new();
    let mut last = leaf;
    while !is_self_signed(last) {
        let named = rest
            .iter()
            .enumerate()
            .filter(|(at, (_, other))| !path.contains(at) && other.subject().as_raw() == last.issuer().as_raw());
        // If several have the right name, take the one with the right key.
        let wanted = key_ids(last)[1];
        let Some((at, (_, issuer))) = named.min_by_key(|(_, (_, other))| key_ids(other)[0] != wanted) else { break };
        path.push(at);
        last = issuer;
    }
    path
}

/// The identifiers of the certificate's own key and of its issuer's (RFC 5280 §4.2.1.1 and 2).
fn key_ids<'c>(of: &'c X509Certificate<'_>) -> [Option<&'c [u8]>; 2] {
    let (mut own, mut issuer) = (None, None);
    for extension in of.extensions() {
        if let ParsedExtension::SubjectKeyIdentifier(id) = extension.parsed_extension() {
            own = Some(id.0);
        } else if let ParsedExtension::AuthorityKeyIdentifier(of) = extension.parsed_extension() {
            issuer = of.key_identifier.as_ref().map(|id| id.0);
        }
    }
    [own, issuer]
}

/// From the latest start to the earliest end. A root in the file does not count: clients use their own copy of it.
fn dates<'c>(leaf: &X509Certificate<'_>, above: impl Iterator<Item = &'c X509Certificate<'c>>) -> [SystemTime; 2] {
    let of = |certificate: &X509Certificate<'_>| {
        let validity = certificate.validity();
        [validity.not_before, validity.not_after].map(|at| time(at.timestamp()))
    };
    above
        .filter(|certificate| !is_self_signed(certificate))
        .map(of)
        .fold(of(leaf), |[from, until], [begins, ends]| [from.max(begins), until.min(ends)])
}

pub(super) fn time(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// What is wrong with the links of the path, if anything.
fn linked(
    leaf: &CertificateDer<'_>,
    read: &X509Certificate<'_>,
    path: &[&(&CertificateDer<'_>, &X509Certificate<'_>)],
    others: usize,
    good: [SystemTime; 2],
) -> Option<Doubt> {
    let Some(((top, _), between)) = path.split_last() else {
        let is_wrong = others > 0 && !is_self_signed(read);
        return is_wrong.then(|| Doubt::Chain(format!("its issuer is {}, which is not in the file", read.issuer())));
    };
    let mut roots = RootCertStore::empty();
    if roots.add((*top).clone().into_owned()).is_err() {
        return Some(Doubt::Chain("the last certificate of the chain is not the certificate of an issuer".to_owned()));
    }
    let between: Vec<_> = between.iter().map(|(der, _)| (*der).clone()).collect();
    let wrong = verify(&Arc::new(roots), leaf, &between, read, good).err()?;
    Some(Doubt::Chain(format!("its certificates do not form a chain: {wrong}")))
}

/// Whether a client with these roots accepts the chain at a time when all of it is valid. Names are checked elsewhere.
fn verify(
    roots: &Arc<RootCertStore>,
    leaf: &CertificateDer<'_>,
    between: &[CertificateDer<'_>],
    read: &X509Certificate<'_>,
    [from, until]: [SystemTime; 2],
) -> Result<(), String> {
    use rustls::{CertificateError, Error};
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), provider).build();
    let verifier = verifier.map_err(|error| error.to_string())?;
    if from >= until {
        return Err("there is no time at which all of them are valid".to_owned());
    }
    let at = UnixTime::since_unix_epoch(from.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
    let name = a_name(read);
    match verifier.verify_server_cert(leaf, between, &name, &[], at) {
        Ok(_verified) => Ok(()),
        // Webpki checks the path before the name.
        Err(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// One of the certificate's own names, so that webpki checks name constraints.
fn a_name(read: &X509Certificate<'_>) -> ServerName<'static> {
    use x509_parser::prelude::GeneralName;
    let nobody = || ServerName::IpAddress(std::net::IpAddr::from([0, 0, 0, 0]).into());
    let Ok(Some(alternatives)) = read.subject_alternative_name() else { return nobody() };
    let named = alternatives.value.general_names.iter().find_map(|name| match name {
        GeneralName::DNSName(name) => ServerName::try_from(name.replace('*', "x")).ok(),
        GeneralName::OtherName(..)
        | GeneralName::RFC822Name(_)
        | GeneralName::X400Address(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::URI(_)
        | GeneralName::IPAddress(_)
        | GeneralName::RegisteredID(_)
        | GeneralName::Invalid(..) => None,
    });
    named.unwrap_or_else(nobody)
}

/// The roots that clients have: the public ones, and those that the operator adds.
#[derive(Clone)]
pub(crate) struct Roots(Arc<RootCertStore>);

impl std::fmt::Debug for Roots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Roots").field(&self.0.len()).finish()
    }
}

impl Default for Roots {
    fn default() -> Self {
        Self(Arc::new(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()))
    }
}

impl Roots {
    /// The public roots and those of a PEM file.
    ///
    /// # Errors
    /// In words: the file has no certificate, or one that cannot be a root.
    pub(crate) fn with(pem: &[u8]) -> Result<Self, String> {
        use rustls::pki_types::pem::PemObject as _;
        let Self(roots) = Self::default();
        let (mut roots, before) = (Arc::unwrap_or_clone(roots), webpki_roots::TLS_SERVER_ROOTS.len());
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| error.to_string())?;
            roots.add(certificate).map_err(|error| error.to_string())?;
        }
        if roots.len() == before { Err("no certificate".to_owned()) } else { Ok(Self(Arc::new(roots))) }
    }

    /// Whether a client with these roots accepts the chain while it is valid, whatever name it asks for.
    pub(super) fn accept(&self, chain: &[CertificateDer<'_>], good: [SystemTime; 2]) -> bool {
        let Some((leaf, between)) = chain.split_first() else { return false };
        let Ok((_, read)) = X509Certificate::from_der(leaf) else { return false };
        verify(&self.0, leaf, between, &read, good).is_ok()
    }
}

#[cfg(test)]
mod tests;
