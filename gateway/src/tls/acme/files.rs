//! Accounts, keys and certificates on disk: `state/acme/`, which only this user can read.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value};

use crate::ids::TenantId;
use crate::tls::Pair;

/// The folder and its contents.
pub(super) struct AcmeFiles {
    dir: PathBuf,
    pairs: Mutex<HashMap<TenantId, Pair>>,
}

/// Accounts by their CA's directory.
const ACCOUNTS: &str = "accounts.json";

impl AcmeFiles {
    /// # Errors
    /// The folder cannot be created or read.
    pub(super) fn load(dir: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut pairs = HashMap::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let id = path.file_stem().and_then(|name| TenantId::parse(name.to_str()?));
            let Some(id) = id.filter(|_| path.extension().is_some_and(|end| end == "pem")) else { continue };
            let text = fs::read(&path)?;
            match Pair::parse(&text, &text) {
                Ok(pair) => {
                    pairs.insert(id, pair);
                }
                Err(error) => {
                    tracing::warn!(target: "tls", path = %path.display(), %error, "a stored certificate is damaged; \
                        the gateway orders a new one")
                }
            }
        }
        Ok(Self { dir: dir.to_owned(), pairs: Mutex::new(pairs) })
    }

    pub(super) fn get(&self, tenant: &TenantId) -> Option<Pair> {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned()
    }

    /// # Errors
    /// The file cannot be written.
    pub(super) fn put(&self, tenant: &TenantId, pair: Pair, pem: &str) -> io::Result<()> {
        // The certificate is used even if it cannot be written: CAs limit how often they issue it.
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant.clone(), pair);
        self.write(&format!("{tenant}.pem"), pem)
    }

    /// The account at the CA with this directory, if there is one.
    pub(super) fn account(&self, directory: &str) -> Option<Value> {
        self.accounts().remove(directory)
    }

    /// # Errors
    /// The file cannot be written.
    pub(super) fn put_account(&self, directory: &str, credentials: Value) -> io::Result<()> {
        let mut accounts = self.accounts();
        accounts.insert(directory.to_owned(), credentials);
        self.write(ACCOUNTS, &Value::Object(accounts).to_string())
    }

    fn accounts(&self) -> Map<String, Value> {
        let text = fs::read_to_string(self.dir.join(ACCOUNTS)).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Writes atomically.
    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let new = self.dir.join(format!("{name}.new"));
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(new, self.dir.join(name))
    }
}
