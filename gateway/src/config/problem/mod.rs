//! A problem of a configuration: where it is, what was found, what was expected, and what to do.

mod kind;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::json;
use toml::de::{DeTable, DeValue};

use crate::ids::TenantId;
pub(crate) use kind::Kind;

/// A file as it was read, and the name that messages show for it.
#[derive(PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl std::fmt::Debug for Source {
    /// Leaves out the text, which may contain a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Source").field(&self.path).finish()
    }
}

impl Source {
    pub(crate) fn new(path: &Path, text: String) -> Arc<Self> {
        Arc::new(Self { path: path.display().to_string(), text })
    }

    /// The place of a key with its full name, such as `listen.admin`; the whole file if it does not set the key.
    pub(crate) fn place_of(self: &Arc<Self>, key: &str) -> Place {
        Place { source: Arc::clone(self), span: self.span_of(key) }
    }

    /// The byte range of a key's value.
    pub(crate) fn span_of(&self, key: &str) -> Option<Range<usize>> {
        let (top, _errors) = DeTable::parse_recoverable(&self.text);
        let (sections, last) = key.rsplit_once('.').map_or((None, key), |(sections, last)| (Some(sections), last));
        let mut table = top.get_ref();
        for name in sections.into_iter().flat_map(|sections| sections.split('.')) {
            table = table.get(name)?.get_ref().as_table()?;
        }
        table.get(last).map(|value: &toml::Spanned<DeValue<'_>>| value.span())
    }
}

/// A file, and a byte range in it if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) source: Arc<Source>,
    pub(crate) span: Option<Range<usize>>,
}

impl Place {
    pub(crate) fn whole(source: &Arc<Source>) -> Self {
        Self { source: Arc::clone(source), span: None }
    }

    /// Line and column, both from 1; the column counts characters.
    pub(crate) fn line_and_column(&self) -> Option<(usize, usize)> {
        let before = self.source.text.get(..self.span.as_ref()?.start)?;
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        Some((line, column))
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.source.path)?;
        self.line_and_column().map_or(Ok(()), |(line, column)| write!(f, ":{line}:{column}"))
    }
}

/// One problem. It never contains a secret: a value under `[secrets]` is shown by name only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) kind: Kind,
    /// The affected tenant; none if the problem is in the gateway's own file.
    pub(crate) tenant: Option<TenantId>,
    pub(crate) place: Place,
    /// What is wrong, in one sentence.
    pub(crate) summary: String,
    pub(crate) found: String,
    pub(crate) wanted: String,
    pub(crate) hint: Option<String>,
    /// The other place, if two places disagree.
    pub(crate) also: Option<(Place, String)>,
}

impl Problem {
    /// One line, for logs and `/status`.
    pub(crate) fn line(&self) -> String {
        format!("{}: {} [{} {}]", self.place, self.summary, self.kind.code(), self.kind.name())
    }

    /// The same, with each of these prefixes removed from paths.
    pub(crate) fn without(&self, prefixes: &[String]) -> Self {
        let short =
            |text: &str| prefixes.iter().fold(text.to_owned(), |text, prefix| text.replace(prefix.as_str(), ""));
        let place = |place: &Place| Place {
            source: Arc::new(Source { path: short(&place.source.path), text: place.source.text.clone() }),
            span: place.span.clone(),
        };
        Self {
            kind: self.kind,
            tenant: self.tenant.clone(),
            place: place(&self.place),
            summary: self.summary.clone(),
            found: short(&self.found),
            wanted: short(&self.wanted),
            hint: self.hint.as_deref().map(short),
            also: self.also.as_ref().map(|(other, label)| (place(other), label.clone())),
        }
    }

    /// Whether tenants are served despite this.
    pub(crate) const fn is_warning(&self) -> bool {
        self.kind.is_warning()
    }

    pub(crate) fn to_json(&self) -> serde_json::Value {
        let (line, column) = self.place.line_and_column().unzip();
        json!({
            "code": self.kind.code(),
            "kind": self.kind.name(),
            "severity": self.severity(),
            "tenant": self.tenant.as_ref().map(TenantId::as_str),
            "file": self.place.source.path,
            "line": line,
            "column": column,
            "summary": self.summary,
            "found": self.found,
            "wanted": self.wanted,
            "hint": self.hint,
            "also": self.also.as_ref().map(|(place, _)| place.to_string()),
        })
    }

    const fn severity(&self) -> &'static str {
        match (self.kind.is_notice(), self.is_warning()) {
            (true, _) => "notice",
            (false, true) => "warning",
            (false, false) => "error",
        }
    }

    fn report(&self) -> Vec<Group<'_>> {
        let level = match self.severity() {
            "notice" => Level::NOTE,
            "warning" => Level::WARNING,
            _ => Level::ERROR,
        };
        let title = level.primary_title(self.summary.as_str()).id([self.kind.code(), self.kind.name()].join(" "));
        let mut group = Group::with_title(title);
        group = match &self.place.span {
            Some(span) => group.element(
                snippet(&self.place.source)
                    .annotation(AnnotationKind::Primary.span(span.clone()).label(self.found.as_str())),
            ),
            None => group
                .element(annotate_snippets::Origin::path(self.place.source.path.as_str()))
                .element(Level::NOTE.with_name("found").message(self.found.as_str())),
        };
        if let Some((place, label)) = &self.also
            && let Some(span) = &place.span
        {
            group = group.element(
                snippet(&place.source).annotation(AnnotationKind::Context.span(span.clone()).label(label.as_str())),
            );
        }
        group = group.element(Level::NOTE.with_name("wanted").message(self.wanted.as_str()));
        if let Some(hint) = &self.hint {
            group = group.element(Level::HELP.with_name("hint").message(hint.as_str()));
        }
        vec![group]
    }
}

fn snippet(source: &Source) -> Snippet<'_, annotate_snippets::Annotation<'_>> {
    Snippet::source(source.text.as_str()).path(source.path.as_str()).fold(true)
}

/// All problems as a person reads them.
pub(crate) fn render_all(problems: &[Problem], colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    problems.iter().map(|problem| renderer.render(&problem.report()) + "\n\n").collect()
}
