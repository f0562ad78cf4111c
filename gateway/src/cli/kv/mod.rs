//! `tollgate kv …`: one tenant's data, in the running gateway. Keys and values are bytes. Output in lines shows unprintable
//! bytes as `\xNN`.

mod answers;
mod export;
mod import;
mod lines;
mod moving;
mod progress;

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::{Args, Subcommand};
use http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::client::tenant_id;
use super::tenant::counted_text;
use super::{Common, running, runtime};
use crate::admin::Client;
use crate::store::Text;
use answers::{Keys, Names, Purged, Values};
use lines::printable;
use progress::Progress;

/// The time limit of one call. A step through a server's keys visits those of all tenants.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Args, Debug)]
pub(super) struct Of {
    /// The tenant (the name of its folder)
    #[arg(long, value_name = "ID")]
    tenant: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
pub(super) enum Kv {
    /// Print the keys of a store, or the raw Redis keys, one a line
    List {
        /// Name of the store
        #[arg(long, default_value = "default", value_name = "NAME")]
        store: String,
        /// Raw Redis keys of the tenant instead of a store's keys
        #[arg(long)]
        raw: bool,
        #[command(flatten)]
        of: Of,
    },
    /// Print the value of a key, byte for byte; exit code 1 if the key does not exist
    Get {
        key: OsString,
        /// Name of the store
        #[arg(long, default_value = "default", value_name = "NAME")]
        store: String,
        #[command(flatten)]
        of: Of,
    },
    /// Set a key to a value, or to the bytes of standard input
    Set {
        key: OsString,
        value: Option<OsString>,
        /// Name of the store
        #[arg(long, default_value = "default", value_name = "NAME")]
        store: String,
        #[command(flatten)]
        of: Of,
    },
    /// Delete keys; keys that do not exist are ignored
    Delete {
        #[arg(required = true)]
        keys: Vec<OsString>,
        /// Name of the store
        #[arg(long, default_value = "default", value_name = "NAME")]
        store: String,
        #[command(flatten)]
        of: Of,
    },
    /// Print the size and number of the tenant's keys, and its stores
    Usage {
        #[command(flatten)]
        of: Of,
    },
    /// Export all data of the tenant to a file, or to standard output, one JSON object a line
    Export {
        /// The file; it exists only after the export is complete
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        /// Resume an interrupted export to that file
        #[arg(long)]
        resume: bool,
        #[command(flatten)]
        of: Of,
    },
    /// Import an export into a tenant, from any gateway and any backend; existing keys of the same name are replaced
    Import {
        /// The file; standard input by default
        file: Option<PathBuf>,
        /// Skip this many lines, which an interrupted import has imported already
        #[arg(long, default_value_t = 0, value_name = "LINES")]
        skip: u64,
        #[command(flatten)]
        of: Of,
    },
    /// Move a tenant's data from the embedded store to Redis while the tenant is served: copy, compare, switch
    Move {
        /// The destination, in the form of `--storage`
        #[arg(long, value_name = "redis://HOST:PORT|redis-cluster:URL,…|redis-sentinel:URL,…")]
        to: String,
        /// The tenant (the name of its folder)
        #[arg(long, value_name = "ID", required_unless_present = "all")]
        tenant: Option<String>,
        /// All tenants, one after the other; tenants that were moved before are skipped
        #[arg(long, conflicts_with = "tenant")]
        all: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Delete all data of the tenant, or of one of its stores, permanently
    Purge {
        /// Only this store
        #[arg(long, value_name = "NAME")]
        store: Option<String>,
        /// Confirm; without this flag, nothing is deleted
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        of: Of,
    },
}

impl Kv {
    /// The tenant and the gateway. No tenant if the command is for all.
    fn of(&self) -> (Option<&str>, &Common) {
        match self {
            Self::List { of, .. }
            | Self::Get { of, .. }
            | Self::Set { of, .. }
            | Self::Delete { of, .. }
            | Self::Usage { of }
            | Self::Export { of, .. }
            | Self::Import { of, .. }
            | Self::Purge { of, .. } => (Some(&of.tenant), &of.common),
            Self::Move { tenant, common, .. } => (tenant.as_deref(), common),
        }
    }
}

pub(super) fn kv(what: Kv) -> anyhow::Result<ExitCode> {
    let (tenant, common) = what.of();
    let id = tenant.map(tenant_id).transpose()?;
    let boot = match running(common) {
        Ok(boot) => boot,
        Err(code) => return Ok(code),
    };
    let client = Client::new(&boot, PATIENCE)?;
    let mut data = Data { client, tenant: id.map(|id| id.to_string()).unwrap_or_default() };
    runtime()?.block_on(data.done(what))
}

/// One tenant's data.
struct Data {
    client: Client,
    tenant: String,
}

impl Data {
    async fn ask<T: DeserializeOwned>(&mut self, call: &str, body: Value) -> anyhow::Result<T> {
        let answer = self.client.post(&format!("/v1/tenants/{}/data/{call}", self.tenant), &body).await?;
        serde_json::from_slice(&answer).context("the gateway's answer is not understood (is it another version?)")
    }

    /// The same, whatever the gateway's status.
    async fn try_ask(&mut self, call: &str, body: Value) -> anyhow::Result<(StatusCode, Bytes)> {
        self.client.try_post(&format!("/v1/tenants/{}/data/{call}", self.tenant), &body).await
    }

    async fn done(&mut self, what: Kv) -> anyhow::Result<ExitCode> {
        let mut out = std::io::stdout().lock();
        match what {
            Kv::List { store, raw: false, .. } => self.list(&store, &mut out).await?,
            Kv::List { raw: true, .. } => self.list_raw(&mut out).await?,
            Kv::Get { key, store, .. } => {
                let key = Text(key.into_vec());
                let found: Values = self.ask("get", json!({ "store": store, "keys": [key] })).await?;
                match found.values.into_iter().flatten().next() {
                    Some(value) => out.write_all(&value.0)?,
                    None => bail!("{} is not in the store {store} of {}", printable(&key.0), self.tenant),
                }
            }
            Kv::Set { key, value, store, .. } => {
                let value = match value {
                    Some(value) => value.into_vec(),
                    None => {
                        let mut bytes = Vec::new();
                        std::io::stdin().lock().read_to_end(&mut bytes)?;
                        bytes
                    }
                };
                let pair = (Text(key.into_vec()), Text(value));
                self.ask::<Value>("set", json!({ "store": store, "pairs": [pair] })).await?;
            }
            Kv::Delete { keys, store, .. } => {
                let keys: Vec<Text> = keys.into_iter().map(|key| Text(key.into_vec())).collect();
                self.ask::<Value>("delete", json!({ "store": store, "keys": keys })).await?;
            }
            Kv::Usage { .. } => self.usage(&mut out).await?,
            Kv::Export { to, resume, .. } => self.export(to.as_deref(), resume).await?,
            Kv::Import { file, skip, .. } => self.import(file.as_deref(), skip).await?,
            Kv::Move { to, all: true, .. } => self.move_all(&to, &mut out).await?,
            Kv::Move { to, .. } => self.move_to(&to, &mut out).await?,
            Kv::Purge { store, yes, .. } => self.purge(store, yes).await?,
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }

    async fn list(&mut self, store: &str, out: &mut impl std::io::Write) -> anyhow::Result<()> {
        let mut cursor = None;
        loop {
            let page: Keys = self.ask("keys", json!({ "store": store, "cursor": cursor })).await?;
            for key in page.keys {
                writeln!(out, "{}", printable(&key.0))?;
            }
            cursor = page.cursor;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    async fn list_raw(&mut self, out: &mut impl std::io::Write) -> anyhow::Result<()> {
        let mut cursor = None;
        loop {
            let page: Names = self.ask("names", json!({ "cursor": cursor })).await?;
            for key in page.raw {
                writeln!(out, "{}", printable(&key.0))?;
            }
            cursor = page.cursor;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    async fn usage(&mut self, out: &mut impl std::io::Write) -> anyhow::Result<()> {
        let counted = self.client.post(&format!("/v1/tenants/{}/count", self.tenant), &json!({})).await?;
        writeln!(out, "{}", counted_text(&self.tenant, &serde_json::from_slice(&counted)?))?;
        let (mut stores, mut raw, mut cursor) = (std::collections::BTreeSet::new(), 0u64, None);
        loop {
            let page: Names = self.ask("names", json!({ "cursor": cursor })).await?;
            stores.extend(page.stores);
            raw += page.raw.len() as u64;
            cursor = page.cursor;
            if cursor.is_none() {
                break;
            }
        }
        for store in stores {
            writeln!(out, "  store {store}")?;
        }
        writeln!(out, "  raw Redis keys: {raw}")?;
        Ok(())
    }

    async fn purge(&mut self, store: Option<String>, yes: bool) -> anyhow::Result<()> {
        let what = store.as_ref().map_or_else(|| "all data".to_owned(), |store| format!("the store {store}"));
        if !yes {
            bail!("this deletes {what} of {} permanently; confirm with --yes", self.tenant);
        }
        let mut progress = Progress::new("purged");
        loop {
            let purged: Purged = self.ask("purge", json!({ "store": store })).await?;
            let Some(removed) = purged.removed else { break };
            progress.add(removed, 0);
        }
        progress.done();
        Ok(())
    }

    /// The values of keys, in as many calls as their sizes need. A key that was deleted meanwhile has none.
    async fn values(&mut self, store: &str, keys: &[Text]) -> anyhow::Result<Vec<Option<Text>>> {
        let (mut values, mut rest, mut step) = (Vec::with_capacity(keys.len()), keys, keys.len());
        while !rest.is_empty() {
            let (some, more) = rest.split_at(step.clamp(1, rest.len()));
            let body = json!({ "store": store, "keys": some });
            match self.try_ask("get", body).await? {
                (StatusCode::OK, answer) => {
                    values.extend(serde_json::from_slice::<Values>(&answer)?.values);
                    rest = more;
                }
                (StatusCode::PAYLOAD_TOO_LARGE, _) if some.len() > 1 => step = some.len() / 2,
                (status, text) => bail!("the gateway answers {status}: {}", String::from_utf8_lossy(&text).trim_end()),
            }
        }
        Ok(values)
    }
}
