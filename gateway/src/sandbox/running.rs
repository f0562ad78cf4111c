//! Counts an instance while it runs, and notes that it ended, whatever ended it.

use std::sync::Arc;

use super::Services;
use crate::fault::Fault;
use crate::telemetry::Record;

/// Counts an instance while it runs.
pub(super) struct RunningInstance {
    /// Whether it ran to its end and was not dropped on the way.
    pub(super) was_driven: bool,
    pub(super) record: Arc<Record>,
    pub(super) around: Arc<Services>,
}

impl RunningInstance {
    pub(super) fn begin(record: Arc<Record>, around: Arc<Services>) -> Self {
        around.metrics.instances.one_more();
        around.instances.pulse.one_more();
        Self { was_driven: false, record, around }
    }
}

impl Drop for RunningInstance {
    fn drop(&mut self) {
        if !self.was_driven {
            // A drain ran out of time, or a host call panicked.
            self.record.fault(Fault::Internal);
        }
        self.around.metrics.instances.one_less();
        self.around.instances.pulse.one_less();
    }
}
