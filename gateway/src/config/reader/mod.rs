//! Walks a TOML file key by key and records everything that is wrong, instead of stopping at the first mistake.
//!
//! Each call names the key that it wants. So [`Section::finish`] knows which keys are valid, and reports the others.

pub(crate) mod reference;
mod section;
mod syntax;
pub(crate) mod units;

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use toml::de::DeTable;

use crate::config::problem::{Kind, Place, Problem, Source};
use crate::ids::TenantId;
pub(crate) use section::{At, Section, near};

/// One file that is being read, and its problems so far.
pub(crate) struct Reader {
    pub(crate) source: Arc<Source>,
    tenant: Option<TenantId>,
    problems: RefCell<Vec<Problem>>,
}

impl Reader {
    pub(crate) const fn new(source: Arc<Source>, tenant: Option<TenantId>) -> Self {
        Self { source, tenant, problems: RefCell::new(Vec::new()) }
    }

    /// Reads the file with `read`, if it is valid TOML. Returns the result and every problem.
    pub(crate) fn read<T>(self, read: impl FnOnce(&Self, &Section<'_>) -> T) -> (Option<T>, Vec<Problem>) {
        let source = Arc::clone(&self.source);
        let (table, errors) = DeTable::parse_recoverable(&source.text);
        let read = if errors.is_empty() {
            let section = Section::of_file(&self, table.get_ref());
            let read = read(&self, &section);
            section.finish();
            Some(read)
        } else {
            let errors = errors.iter().map(|error| (error.span(), error.message().to_owned()));
            if let Some(mistake) = syntax::mistake(&source.text, errors) {
                let seen = mistake.seen.map(|span| (self.place(Some(span)), "seen here".to_owned()));
                self.problem(Problem {
                    kind: Kind::NotToml,
                    tenant: self.tenant.clone(),
                    place: Place { source: Arc::clone(&source), span: mistake.span },
                    summary: "this is not TOML".to_owned(),
                    found: mistake.found,
                    wanted: "a file in TOML 1.0".to_owned(),
                    hint: Some(mistake.hint.to_owned()),
                    also: seen,
                });
            }
            None
        };
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.place.span.as_ref().map(|span| span.start));
        (read, problems)
    }

    /// Records a problem, but only once: two callers may want the same key.
    pub(crate) fn problem(&self, problem: Problem) {
        let mut problems = self.problems.borrow_mut();
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }

    pub(crate) fn place(&self, span: Option<Range<usize>>) -> Place {
        Place { source: Arc::clone(&self.source), span }
    }

    /// Records an invalid value.
    pub(crate) fn bad(&self, kind: Kind, place: &Place, summary: String, found: String, wanted: &str) {
        self.problem(Problem {
            kind,
            tenant: self.tenant.clone(),
            place: place.clone(),
            summary,
            found,
            wanted: wanted.to_owned(),
            hint: kind.hint().map(str::to_owned),
            also: None,
        });
    }
}
