//! The first load of all tenants, and keys that a developer wants in the store before the first request (`tollgate up
//! --key-value`).

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use super::Gateway;
use super::loading::Loading;
use crate::config::Changed;
use crate::ids::StoreName;

/// Spin's name for the store without a name.
const DEFAULT: &str = "default";

/// How long a gateway that takes over waits for tenants that must be compiled: the previous one serves them meanwhile.
const TAKEOVER_MAX: Duration = Duration::from_mins(10);

impl Gateway {
    /// Loads all tenants before anything listens, as far as that needs no compiling. The others follow, each when it is
    /// ready. Only a developer's own project, and a gateway that takes over from a running one, wait for them.
    ///
    /// # Errors
    /// As for a reload; or the store refuses a key, in its own words.
    pub(super) async fn first_load(&mut self, takeover: bool) -> anyhow::Result<()> {
        let mut loading = std::mem::take(&mut self.loading);
        self.reload(&mut loading, &Changed::All).await?;
        let patience = match (&self.boot.project, takeover) {
            (Some(_), _) => Some(Duration::MAX),
            (None, true) => Some(TAKEOVER_MAX),
            (None, false) => None,
        };
        if let Some(patience) = patience {
            self.finish(&mut loading, patience).await?;
        }
        self.loading = loading;
        self.set_first().await
    }

    /// Puts tenants in force as they become ready, until all are or `patience` is over.
    async fn finish(&self, loading: &mut Loading, patience: Duration) -> anyhow::Result<()> {
        let until = Instant::now().checked_add(patience);
        while loading.is_under_way() {
            let verdict = tokio::select! {
                verdict = loading.next() => verdict,
                () = super::until(until) => break,
            };
            self.found(loading, verdict).await?;
        }
        Ok(())
    }

    /// Sets the keys of the project that is served. A gateway has none.
    ///
    /// # Errors
    /// The store refuses a key, in its own words.
    async fn set_first(&self) -> anyhow::Result<()> {
        let Some(project) = self.boot.project.as_ref().filter(|project| !project.key_values.is_empty()) else {
            return Ok(());
        };
        let default = StoreName::parse(DEFAULT).context("there is no default store")?;
        for plan in self.road.snapshot.load_full().plans.values() {
            let scoped = self.store.scoped(&plan.id, &default, None, plan.store_ttl.of(&default));
            for (key, value) in &project.key_values {
                let pair = vec![(key.clone().into_bytes(), value.clone().into_bytes())];
                scoped.set_many(pair).await.map_err(|error| anyhow::anyhow!("--key-value {key}: {error}"))?;
            }
        }
        Ok(())
    }
}
