//! Certificates by ACME (RFC 8555): one for each tenant's hosts, proved by http-01 or tls-alpn-01 (RFC 8737).
//!
//! Limit: one order at a time, [`ORDER_TIME`] long at the most. Only hosts that a tenant's file names are ever asked for.

mod challenges;
mod kept;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, Order,
    OrderStatus, RetryPolicy,
};

use crate::domain::Pattern;
use crate::ids::TenantId;
pub(crate) use challenges::Challenges;
pub(super) use challenges::{PROTOCOL, is_proof};
use kept::Kept;

use super::Pair;

/// What the operator chose.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The CA's directory.
    pub(crate) directory: String,
    /// `mailto:` addresses, which the CA may write to.
    pub(crate) contacts: Vec<String>,
    /// Ways to prove, the preferred one first.
    pub(crate) challenges: Vec<Challenge>,
    /// Trusted for the directory's own certificate instead of the usual roots, as a PEM file.
    pub(crate) ca: Option<PathBuf>,
}

/// A way to prove that a host is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A file by plain HTTP on port 80.
    Http,
    /// A certificate of its own by TLS on port 443.
    TlsAlpn,
}

/// By when an order is done or given up.
const ORDER_TIME: Duration = Duration::from_mins(3);
/// How often and how long the CA is asked whether it is satisfied.
const POLL: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(300)).backoff(1.5).timeout(Duration::from_secs(60));

/// The certificates that a CA gave, and the account with which there are more.
pub(crate) struct Acme {
    settings: Settings,
    kept: Kept,
    pub(crate) challenges: Arc<Challenges>,
}

impl std::fmt::Debug for Acme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acme").field("directory", &self.settings.directory).finish_non_exhaustive()
    }
}

impl Acme {
    /// Loads what was kept in `dir`.
    ///
    /// # Errors
    /// The folder cannot be used. A certificate that cannot be read is asked for anew.
    pub(crate) fn load(settings: Settings, dir: &Path) -> anyhow::Result<Self> {
        // The account's own TLS uses the process's provider; there is one only.
        let _was_there = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let kept = Kept::load(dir).with_context(|| format!("cannot use {}", dir.display()))?;
        Ok(Self { settings, kept, challenges: Arc::default() })
    }

    /// A tenant's certificate, whether or not it covers all its hosts of today.
    pub(crate) fn pair(&self, tenant: &TenantId) -> Option<Pair> {
        self.kept.get(tenant)
    }

    /// Asks the CA for a certificate for these hosts, proves them, and keeps what it gives. `attempt` is how often that
    /// failed before: the way to prove changes with it.
    ///
    /// # Errors
    /// In words for the operator: what the CA did not like, or that it does not answer.
    pub(crate) async fn order(&self, tenant: &TenantId, hosts: &[Pattern], attempt: usize) -> anyhow::Result<()> {
        let ordered = tokio::time::timeout(ORDER_TIME, self.order_by(hosts, attempt)).await;
        self.challenges.forget();
        let (key, chain) = ordered.context("the CA took too long")??;
        let pair =
            Pair::parse(chain.as_bytes(), key.as_bytes()).context("the CA gave a certificate that will not do")?;
        if let Some(host) = hosts.iter().find(|host| !pair.covers(host)) {
            bail!("the CA gave a certificate without {host}");
        }
        if let Err(error) = self.kept.put(tenant, pair, &(key + &chain)) {
            tracing::error!(target: "tls", %tenant, %error, "the certificate is served, and cannot be kept");
        }
        Ok(())
    }

    async fn order_by(&self, hosts: &[Pattern], attempt: usize) -> anyhow::Result<(String, String)> {
        let account = self.account().await?;
        let names: Vec<_> = hosts.iter().map(|host| Identifier::Dns(host.to_string())).collect();
        let mut order = account.new_order(&NewOrder::new(&names)).await.context("the order was refused")?;
        self.prove(&mut order, attempt).await?;
        let status = order.poll_ready(&POLL).await?;
        if status != OrderStatus::Ready {
            bail!("{}", why(&mut order).await.unwrap_or_else(|| format!("the order is {status:?}")));
        }
        let key = order.finalize().await?;
        Ok((key, order.poll_certificate(&POLL).await?))
    }

    async fn prove(&self, order: &mut Order, attempt: usize) -> anyhow::Result<()> {
        let ways = &self.settings.challenges;
        let way = ways.get(attempt % ways.len().max(1)).copied().unwrap_or(Challenge::TlsAlpn);
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let kind = match way {
                Challenge::Http => ChallengeType::Http01,
                Challenge::TlsAlpn => ChallengeType::TlsAlpn01,
            };
            let mut challenge =
                authorization.challenge(kind).with_context(|| format!("the CA does not offer {way:?}"))?;
            let proof = challenge.key_authorization();
            match (way, challenge.identifier().identifier) {
                (Challenge::Http, _) => self.challenges.answer_http(challenge.token.clone(), proof.as_str().to_owned()),
                (Challenge::TlsAlpn, Identifier::Dns(name)) => {
                    self.challenges.answer_tls(name, proof.digest().as_ref())?
                }
                (Challenge::TlsAlpn, other) => bail!("the CA asks for a proof of {other:?}"),
            }
            challenge.set_ready().await?;
        }
        Ok(())
    }

    /// The account that was kept, or a new one.
    async fn account(&self) -> anyhow::Result<Account> {
        let builder = || match &self.settings.ca {
            Some(ca) => Account::builder_with_root(ca),
            None => Account::builder(),
        };
        if let Some(credentials) = self.kept.account(&self.settings.directory) {
            let credentials: AccountCredentials =
                serde_json::from_value(credentials).context("the account is damaged")?;
            return builder()?
                .from_credentials(credentials)
                .await
                .context("the CA does not take the account that was kept");
        }
        let contact: Vec<_> = self.settings.contacts.iter().map(String::as_str).collect();
        let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let directory = self.settings.directory.clone();
        let (account, credentials) = builder()?.create(&new, directory, None).await.context("no account can be had")?;
        self.kept.put_account(&self.settings.directory, serde_json::to_value(credentials)?)?;
        Ok(account)
    }
}

/// What the CA says of the proofs that it did not like.
async fn why(order: &mut Order) -> Option<String> {
    let mut authorizations = order.authorizations();
    while let Some(Ok(authorization)) = authorizations.next().await {
        let problem = authorization.challenges.iter().find_map(|challenge| challenge.error.as_ref());
        if let Some(problem) = problem {
            return Some(problem.to_string());
        }
    }
    None
}
