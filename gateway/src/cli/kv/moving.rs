//! `tollgate kv move`: a tenant's data to another backend, while it is served. The gateway does it; this begins it and looks on.

use std::time::Duration;

use anyhow::bail;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Data;
use super::progress::Progress;

/// How often a move is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// How a move stands.
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
                Moving::Failed { failed } => bail!("{} stays where it is: {failed}", self.tenant),
                Moving::Done { keys, passes, paused_ms, .. } => {
                    progress.add(keys.saturating_sub(seen), 0);
                    progress.done();
                    writeln!(
                        out,
                        "{} is there now: {keys} keys; what was written meanwhile was copied again {passes} times, and writes \
                         waited {paused_ms} ms at the end",
                        self.tenant
                    )?;
                    return Ok(());
                }
            }
        }
    }
}
