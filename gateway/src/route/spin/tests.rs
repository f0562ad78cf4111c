//! The expected results come from Spin 4.0.2's `routes` crate and `headers.rs`, and from routefinder 0.5.4.

use crate::http::spin::{Matched, tell};
use crate::route::PathPattern;

/// The route that answers, and what its component is told: the matched route, its rest, the route without `/...`, and its
/// names.
fn answer(routes: &[&str], path: &str) -> Option<String> {
    let mut patterns: Vec<_> = routes.iter().map(|route| PathPattern::spin(route).unwrap()).collect();
    PathPattern::rank(&mut patterns);
    patterns.sort_by(PathPattern::cmp);
    let pattern = patterns.iter().find(|pattern| pattern.matches(path))?;
    let (named, rest) = pattern.captured(path);
    let matched = Matched { route: pattern.as_str(), matched: pattern.matched(), rest, named };
    let mut headers = http::HeaderMap::new();
    let url = format!("https://a.example{path}").parse().unwrap();
    tell(&mut headers, &matched, &url, "192.0.2.1:80".parse().unwrap());
    let of = |name: &str| headers.get(name).map_or("-", |value| value.to_str().unwrap());
    assert_eq!((of("spin-raw-component-route"), of("spin-base-path")), (pattern.as_str(), "/"));
    let told = ["spin-matched-route", "spin-component-route", "spin-path-info"].map(of).join(" | ");
    let named: String = headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().strip_prefix("spin-path-match-")?, value.to_str().ok()?)))
        .map(|(name, value)| format!(" {name}={value}"))
        .collect();
    Some(format!("{} -> {told} |{named}", pattern.as_str()))
}

const SOME: &[&str] =
    &["/", "/a", "/a/...", "/a/b", "/a/:id", "/a/:id/edit", "/a/b/*", "/:x/b", "/files/:name.json", "/..."];

/// Routes, a path, and the expected answer.
const CASES: &[(&[&str], &str, &str)] = &[
    // Exact before a name, a name before the rest. For the root the matched route is empty, as in Spin.
    (SOME, "/", "/ ->  | / |  |"),
    (SOME, "//", "/ ->  | / |  |"),
    (SOME, "/a", "/a -> /a | /a |  |"),
    (SOME, "/a/", "/a -> /a | /a |  |"),
    (SOME, "/a//", "/a -> /a | /a |  |"),
    (SOME, "/a/b", "/a/b -> /a/b | /a/b |  |"),
    (SOME, "/a/b/c/d", "/a/b/* -> /a/b/* | /a/b/* | /c/d |"),
    (SOME, "/a/c", "/a/:id -> /a/:id | /a/:id |  | id=c"),
    (SOME, "/a/c/edit/", "/a/:id/edit -> /a/:id/edit | /a/:id/edit |  | id=c"),
    (SOME, "/a/c/d", "/a/... -> /a/... | /a | /c/d |"),
    (SOME, "/z/b", "/:x/b -> /:x/b | /:x/b |  | x=z"),
    (SOME, "/z", "/... -> /... |  | /z |"),
    (SOME, "/z/y/", "/... -> /... |  | /z/y/ |"),
    // A literal first segment wins over a name whose second segment matches better.
    (&["/:x/b", "/a/..."], "/a/b", "/a/... -> /a/... | /a | /b |"),
    // The longest literal prefix wins, in any order.
    (
        &["/one/...", "/one/two/...", "/one/two/three/..."],
        "/one/two/three/4",
        "/one/two/three/... -> /one/two/three/... | /one/two/three | /4 |",
    ),
    (
        &["/one/two/three/...", "/one/two/...", "/one/..."],
        "/one/two/x",
        "/one/two/... -> /one/two/... | /one/two | /x |",
    ),
    // The rest may be empty, and a trailing slash is passed on.
    (&["/t/..."], "/t", "/t/... -> /t/... | /t |  |"),
    (&["/t/..."], "/t/", "/t/... -> /t/... | /t | / |"),
    (&["/t/..."], "/t/x/", "/t/... -> /t/... | /t | /x/ |"),
    (&["/t/..."], "/t/x//", "/t/... -> /t/... | /t | /x/ |"),
    (&["/..."], "/", "/... -> /... |  | / |"),
    (&["/api/*"], "/api", "/api/* -> /api/* | /api/* |  |"),
    (&["/*"], "/x", "/* -> /* | /* | /x |"),
    // Other spellings.
    (&["foo"], "/foo", "foo -> /foo | foo |  |"),
    (&["/foo/"], "/foo", "/foo/ -> /foo | /foo/ |  |"),
    (&[""], "/", " ->  |  |  |"),
    (&["/foo/.../"], "/foo/x", "/foo/.../ -> /foo/... | /foo/.../ | /x |"),
    // Names and dots: a name ends at the first dot.
    (SOME, "/files/7.json", "/files/:name.json -> /files/:name.json | /files/:name.json |  | name=7"),
    (&["/:id.json"], "/7.json/", "/:id.json -> /:id.json | /:id.json |  | id=7"),
    (&["/:a.:b"], "/x.y", "/:a.:b -> /:a.:b | /:a.:b |  | a=x b=y"),
    (&["/v.:minor/x"], "/v.2/x", "/v.:minor/x -> /v.:minor/x | /v.:minor/x |  | minor=2"),
    (&["/:id.json", "/:id"], "/7", "/:id -> /:id | /:id |  | id=7"),
    (&["/:id", "/:id.json"], "/7.json", "/:id.json -> /:id.json | /:id.json |  | id=7"),
    (&["/v1.*"], "/v1.2/3", "/v1.* -> /v1.* | /v1.* | /2/3 |"),
    (&["/a/.b"], "/a.b", "/a/.b -> /a/.b | /a/.b |  |"),
    (
        &["/u/:path_segment/p/:userID/..."],
        "/u/7/p/8/x",
        "/u/:path_segment/p/:userID/... -> /u/:path_segment/p/:userID/... | /u/:path_segment/p/:userID | /x | path-segment=7 userid=8",
    ),
    // A name in the middle may match nothing.
    (&["/a/:x/b"], "/a//b", "/a/:x/b -> /a/:x/b | /a/:x/b |  | x="),
    (&["/:x/:x"], "/1/2", "/:x/:x -> /:x/:x | /:x/:x |  | x=2"),
    // Of two routes that match the same paths, the earlier one wins.
    (&["/u/:id", "/u/:name"], "/u/7", "/u/:id -> /u/:id | /u/:id |  | id=7"),
    (&["/foo/", "/foo"], "/foo", "/foo/ -> /foo | /foo/ |  |"),
    (&["/a/*", "/a/..."], "/a/1", "/a/* -> /a/* | /a/* | /1 |"),
    // A dot at the start goes before and after a name and the rest: the route that was added last wins.
    (&["/.well-known/x", "/..."], "/.well-known/x", "/... -> /... |  | /.well-known/x |"),
    (&["/...", "/.well-known/x"], "/.well-known/x", "/.well-known/x -> /.well-known/x | /.well-known/x |  |"),
    // Escapes: paths and routes are both normalised.
    (&["/caf%c3%a9"], "/caf%C3%A9", "/caf%c3%a9 -> /caf%c3%a9 | /caf%c3%a9 |  |"),
    (&["/%61/:x"], "/a/b%2Fc", "/%61/:x -> /%61/:x | /%61/:x |  | x=b%2Fc"),
];

#[test]
fn a_path_matches_the_route_that_spin_matches_with_the_same_headers() {
    for &(routes, path, wanted) in CASES {
        assert_eq!(answer(routes, path).as_deref(), Some(wanted), "{routes:?} at {path}");
    }
    for (routes, path) in [
        (&["/a"][..], "/ab"),
        (&["/a"], "/a/b"),
        (&["/a/..."], "/ab"),
        (&["/a/:id"], "/a"),
        (&["/a/:id"], "/a/"),
        (&["/:id.json"], "/7"),
        (&["/:id.json"], "/a.b.json"),
        (&["/:id.json"], "/a/b.json"),
        (&["/"], "/x"),
        (&["/A"], "/a"),
        (&["/..."], "*"),
    ] {
        assert_eq!(answer(routes, path), None, "{routes:?} at {path}");
    }
}

#[test]
fn routes_that_spin_refuses_or_fails_on_are_refused() {
    for (text, why) in [
        ("/:", "a :name segment needs a name"),
        ("/a/*b", "* has no name"),
        ("/a/*/b", "* must be at the end"),
        ("/*.json", "* must be at the end"),
        ("/a?b", "a path has no query, fragment, space or control byte"),
    ] {
        assert_eq!(PathPattern::spin(text).unwrap_err().to_string(), why, "{text}");
    }
}

#[test]
fn routes_that_match_the_same_paths_are_the_same() {
    let same = |a, b| PathPattern::spin(a).unwrap().is_same(&PathPattern::spin(b).unwrap());
    assert!(same("/a/:x", "/a/:y/") && same("/a/...", "a/*") && same("/%61", "/a"));
    assert!(!same("/a/:x", "/a/x") && !same("/a", "/a/...") && !same("/:a.b", "/:a/b"));
}

proptest::proptest! {
    /// What is captured is part of the path, and no route panics.
    #[test]
    fn no_route_panics_at_any_path(
        routes in proptest::collection::vec("/?([a:.*]{0,3}/){0,3}[a:.*]{0,3}", 1..9),
        path in "/([a.]{0,2}/){0,3}[a.]{0,2}",
    ) {
        let good: Vec<_> = routes.iter().map(String::as_str).filter(|route| PathPattern::spin(route).is_ok()).collect();
        if let Some(told) = answer(&good, &path) {
            proptest::prop_assert!(good.iter().any(|route| told.starts_with(route)));
        }
    }
}
