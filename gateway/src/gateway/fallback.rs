//! Certificates for tenants that have neither files nor a CA's: from the development CA; and the pair for names that no
//! tenant has.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwapOption;
use rustls::sign::CertifiedKey;

use crate::domain::{Domain, Pattern};
use crate::tls::{DevCa, Pair};

/// The certificates of last resort.
pub(super) struct Fallback {
    dev_ca: DevCa,
    /// The files of the pair for names that no tenant has, if the operator configured one.
    files: Option<(PathBuf, PathBuf)>,
    own: ArcSwapOption<CertifiedKey>,
}

impl std::fmt::Debug for Fallback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fallback").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Fallback {
    /// # Errors
    /// The operator's pair cannot be used.
    pub(super) fn new(dev_ca: DevCa, files: Option<(PathBuf, PathBuf)>) -> anyhow::Result<Self> {
        let fallback = Self { dev_ca, files, own: ArcSwapOption::default() };
        fallback.own.store(fallback.read()?);
        Ok(fallback)
    }

    /// Reads the operator's pair again. If it cannot be used, the previous one stays.
    pub(super) fn reload(&self) {
        match self.read() {
            Ok(own) => self.own.store(own),
            Err(error) => tracing::error!(
                target: "tls", error = %format!("{error:#}"), "the default certificate cannot be used; the gateway \
                    keeps the previous one"
            ),
        }
    }

    fn read(&self) -> anyhow::Result<Option<Arc<CertifiedKey>>> {
        let Some((cert, key)) = &self.files else { return Ok(None) };
        let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let pair = Pair::parse(&read(cert)?, &read(key)?).with_context(|| format!("cannot use {}", cert.display()))?;
        for doubt in &pair.verdict.doubts {
            tracing::warn!(target: "tls", doubt = doubt.words(), "some clients may refuse the default certificate");
        }
        Ok(Some(pair.key))
    }

    /// For names that no tenant has.
    ///
    /// # Errors
    /// The development CA cannot sign.
    pub(super) fn for_nobody(&self) -> anyhow::Result<Arc<CertifiedKey>> {
        if let Some(own) = self.own.load_full() {
            return Ok(own);
        }
        let nobody = Domain::parse("localhost").map(Pattern::Exact);
        self.dev_ca.issue(nobody.as_slice()).context("the development CA cannot sign")
    }

    /// For a tenant's hosts, on a developer's machine.
    ///
    /// # Errors
    /// The development CA cannot sign.
    pub(super) fn for_hosts(&self, hosts: &[Pattern]) -> anyhow::Result<Arc<CertifiedKey>> {
        self.dev_ca.issue(hosts)
    }
}
