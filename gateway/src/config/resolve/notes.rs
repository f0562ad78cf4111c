//! Records the problems of one tenant.

use crate::config::problem::{Kind, Place, Problem};
use crate::ids::TenantId;

/// Records the problems of one tenant.
pub(crate) struct Notes<'n> {
    pub(crate) id: &'n TenantId,
    pub(crate) problems: &'n mut Vec<Problem>,
}

impl Notes<'_> {
    pub(crate) fn add(&mut self, kind: Kind, place: &Place, texts: [&str; 3], hint: Option<String>) {
        let [summary, found, wanted] = texts.map(str::to_owned);
        let (tenant, place) = (Some(self.id.clone()), place.clone());
        let hint = hint.or_else(|| kind.hint().map(str::to_owned));
        self.problems.push(Problem { kind, tenant, place, summary, found, wanted, hint, also: None });
    }
}
