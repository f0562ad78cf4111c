//! Corrects sums beside tenants' data, which gateways that died may have left wrong.

use std::sync::Arc;
use std::time::Duration;

use crate::request::Road;
use crate::store::Store;

/// How often tenants with a quota are recounted, and how long before the first time.
const COUNT_EVERY: Duration = Duration::from_secs(3600);
const COUNT_FIRST: Duration = Duration::from_secs(5);

/// Corrects the sums, one tenant after the other, for as long as the process lives.
pub(super) async fn keep_counts(road: Arc<Road>, store: Arc<Store>) {
    let mut pause = COUNT_FIRST;
    loop {
        tokio::time::sleep(pause).await;
        pause = COUNT_EVERY;
        let snapshot = road.snapshot.load_full();
        for plan in snapshot.plans.values().filter(|plan| plan.quota.storage.is_some()) {
            match store.count(&plan.id).await {
                Ok((booked, usage)) if booked != usage => tracing::warn!(
                    target: "store", tenant = %plan.id, ?booked, ?usage, "the tenant's usage was recounted"
                ),
                Ok(_same) => {}
                Err(error) => {
                    tracing::warn!(target: "store", tenant = %plan.id, %error, "the tenant's usage cannot be counted")
                }
            }
        }
    }
}
