//! Log lines as they are shown: characters that a terminal or an editor obeys, instead of showing them, become escapes.
//!
//! Security: what strangers and guests say stands in log lines. JSON's own escapes leave DEL, the control characters of
//! Latin-1 and those that turn the direction of writing as they are, by which a line can look like another one.

use std::borrow::Cow;
use std::fmt::Write as _;

/// A line with `\u202e` and the like in the place of such characters, which JSON takes for the same.
pub(super) fn shown(line: &[u8]) -> Cow<'_, [u8]> {
    // Nearly all lines are plain.
    if !line.iter().any(|byte| *byte >= 0x7f) {
        return Cow::Borrowed(line);
    }
    let Ok(text) = std::str::from_utf8(line) else { return Cow::Borrowed(line) };
    if !text.chars().any(is_obeyed) {
        return Cow::Borrowed(line);
    }
    let mut out = String::with_capacity(line.len() + 64);
    for letter in text.chars() {
        if is_obeyed(letter) {
            // A String takes all.
            let _infallible = write!(out, "\\u{:04x}", u32::from(letter));
        } else {
            out.push(letter);
        }
    }
    Cow::Owned(out.into_bytes())
}

/// Controls beyond ASCII's own, ends of lines of Unicode, and what turns the direction of writing (UAX #9).
const fn is_obeyed(letter: char) -> bool {
    matches!(
        letter,
        '\u{7f}'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_obeyed_is_an_escape_and_all_else_stays() {
        for same in ["{\"a\":\"b\\u001b\"}\n", "Zoë, 你好, مرحبا\n", ""] {
            assert_eq!(shown(same.as_bytes()), same.as_bytes());
        }
        let line = serde_json::json!({ "path": "/\u{202e}gpj\u{7f}\u{9b}31m\u{2028}\u{2066}" }).to_string();
        let escaped = String::from_utf8(shown(line.as_bytes()).into_owned()).unwrap();
        assert_eq!(escaped, r#"{"path":"/\u202egpj\u007f\u009b31m\u2028\u2066"}"#);
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(read(&escaped), read(&line), "it is the same to whoever reads JSON");
        assert_eq!(shown(b"\xff\x7f"), &b"\xff\x7f"[..], "what is no text is nobody's line");
    }
}
