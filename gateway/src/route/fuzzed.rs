//! Properties that hold for any hosts and paths (`gateway/fuzz/corpus/names`).

use super::path::PathPattern;
use crate::domain::{Domain, Pattern, Table};

/// Reads lines: a host, a pattern of paths, and a path.
///
/// # Panics
/// A name has two spellings, or is not found under its own; a pattern without placeholders does not match itself, or
/// captures something that is not part of the path.
pub(crate) fn any_names(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n');
    let (host, pattern, path) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""), lines.next().unwrap_or("/"));
    if let Some(name) = Domain::parse(host) {
        assert_eq!(Domain::parse(name.as_str()).as_ref(), Some(&name), "one spelling");
        let same = host.to_ascii_uppercase();
        assert!(!host.is_ascii() || Domain::parse(&same).as_ref() == Some(&name), "{host} and {same}");
        assert!(
            !name
                .as_str()
                .bytes()
                .any(|byte| byte.is_ascii_uppercase() || byte <= b' ' || byte == b'/' || byte == b':')
        );
        let mut table = Table::default();
        assert!(table.insert(Pattern::Exact(name.clone()), 1).is_ok());
        assert_eq!(table.find(&name), Some(&1));
    }
    if let Ok(route) = PathPattern::spin(pattern)
        && route.matches(path)
    {
        let (named, rest) = route.captured(path);
        let is_of_path = |text: &str| path.contains(text.trim_matches('/'));
        assert!(named.iter().all(|(_, value)| is_of_path(value)) && is_of_path(&rest), "{route} at {path}");
    }
    let Ok(pattern) = PathPattern::parse(pattern) else { return };
    if !pattern.as_str().contains([':', '.']) {
        assert!(pattern.matches(pattern.as_str()), "{pattern} matches itself");
    }
    if pattern.matches(path) {
        let (named, rest) = pattern.captured(path);
        assert!(path.ends_with(&*rest) && named.iter().all(|(_, value)| !value.is_empty() && path.contains(value)));
    }
    assert!(pattern.cmp(&pattern).is_eq());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_file_of_the_corpus_is_handled() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/names");
        let mut checked = 0;
        for entry in std::fs::read_dir(corpus).unwrap() {
            any_names(&std::fs::read(entry.unwrap().path()).unwrap());
            checked += 1;
        }
        assert!(checked >= 10, "{checked}");
    }

    proptest! {
        #[test]
        fn the_properties_hold_for_any_names(host in "\\PC{0,20}", pattern in "(/[a-z:.]{0,4}){0,4}(/[.]{3})?", path in "(/[a-z]{0,3}){0,6}") {
            any_names(format!("{host}\n{pattern}\n{path}").as_bytes());
        }
    }
}
