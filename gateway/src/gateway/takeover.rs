//! Takes over from the running gateway: its sockets, its store, and first of all the list of tenants that it serves.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use serde_json::Value;

use super::notify::Notify;
use crate::admin::{Client, Unauthorized};
use crate::config::{self, Boot, Problem};
use crate::ids::TenantId;
use crate::listener::{Predecessor, Sockets};
use crate::owners;
use crate::sandbox::Compiler;
use crate::store::Store;
use crate::telemetry::Metrics;

/// How often to try to open the store of a process that is about to end, and the pause after each attempt.
const OPEN_TRIES: u32 = 100;
const OPEN_AGAIN: Duration = Duration::from_millis(50);
/// Time limit for each page of the running gateway's tenants.
const PATIENCE: Duration = Duration::from_secs(10);
const PAGE: usize = 500;
/// How many tenants are named if many would be left out.
const NAMED_MAX: usize = 10;

const NOBODY: &str = "no gateway reports which tenants it serves: is one running with this state folder? (--leave-out takes over without \
     this check)";
/// From this version on, each gateway leaves a token of its own beside its address.
const OTHER_TOKEN: &str = "the running gateway does not report which tenants it serves: it was started with another admin.token, and its version writes \
     no token into running.json. Take over with the old admin.token in the configuration, or with --leave-out, which skips this check";

/// Whether a process takes over, and how carefully.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Takeover {
    /// It does not.
    #[default]
    No,
    /// Only if no tenant that is served now would be left out.
    IfAllAreServed,
    Whoever,
}

impl Takeover {
    pub(crate) const fn is_one(self) -> bool {
        !matches!(self, Self::No)
    }
}

/// The existing sockets, and the store once no other process has it.
///
/// # Errors
/// In words for the operator: there is no gateway to take over from, or a tenant would be left out, or the store cannot be
/// opened.
pub(super) async fn succeed(
    boot: &Boot,
    takeover: Takeover,
    given: Sockets,
    (compiler, metrics, notify): (&Compiler, &Arc<Metrics>, &Notify),
) -> anyhow::Result<(Sockets, Arc<Store>)> {
    if takeover == Takeover::IfAllAreServed {
        rehearse(boot, compiler).await?;
    }
    let (sockets, tries) = take_over(boot, takeover.is_one(), given, notify).await?;
    Ok((sockets, Arc::new(open(boot, metrics, tries).await?)))
}

/// Checks all tenants as a start would, and compiles what is new, so that the start is quick.
///
/// # Errors
/// A tenant that is served now would be left out; or the running gateway does not answer.
async fn rehearse(boot: &Boot, compiler: &Compiler) -> anyhow::Result<()> {
    let served = served(boot).await.map_err(|error| {
        let why = if error.is::<Unauthorized>() { OTHER_TOKEN } else { NOBODY };
        error.context(why)
    })?;
    let noted = owners::look(&boot.state, &boot.storage).await?;
    let of = boot.clone();
    let planned = tokio::task::spawn_blocking(move || config::tenants_at_a_start(&of, &noted)).await?;
    let planned = config::prepare(planned, compiler, |_, _| ()).await;
    let wrong: BTreeSet<&TenantId> = planned
        .problems
        .iter()
        .filter(|problem| !problem.is_warning())
        .filter_map(|problem| problem.tenant.as_ref())
        .filter(|id| served.contains(*id) && !planned.plans.contains_key(*id))
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let lines = planned.problems.iter().filter(|problem| problem.tenant.as_ref().is_some_and(|id| wrong.contains(id)));
    let lines: Vec<_> = lines.take(NAMED_MAX).map(Problem::line).collect();
    let names: Vec<_> = wrong.iter().take(NAMED_MAX).map(|id| id.as_str()).collect();
    let more = wrong.len().saturating_sub(NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    bail!(
        "the running gateway continues: it serves {}{more}, and this one would not\n  {}\ncorrect that, or add \
            --leave-out",
        names.join(", "),
        lines.join("\n  ")
    )
}

/// The tenants whose requests the running gateway answers now.
async fn served(boot: &Boot) -> anyhow::Result<BTreeSet<TenantId>> {
    let mut of_running = boot.clone();
    // A given address is the one where this process will listen.
    of_running.operators.is_address_given = false;
    let mut client = Client::looking(&of_running, PATIENCE)?;
    let mut served = BTreeSet::new();
    let mut offset = 0;
    loop {
        let page = client.get(&format!("/v1/tenants?limit={PAGE}&offset={offset}")).await?;
        let rows = page["tenants"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_served = |row: &&Value| matches!(row["standing"].as_str(), Some("serving" | "stale"));
        served.extend(rows.iter().filter(is_served).filter_map(|row| TenantId::parse(row["id"].as_str()?)));
        offset += rows.len();
        if rows.is_empty() || page["total"].as_u64().is_some_and(|total| offset as u64 >= total) {
            return Ok(served);
        }
    }
}

/// The existing sockets, and how often to try to open the store.
async fn take_over(boot: &Boot, is_one: bool, given: Sockets, notify: &Notify) -> anyhow::Result<(Sockets, u32)> {
    if !is_one {
        return Ok((given, 1));
    }
    let mut sockets = Sockets::of_running(&boot.state.join("takeover.sock")).await?;
    // Only one process may have the embedded store open. Until the old one has ended, connections wait.
    if boot.storage.is_embedded()
        && let Some(mut old) = sockets.old.take()
    {
        notify.is_main();
        old.relieve().await?;
        old.ended(boot.listen.drain).await?;
    }
    Ok((sockets, OPEN_TRIES))
}

async fn open(boot: &Boot, metrics: &Arc<Metrics>, tries: u32) -> anyhow::Result<Store> {
    for _try in 1..tries {
        match Store::open(&boot.storage, Arc::clone(metrics)) {
            Ok(store) => return Ok(store),
            Err(_locked) => tokio::time::sleep(OPEN_AGAIN).await,
        }
    }
    Store::open(&boot.storage, Arc::clone(metrics))
}

/// Tells the old process to drain. If it has already ended, this one serves all the same.
pub(super) async fn relieve(old: Option<Predecessor>, notify: &Notify) {
    let Some(mut old) = old else { return };
    notify.is_main();
    if let Err(error) = old.relieve().await {
        tracing::warn!(target: "listener", %error, "the previous gateway has ended");
    }
}
