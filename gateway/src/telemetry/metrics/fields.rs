//! Counts header fields that clients send and no guest sees.

use super::Metrics;

impl Metrics {
    pub(super) fn register_fields(&mut self) {
        self.registry.register(
            "request_fields_dropped",
            "Request header fields that were removed because their name has an underscore",
            self.fields_dropped.clone(),
        );
    }

    /// Counts those of one request.
    pub(crate) fn fields_dropped(&self, fields: u64) {
        if fields > 0 {
            self.fields_dropped.inc_by(fields);
        }
    }
}
