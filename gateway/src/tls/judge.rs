//! Judges a chain as clients do: who signed whom, until when all of it is good, and whether a server may show it.
//!
//! Clients build the path from the leaf to a root of their own out of what the server sends. Some fetch what is missing, some have it
//! from elsewhere; most refuse. Source: RFC 5280 §6, RFC 8446 §4.4.2; signatures and rules of a path are webpki's, which is what
//! rustls's own clients go by.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer as _, ParsedExtension, X509Certificate};

/// What clients may hold against a certificate, beside its dates and names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// No client takes it for a server's.
    Usage(String),
    /// The file's certificates do not make a chain.
    Chain(String),
    /// Only who has its issuer already takes it.
    Issuer(String),
    /// Some clients mind.
    Differs(String),
}

impl Doubt {
    /// What it is, for an operator.
    pub(crate) fn words(&self) -> &str {
        match self {
            Self::Usage(words) | Self::Chain(words) | Self::Issuer(words) | Self::Differs(words) => words,
        }
    }
}

/// What a chain says of itself. No clock is read.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    /// From when on, and until when, all certificates are good that clients need of it.
    pub(crate) good: [SystemTime; 2],
    pub(crate) doubts: Vec<Doubt>,
    /// Names of issuers in it that are no roots, as their certificates have them.
    intermediates: Vec<Vec<u8>>,
    /// Who signed the last one, where that is not in the file.
    issuer: Option<Vec<u8>>,
}

impl Verdict {
    /// Whether no client that knows the root finds anything at this time.
    pub(crate) fn is_good(&self, at: SystemTime) -> bool {
        let is_broken = |doubt: &Doubt| matches!(doubt, Doubt::Usage(_) | Doubt::Chain(_));
        let [from, until] = self.good;
        from <= at && at < until && !self.doubts.iter().any(is_broken)
    }

    /// Whether this chain has what another one lacks: the issuer of its last certificate, which is no root.
    pub(crate) fn has_issuer_of(&self, other: &Self) -> bool {
        other.issuer.as_ref().is_some_and(|issuer| self.intermediates.contains(issuer))
    }

    /// Of a chain, leaf first. `text` is the file, of which not all may have been read.
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
            // What it is for comes first; that of its issuers cannot be told apart from it.
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

/// When the first of a chain's certificates ends that its leaf stands on. Nothing is verified.
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

/// What a server's certificate may not be for (RFC 5280 §4.2.1.3, §4.2.1.12).
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

/// Certificates that a file begins and that were not read: a line that begins one has to stand alone (RFC 7468 §2).
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

/// The leaf's issuer, that one's, and so on, as far as they are there: their places among the rest.
fn path(leaf: &X509Certificate<'_>, rest: &[(&CertificateDer<'_>, &X509Certificate<'_>)]) -> Vec<usize> {
    let mut path: Vec<usize> = Vec::new();
    let mut last = leaf;
    while !is_self_signed(last) {
        let named = rest
            .iter()
            .enumerate()
            .filter(|(at, (_, other))| !path.contains(at) && other.subject().as_raw() == last.issuer().as_raw());
        // Of several of one name, the one whose key is named.
        let wanted = key_ids(last)[1];
        let Some((at, (_, issuer))) = named.min_by_key(|(_, (_, other))| key_ids(other)[0] != wanted) else { break };
        path.push(at);
        last = issuer;
    }
    path
}

/// What its own key is called, and its issuer's (RFC 5280 §4.2.1.1 and 2).
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

/// From the last beginning to the first end. A root that a server sends is the client's own, or none: its dates are the client's affair.
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

/// What is wrong with the links of the path, if anything is.
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

/// Whether a client that has these roots accepts it, at a time when all of it is good; names are another matter.
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
        // The path is looked at before the name.
        Err(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// One that the certificate has, so that constraints on names are looked at.
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

/// Roots that clients have: the public ones, and those that the operator says.
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
    /// The public ones and those of a PEM file.
    ///
    /// # Errors
    /// In words: it has no certificate, or one that cannot be a root.
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

    /// Whether a client that has these accepts the chain while it is good, whatever name it asked for.
    pub(super) fn accept(&self, chain: &[CertificateDer<'_>], good: [SystemTime; 2]) -> bool {
        let Some((leaf, between)) = chain.split_first() else { return false };
        let Ok((_, read)) = X509Certificate::from_der(leaf) else { return false };
        verify(&self.0, leaf, between, &read, good).is_ok()
    }
}

#[cfg(test)]
mod tests;
