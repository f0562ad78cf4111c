//! What a process takes from the one that it follows, and what it waits for.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Boot;
use crate::listener::{Old, Sockets};
use crate::store::Store;
use crate::telemetry::Metrics;

/// Has the process that was taken over drain; where it is gone already, this one serves all the same.
pub(super) async fn relieve(old: Option<Old>) {
    let Some(mut old) = old else { return };
    if let Err(error) = old.relieve().await {
        tracing::warn!(target: "listener", %error, "the gateway that was taken over is gone");
    }
}

/// How often the store of a process that is about to be gone is tried, and how long after each.
const OPEN_TRIES: u32 = 100;
const OPEN_AGAIN: Duration = Duration::from_millis(50);

/// The sockets that there are already, and how often to try to open the store.
pub(super) async fn take_over(boot: &Boot, takeover: bool, given: Sockets) -> anyhow::Result<(Sockets, u32)> {
    if !takeover {
        return Ok((given, 1));
    }
    let mut sockets = Sockets::of_running(&boot.state.join("takeover.sock")).await?;
    // Only one process may have the embedded store open: until the old one has ended, connections wait.
    if boot.storage.is_embedded()
        && let Some(mut old) = sockets.old.take()
    {
        old.relieve().await?;
        old.ended(boot.listen.drain).await?;
    }
    Ok((sockets, OPEN_TRIES))
}

pub(super) async fn open(boot: &Boot, metrics: &Arc<Metrics>, tries: u32) -> anyhow::Result<Store> {
    for _try in 1..tries {
        match Store::open(&boot.storage, Arc::clone(metrics)) {
            Ok(store) => return Ok(store),
            Err(_locked) => tokio::time::sleep(OPEN_AGAIN).await,
        }
    }
    Store::open(&boot.storage, Arc::clone(metrics))
}
