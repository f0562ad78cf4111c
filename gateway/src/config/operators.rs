//! `[admin]` of the machine's file: who may come to the operators' listener.

use std::path::Path;

use super::gateway_file::join;
use super::kind::Kind;
use super::reader::{Reader, Section};
use super::reference::{Reference, reference};
use super::{Operators, SECRET_BYTES_MIN};
use crate::store::Secret;

const TOKEN: &str = "{ file = \"path\" } or { env = \"NAME\" }, at least 32 bytes that nobody can guess";

pub(super) fn read(reader: &Reader, file: &Section<'_>, base: &Path) -> Operators {
    let Some(section) = file.section("admin") else { return Operators::default() };
    let token = |key: &'static str| secret(reader, &section, key, TOKEN, base);
    let operators = Operators {
        token: token("token"),
        read_token: token("read_token"),
        socket: section.string("socket").map(|at| join(base, &at.value)),
    };
    if let (Some(token), Some(read)) = (&operators.token, &operators.read_token)
        && token.0 == read.0
    {
        let (place, summary) = (section.place(), "both tokens are the same".to_owned());
        reader.bad(Kind::KeysDisagree, &place, summary, "one secret".to_owned(), "a secret of its own for each");
    }
    section.finish();
    operators
}

/// A secret that stands elsewhere and is long enough.
pub(super) fn secret(
    reader: &Reader,
    section: &Section<'_>,
    key: &'static str,
    wanted: &str,
    base: &Path,
) -> Option<Secret> {
    let elsewhere =
        |value: &toml::de::DeValue<'_>| reference(value).filter(|reference| !matches!(reference, Reference::Text(_)));
    let at = section.take(key, wanted, elsewhere)?;
    let bad = |found: String| {
        reader.bad(Kind::Unreadable, &at.place, "the secret cannot be read".to_owned(), found, wanted);
    };
    let read = at.value.read(base).map_err(bad).ok()?;
    if read.len() < SECRET_BYTES_MIN {
        bad(format!("{} bytes", read.len()));
    }
    Some(Secret(read))
}
