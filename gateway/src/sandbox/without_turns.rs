//! Runs guests without turns, for comparison.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use super::Services;
use crate::telemetry::Record;
use crate::tenant::Ledger;

/// Runs in tokio's order alone (`sandbox.fair_turns = false`). The first turn runs here: a guest that answers at once needs
/// neither a task nor a thread switch.
pub(super) async fn run_without_turns(
    around: &Arc<Services>,
    ledger: Arc<Ledger>,
    record: Arc<Record>,
    driving: impl Future<Output = ()> + Send + 'static,
) {
    let mut driving = Box::pin(async move {
        driving.await;
        ledger.burn(record.fuel_of_guest());
    });
    let is_over = poll_fn(|cx| Poll::Ready(driving.as_mut().poll(cx).is_ready())).await;
    if !is_over {
        around.tasks.spawn(driving);
    }
}
