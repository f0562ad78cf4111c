//! Escapes log lines for display: characters that a terminal or an editor would obey instead of showing.
//!
//! Security: log lines contain text from strangers and guests. JSON's own escapes do not cover DEL, the Latin-1 control
//! characters and the bidirectional controls, which can make one line look like another.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The line with `\u202e` and the like in place of such characters. To JSON both are equal.
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
            // Writing to a String cannot fail.
            let _infallible = write!(out, "\\u{:04x}", u32::from(letter));
        } else {
            out.push(letter);
        }
    }
    Cow::Owned(out.into_bytes())
}

/// Control characters beyond ASCII, Unicode line ends, and bidirectional controls (UAX #9).
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
    fn characters_that_a_terminal_obeys_are_escaped_and_others_stay() {
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
