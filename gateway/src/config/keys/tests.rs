use std::path::Path;
use std::sync::Arc;

use super::show::{Behind, show};
use super::*;
use crate::config::files::boot::Overrides;
use crate::config::files::{gateway, tenant};
use crate::config::problem::{Kind, Problem, Source};
use crate::config::reader::Reader;

/// The problems that the reader of this file finds in a text.
fn problems(file: &File, text: &str) -> Vec<Problem> {
    let source = Source::new(Path::new("file.toml"), text.to_owned());
    let reader = Reader::new(source, None);
    if file.name == "gateway" {
        let read = |reader: &Reader, file: &crate::config::reader::Section<'_>| {
            let overrides = Overrides::default();
            drop(gateway::read(reader, file, Path::new(""), &overrides));
        };
        reader.read(read).1
    } else {
        reader.read(tenant::read).1
    }
}

/// A file with an unknown key in this section.
fn with_a_stranger(file: &File, section: &Section) -> String {
    let stranger = "nobody_knows = 1\n";
    // The reader looks at some sections only if another key requires them.
    let before = match (file.name, section.name) {
        ("gateway", "tls.acme") => "[tls]\ncertificates = \"acme\"\n",
        _ => "",
    };
    match section.shape {
        _ if section.name.is_empty() => stranger.to_owned(),
        Shape::Table if section.name == "route.limits" => format!("[[route]]\n[route.limits]\n{stranger}"),
        Shape::Table | Shape::Named => format!("{before}[{}]\n{stranger}", section.name),
        Shape::Tables => format!("[[{}]]\n{stranger}", section.name),
    }
}

#[test]
fn the_table_has_exactly_the_keys_that_the_readers_accept() {
    for file in [&GATEWAY, &TENANT] {
        for section in file.sections.iter().filter(|section| section.shape != Shape::Named) {
            let text = with_a_stranger(file, section);
            let told = problems(file, &text);
            let unknown = told.iter().find(|problem| problem.kind == Kind::UnknownKey);
            let wanted = unknown.map(|problem| problem.wanted.as_str());
            let mut known: Vec<&str> = wanted.unwrap_or_default().trim_start_matches("one of ").split(", ").collect();
            known.sort_unstable();
            let mut table: Vec<&str> = section.keys.iter().map(|key| key.name).collect();
            let prefix = if section.name.is_empty() { String::new() } else { format!("{}.", section.name) };
            let below = file.sections.iter().filter_map(|other| other.name.strip_prefix(&prefix)?.split('.').next());
            table.extend(below.filter(|name| !name.is_empty()));
            table.sort_unstable();
            table.dedup();
            assert_eq!(known, table, "{}.toml, [{}]", file.name, section.name);
        }
    }
}

#[test]
fn every_default_in_the_table_is_the_real_one() {
    let text = |file: &File| {
        let mut text = String::new();
        for section in file.sections.iter().filter(|section| section.shape == Shape::Table) {
            if section.name.starts_with("ceilings") || ["tls.acme", "telemetry.otlp"].contains(&section.name) {
                continue;
            }
            text += &if section.name.is_empty() { String::new() } else { format!("[{}]\n", section.name) };
            for key in section.keys {
                match key.default {
                    Default::Is(value) => text += &format!("{} = {}\n", key.name, value()),
                    Default::Needed if key.name == "schema" => text += "schema = 1\n",
                    Default::Needed | Default::Nothing => {}
                }
            }
        }
        text
    };
    let read = |text: &str| {
        let dir = Path::new("/etc/tollgate");
        let reader = Reader::new(Source::new(&dir.join("gateway.toml"), text.to_owned()), None);
        let (boot, problems) = reader.read(|reader, file| gateway::read(reader, file, dir, &Overrides::default()));
        assert_eq!(problems, [], "{text}");
        let mut boot = boot.unwrap();
        boot.source = Source::new(Path::new(""), String::new());
        format!("{boot:?}")
    };
    let said = read(&text(&GATEWAY));
    // Policies remember the place that set each value.
    assert_eq!(said, read("schema = 1"));
}

/// `config/gateway.toml` shows optional keys behind `## `: without these marks, it is TOML without an unknown key.
#[test]
fn every_line_of_the_shipped_file_can_be_uncommented() {
    let shipped = include_str!("../../../../config/gateway.toml");
    let bare = |line: &str| {
        let rest = line.strip_prefix("# ").filter(|rest| rest.split(' ').nth(1) == Some("="));
        rest.or_else(|| line.strip_prefix("## ")).unwrap_or(line).to_owned()
    };
    let text: String = shipped.lines().map(|line| bare(line) + "\n").collect();
    assert!(toml::from_str::<toml::Table>(&text).is_ok(), "{:?}", toml::from_str::<toml::Table>(&text));
    let of_shape =
        |problem: &&Problem| !matches!(problem.kind, Kind::Unreadable | Kind::BadCertificate | Kind::KeysDisagree);
    // `eab_kid` belongs to a key whose file does not exist here.
    let alone = |line: &&str| !line.starts_with("eab_kid");
    let read = text.lines().filter(alone).map(|line| line.replace("\"dev\"", "\"acme\"") + "\n").collect::<String>();
    let told = problems(&GATEWAY, &read);
    assert_eq!(told.iter().find(of_shape), None);
    let missing = |key: &&Key| !text.contains(&format!("{} = ", key.name));
    assert!(GATEWAY.sections.iter().flat_map(|section| section.keys).find(missing).is_none(), "a key is not shown");
}

#[test]
fn each_value_is_shown_with_the_line_that_sets_it() {
    let gateway = Source::new(Path::new("g.toml"), "schema = 1\n[defaults.limits]\ntime = \"9s\"\n".to_owned());
    let text = "schema = 1\nhosts = [\"a.example\"]\n[limits]\nmemory = \"2MiB\"\n[variables]\ntoken = \"secret\"\n\
                [[component]]\nname = \"c\"\nsource = \"c.wasm\"\nredis = [\"redis://:pw@h:1/\", \"redis://h\"]\n[[route]]\npath = \"/\"\ncomponent = \"c\"\nlimits = { fuel = \"4M\" }\n";
    let tenant = Source::new(Path::new("t.toml"), text.to_owned());
    let shown = show(&TENANT, &tenant, &Behind { flags: &[], defaults: Some(&gateway) });
    let of = |key: &str| {
        let shown = shown.iter().find(|shown| shown.key == key);
        shown.map(|shown| (shown.value.as_str(), shown.origin.as_str()))
    };
    assert_eq!(of("limits.memory"), Some(("\"2MiB\"", "t.toml:4")));
    assert_eq!(of("limits.time"), Some(("\"9s\"", "g.toml:3")));
    assert_eq!(of("limits.storage_ops"), Some(("50", "built in")));
    assert_eq!(of("variables.token"), Some(("(a text, not shown)", "t.toml:6")));
    assert_eq!(of("route[0].limits.fuel"), Some(("\"4M\"", "t.toml:14")));
    assert_eq!(of("component[0].redis").map(|of| of.0), Some("[\"redis://…@h:1/\", \"redis://h\"]"));
    assert_eq!(of("component[0].source"), Some(("\"c.wasm\"", "t.toml:9")));
    let flags = [("listen.admin", "\"127.0.0.1:1\"".to_owned(), "--admin")];
    let shown = show(&GATEWAY, &gateway, &Behind { flags: &flags, defaults: None });
    assert!(shown.contains(&Shown {
        key: "listen.admin".into(),
        value: "\"127.0.0.1:1\"".into(),
        origin: "--admin".into()
    }));
    assert!(!shown.iter().any(|shown| shown.key.starts_with("ceilings")), "what is not bounded is not shown");
}

/// The generated documentation, and its file.
#[test]
fn the_committed_reference_and_schemas_match_the_table() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let schema = |file: &File| format!("{:#}\n", schema(file));
    for (path, text) in [
        ("docs/configuration.md", reference()),
        ("../config/schema/gateway.schema.json", schema(&GATEWAY)),
        ("../config/schema/tenant.schema.json", schema(&TENANT)),
    ] {
        let path = top.join(path);
        if std::env::var_os("TOLLGATE_GOLDEN").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(text, written, "{} is out of date: TOLLGATE_GOLDEN=write", path.display());
    }
}

#[test]
fn all_places_share_one_source() {
    let source = Source::new(Path::new("g.toml"), "a = 1\n[listen]\nadmin = \"x\"".to_owned());
    let place = source.place_of("listen.admin");
    assert_eq!(place.to_string(), "g.toml:3:9");
    assert!(Arc::ptr_eq(&place.source, &source));
    assert_eq!(source.place_of("listen.nothing").to_string(), "g.toml");
}
