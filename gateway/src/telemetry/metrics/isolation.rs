//! Counts the checks of whether tenants are isolated.

use super::super::labels::OfCheck;
use super::Metrics;

/// What is checked, and the possible results.
const CHECKS: [(&str, &str); 6] = [
    ("slots", "clean"),
    ("slots", "found"),
    ("slots", "failed"),
    ("canary", "clean"),
    ("canary", "found"),
    ("canary", "failed"),
];

impl Metrics {
    pub(super) fn register_isolation(&mut self) {
        self.registry.register(
            "isolation_checks",
            "Isolation checks of slots and by canaries, by result: clean, found, or failed",
            self.isolation_checks.clone(),
        );
        for (check, result) in CHECKS {
            let _zero = self.isolation_checks.get_or_create(&OfCheck { check, result });
        }
    }

    /// Counts a check of the `slots` or by the `canary`.
    pub(crate) fn isolation_check(&self, check: &'static str, result: &'static str) {
        self.isolation_checks.get_or_create(&OfCheck { check, result }).inc();
    }
}
