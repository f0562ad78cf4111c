//! The first load of all tenants, and what a developer wants in the store before the first request (`tollgate up --key-value`).

use anyhow::Context as _;

use super::Gateway;
use crate::config::Changed;
use crate::ids::StoreName;

/// What Spin calls the store that has no name.
const DEFAULT: &str = "default";

impl Gateway {
    /// Loads all tenants before anything is listened to.
    ///
    /// # Errors
    /// As of a reload; or the store refuses a key, in its own words.
    pub(super) async fn first_load(&self) -> anyhow::Result<()> {
        self.reload(&Changed::All).await?;
        self.set_first().await
    }

    /// Sets keys of the project that is served; there are none on a gateway.
    ///
    /// # Errors
    /// The store refuses one, in its own words.
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
