//! `tollgate kv move`: moves a tenant's data to another backend while it is served. The gateway does the work; this command
//! starts it and shows its progress.

use std::time::Duration;

use anyhow::bail;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Data;
use super::progress::Progress;

/// Tenants that are requested at once.
const PAGE: usize = 500;
/// The gateway's name of its own store.
const EMBEDDED: &str = "embedded";
/// How often the progress is checked.
const LOOK: Duration = Duration::from_millis(200);

/// The state of a move.
#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Moving {
    UnderWay {
        copied: u64,
        #[serde(rename = "total")]
        _total: u64,
    },
    Failed {
        failed: String,
    },
    Done {
        #[serde(rename = "done")]
        _done: bool,
        keys: u64,
        passes: u32,
        paused_ms: u64,
    },
}

impl Data {
    /// Moves all tenants on the embedded store, one after the other. A tenant that cannot be moved does not stop the
    /// others.
    pub(super) async fn move_all(&mut self, to: &str, out: &mut impl std::io::Write) -> anyhow::Result<()> {
        let mut failed = Vec::new();
        for id in self.everybody().await? {
            let tenant = self.client.get(&format!("/v1/tenants/{id}")).await?;
            if tenant["storage"] != EMBEDDED {
                writeln!(out, "{id} is on Redis already")?;
                continue;
            }
            self.tenant.clone_from(&id);
            if let Err(error) = self.move_to(to, out).await {
                failed.push(format!("{id}: {error:#}"));
            }
            out.flush()?;
        }
        anyhow::ensure!(failed.is_empty(), "not all tenants were moved:\n  {}", failed.join("\n  "));
        Ok(())
    }

    async fn everybody(&mut self) -> anyhow::Result<Vec<String>> {
        let mut ids = Vec::new();
        loop {
            let page = self.client.get(&format!("/v1/tenants?limit={PAGE}&offset={}", ids.len())).await?;
            let rows = page["tenants"].as_array().map(Vec::as_slice).unwrap_or_default();
            ids.extend(rows.iter().filter_map(|row| Some(row["id"].as_str()?.to_owned())));
            if rows.len() < PAGE {
                return Ok(ids);
            }
        }
    }

    pub(super) async fn move_to(&mut self, to: &str, out: &mut impl std::io::Write) -> anyhow::Result<()> {
        self.ask::<Value>("move", json!({ "to": to })).await?;
        let mut progress = Progress::new("copied");
        let mut seen = 0;
        loop {
            tokio::time::sleep(LOOK).await;
            match self.ask("moving", json!({})).await? {
                Moving::UnderWay { copied, .. } => {
                    progress.add(copied.saturating_sub(seen), 0);
                    seen = copied.max(seen);
                }
                Moving::Failed { failed } => bail!("{} was not moved: {failed}", self.tenant),
                Moving::Done { keys, passes, paused_ms, .. } => {
                    progress.add(keys.saturating_sub(seen), 0);
                    progress.done();
                    writeln!(
                        out,
                        "{} is moved: {keys} keys; keys that changed during the copy were copied again in {passes} \
                            passes, and writes waited {paused_ms} ms at the end",
                        self.tenant
                    )?;
                    return Ok(());
                }
            }
        }
    }
}
