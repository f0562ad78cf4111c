//! Keeps every tenant's certificate: asked for when it is missing, renewed long before it ends.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::reload;
use crate::config::Plan;
use crate::domain::Pattern;
use crate::ids::TenantId;
use crate::request::Road;
use crate::tls::{Acme, DevCa, Pair, Terminator};

/// Between two looks at who needs a certificate.
const LOOK: Duration = Duration::from_secs(1);
/// After the first failure; twice that after the next, and so on.
const AGAIN_FIRST: Duration = Duration::from_mins(1);
const AGAIN_MAX: Duration = Duration::from_hours(24);

/// What a tenant's orders came to.
struct Failed {
    attempts: u32,
    /// For which hosts.
    hosts: Vec<Pattern>,
    /// None is made before.
    until: Instant,
}

/// Asks for certificates, one after the other, as long as the process lives.
pub(super) struct Certifier {
    pub(super) road: Arc<Road>,
    pub(super) acme: Arc<Acme>,
    pub(super) dev_ca: Arc<DevCa>,
    pub(super) terminator: Terminator,
}

impl Certifier {
    pub(super) async fn keep(self) {
        let tasks = self.road.tasks.clone();
        tokio::select! {
            // Whoever takes over answers the CA.
            () = tasks.draining() => {}
            never = self.order_for_ever() => match never {},
        }
    }

    async fn order_for_ever(&self) -> std::convert::Infallible {
        let mut failed: HashMap<TenantId, Failed> = HashMap::new();
        loop {
            tokio::time::sleep(LOOK).await;
            let snapshot = self.road.snapshot.load_full();
            // Other hosts are another order.
            failed.retain(|id, of| snapshot.plans.get(id).is_some_and(|plan| plan.hosts == of.hosts));
            let waits = |id: &TenantId| failed.get(id).is_some_and(|failed| failed.until > Instant::now());
            let attempts = |plan: &Plan| failed.get(&plan.id).map_or(0, |failed| failed.attempts);
            let needy = snapshot.plans.values().filter(|plan| self.needs(plan) && !waits(&plan.id));
            // Whoever fails again and again comes behind those that were not tried yet.
            let Some(plan) = needy.min_by_key(|plan| attempts(plan)) else { continue };
            let attempts = attempts(plan);
            match self.acme.order(&plan.id, &plan.hosts, attempts as usize).await {
                Ok(()) => {
                    failed.remove(&plan.id);
                    self.road.metrics.certificate_issued();
                    tracing::info!(target: "tls", tenant = %plan.id, "the CA gave a certificate");
                    self.put_in_force();
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

    /// Whether it has none of its own files, and none of the CA's that covers its hosts and is not about to end.
    fn needs(&self, plan: &Plan) -> bool {
        if plan.pair.is_some() {
            return false;
        }
        let covers = |pair: &Pair| plan.hosts.iter().all(|host| pair.covers(host));
        let pair = self.acme.pair(&plan.id).filter(covers);
        pair.is_none_or(|pair| SystemTime::now() >= renewed_at(&pair, &plan.id))
    }

    fn put_in_force(&self) {
        let snapshot = self.road.snapshot.load();
        match reload::certificates(&self.dev_ca, Some(&self.acme), snapshot.plans.values()) {
            Ok(certificates) => self.terminator.replace(certificates),
            Err(error) => tracing::error!(target: "tls", %error, "the certificates cannot be put in force"),
        }
    }
}

/// When a third of its time is left, or up to a tenth of it before: tenants that came together do not renew together.
fn renewed_at(pair: &Pair, tenant: &TenantId) -> SystemTime {
    let life = pair.not_after.duration_since(pair.not_before).unwrap_or_default();
    let spread =
        crate::ids::Digest::of(tenant.as_str().as_bytes()).to_string().bytes().map(u32::from).sum::<u32>() % 100;
    pair.not_after - life / 3 - life * spread / 1000
}

fn pause(attempts: u32) -> Duration {
    let pause = AGAIN_FIRST.saturating_mul(2_u32.saturating_pow(attempts.min(16))).min(AGAIN_MAX);
    // Up to a fifth more, so that many do not come back at once.
    pause + pause.mul_f64(rand::random_range(0.0..0.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_given_time() {
        assert!((60..=72).contains(&pause(0).as_secs()));
        assert!((480..=576).contains(&pause(3).as_secs()));
        assert!(pause(40) <= AGAIN_MAX.mul_f64(1.2));
    }
}
