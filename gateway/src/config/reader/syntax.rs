//! What is wrong with a file that is not valid TOML: one mistake, and its place. A parser that goes on after the first
//! mistake reports others that are none.

use std::ops::Range;

/// If a bracket is open where the parser failed, the bracket is the mistake. It may be lines above.
pub(crate) struct Mistake {
    pub(crate) span: Option<Range<usize>>,
    pub(crate) found: String,
    pub(crate) hint: &'static str,
    /// Where the parser failed, if that is elsewhere.
    pub(crate) seen: Option<Range<usize>>,
}

/// The first error of the parser, from its errors' byte ranges and messages.
pub(crate) fn mistake(text: &str, errors: impl Iterator<Item = (Option<Range<usize>>, String)>) -> Option<Mistake> {
    let (span, message) = errors.min_by_key(|(span, _)| span.as_ref().map(|span| span.start))?;
    let at = span.as_ref().map_or(text.len(), |span| span.start);
    let Some((open, bracket)) = unclosed(text.get(..at).unwrap_or(text)) else {
        let hint = "put texts in double quotes; a table begins with [name]";
        return Some(Mistake { span, found: message, hint, seen: None });
    };
    let line = text.get(open..).and_then(|rest| rest.lines().next()).map_or(1, |line| line.trim_end().len());
    let (found, hint) = match bracket {
        b'{' => ("`{` without its `}`", "close it where the table ends"),
        _ => ("`[` without its `]`", "close it where the list ends"),
    };
    Some(Mistake { span: Some(open..open + line), found: found.to_owned(), hint, seen: span })
}

/// The innermost bracket of a value that is still open at the end of the text.
fn unclosed(text: &str) -> Option<(usize, u8)> {
    let bytes = text.as_bytes();
    let mut open: Vec<(usize, u8)> = Vec::new();
    let mut at = 0;
    // A bracket at the beginning of a line, while no other is open, begins a table header.
    let mut is_line_new = true;
    while let Some(&byte) = bytes.get(at) {
        let mut next = at + 1;
        match byte {
            b'#' => next = end_of_line(bytes, at),
            b'"' | b'\'' => next = end_of_text(bytes, at, byte),
            b'[' if open.is_empty() && is_line_new => next = end_of_line(bytes, at),
            b'{' | b'[' => open.push((at, byte)),
            b'}' | b']' => _ = open.pop(),
            _ => {}
        }
        is_line_new = byte == b'\n' || (is_line_new && byte.is_ascii_whitespace());
        at = next;
    }
    open.pop()
}

/// The end of the line that contains this position.
fn end_of_line(bytes: &[u8], at: usize) -> usize {
    bytes.get(at..).and_then(|rest| memchr::memchr(b'\n', rest)).map_or(bytes.len(), |line| at + line)
}

/// The position after a string: after its closing quotation mark, or at the end of the line if it has none.
fn end_of_text(bytes: &[u8], at: usize, quote: u8) -> usize {
    let of_three = [quote; 3];
    let is_long = bytes.get(at..at + 3) == Some(&of_three);
    let mut at = if is_long { at + 3 } else { at + 1 };
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' if quote == b'"' => at += 1,
            b'\n' if !is_long => return at,
            _ if byte == quote && !is_long => return at + 1,
            _ if is_long && bytes.get(at..at + 3) == Some(&of_three) => return at + 3,
            _ => {}
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str) -> Option<usize> {
        unclosed(text).map(|(at, _)| at)
    }

    #[test]
    fn an_open_bracket_is_found_but_not_inside_a_string() {
        assert_eq!(open("a = { b = 1"), Some(4));
        assert_eq!(open("a = [\n  \"]\", # ]\n  ']',\n"), Some(4));
        assert_eq!(open("[table]\na = 1\n[[list]]\nb = \"{\"\n"), None);
        assert_eq!(open("a = \"\"\"\n{ [ \"\"\"\n"), None);
        assert_eq!(open("a = \"\\\"{\"\nb = { c = \"no end\n"), Some(14));
        assert_eq!(open("  [ table ]\nx = [[1], [2]"), Some(16));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[\\[\\]{}\"'#\\\\\n a=]{0,60}", at in 0usize..60) {
            let _whatever = unclosed(&text);
            let errors = std::iter::once((Some(at..at + 1), "here".to_owned()));
            let found = mistake(&text, errors).unwrap();
            proptest::prop_assert!(found.span.is_none_or(|span| span.start <= at));
        }
    }
}
