//! Keeps every tenant's certificate: orders it if it is missing, and renews it long before it expires.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use tokio::time::Instant;

use super::fallback::Fallback;
use super::reload;
use super::renewal_info::RenewalInfo;
use crate::config::Plan;
use crate::domain::Pattern;
use crate::ids::TenantId;
use crate::request::Road;
use crate::store::{self, Common, Store};
use crate::tls::{Acme, ORDER_TIME, Pair, Proof, Terminator};

/// How often to check which tenants need a certificate.
const LOOK: Duration = Duration::from_secs(1);
/// The pause after the first failure; it doubles with each further one.
const AGAIN_FIRST: Duration = Duration::from_mins(1);
const AGAIN_MAX: Duration = Duration::from_hours(24);

/// The failures of a tenant's orders.
struct Failed {
    attempts: u32,
    /// For these hosts.
    hosts: Vec<Pattern>,
    /// No order before this time.
    until: Instant,
}

/// Orders certificates one after the other, for as long as the process lives.
pub(super) struct Certifier {
    pub(super) road: Arc<Road>,
    pub(super) acme: Arc<Acme>,
    pub(super) fallback: Arc<Fallback>,
    pub(super) terminator: Terminator,
    /// Used to inform the other gateways, if the store is shared.
    pub(super) store: Arc<Store>,
    /// When the CA suggests renewal.
    pub(super) suggested: RenewalInfo,
}

/// Hashes that gateways share: certificates by tenant, accounts by the CA's directory, and the proofs that a CA has to find
/// now.
const PAIRS: &str = "acme:pairs";
const ACCOUNTS: &str = "acme:accounts";
const PROOFS: &str = "acme:proofs";
/// Held by the gateway that asks the CA, for longer than an order can take.
const LOCK: &str = "acme:lock";
const LOCK_TIME: Duration = Duration::from_secs(ORDER_TIME.as_secs() + 60);
/// After this time every gateway has received the proofs, because each checks every second.
const HEARD: Duration = Duration::from_millis(2500);
/// How many certificates of other gateways are adopted at once.
const ADOPTED_MAX: usize = 100;

impl Certifier {
    pub(super) async fn keep(mut self) {
        let tasks = self.road.tasks.clone();
        tokio::select! {
            // A process that takes over answers the CA.
            () = tasks.draining() => {}
            never = self.order_for_ever() => match never {},
        }
    }

    async fn order_for_ever(&mut self) -> std::convert::Infallible {
        let mut failed: HashMap<TenantId, Failed> = HashMap::new();
        loop {
            tokio::time::sleep(LOOK).await;
            let snapshot = self.road.snapshot.load_full();
            // Other hosts mean a new order.
            failed.retain(|id, of| snapshot.plan(id).is_some_and(|plan| plan.hosts == of.hosts));
            let waits = |id: &TenantId| failed.get(id).is_some_and(|failed| failed.until > Instant::now());
            let attempts = |plan: &Plan| failed.get(&plan.id).map_or(0, |failed| failed.attempts);
            if let Err(error) = self.hear().await {
                tracing::debug!(target: "tls", %error, "the other gateways cannot be asked about certificates");
                continue;
            }
            self.suggested.look(&self.acme, snapshot.all().filter(|plan| plan.pairs.is_empty()));
            let needy: Vec<_> = snapshot.all().filter(|plan| self.needs(plan)).collect();
            self.adopt(needy.iter().copied().take(ADOPTED_MAX).cloned().collect()).await;
            let needy = needy.into_iter().filter(|plan| self.needs(plan) && !waits(&plan.id));
            // Tenants whose orders fail repeatedly come after those that were not tried yet.
            let Some(plan) = needy.min_by_key(|plan| attempts(plan)) else { continue };
            let attempts = attempts(plan);
            let Some(ordered) = self.order(plan, attempts as usize).await else { continue };
            match ordered {
                Ok(()) => {
                    failed.remove(&plan.id);
                    self.put_in_force();
                    self.road.metrics.certificate_issued();
                    tracing::info!(target: "tls", tenant = %plan.id, "the CA issued a certificate");
                }
                Err(error) => {
                    let pause = pause(attempts);
                    let (hosts, until) = (plan.hosts.clone(), Instant::now() + pause);
                    failed.insert(plan.id.clone(), Failed { attempts: attempts + 1, hosts, until });
                    self.road.metrics.certificate_failed();
                    let again_s = pause.as_secs();
                    tracing::error!(target: "tls", tenant = %plan.id, error = %format!("{error:#}"), again_s, "no certificate");
                }
            }
        }
    }

    /// Answers the CA for an order of another gateway.
    async fn hear(&self) -> Result<(), store::Error> {
        let Some(common) = self.store.common() else { return Ok(()) };
        let told = common.all(PROOFS).await?;
        if told.is_empty() {
            self.acme.challenges.forget();
        }
        for proof in told.iter().filter_map(|(field, value)| Proof::decode(field, value)) {
            if !self.acme.challenges.answers(&proof)
                && let Err(error) = self.acme.challenges.answer(&proof)
            {
                tracing::warn!(target: "tls", %error, "the challenge of another gateway cannot be answered");
            }
        }
        Ok(())
    }

    /// Adopts certificates that other gateways got from a CA.
    async fn adopt(&self, needy: Vec<Arc<Plan>>) {
        let Some(common) = self.store.common() else { return };
        let mut adopted = false;
        for plan in needy {
            let Ok(Some(pem)) = common.get(PAIRS, plan.id.as_str()).await else { continue };
            let is_better = Pair::parse(pem.as_bytes(), pem.as_bytes()).is_ok_and(|pair| {
                let covers = plan.hosts.iter().all(|host| pair.covers(host));
                let is_new = self.acme.pair(&plan.id).is_none_or(|own| own.key.cert != pair.key.cert);
                covers && is_new && SystemTime::now() < renewed_at(&pair, &plan.id)
            });
            if is_better && self.acme.adopt(&plan.id, &plan.hosts, &pem).is_ok() {
                tracing::info!(target: "tls", tenant = %plan.id, "another gateway has a certificate; it is used here");
                adopted = true;
            }
        }
        if adopted {
            self.put_in_force();
        }
    }

    /// Orders from the CA, unless another gateway is doing so now.
    async fn order(&self, plan: &Arc<Plan>, attempts: usize) -> Option<anyhow::Result<()>> {
        let Some(common) = self.store.common() else {
            let nobody = |_proofs| std::future::ready(Ok(()));
            return Some(self.acme.order(&plan.id, &plan.hosts, attempts, nobody).await.map(|_pem| ()));
        };
        match common.lock(LOCK, &std::process::id().to_string(), LOCK_TIME).await {
            Ok(true) => {}
            Ok(false) | Err(_) => return None,
        }
        // The previous holder of the lock may just have stored what is needed.
        self.adopt(vec![Arc::clone(plan)]).await;
        let ordered = if self.needs(plan) { Some(self.order_for_all(common, plan, attempts).await) } else { None };
        for name in [PROOFS, LOCK] {
            if let Err(error) = common.remove(name).await {
                tracing::warn!(target: "tls", %error, "the lock cannot be released; other gateways wait until it expires");
            }
        }
        ordered
    }

    async fn order_for_all(&self, common: Common<'_>, plan: &Plan, attempts: usize) -> anyhow::Result<()> {
        // The previous holder of the lock may have died and left proofs.
        common.remove(PROOFS).await?;
        if let Some(account) = common.get(ACCOUNTS, self.acme.directory()).await? {
            self.acme.take_account(&account)?;
        }
        let store = Arc::clone(&self.store);
        let publish = move |proofs: Vec<Proof>| async move {
            for (field, value) in proofs.iter().map(Proof::encode) {
                store.common().context("the storage is not shared any more")?.put(PROOFS, &field, &value).await?;
            }
            tokio::time::sleep(HEARD).await;
            Ok(())
        };
        let pem = self.acme.order(&plan.id, &plan.hosts, attempts, publish).await?;
        common.put(PAIRS, plan.id.as_str(), &pem).await?;
        if let Some(account) = self.acme.account_text() {
            common.put(ACCOUNTS, self.acme.directory(), &account).await?;
        }
        Ok(())
    }

    /// Whether the tenant has no certificate files, and no certificate from the CA that covers its hosts and does not
    /// expire soon.
    fn needs(&self, plan: &Plan) -> bool {
        if !plan.pairs.is_empty() {
            return false;
        }
        let covers = |pair: &Pair| plan.hosts.iter().all(|host| pair.covers(host));
        let pair = self.acme.pair(&plan.id).filter(covers);
        pair.is_none_or(|pair| {
            let own = renewed_at(&pair, &plan.id);
            SystemTime::now() >= self.suggested.of(&plan.id, &pair).unwrap_or(own)
        })
    }

    fn put_in_force(&self) {
        let change = self.terminator.change();
        let snapshot = self.road.snapshot.load();
        match reload::certificates(&self.fallback, Some(&self.acme), &snapshot) {
            Ok(certificates) => change.replace(certificates),
            Err(error) => tracing::error!(target: "tls", %error, "the certificates cannot be applied"),
        }
    }
}

/// When a third of its lifetime is left, or up to a tenth earlier, so that tenants that were added together do not renew
/// together.
fn renewed_at(pair: &Pair, tenant: &TenantId) -> SystemTime {
    let life = pair.not_after.duration_since(pair.not_before).unwrap_or_default();
    let spread =
        crate::ids::Digest::of(tenant.as_str().as_bytes()).to_string().bytes().map(u32::from).sum::<u32>() % 100;
    pair.not_after - life / 3 - life * spread / 1000
}

fn pause(attempts: u32) -> Duration {
    let pause = AGAIN_FIRST.saturating_mul(2_u32.saturating_pow(attempts.min(16))).min(AGAIN_MAX);
    // Up to a fifth more, so that many tenants do not retry at once.
    pause + pause.mul_f64(rand::random_range(0.0..0.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_retried_after_growing_pauses() {
        assert!((60..=72).contains(&pause(0).as_secs()));
        assert!((480..=576).contains(&pause(3).as_secs()));
        assert!(pause(40) <= AGAIN_MAX.mul_f64(1.2));
    }
}
