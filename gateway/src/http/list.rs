//! Lists in fields (RFC 9110 §5.6.1): a comma within a quoted string does not separate two members.

/// The members, trimmed. Nothing if a quote does not end.
pub(crate) fn list(line: &str) -> Option<Vec<&str>> {
    let (mut is_quoted, mut is_escaped, mut start) = (false, false, 0);
    let mut words = Vec::new();
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b',' if !is_quoted => {
                words.push(line.get(start..at)?.trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    words.push(line.get(start..)?.trim());
    (!is_quoted).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_commas() {
        assert_eq!(list("a, b=\"c, d\",e"), Some(vec!["a", "b=\"c, d\"", "e"]));
        assert_eq!(list("a=\"\\\", b\", c"), Some(vec!["a=\"\\\", b\"", "c"]));
        assert_eq!(list("a=\"b, c"), None);
        assert_eq!(list(""), Some(vec![""]));
    }
}
