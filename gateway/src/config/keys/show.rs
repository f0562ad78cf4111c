//! The values in force, key by key, and the line of the file that sets each.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Default, File, Key, Section, Shape, Takes};
use crate::config::files::boot::Boot;
use crate::config::problem::{Place, Source};

/// A key with its value in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Its full name, such as `route[1].path`.
    pub(crate) key: String,
    /// As it would be written in the file; never a secret.
    pub(crate) value: String,
    /// `FILE:LINE`, a flag, or `built in`.
    pub(crate) origin: String,
}

/// What applies if a file does not set a key.
pub(super) struct Behind<'b> {
    /// Flags and environment variables, which override the file: the key, its value, and the flag's name.
    pub(super) flags: &'b [(&'static str, String, &'static str)],
    /// The file whose `[defaults]` apply to this one.
    pub(super) defaults: Option<&'b Arc<Source>>,
}

/// The machine's file as it was read, and the flags that were given.
pub(crate) fn gateway(boot: &Boot, flags: &[(&'static str, String, &'static str)]) -> Vec<Shown> {
    show(&super::GATEWAY, &boot.source, &Behind { flags, defaults: None })
}

/// A tenant's file.
pub(crate) fn tenant(boot: &Boot, path: &Path, text: String) -> Vec<Shown> {
    let source = Source::new(path, text);
    show(&super::TENANT, &source, &Behind { flags: &[], defaults: Some(&boot.source) })
}

/// Every key with a value, in the order of the reference.
pub(super) fn show(file: &File, source: &Arc<Source>, behind: &Behind<'_>) -> Vec<Shown> {
    let (top, _errors) = DeTable::parse_recoverable(&source.text);
    let mut shown = Vec::new();
    for section in file.sections {
        let at = table_at(top.get_ref(), section.name);
        match section.shape {
            Shape::Table if file.is_inside(section) => {}
            Shape::Table => of_table(section, source, at, behind, &mut shown),
            Shape::Tables => of_tables(file, section, source, top.get_ref(), &mut shown),
            Shape::Named => of_named(section, source, at, &mut shown),
        }
    }
    shown
}

fn table_at<'t>(top: &'t DeTable<'t>, name: &str) -> Option<&'t DeTable<'t>> {
    let mut names = name.split('.').filter(|name| !name.is_empty());
    names.try_fold(top, |table, name| table.get(name)?.get_ref().as_table())
}

fn of_table(
    section: &Section,
    source: &Arc<Source>,
    at: Option<&DeTable<'_>>,
    behind: &Behind<'_>,
    shown: &mut Vec<Shown>,
) {
    for key in section.keys {
        let name = [section.name, key.name].join(".").trim_start_matches('.').to_owned();
        let flag = behind.flags.iter().find(|(key, ..)| *key == name);
        let own = at.and_then(|table| table.get(key.name)).map(|value| said(key, source, value));
        let by_default = || {
            let defaults = behind.defaults?;
            let span = defaults.span_of(&format!("defaults.{name}"))?;
            Some((written(defaults, span.clone()), line(defaults, span)))
        };
        let built_in = || match key.default {
            Default::Is(text) if holds_by_itself(section, at) => Some((text(), "built in".to_owned())),
            Default::Is(_) | Default::Needed | Default::Nothing => None,
        };
        let flag = flag.map(|(_, value, flag)| (value.clone(), (*flag).to_owned()));
        if let Some((value, origin)) = flag.or(own).or_else(by_default).or_else(built_in) {
            shown.push(Shown { key: name, value, origin });
        }
    }
}

/// A ceiling that is not set bounds nothing, and a section without its required key has no effect.
fn holds_by_itself(section: &Section, at: Option<&DeTable<'_>>) -> bool {
    let is_needed = |key: &Key| matches!(key.default, Default::Needed);
    !section.name.starts_with("ceilings") && (at.is_some() || !section.keys.iter().any(is_needed))
}

fn of_tables(file: &File, section: &Section, source: &Arc<Source>, top: &DeTable<'_>, shown: &mut Vec<Shown>) {
    let Some(items) = top.get(section.name).and_then(|value| value.get_ref().as_array()) else { return };
    for (index, item) in items.iter().enumerate() {
        let Some(table) = item.get_ref().as_table() else { continue };
        let prefix = format!("{}[{index}]", section.name);
        let mut add = |keys: &[Key], table: &DeTable<'_>, prefix: &str| {
            for key in keys {
                let own = table.get(key.name).map(|value| said(key, source, value));
                let Some((value, origin)) = own else { continue };
                shown.push(Shown { key: format!("{prefix}.{}", key.name), value, origin });
            }
        };
        add(section.keys, table, &prefix);
        for below in file.sections {
            let Some(name) = below.name.strip_prefix(section.name).and_then(|rest| rest.strip_prefix('.')) else {
                continue;
            };
            if let Some(table) = table.get(name).and_then(|value| value.get_ref().as_table()) {
                add(below.keys, table, &format!("{prefix}.{name}"));
            }
        }
    }
}

fn of_named(section: &Section, source: &Arc<Source>, at: Option<&DeTable<'_>>, shown: &mut Vec<Shown>) {
    let Some(key) = section.keys.first() else { return };
    for (name, value) in at.into_iter().flatten() {
        let (value, origin) = said(key, source, value);
        shown.push(Shown { key: format!("{}.{}", section.name, name.get_ref()), value, origin });
    }
}

/// The value that a file sets for a key, and the line. A text that may be a secret is not shown.
fn said(key: &Key, source: &Arc<Source>, value: &Spanned<DeValue<'_>>) -> (String, String) {
    let may_be_secret = matches!(key.takes, Takes::Reference | Takes::Elsewhere) && value.get_ref().as_str().is_some();
    let text = if may_be_secret { "(a text, not shown)".to_owned() } else { written(source, value.span()) };
    (text, line(source, value.span()))
}

/// The value as written, on one line, without the user and password of a URL.
fn written(source: &Source, span: Range<usize>) -> String {
    let text = source.text.get(span).unwrap_or_default();
    without_users(&text.lines().map(str::trim).collect::<Vec<_>>().join(" "))
}

/// Turns `redis://user:password@host` into `redis://…@host`.
fn without_users(text: &str) -> String {
    let mut parts = text.split("://");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(['/', '"', '\'', ' ', ',']).unwrap_or(part.len());
        let (authority, rest) = part.split_at(end);
        shown += "://";
        match authority.rsplit_once('@') {
            Some((_, host)) => shown.extend(["…@", host]),
            None => shown += authority,
        }
        shown += rest;
    }
    shown
}

fn line(source: &Arc<Source>, span: Range<usize>) -> String {
    let place = Place { source: Arc::clone(source), span: Some(span) };
    place.line_and_column().map_or_else(|| source.path.clone(), |(line, _)| format!("{}:{line}", source.path))
}
