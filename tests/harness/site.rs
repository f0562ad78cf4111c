//! A configuration in a folder of its own: the gateway's file and tenants.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{guest, tollgate};

/// A folder with `config/gateway.toml` and `tenants/`.
#[derive(Clone, Debug)]
pub struct Site {
    /// Shared with the gateways that run on it, so that the folder outlives them.
    dir: Arc<tempfile::TempDir>,
}

/// A tenant's file that is being built: the guest on all paths, and optional additions.
#[derive(Debug)]
pub struct Tenant {
    head: String,
    component: String,
}

impl Tenant {
    /// One host, one guest, all paths.
    #[must_use]
    pub fn new(host: &str, name: &str) -> Self {
        Self::of(host, &guest(name))
    }

    /// The same with any component, given by its path.
    #[must_use]
    pub fn of(host: &str, source: &Path) -> Self {
        Self {
            head: format!("schema = 1\nhosts = [\"{host}\"]\n"),
            component: format!("[[component]]\nname = \"site\"\nsource = \"{}\"\n", source.display()),
        }
    }

    /// Grants stores.
    #[must_use]
    pub fn stores(mut self, stores: &[&str]) -> Self {
        writeln!(self.component, "stores = {stores:?}").unwrap();
        self
    }

    /// Grants addresses of Redis.
    #[must_use]
    pub fn redis(mut self, addresses: &[&str]) -> Self {
        writeln!(self.component, "redis = {addresses:?}").unwrap();
        self
    }

    /// Adds a key of the component.
    #[must_use]
    pub fn component(mut self, line: &str) -> Self {
        writeln!(self.component, "{line}").unwrap();
        self
    }

    /// Adds tables or keys before the component, such as `[limits]`.
    #[must_use]
    pub fn with(mut self, text: &str) -> Self {
        self.head += text;
        self.head += "\n";
        self
    }

    fn text(&self) -> String {
        format!("{}\n{}\n[[route]]\npath = \"/...\"\ncomponent = \"site\"\n", self.head, self.component)
    }
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

impl Site {
    /// A gateway's file with free ports, and compiled guests in the folder that all tests share.
    #[must_use]
    pub fn new() -> Self {
        let site = Self { dir: Arc::new(tempfile::tempdir().unwrap()) };
        fs::create_dir_all(site.path("config")).unwrap();
        fs::create_dir_all(site.path("tenants")).unwrap();
        site.gateway("")
    }

    /// Rewrites the gateway's file, with this text after what every test needs. Unless the text overrides it, storage calls
    /// get a generous timeout, and no canary uses the store and the pools during the test.
    #[must_use]
    pub fn gateway(self, more: &str) -> Self {
        let compiled = tollgate().with_file_name("compiled-guests");
        let [sandbox, storage] =
            ["[sandbox]\n", "[storage]\n"].map(|table| if more.contains(table) { "" } else { table });
        let isolation = if more.contains("[isolation]") { "" } else { "[isolation]\nwatch = false\n" };
        let text = format!(
            "schema = 1\n[listen]\nhttps = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n\
             drain = \"10s\"\n{sandbox}{more}\n{isolation}{storage}"
        );
        let own = format!("[sandbox]\ncompiled = \"{}\"\n", compiled.display());
        let text = text.replace("[sandbox]\n", &own);
        let is_said = more.contains("\ntimeout = ");
        let patient = if is_said { "[storage]\n" } else { "[storage]\ntimeout = \"5s\"\n" };
        self.file("config/gateway.toml", text.replace("[storage]\n", patient))
    }

    /// Adds keys to the gateway's `[listen]`.
    #[must_use]
    pub fn listen(self, more: &str) -> Self {
        let text = fs::read_to_string(self.config()).unwrap();
        let text = text.replace("drain = \"10s\"\n", &format!("drain = \"10s\"\n{more}\n"));
        self.file("config/gateway.toml", text)
    }

    /// Adds a tenant.
    #[must_use]
    pub fn tenant(self, id: &str, tenant: &Tenant) -> Self {
        self.file(&format!("tenants/{id}/tenant.toml"), tenant.text())
    }

    /// Writes a file in the folder.
    #[must_use]
    pub fn file(self, path: &str, bytes: impl AsRef<[u8]>) -> Self {
        self.write(path, bytes);
        self
    }

    /// Writes a file while a gateway runs.
    pub fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// A path in the folder.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// The gateway's file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.path("config/gateway.toml")
    }

    /// Keeps the folder from being removed.
    pub(crate) fn hold(&self) -> Arc<tempfile::TempDir> {
        Arc::clone(&self.dir)
    }

    /// The folder itself.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}
