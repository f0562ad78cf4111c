//! Starts a component for a schedule, by the handler of Spin's cron plugin.

use std::time::Instant;

use wasmtime::Store;
use wasmtime::component::InstancePre;

use super::call::instantiated;
use super::message::Handled;
use crate::host::Guest;
use crate::host::inbound::cron;
use crate::telemetry::Record;

/// The handler of a component that a schedule may start.
pub(super) struct ScheduleHandler(cron::SpinCronPre<Guest>);

impl ScheduleHandler {
    /// Returns nothing if the component has no such handler.
    pub(super) fn of(pre: &InstancePre<Guest>) -> Option<Self> {
        cron::SpinCronPre::new(pre.clone()).ok().map(Self)
    }

    /// `due` is in seconds since 1970. An error that the component returns goes to its tenant's log.
    pub(super) async fn call(
        &self,
        store: &mut Store<Guest>,
        due: u64,
        record: &Record,
        started: Instant,
    ) -> wasmtime::Result<(Handled, Option<String>)> {
        let timed = self.0.instantiate_async(&mut *store).await?;
        instantiated(record, started).await;
        let answer = timed.call_handle_cron_event(store, cron::Metadata { timestamp: due }).await?;
        Ok(match answer {
            Ok(()) => (Handled::Done, None),
            Err(cron::Error::Other(text)) => (Handled::Refused, Some(text)),
        })
    }
}
