//! `[admin]` of the machine's file: access to the operators' listener.

use std::path::Path;

use super::boot::{Operators, SECRET_BYTES_MIN};
use super::join;
use crate::config::problem::Kind;
use crate::config::reader::reference::{Reference, reference};
use crate::config::reader::{Reader, Section};
use crate::store::Secret;

const TOKEN: &str = "{ file = \"path\" } or { env = \"NAME\" }, at least 32 random bytes";

pub(crate) fn read(reader: &Reader, file: &Section<'_>, base: &Path) -> Operators {
    let Some(section) = file.section("admin") else { return Operators::default() };
    let token = |key: &'static str| secret(reader, &section, key, (TOKEN, SECRET_BYTES_MIN), base);
    let operators = Operators {
        token: token("token"),
        read_token: token("read_token"),
        socket: section.string("socket").map(|at| join(base, &at.value)),
        is_address_given: false,
    };
    if let (Some(token), Some(read)) = (&operators.token, &operators.read_token)
        && token.0 == read.0
    {
        let (place, summary) = (section.place(), "both tokens are the same".to_owned());
        reader.bad(Kind::KeysDisagree, &place, summary, "one secret".to_owned(), "a different secret for each");
    }
    section.finish();
    operators
}

/// A secret that is not in this file, and has at least the given number of bytes.
pub(crate) fn secret(
    reader: &Reader,
    section: &Section<'_>,
    key: &'static str,
    (wanted, bytes_min): (&str, usize),
    base: &Path,
) -> Option<Secret> {
    if let Some(place) =
        section.has(key).filter(|_| section.look_quietly(key, |value| value.as_str().map(drop)).is_some())
    {
        // The secret is in the file. The message must not show that line and so repeat the secret.
        let line = place.line_and_column().map_or(0, |(line, _)| line);
        let summary = format!("`{}` must not be in this file", section.path(key));
        reader.bad(Kind::BadValue, &reader.place(None), summary, format!("a text, at line {line}"), wanted);
        return None;
    }
    let elsewhere =
        |value: &toml::de::DeValue<'_>| reference(value).filter(|reference| !matches!(reference, Reference::Text(_)));
    let at = section.take(key, wanted, elsewhere)?;
    let bad = |found: String| {
        reader.bad(Kind::Unreadable, &at.place, "the secret cannot be read".to_owned(), found, wanted);
    };
    let read = at.value.read(base).map_err(bad).ok()?;
    if read.len() < bytes_min {
        bad(format!("{} bytes", read.len()));
    }
    Some(Secret(read))
}
