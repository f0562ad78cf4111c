//! What is counted of fields that clients send and no guest sees.

use super::Metrics;

impl Metrics {
    pub(super) fn register_fields(&mut self) {
        self.registry.register(
            "request_fields_dropped",
            "Fields of requests with an underscore in their name, which no guest sees",
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
