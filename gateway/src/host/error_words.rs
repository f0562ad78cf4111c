//! Texts for a wasi:http error code, of either version: its name for the record, and all of it for the tenant's log.
//!
//! Limit: [`TEXT_BYTES_MAX`]. A code may contain texts of the guest of any length; only their beginning is read.

use std::fmt::{self, Debug, Write as _};

const TEXT_BYTES_MAX: usize = 512;

/// In Rust's debug format: `InternalError(Some("…"))`.
pub(super) struct ErrorWords(String);

/// A writer that stops when it is full.
struct Begin(String);

impl fmt::Write for Begin {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = TEXT_BYTES_MAX - self.0.len();
        let fits = text.len() <= room;
        self.0.push_str(text.get(..text.floor_char_boundary(room)).unwrap_or_default());
        if fits { Ok(()) } else { Err(fmt::Error) }
    }
}

impl ErrorWords {
    pub(super) fn of(code: &dyn Debug) -> Self {
        let mut text = Begin(String::new());
        if write!(text, "{code:?}").is_err() {
            text.0.push('…');
        }
        let Begin(text) = text;
        // Some bindings print the type's name and some do not.
        match text.strip_prefix("ErrorCode::") {
            Some(code) => Self(code.to_owned()),
            None => Self(text),
        }
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// The code's name in wasi:http, in lower case, such as `internal-error`.
    pub(super) fn name(&self) -> String {
        let mut name = String::new();
        for letter in self.0.chars().take_while(char::is_ascii_alphanumeric) {
            if letter.is_ascii_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmtime_wasi_http::{p2, p3};

    #[test]
    fn a_code_has_a_name_and_its_text_is_bounded() {
        use p2::bindings::http::types::ErrorCode as Two;
        use p3::bindings::http::types::ErrorCode as Three;
        for (words, name) in [
            (ErrorWords::of(&Two::InternalError(Some("x".to_owned()))), "internal-error"),
            (ErrorWords::of(&Three::InternalError(None)), "internal-error"),
            (ErrorWords::of(&Two::DnsTimeout), "dns-timeout"),
            (ErrorWords::of(&Three::DestinationIpProhibited), "destination-ip-prohibited"),
            (ErrorWords::of(&Two::HttpResponseBodySize(Some(7))), "http-response-body-size"),
        ] {
            assert_eq!(words.name(), name, "{}", words.text());
        }
        assert_eq!(ErrorWords::of(&Two::InternalError(Some("x".to_owned()))).text(), "InternalError(Some(\"x\"))");
        let long = ErrorWords::of(&Two::InternalError(Some("\u{1F600}\n".repeat(1 << 20))));
        assert!((500..530).contains(&long.text().len()) && long.text().ends_with('…'), "{}", long.text());
    }
}
