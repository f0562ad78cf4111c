//! Certificates by ACME (RFC 8555): one for the hosts of each tenant, validated by http-01 or tls-alpn-01 (RFC 8737).
//!
//! Limit: one order at a time, for at most [`ORDER_TIME`]. The gateway orders only for hosts that a tenant's file names.

mod challenges;
mod files;
mod renewal;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, CertificateIdentifier, ChallengeType, ExternalAccountKey,
    Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};

use crate::domain::Pattern;
use crate::ids::TenantId;
pub(crate) use challenges::{Challenges, Proof};
pub(super) use challenges::{PROTOCOL, is_proof};
use files::AcmeFiles;
pub(crate) use renewal::Suggestion;

use super::Pair;

/// What the operator chose.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// URL of the CA's directory.
    pub(crate) directory: String,
    /// `mailto:` addresses to which the CA may write.
    pub(crate) contacts: Vec<String>,
    /// Challenge types, the preferred one first.
    pub(crate) challenges: Vec<Challenge>,
    /// Identifies the customer's account, if the CA requires external account binding (RFC 8555 §7.3.4).
    pub(crate) binding: Option<Binding>,
    /// A PEM file of roots for the directory's own certificate, instead of the usual roots.
    pub(crate) ca: Option<PathBuf>,
}

/// An existing account at the CA, by its identifier and a shared secret.
#[derive(Clone)]
pub(crate) struct Binding {
    pub(crate) id: String,
    pub(crate) key: Vec<u8>,
}

impl std::fmt::Debug for Binding {
    /// Omits the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Binding").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A way to prove control of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A file by plain HTTP on port 80.
    Http,
    /// A special certificate by TLS on port 443.
    TlsAlpn,
}

/// Time limit for an order.
pub(crate) const ORDER_TIME: Duration = Duration::from_mins(3);
/// How often, and for how long, the gateway polls the CA for the result.
const POLL: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(300)).backoff(1.5).timeout(Duration::from_secs(60));

/// The certificates that the CA issued, and the account that orders more.
pub(crate) struct Acme {
    settings: Settings,
    kept: AcmeFiles,
    pub(crate) challenges: Arc<Challenges>,
}

impl std::fmt::Debug for Acme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acme").field("directory", &self.settings.directory).finish_non_exhaustive()
    }
}

impl Acme {
    /// Loads what is stored in `dir`.
    ///
    /// # Errors
    /// The folder cannot be used. A certificate that cannot be read is ordered again.
    pub(crate) fn load(settings: Settings, dir: &Path) -> anyhow::Result<Self> {
        // The ACME client's own TLS uses the process's provider, of which there is only one.
        let _was_there = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let kept = AcmeFiles::load(dir).with_context(|| format!("cannot use {}", dir.display()))?;
        Ok(Self { settings, kept, challenges: Arc::default() })
    }

    /// A tenant's certificate, even if it does not cover all its current hosts.
    pub(crate) fn pair(&self, tenant: &TenantId) -> Option<Pair> {
        self.kept.get(tenant)
    }

    /// Orders a certificate for these hosts, proves them, and stores the result. `attempt` counts earlier failures; the
    /// challenge type alternates with it. `publish` runs before the CA validates. It sends the proofs to the other gateways
    /// of the fleet, which the CA may ask instead. Returns the key and the chain in PEM, for those gateways.
    ///
    /// # Errors
    /// In words for the operator: what the CA rejected, or that it does not answer.
    pub(crate) async fn order<F: Future<Output = anyhow::Result<()>> + Send>(
        &self,
        tenant: &TenantId,
        hosts: &[Pattern],
        attempt: usize,
        publish: impl FnOnce(Vec<Proof>) -> F + Send,
    ) -> anyhow::Result<String> {
        let replaced = self.kept.get(tenant).filter(|pair| hosts.iter().all(|host| pair.covers(host)));
        let replaced = replaced.and_then(|pair| renewal::identifier(pair.key.cert.first()?));
        let ordered = tokio::time::timeout(ORDER_TIME, self.order_by(hosts, replaced, attempt, publish)).await;
        self.challenges.forget();
        let (key, chain) = ordered.context("the CA took too long")??;
        let pem = key + &chain;
        self.adopt(tenant, hosts, &pem)?;
        Ok(pem)
    }

    /// Stores a certificate that a CA issued to this gateway or to another one of the fleet.
    ///
    /// # Errors
    /// It is not a certificate for these hosts.
    pub(crate) fn adopt(&self, tenant: &TenantId, hosts: &[Pattern], pem: &str) -> anyhow::Result<()> {
        let pair = Pair::parse(pem.as_bytes(), pem.as_bytes()).context("the CA issued an unusable certificate")?;
        if let Some(host) = hosts.iter().find(|host| !pair.covers(host)) {
            bail!("the CA issued a certificate without {host}");
        }
        if let Err(error) = self.kept.put(tenant, pair, pem) {
            tracing::error!(target: "tls", %tenant, %error, "the certificate is served, but cannot be stored");
        }
        Ok(())
    }

    /// The account at the CA, as text for the other gateways of the fleet.
    pub(crate) fn account_text(&self) -> Option<String> {
        self.kept.account(&self.settings.directory).map(|account| account.to_string())
    }

    /// Takes another gateway's account, if this gateway has none.
    ///
    /// # Errors
    /// The text is invalid, or the account cannot be written.
    pub(crate) fn take_account(&self, text: &str) -> anyhow::Result<()> {
        if self.kept.account(&self.settings.directory).is_none() {
            self.kept.put_account(&self.settings.directory, serde_json::from_str(text)?)?;
        }
        Ok(())
    }

    /// The account's name in the fleet: the CA's directory.
    pub(crate) fn directory(&self) -> &str {
        &self.settings.directory
    }

    async fn order_by<F: Future<Output = anyhow::Result<()>> + Send>(
        &self,
        hosts: &[Pattern],
        replaced: Option<CertificateIdentifier<'static>>,
        attempt: usize,
        publish: impl FnOnce(Vec<Proof>) -> F + Send,
    ) -> anyhow::Result<(String, String)> {
        let account = self.account().await?;
        let names: Vec<_> = hosts.iter().map(|host| Identifier::Dns(host.to_string())).collect();
        let mut order = order_of(&account, &names, replaced).await?;
        let proofs = self.proofs(&mut order, attempt).await?;
        for (_, proof) in &proofs {
            self.challenges.answer(proof)?;
        }
        publish(proofs.iter().map(|(_, proof)| proof.clone()).collect()).await?;
        self.prove(&mut order, &proofs).await?;
        let status = order.poll_ready(&POLL).await?;
        if status != OrderStatus::Ready {
            bail!("{}", why(&mut order).await.unwrap_or_else(|| format!("the order is {status:?}")));
        }
        let key = order.finalize().await?;
        Ok((key, order.poll_certificate(&POLL).await?))
    }

    /// The proofs for each authorization that is not valid yet, by name.
    async fn proofs(&self, order: &mut Order, attempt: usize) -> anyhow::Result<Vec<(ChallengeType, Proof)>> {
        let ways = &self.settings.challenges;
        let way = ways.get(attempt % ways.len().max(1)).copied().unwrap_or(Challenge::TlsAlpn);
        let mut proofs = Vec::new();
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
            let challenge =
                authorization.challenge(kind.clone()).with_context(|| format!("the CA does not offer {way:?}"))?;
            let proof = challenge.key_authorization();
            let proof = match (way, challenge.identifier().identifier) {
                (Challenge::Http, _) => Proof::Http { token: challenge.token.clone(), text: proof.as_str().to_owned() },
                (Challenge::TlsAlpn, Identifier::Dns(name)) => {
                    Proof::Tls { name: name.clone(), digest: proof.digest().as_ref().to_vec() }
                }
                (Challenge::TlsAlpn, other) => bail!("the CA requires a challenge for {other:?}"),
            };
            proofs.push((kind, proof));
        }
        Ok(proofs)
    }

    /// Asks the CA to validate the proofs.
    async fn prove(&self, order: &mut Order, proofs: &[(ChallengeType, Proof)]) -> anyhow::Result<()> {
        let Some((kind, _)) = proofs.first() else { return Ok(()) };
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let challenge = authorization.challenge(kind.clone());
            challenge.context("the CA does not offer its challenge any more")?.set_ready().await?;
        }
        Ok(())
    }

    /// The stored account, or a new one.
    async fn account(&self) -> anyhow::Result<Account> {
        let builder = || match &self.settings.ca {
            Some(ca) => Account::builder_with_root(ca),
            None => Account::builder(),
        };
        if let Some(credentials) = self.kept.account(&self.settings.directory) {
            let credentials: AccountCredentials =
                serde_json::from_value(credentials).context("the stored account is damaged")?;
            return builder()?.from_credentials(credentials).await.context("the CA does not accept the stored account");
        }
        let contact: Vec<_> = self.settings.contacts.iter().map(String::as_str).collect();
        let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let directory = self.settings.directory.clone();
        let binding = self.settings.binding.as_ref().map(|of| ExternalAccountKey::new(of.id.clone(), &of.key));
        let created = builder()?.create(&new, directory, binding.as_ref()).await;
        let (account, credentials) = created.context("the gateway cannot get an account at the CA")?;
        self.kept.put_account(&self.settings.directory, serde_json::to_value(credentials)?)?;
        Ok(account)
    }
}

/// Creates an order. If the tenant has a certificate, the order states that it replaces it (RFC 9773 §5): CAs that support
/// this exempt such orders from rate limits.
async fn order_of(
    account: &Account,
    names: &[Identifier],
    replaced: Option<CertificateIdentifier<'static>>,
) -> anyhow::Result<Order> {
    if let Some(replaced) = replaced
        && let Ok(order) = account.new_order(&NewOrder::new(names).replaces(replaced)).await
    {
        return Ok(order);
    }
    // The CA does not support this, or does not know the certificate.
    account.new_order(&NewOrder::new(names)).await.context("the CA refused the order")
}

/// Why the CA rejected the proofs.
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
