//! The rules of this code base: which room may name which, how each file begins, how long a file may be, that the map shows
//! every room, and that the documents name only files that exist.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say so and stop")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// For each room, the rooms it may name. The words (`deadline`, `domain`, `fault`, `ids` …) may be named by all.
const MAY_NAME: [(&str, &[&str]); 24] = [
    ("confine", &[]),
    ("telemetry", &[]),
    ("tenant", &["telemetry"]),
    ("store", &["telemetry"]),
    ("listener", &["telemetry"]),
    ("tls", &["telemetry"]),
    ("http", &["telemetry", "tls"]),
    ("route", &["tenant", "http"]),
    ("host", &["telemetry", "tenant", "store", "http"]),
    ("admission", &["route", "tenant", "http"]),
    ("sandbox", &["confine", "telemetry", "tenant", "store", "http", "host", "admission"]),
    ("response", &["telemetry", "tenant", "http", "route", "sandbox"]),
    ("cache", &["http"]),
    ("owners", &["telemetry", "store"]),
    (
        "config",
        &[
            "confine",
            "telemetry",
            "tenant",
            "store",
            "listener",
            "tls",
            "http",
            "route",
            "host",
            "admission",
            "sandbox",
        ],
    ),
    (
        "request",
        &["telemetry", "tenant", "tls", "http", "route", "admission", "sandbox", "response", "cache", "config"],
    ),
    (
        "trigger",
        &["telemetry", "store", "http", "host", "route", "sandbox", "response", "config", "request", "admission"],
    ),
    ("canary", &["telemetry", "tenant", "http", "route", "sandbox", "cache", "request"]),
    ("admin", &["telemetry", "tenant", "store", "tls", "http", "cache", "owners", "config", "request"]),
    ("fleet", &["telemetry", "tenant", "store"]),
    (
        "gateway",
        &[
            "confine",
            "telemetry",
            "tenant",
            "store",
            "listener",
            "tls",
            "http",
            "route",
            "host",
            "admission",
            "sandbox",
            "response",
            "cache",
            "owners",
            "config",
            "request",
            "trigger",
            "canary",
            "admin",
            "fleet",
        ],
    ),
    ("cli", &["confine", "telemetry", "store", "route", "sandbox", "owners", "config", "admin", "gateway", "tls"]),
    ("lib", &[]),
    ("main", &[]),
];
/// The same for the floors inside `config`, from the lowest up. A file there names another floor only by
/// `crate::config::floor`.
const CONFIG_MAY_NAME: [(&str, &[&str]); 15] = [
    ("problem", &[]),
    ("reader", &["problem"]),
    ("remote", &["reader"]),
    ("disk", &["problem", "remote"]),
    ("mounts", &["reader", "problem"]),
    ("files", &["problem", "reader", "remote", "disk", "mounts"]),
    ("spin", &["problem", "reader", "remote", "mounts", "files"]),
    ("plan", &["problem", "mounts"]),
    ("snapshot", &["problem", "plan"]),
    ("resolve", &["problem", "reader", "disk", "mounts", "files", "plan"]),
    ("watch", &[]),
    (
        "load",
        &["problem", "reader", "remote", "disk", "mounts", "files", "spin", "plan", "snapshot", "resolve", "watch"],
    ),
    ("compile", &["problem", "reader", "plan"]),
    ("budget", &["problem", "reader", "files"]),
    ("keys", &["problem", "reader", "files"]),
];
const WORDS: [&str; 6] = ["deadline", "domain", "fault", "ids", "networks", "shares"];
const LINES_MAX: usize = 400;
const DOOR_LINES_MAX: usize = 320;

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// Every file of the crate, with its room.
fn rooms() -> Vec<(String, PathBuf, String)> {
    let mut found = Vec::new();
    files(&source(), &mut found);
    found
        .into_iter()
        .map(|path| {
            let inside = path.strip_prefix(source()).unwrap();
            let room = inside.components().next().unwrap().as_os_str().to_string_lossy().replace(".rs", "");
            let text = std::fs::read_to_string(&path).unwrap();
            (room, path, text)
        })
        .collect()
}

/// The rooms that a text names, by `crate::room` or `use crate::{room, …}`.
fn named(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (index, _) in text.match_indices("crate::") {
        let rest = &text[index + "crate::".len()..];
        let inside = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map(|(inside, _)| inside);
        let is_name = |c: char| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit();
        let head = |text: &str| text.trim().chars().take_while(|&c| is_name(c)).collect::<String>();
        match inside {
            Some(inside) => names.extend(inside.split(',').map(head)),
            None => names.push(head(rest)),
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

#[test]
fn no_room_names_a_room_above_it() {
    let table: BTreeMap<_, _> = MAY_NAME.into_iter().collect();
    for (room, path, text) in rooms() {
        if path.ends_with("tests.rs") {
            continue;
        }
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for name in named(text) {
            if name == room || WORDS.contains(&name.as_str()) {
                continue;
            }
            assert!(!WORDS.contains(&room.as_str()), "{}: a word names {name}", path.display());
            let may = table.get(room.as_str()).unwrap_or_else(|| panic!("{room} has no line in this table"));
            assert!(may.contains(&name.as_str()), "{}: {room} may not name {name}", path.display());
        }
    }
}

#[test]
fn no_floor_of_the_configuration_names_a_floor_above_it() {
    let table: BTreeMap<_, _> = CONFIG_MAY_NAME.into_iter().collect();
    let room = source().join("config");
    let map = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../ARCHITECTURE.md")).unwrap();
    for (_, path, text) in rooms().into_iter().filter(|(name, ..)| name == "config") {
        let inside = path.strip_prefix(&room).unwrap();
        let floor = inside.components().next().unwrap().as_os_str().to_string_lossy().replace(".rs", "");
        let is_of_the_room = ["mod", "tests", "fuzzed"].contains(&floor.as_str());
        if is_of_the_room || path.ends_with("tests.rs") {
            continue;
        }
        let may = table.get(floor.as_str()).unwrap_or_else(|| panic!("the floor {floor} has no line in this table"));
        assert!(map.contains(&format!("`config/{floor}")), "ARCHITECTURE.md does not show the floor {floor}");
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let is_door = inside.components().count() == 1 || path.ends_with("mod.rs");
        assert!(!is_door || !text.contains("super::"), "{}: names another floor by `super`", path.display());
        assert!(!text.contains("super::super::"), "{}: names another floor by `super`", path.display());
        for (index, _) in text.match_indices("crate::config::") {
            let rest = &text[index + "crate::config::".len()..];
            let names = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or(rest, |(names, _)| names);
            let count = if rest.starts_with('{') { usize::MAX } else { 1 };
            for name in names.split(',').take(count) {
                let is_name = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
                let name: String = name.trim().chars().take_while(is_name).collect();
                let is_fine = name.is_empty() || name == floor || may.contains(&name.as_str());
                assert!(is_fine, "{}: {floor} may not name {name}", path.display());
            }
        }
    }
}

#[test]
fn every_file_begins_with_its_purpose_and_stays_short() {
    for (_, path, text) in rooms() {
        let is_test = path.ends_with("tests.rs");
        assert!(is_test || text.starts_with("//! "), "{} does not say what it is", path.display());
        let max = if path.ends_with("mod.rs") { DOOR_LINES_MAX } else { LINES_MAX };
        let lines = text.lines().count();
        assert!(lines <= max, "{} has {lines} lines: it is two ideas", path.display());
    }
}

#[test]
fn the_map_shows_every_room() {
    let lib = std::fs::read_to_string(source().join("lib.rs")).unwrap();
    let map = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../ARCHITECTURE.md")).unwrap();
    let rooms = lib.lines().filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'));
    let mut count = 0;
    for room in rooms {
        assert!(map.contains(&format!("`{room}")), "ARCHITECTURE.md does not show the room {room}");
        count += 1;
    }
    assert_eq!(count, MAY_NAME.len() - 2 + WORDS.len());
}

/// Files and folders that these pages name in code spans, by a path from the top, from `gateway/` or from `gateway/src/`.
#[test]
fn every_file_that_the_pages_name_exists() {
    let gateway = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bases = [gateway.join(".."), gateway.to_owned(), source()];
    let endings = [".rs", ".toml", ".md", ".txt", ".yml", ".json", ".lua", ".sh", ".py", "/"];
    // `NAME` and `*` are placeholders.
    let is_pattern = |name: &str| name.contains(|c: char| c.is_ascii_uppercase() || c == '*');
    for page in ["../ARCHITECTURE.md", "../CONTRIBUTING.md", "docs/invariants.md"] {
        let text = std::fs::read_to_string(gateway.join(page)).unwrap();
        let spans = text.split('`').skip(1).step_by(2);
        let is_path = |span: &&str| {
            span.contains('/') && !span.contains(' ') && endings.iter().any(|ending| span.ends_with(ending))
        };
        for name in spans.filter(is_path).filter(|name| !is_pattern(name)) {
            assert!(bases.iter().any(|base| base.join(name).exists()), "{page} names `{name}`, which is not there");
        }
    }
}
