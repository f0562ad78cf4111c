//! One table of a file: takes the values of its keys, and records those that are invalid.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Reader, units};
use crate::config::problem::{Kind, Place, Problem};

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) place: Place,
}

/// One table of a file.
pub(crate) struct Section<'r> {
    reader: &'r Reader,
    table: &'r DeTable<'r>,
    /// The place of the header; none for the whole file.
    span: Option<Range<usize>>,
    name: String,
    known: RefCell<Vec<&'static str>>,
    /// Whether a caller took the other keys as well.
    is_open: Cell<bool>,
}

/// A short description of a value.
fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text {:?}", text.chars().take(60).collect::<String>()),
        DeValue::Integer(number) => format!("the number {}", number.as_str()),
        DeValue::Float(number) => format!("the number {}", number.as_str()),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// The name that was probably meant.
pub(crate) fn near<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let scored = names.map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate));
    let best = scored.min_by_key(|(distance, _)| *distance)?;
    (best.0 <= 1 + name.len() / 4).then_some(best.1)
}

impl<'r> Section<'r> {
    /// The whole file as a section, which has no name.
    pub(super) fn of_file(reader: &'r Reader, table: &'r DeTable<'r>) -> Self {
        let (known, is_open) = (RefCell::default(), Cell::default());
        Self { reader, table, span: None, name: String::new(), known, is_open }
    }

    /// The full name of a key of this section, from the top of the file.
    pub(crate) fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    /// The place of the section, to report missing keys there.
    pub(crate) fn place(&self) -> Place {
        self.reader.place(self.span.clone())
    }

    fn look(&self, key: &'static str) -> Option<&'r Spanned<DeValue<'r>>> {
        if !self.known.borrow().contains(&key) {
            self.known.borrow_mut().push(key);
        }
        self.table.get(key)
    }

    fn at(&self, value: &Spanned<DeValue<'_>>) -> Place {
        self.reader.place(Some(value.span()))
    }

    /// Converts a key's value with `take`, or records that it is not what was expected.
    pub(crate) fn take<T>(
        &self,
        key: &'static str,
        wanted: &str,
        take: impl FnOnce(&DeValue<'_>) -> Option<T>,
    ) -> Option<At<T>> {
        let value = self.look(key)?;
        let place = self.at(value);
        let taken = take(value.get_ref());
        if taken.is_none() {
            let is_number = value.get_ref().is_integer() || value.get_ref().is_float();
            let (kind, summary) = if is_number && wanted.contains("with its unit") {
                (Kind::MissingUnit, format!("`{}` needs a unit", self.path(key)))
            } else {
                (Kind::BadValue, format!("`{}` has an invalid value", self.path(key)))
            };
            self.reader.bad(kind, &place, summary, describe(value.get_ref()), wanted);
        }
        taken.map(|value| At { value, place })
    }

    pub(crate) fn string(&self, key: &'static str) -> Option<At<String>> {
        self.take(key, "a text", |value| value.as_str().map(str::to_owned))
    }

    pub(crate) fn boolean(&self, key: &'static str) -> Option<At<bool>> {
        self.take(key, "true or false", |value| value.as_bool())
    }

    pub(crate) fn count(&self, key: &'static str) -> Option<At<u32>> {
        self.take(key, "a whole number from 1 to 4294967295", units::count)
    }

    /// The same, with 0 allowed.
    pub(crate) fn count_or_none(&self, key: &'static str) -> Option<At<u32>> {
        self.take(key, "a whole number from 0 to 4294967295", units::number)
    }

    pub(crate) fn duration(&self, key: &'static str) -> Option<At<Duration>> {
        let take = |value: &DeValue<'_>| value.as_str().and_then(units::duration).filter(|time| !time.is_zero());
        self.take(key, units::DURATION, take)
    }

    pub(crate) fn bytes(&self, key: &'static str) -> Option<At<u64>> {
        self.take(key, units::BYTES, |value| value.as_str().and_then(units::bytes).filter(|bytes| *bytes > 0))
    }

    pub(crate) fn fuel(&self, key: &'static str) -> Option<At<u64>> {
        self.take(key, units::FUEL, |value| value.as_str().and_then(units::fuel).filter(|fuel| *fuel > 0))
    }

    /// One of several words.
    pub(crate) fn word<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Option<At<T>> {
        let wanted = words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ");
        self.take(key, &wanted, |value| {
            let given = value.as_str()?;
            words.iter().find(|(word, _)| *word == given).map(|(_, meaning)| *meaning)
        })
    }

    /// A list of texts, each converted with `take`.
    pub(crate) fn list<T>(
        &self,
        key: &'static str,
        wanted: &str,
        take: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<At<T>>> {
        self.list_of(key, wanted, |value| take(value.as_str()?))
    }

    /// The same for values of any type.
    pub(crate) fn list_of<T>(
        &self,
        key: &'static str,
        wanted: &str,
        take: impl Fn(&DeValue<'_>) -> Option<T>,
    ) -> Option<Vec<At<T>>> {
        let value = self.look(key)?;
        let Some(items) = value.get_ref().as_array() else {
            let summary = format!("`{}` has an invalid value", self.path(key));
            let wanted = format!("a list of {wanted}");
            self.reader.bad(Kind::BadValue, &self.at(value), summary, describe(value.get_ref()), &wanted);
            return None;
        };
        let mut taken = Vec::new();
        for item in items.iter() {
            let place = self.at(item);
            match take(item.get_ref()) {
                Some(value) => taken.push(At { value, place }),
                None => {
                    let what = if key == "hosts" { "host name" } else { "entry" };
                    let summary = format!("`{}` has an invalid {what}", self.path(key));
                    self.reader.bad(Kind::BadValue, &place, summary, describe(item.get_ref()), wanted);
                }
            }
        }
        Some(taken)
    }

    /// The subsection with this name.
    pub(crate) fn section(&self, key: &'static str) -> Option<Self> {
        let value = self.look(key)?;
        let table = value.get_ref().as_table();
        if table.is_none() {
            let summary = format!("`{}` has an invalid value", self.path(key));
            self.reader.bad(Kind::BadValue, &self.at(value), summary, describe(value.get_ref()), "a table");
        }
        Some(self.below(key, table?, value.span()))
    }

    /// The sections of an array of tables, `[[key]]`.
    pub(crate) fn sections(&self, key: &'static str) -> Vec<Self> {
        let Some(value) = self.look(key) else { return Vec::new() };
        let tables = value.get_ref().as_array().map(|items| {
            items.iter().map(|item| item.get_ref().as_table().map(|table| (table, item.span()))).collect()
        });
        let Some(Some(tables)): Option<Option<Vec<_>>> = tables else {
            let summary = format!("`{}` has an invalid value", self.path(key));
            let wanted = format!("one or more sections, each headed [[{}]]", self.path(key));
            self.reader.bad(Kind::BadValue, &self.at(value), summary, describe(value.get_ref()), &wanted);
            return Vec::new();
        };
        tables.into_iter().map(|(table, span)| self.below(key, table, span)).collect()
    }

    /// The tables below this one, whose names the file chooses itself.
    pub(crate) fn named(&self) -> Vec<(At<String>, Self)> {
        let mut named = Vec::new();
        for (name, value) in self.table {
            let place = self.reader.place(Some(name.span()));
            let key = name.get_ref().to_string();
            match value.get_ref().as_table() {
                Some(table) => {
                    let below = self.below(&key, table, value.span());
                    named.push((At { value: key, place }, below));
                }
                None => {
                    let summary = format!("`{}` has an invalid value", self.path(&key));
                    self.reader.bad(Kind::BadValue, &place, summary, describe(value.get_ref()), "a table");
                }
            }
        }
        named
    }

    /// The table with this name among those.
    pub(crate) fn table(&self, name: &str) -> Option<Self> {
        let value = self.table.get(name)?;
        Some(self.below(name, value.get_ref().as_table()?, value.span()))
    }

    /// Whether the key is an empty list.
    pub(crate) fn is_empty_list(&self, key: &'static str) -> bool {
        self.look(key).and_then(|value| value.get_ref().as_array()).is_some_and(|items| items.is_empty())
    }

    /// The place of this key if the file has it, whatever its value is.
    pub(crate) fn has(&self, key: &'static str) -> Option<Place> {
        self.look(key).map(|value| self.at(value))
    }

    /// The keys that no caller has asked for so far; `finish` then does not report them.
    pub(crate) fn others(&self) -> Vec<At<String>> {
        self.is_open.set(true);
        let known = self.known.borrow();
        let names = self.table.keys().filter(|name| !known.iter().any(|key| key == name.get_ref()));
        let at = |name: &Spanned<_>| self.reader.place(Some(name.span()));
        names.map(|name| At { value: name.get_ref().to_string(), place: at(name) }).collect()
    }

    /// The value of a key if `take` accepts it. Records no problem if not.
    pub(crate) fn look_quietly<T>(&self, key: &'static str, take: impl FnOnce(&DeValue<'_>) -> Option<T>) -> Option<T> {
        take(self.look(key)?.get_ref())
    }

    /// A table whose names the file chooses itself; each value is converted with `take`.
    pub(crate) fn entries<T>(
        &self,
        wanted: &str,
        take: impl Fn(&str, &DeValue<'_>) -> Option<T>,
    ) -> Vec<(At<String>, T)> {
        let mut entries = Vec::new();
        for (name, value) in self.table {
            let place = self.reader.place(Some(name.span()));
            match take(name.get_ref(), value.get_ref()) {
                Some(taken) => entries.push((At { value: name.get_ref().to_string(), place }, taken)),
                None => {
                    let summary = format!("`{}` has an invalid value", self.path(name.get_ref()));
                    // Never show the value: it may be a secret that was put here by mistake.
                    self.reader.bad(Kind::BadValue, &place, summary, "something else".to_owned(), wanted);
                }
            }
        }
        entries
    }

    fn below(&self, key: &str, table: &'r DeTable<'r>, span: Range<usize>) -> Self {
        Self {
            reader: self.reader,
            table,
            span: Some(span),
            name: self.path(key),
            known: RefCell::default(),
            is_open: Cell::default(),
        }
    }

    /// Records a problem if a required key is missing. The caller has already taken its value.
    pub(crate) fn required<T>(&self, key: &'static str, taken: Option<At<T>>, example: &str) -> Option<At<T>> {
        if taken.is_none() && !self.table.contains_key(key) {
            let summary = format!("`{}` is missing", self.path(key));
            self.reader.bad(Kind::MissingKey, &self.place(), summary, "no such key".to_owned(), example);
        }
        taken
    }

    /// Reports the keys that no caller asked for.
    pub(crate) fn finish(&self) {
        if self.is_open.get() {
            return;
        }
        let known = self.known.borrow();
        for name in self.table.keys() {
            let given = name.get_ref();
            if known.iter().any(|key| key == given) {
                continue;
            }
            let hint = near(given, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
            self.reader.problem(Problem {
                kind: Kind::UnknownKey,
                tenant: self.reader.tenant.clone(),
                place: self.reader.place(Some(name.span())),
                summary: format!("`{}` is not a key", self.path(given)),
                found: format!("`{given}`"),
                wanted: format!("one of {}", known.join(", ")),
                hint,
                also: None,
            });
        }
    }
}
