//! Bounds the names that a guest passes, before they are parsed, copied or looked up.
//!
//! Limit: a name that is too long gets the answer for something that does not exist, or the interface's own error for an
//! invalid text.

use super::super::sizes::{FIELDS_BYTES_MAX, NAME_BYTES_MAX};

/// For a path with its query. The URI of the http crate has the same limit.
pub(in crate::host) const PATH_BYTES_MAX: usize = 64 << 10;

/// The part of a name that an error shows.
pub(in crate::host) fn shown(text: &str) -> String {
    match text.get(..text.floor_char_boundary(NAME_BYTES_MAX)) {
        Some(begin) if begin.len() < text.len() => format!("{begin}…"),
        Some(_) | None => text.to_owned(),
    }
}

const fn is_long(name: &str) -> bool {
    name.len() > NAME_BYTES_MAX
}

/// Whether values have more bytes than a whole set of fields may have. If so, they are not parsed.
fn are_long<'a>(values: impl IntoIterator<Item = &'a Vec<u8>>) -> bool {
    values.into_iter().fold(0_usize, |sum, value| sum.saturating_add(value.len())) > FIELDS_BYTES_MAX
}

/// Defines the functions of wasi:http with bounded names, the same for both versions.
macro_rules! bounded {
    ($version:ident: $types:path, $error:ty) => {
        pub(in crate::host) mod $version {
            //! The signatures are those of the functions that they replace.

            use wasmtime::component::Resource;
            use wasmtime_wasi_http::WasiHttpCtxView;
            use $types::{Fields, HeaderError, HostFields};

            use super::{are_long, is_long};

            type Http<'a> = WasiHttpCtxView<'a>;
            type Header<T> = Result<T, $error>;

            pub(in crate::host) fn has(
                http: &mut Http<'_>,
                fields: Resource<Fields>,
                name: String,
            ) -> wasmtime::Result<bool> {
                if is_long(&name) { Ok(false) } else { HostFields::has(http, fields, name) }
            }

            pub(in crate::host) fn get(
                http: &mut Http<'_>,
                fields: Resource<Fields>,
                name: String,
            ) -> wasmtime::Result<Vec<Vec<u8>>> {
                if is_long(&name) { Ok(Vec::new()) } else { HostFields::get(http, fields, name) }
            }

            pub(in crate::host) fn set(
                http: &mut Http<'_>,
                fields: Resource<Fields>,
                name: String,
                values: Vec<Vec<u8>>,
            ) -> Header<()> {
                if is_long(&name) || are_long(&values) {
                    Err(HeaderError::InvalidSyntax.into())
                } else {
                    HostFields::set(http, fields, name, values)
                }
            }

            pub(in crate::host) fn delete(http: &mut Http<'_>, fields: Resource<Fields>, name: String) -> Header<()> {
                if is_long(&name) {
                    Err(HeaderError::InvalidSyntax.into())
                } else {
                    HostFields::delete(http, fields, name)
                }
            }

            pub(in crate::host) fn append(
                http: &mut Http<'_>,
                fields: Resource<Fields>,
                name: String,
                value: Vec<u8>,
            ) -> Header<()> {
                if is_long(&name) || are_long([&value]) {
                    Err(HeaderError::InvalidSyntax.into())
                } else {
                    HostFields::append(http, fields, name, value)
                }
            }

            pub(in crate::host) fn from_list(
                http: &mut Http<'_>,
                entries: Vec<(String, Vec<u8>)>,
            ) -> Header<Resource<Fields>> {
                if entries.iter().any(|(name, _)| is_long(name)) || are_long(entries.iter().map(|(_, value)| value)) {
                    return Err(HeaderError::InvalidSyntax.into());
                }
                HostFields::from_list(http, entries)
            }
        }
    };
}
bounded! { two: wasmtime_wasi_http::p2::bindings::http::types, wasmtime_wasi_http::p2::HeaderError }
bounded! { three: wasmtime_wasi_http::p3::bindings::http::types, wasmtime_wasi::TrappableError<HeaderError> }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_the_beginning_of_a_long_text() {
        assert_eq!(shown("short"), "short");
        let long = shown(&"ä".repeat(1000));
        assert!(long.ends_with('…') && long.len() <= NAME_BYTES_MAX + '…'.len_utf8(), "{}", long.len());
    }
}
