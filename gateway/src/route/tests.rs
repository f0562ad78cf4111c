use super::path::PathError;
use super::*;

fn pattern(text: &str) -> PathPattern {
    PathPattern::parse(text).unwrap()
}

/// The pattern that wins for a path, with the patterns given in any order.
fn winner<'p>(patterns: &[&'p str], path: &str) -> Option<&'p str> {
    let mut sorted: Vec<_> = patterns.iter().map(|text| (pattern(text), *text)).collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    sorted.iter().find(|(pattern, _)| pattern.matches(path)).map(|(_, text)| *text)
}

#[test]
fn the_most_specific_pattern_wins() {
    let patterns = ["/...", "/", "/a", "/a/...", "/a/:id", "/a/b", "/a/:id/edit", "/a/b/...", "/:x/b"];
    for (path, expected) in [
        ("/", "/"),
        ("/a", "/a"),
        ("/a/", "/a/..."),
        ("/a/b", "/a/b"),
        ("/a/c", "/a/:id"),
        ("/a/c/edit", "/a/:id/edit"),
        ("/a/b/c/d", "/a/b/..."),
        ("/a/c/d", "/a/..."),
        ("/z/b", "/:x/b"),
        ("/z", "/..."),
        ("/z/y/x", "/..."),
    ] {
        assert_eq!(winner(&patterns, path), Some(expected), "{path}");
        let reversed: Vec<_> = patterns.iter().rev().copied().collect();
        assert_eq!(winner(&reversed, path), Some(expected), "{path}, given in reverse");
    }
}

#[test]
fn a_pattern_matches_whole_segments() {
    assert_eq!(winner(&["/a"], "/ab"), None);
    assert_eq!(winner(&["/a"], "/a/"), None);
    assert_eq!(winner(&["/a/..."], "/a"), Some("/a/..."));
    assert_eq!(winner(&["/a/..."], "/ab"), None);
    assert_eq!(winner(&["/a/:id"], "/a/"), None, "a :name is not empty");
    assert_eq!(winner(&["/..."], "*"), None, "what is not a path has no route");
}

#[test]
fn bad_patterns_are_refused() {
    for (text, error) in [
        ("a", PathError::NoSlash),
        ("", PathError::NoSlash),
        ("/a...", PathError::DotsInside),
        ("/.../a", PathError::DotsInside),
        ("/:", PathError::NoName),
        ("/a?b", PathError::Stray),
        ("/a b", PathError::Stray),
    ] {
        assert_eq!(PathPattern::parse(text).unwrap_err(), error, "{text}");
    }
}

#[test]
fn patterns_that_differ_in_names_only_are_the_same() {
    assert!(pattern("/a/:id").is_same(&pattern("/a/:name")));
    assert!(!pattern("/a/:id").is_same(&pattern("/a/id")));
    assert!(!pattern("/a").is_same(&pattern("/a/...")));
}

#[test]
fn names_and_the_rest_of_a_pattern_are_captured() {
    let captured = |text: &str, path: &str| {
        let pattern = pattern(text);
        let (named, rest) = pattern.captured(path);
        (named.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "), rest.into_owned())
    };
    for (text, path, named, rest) in [
        ("/a", "/a", "", ""),
        ("/...", "/", "", "/"),
        ("/...", "/x/y", "", "/x/y"),
        ("/a/...", "/a", "", ""),
        ("/a/...", "/a/b/", "", "/b/"),
        ("/u/:userId/p/:p/...", "/u/7/p/8/x", "userId=7 p=8", "/x"),
        ("/:one", "/x/", "one=x", ""),
    ] {
        assert_eq!(captured(text, path), (named.to_owned(), rest.to_owned()), "{text} at {path}");
    }
}

proptest::proptest! {
    #[test]
    fn a_literal_pattern_matches_itself_and_no_other(a in "(/[a-z]{0,3}){1,4}", b in "(/[a-z]{0,3}){1,4}") {
        proptest::prop_assert!(pattern(&a).matches(&a));
        proptest::prop_assert_eq!(pattern(&a).matches(&b), a == b);
    }
}
