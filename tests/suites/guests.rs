//! Every guest program exists for a test and is named by one.

use tests::top;

#[test]
fn every_guest_is_named_by_a_suite() {
    let suites: String = std::fs::read_dir(top().join("tests/suites"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("guests.rs"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let guests = std::fs::read_dir(top().join("tests/guests")).unwrap().map(|entry| entry.unwrap());
    let mut count = 0;
    for guest in guests.filter(|entry| entry.path().join("Cargo.toml").exists()) {
        let name = guest.file_name().into_string().unwrap();
        let is_named = |name: &str| suites.contains(&format!("\"{name}\""));
        assert!(is_named(&name) || is_named(&format!("{name}-module")), "no suite names the guest {name}");
        count += 1;
    }
    assert!(count >= 4, "the guests were not found");
}

/// The same for every path of the hostile guest: a harm that no test tries proves nothing.
#[test]
fn every_harm_is_tried_by_a_suite() {
    let source = std::fs::read_to_string(top().join("tests/guests/hostile/src/lib.rs")).unwrap();
    let suites = ["hostile", "lifecycle", "tenants", "matrix", "egress", "memory", "suspension"]
        .map(|name| std::fs::read_to_string(top().join(format!("tests/suites/{name}.rs"))).unwrap())
        .concat();
    let paths: Vec<_> = source.lines().filter_map(|line| line.trim().strip_prefix("\"/")?.split('"').next()).collect();
    assert!(paths.len() >= 30, "{paths:?}");
    for path in paths {
        assert!(suites.contains(&format!("\"/{path}\"")), "no suite asks for /{path}");
    }
}
