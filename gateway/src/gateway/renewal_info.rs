//! The CA's suggestions when to renew (RFC 9773), requested for one certificate after the other in the background.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::config::Plan;
use crate::ids::TenantId;
use crate::tls::{Acme, Pair, Suggestion};

/// After a request without an answer.
const AGAIN: Duration = Duration::from_hours(6);

/// Suggestions by tenant; at most as many as there are tenants with a CA's certificate.
#[derive(Default)]
pub(super) struct RenewalInfo {
    known: HashMap<TenantId, Known>,
    /// The request in progress.
    asked: Option<Asked>,
}

/// A request about one certificate, which its expiry identifies.
struct Asked {
    tenant: TenantId,
    ends: SystemTime,
    answer: JoinHandle<anyhow::Result<Option<Suggestion>>>,
}

/// The suggestion for one certificate.
struct Known {
    /// Its expiry, which tells it from the next certificate.
    ends: SystemTime,
    renew_at: Option<SystemTime>,
    ask_at: Instant,
}

impl RenewalInfo {
    /// Notes an answer if there is one, and starts the next request. Never blocks.
    pub(super) fn look<'p>(&mut self, acme: &Arc<Acme>, plans: impl Iterator<Item = &'p Arc<Plan>>) {
        if let Some(asked) = self.asked.take_if(|asked| asked.answer.is_finished()) {
            self.note(asked);
        }
        let pairs: HashMap<TenantId, SystemTime> =
            plans.filter_map(|plan| Some((plan.id.clone(), acme.pair(&plan.id)?.not_after))).collect();
        self.known.retain(|tenant, known| pairs.get(tenant) == Some(&known.ends));
        if self.asked.is_some() {
            return;
        }
        let is_due = |tenant: &TenantId| self.known.get(tenant).is_none_or(|known| known.ask_at <= Instant::now());
        let Some((tenant, ends)) = pairs.into_iter().find(|(tenant, _)| is_due(tenant)) else { return };
        let (acme, of) = (Arc::clone(acme), tenant.clone());
        let answer = tokio::spawn(async move { acme.suggestion(&of).await });
        self.asked = Some(Asked { tenant, ends, answer });
    }

    fn note(&mut self, Asked { tenant, ends, answer }: Asked) {
        use futures_util::FutureExt as _;
        let before = self.known.get(&tenant).and_then(|known| known.renew_at);
        let (renew_at, again) = match answer.now_or_never() {
            Some(Ok(Ok(Some(said)))) => (Some(said.renew_at), said.again),
            Some(Ok(Ok(None))) => (None, AGAIN),
            Some(Ok(Err(error))) => {
                tracing::debug!(target: "tls", %tenant, error = %format!("{error:#}"), "the CA does not suggest when \
                    to renew");
                (before, AGAIN)
            }
            Some(Err(_)) | None => (before, AGAIN),
        };
        if renew_at.is_some_and(|at| at <= SystemTime::now()) {
            tracing::info!(target: "tls", %tenant, "the CA suggests to renew the certificate now");
        }
        self.known.insert(tenant, Known { ends, renew_at, ask_at: Instant::now() + again });
    }

    /// When the CA suggests to renew this certificate, if it does: at the latest when a tenth of its lifetime is left.
    pub(super) fn of(&self, tenant: &TenantId, pair: &Pair) -> Option<SystemTime> {
        let known = self.known.get(tenant).filter(|known| known.ends == pair.not_after)?;
        let life = pair.not_after.duration_since(pair.not_before).unwrap_or_default();
        Some(known.renew_at?.min(pair.not_after - life / 10))
    }
}
