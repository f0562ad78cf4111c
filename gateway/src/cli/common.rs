//! The options of most commands: which gateway's file, and what overrides it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use rustix::fs::Mode;

use super::tell;
use crate::admin::Running;
use crate::config::Overrides;

/// Flags override environment variables, and those override the file.
#[derive(Args, Clone, Debug)]
pub(super) struct Common {
    /// The gateway's file; by default config/gateway.toml, /etc/tollgate/config/gateway.toml or /etc/tollgate/gateway.toml. Commands for a
    /// running gateway look for .tollgate/gateway.toml first
    #[arg(long, env = "TOLLGATE_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The state folder: the store, compiled components, the development CA, logs
    #[arg(long, env = "TOLLGATE_STATE", value_name = "DIR")]
    pub(super) state: Option<PathBuf>,
    /// Storage of tenants' data: `embedded`, or the URL of a Redis server
    #[arg(long, env = "TOLLGATE_STORAGE", value_name = "embedded|redis://HOST:PORT|redis-cluster:URL,…|redis-sentinel:URL,…", value_parser = storage, hide_env_values = true)]
    pub(super) storage: Option<String>,
    /// Address for HTTPS; port 0 selects a free port
    #[arg(long, env = "TOLLGATE_HTTPS", value_name = "ADDR")]
    pub(super) https: Option<SocketAddr>,
    /// Address for plain HTTP, which only redirects to HTTPS
    #[arg(long, env = "TOLLGATE_HTTP", value_name = "ADDR")]
    pub(super) http: Option<SocketAddr>,
    /// Operators' address: API, dashboard, /metrics; never make it public
    #[arg(long, env = "TOLLGATE_ADMIN", value_name = "ADDR")]
    pub(super) admin: Option<SocketAddr>,
    /// Port at which clients reach HTTPS, if a container or a load balancer maps ports
    #[arg(long, env = "TOLLGATE_PUBLIC_HTTPS", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) public_https: Option<u16>,
}

pub(super) fn storage(text: &str) -> Result<String, String> {
    let urls = ["redis-cluster:", "redis-sentinel:"].iter().find_map(|kind| text.strip_prefix(kind)).unwrap_or(text);
    let is_url = |url: &str| ["redis://", "rediss://", "unix://"].iter().any(|scheme| url.trim().starts_with(scheme));
    let known = text == "embedded" || urls.split(',').all(is_url);
    known.then(|| text.to_owned()).ok_or_else(|| {
        "wanted `embedded`, a redis:// URL, or redis:// URLs after `redis-cluster:` or `redis-sentinel:`".to_owned()
    })
}

/// Where the gateway's file is searched, in this order.
const CONFIGS: [&str; 3] = ["config/gateway.toml", "/etc/tollgate/config/gateway.toml", "/etc/tollgate/gateway.toml"];
/// Where `tollgate up` writes its file.
const OF_UP: &str = ".tollgate/gateway.toml";

/// `1 key`, `2 keys`.
pub(super) fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

impl Common {
    /// The gateway's file: the given one, or the first that exists.
    pub(super) fn config(&self) -> &Path {
        let known = || CONFIGS.into_iter().map(Path::new).find(|path| path.exists());
        self.config.as_deref().or_else(known).unwrap_or(Path::new(CONFIGS[0]))
    }

    /// The file of the running gateway: the given one, the first whose gateway reports that it runs, or the first that
    /// exists.
    fn config_of_running(&self) -> &Path {
        if let Some(path) = &self.config {
            return path;
        }
        let there: Vec<&Path> =
            std::iter::once(OF_UP).chain(CONFIGS).map(Path::new).filter(|path| path.exists()).collect();
        let runs = |path: &&Path| {
            let boot = crate::config::gateway(path, &self.overrides());
            boot.is_ok_and(|boot| Running::read(&boot.state).is_some())
        };
        let running = there.iter().copied().find(runs);
        running.unwrap_or_else(|| {
            if there.contains(&self.config()) { self.config() } else { there.first().copied().unwrap_or(self.config()) }
        })
    }

    /// Values that override the file: the key, its value, and the flag or variable.
    pub(super) fn flags(&self) -> Vec<(&'static str, String, &'static str)> {
        let quoted = |text: &dyn std::fmt::Display| format!("{:?}", text.to_string());
        let addresses = |address: SocketAddr| format!("[{}]", quoted(&address));
        let given = [
            ("state", self.state.as_ref().map(|dir| quoted(&dir.display())), "--state or TOLLGATE_STATE"),
            ("listen.https", self.https.map(addresses), "--https or TOLLGATE_HTTPS"),
            ("listen.http", self.http.map(addresses), "--http or TOLLGATE_HTTP"),
            ("listen.admin", self.admin.map(|address| quoted(&address)), "--admin or TOLLGATE_ADMIN"),
            (
                "listen.public_https",
                self.public_https.map(|port| port.to_string()),
                "--public-https or TOLLGATE_PUBLIC_HTTPS",
            ),
            (
                "storage.backend",
                self.storage.as_ref().map(|text| quoted(&text.split(':').next().unwrap_or(text))),
                "--storage or TOLLGATE_STORAGE",
            ),
        ];
        given.into_iter().filter_map(|(key, value, by)| Some((key, value?, by))).collect()
    }

    pub(super) fn overrides(&self) -> Overrides {
        Overrides {
            state: self.state.clone(),
            storage: self.storage.clone(),
            https: self.https,
            http: self.http,
            admin: self.admin,
            public_https: self.public_https,
            is_plain: false,
            project: None,
        }
    }
}

/// Reads the machine's file, or prints every problem of it to standard error. Files that are created from here on are
/// readable by this user alone, whatever the shell's umask is: keys, tenants' data, what their guests print.
pub(super) fn boot(common: &Common) -> Result<crate::config::Boot, ExitCode> {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    crate::config::gateway(common.config(), &common.overrides()).map_err(|problems| tell(&problems))
}

/// The same for the running gateway.
pub(super) fn running(common: &Common) -> Result<crate::config::Boot, ExitCode> {
    crate::config::gateway(common.config_of_running(), &common.overrides()).map_err(|problems| tell(&problems))
}
