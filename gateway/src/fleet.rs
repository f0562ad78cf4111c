//! Gateways that share a Redis apply a tenant's rate limits together.
//!
//! Every [`EVERY`], each gateway reports what it gave out of the rates of active tenants, and adjusts its buckets to the
//! fleet's. No request waits for this. Between two exchanges, a tenant may exceed its rate by what the other gateways give,
//! at most one burst each. That excess is a debt, which is paid before anything else is given.
//!
//! While Redis does not answer, each gateway gives its share: what it gave is charged again for each of the others. Limit:
//! [`AT_ONCE`] tenants are exchanged at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;

use crate::deadline::Moment;
use crate::ids::RequestId;
use crate::store::{Spent, Store};
use crate::telemetry::Metrics;
use crate::tenant::{LastReport, Ledger, RatesState, Registry};

const EVERY: Duration = Duration::from_millis(100);
const AT_ONCE: usize = 64;

/// One gateway of a fleet.
pub(crate) struct Fleet {
    store: Arc<Store>,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    /// The name of this gateway, a new one at each start.
    name: String,
    /// What was last reported of each tenant's ledger, by its serial.
    told: HashMap<u64, LastReport>,
    /// The number of gateways when Redis last answered.
    gateways: u64,
}

impl Fleet {
    pub(crate) fn new(store: Arc<Store>, registry: Arc<Registry>, metrics: Arc<Metrics>) -> Self {
        let name = RequestId::new().to_string();
        Self { store, registry, metrics, name, told: HashMap::new(), gateways: 1 }
    }

    /// Exchanges sums for as long as the process lives. Does nothing if there can be no other gateway.
    pub(crate) async fn talk(mut self) {
        while self.store.is_shared() {
            tokio::time::sleep(EVERY).await;
            self.round().await;
        }
    }

    async fn round(&mut self) {
        let now = Moment::now();
        let ledgers = self.registry.all();
        let looks = ledgers.iter().filter_map(|ledger| {
            let told = self.told.get(&ledger.serial).copied().unwrap_or_default();
            Some((Arc::clone(ledger), ledger.look(&told, now)?))
        });
        let looks: Vec<_> = looks.collect();
        let (store, name, others) = (&self.store, self.name.as_str(), self.gateways.saturating_sub(1));
        let talks = looks.into_iter().map(|(ledger, look)| told(store, name, others, ledger, look));
        let done: Vec<_> = futures_util::stream::iter(talks).buffer_unordered(AT_ONCE).collect().await;
        if let Some(gateways) = done.iter().filter_map(|(_, _, gateways)| *gateways).max() {
            self.gateways = gateways;
            self.metrics.fleet_gateways.set(i64::try_from(gateways).unwrap_or(i64::MAX));
        }
        self.told.extend(done.into_iter().map(|(serial, told, _)| (serial, told)));
        // A serial is never used again.
        if self.told.len() > ledgers.len() {
            let present: std::collections::HashSet<u64> = ledgers.iter().map(|ledger| ledger.serial).collect();
            self.told.retain(|serial, _| present.contains(serial));
        }
    }
}

/// One tenant's exchange: returns its serial, what is reported by now, and the number of gateways, if Redis answered.
async fn told(
    store: &Store,
    name: &str,
    others: u64,
    ledger: Arc<Ledger>,
    look: RatesState,
) -> (u64, LastReport, Option<u64>) {
    let spent = look.used.iter().map(|used| {
        let nanos_each = used.rate.per.as_nanos() as f64 / used.rate.amount.max(1) as f64;
        Spent { name: used.name, amount: used.amount, nanos_each, burst: used.rate.burst }
    });
    let answer = store.share_rates(&ledger.id, name, &spent.collect::<Vec<_>>()).await;
    let now = Moment::now();
    match answer {
        Ok(Some(levels)) => (ledger.serial, ledger.align(&look, &levels.micros, now), Some(levels.gateways)),
        Ok(None) => (ledger.serial, look.told(), None),
        Err(_not_now) => (ledger.serial, ledger.pay_for(&look, others, now), None),
    }
}
