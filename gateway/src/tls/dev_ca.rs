//! The local development CA: created on the first run, kept in the state folder, trusted by nobody until someone installs
//! it.
//!
//! Security: its key never leaves the folder, and only its owner can read it. It signs for the hosts of configured tenants,
//! and the certificates stay in memory.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::sign::CertifiedKey;

use super::pair::Pair;
use crate::domain::Pattern;

/// The CA is valid for ten years, so that it has to be trusted only once.
const CA_DAYS: u64 = 3650;
/// Lifetime of its certificates. Clients accept longer ones from a CA that they were told to trust.
const LEAF_DAYS: u64 = 90;
/// A certificate is signed again after this time, long before it expires. Certificates of this many tenants are kept.
const LEAF_RENEWED: Duration = Duration::from_hours(24 * 30);
const ISSUED_MAX: u64 = 100_000;

/// The CA, ready to sign.
pub(crate) struct DevCa {
    issuer: Issuer<'static, KeyPair>,
    path: PathBuf,
    issued: moka::sync::Cache<Vec<Pattern>, Arc<CertifiedKey>>,
}

impl std::fmt::Debug for DevCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DevCa").field("path", &self.path).finish_non_exhaustive()
    }
}

impl DevCa {
    /// Loads the CA from `ca.pem` and `ca-key.pem` in the folder, or creates both if neither exists.
    ///
    /// # Errors
    /// The folder is not writable, the files are damaged, or only one of them exists.
    pub(crate) fn load_or_make(dir: &Path) -> anyhow::Result<Self> {
        let (path, key_path) = (dir.join("ca.pem"), dir.join("ca-key.pem"));
        if !path.exists() && !key_path.exists() {
            make(dir, &path, &key_path)
                .with_context(|| format!("cannot make the development CA in {}", dir.display()))?;
        }
        let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
        let key = KeyPair::from_pem(&read(&key_path)?)
            .with_context(|| format!("{} holds no private key", key_path.display()))?;
        let issuer = Issuer::from_ca_cert_pem(&read(&path)?, key)
            .with_context(|| format!("{} holds no certificate", path.display()))?;
        let issued = moka::sync::Cache::builder().max_capacity(ISSUED_MAX).time_to_live(LEAF_RENEWED).build();
        Ok(Self { issuer, path, issued })
    }

    /// The path of the CA certificate that clients have to trust.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the certificate for these hosts. It is signed when it is first needed.
    ///
    /// # Errors
    /// A host name is not possible in a certificate.
    pub(crate) fn issue(&self, hosts: &[Pattern]) -> anyhow::Result<Arc<CertifiedKey>> {
        self.issued.try_get_with_by_ref(hosts, || self.sign(hosts)).map_err(|error| anyhow::anyhow!("{error:#}"))
    }

    fn sign(&self, hosts: &[Pattern]) -> anyhow::Result<Arc<CertifiedKey>> {
        let mut params = CertificateParams::new(hosts.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, "Tollgate development");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // RFC 5280 §4.2.1.1 requires this extension, and so do strict clients.
        params.use_authority_key_identifier_extension = true;
        valid_for(&mut params, LEAF_DAYS);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let pair = Pair::parse(certificate.pem().as_bytes(), key.serialize_pem().as_bytes())?;
        Ok(pair.key)
    }
}

fn valid_for(params: &mut CertificateParams, days: u64) {
    const DAY: Duration = Duration::from_hours(24);
    let now = SystemTime::now();
    // Clocks differ: start the validity one day early.
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAY * u32::try_from(days).unwrap_or(1)).into();
}

fn make(dir: &Path, path: &Path, key_path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    fs::create_dir_all(dir)?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, "Tollgate development CA (this machine only)");
    valid_for(&mut params, CA_DAYS);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(key_path)?;
    file.write_all(key.serialize_pem().as_bytes())?;
    fs::write(path, certificate.pem())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ca_is_created_once_and_its_key_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let first = DevCa::load_or_make(dir.path()).unwrap();
        let pem = fs::read_to_string(first.path()).unwrap();
        let again = DevCa::load_or_make(dir.path()).unwrap();
        assert_eq!(fs::read_to_string(again.path()).unwrap(), pem);
        let mode = fs::metadata(dir.path().join("ca-key.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
        again.issue(&[Pattern::parse("hello.localhost").unwrap()]).unwrap();
    }
}
