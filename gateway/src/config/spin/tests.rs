use std::path::{Path, PathBuf};

use super::keys::{Here, KEYS, Key};
use super::*;
use crate::config::problem::{Place, Problem, Source};
use crate::ids::TenantId;
use std::sync::Arc;

/// What the reader makes of a manifest.
fn looked(text: &str, profile: Option<&str>) -> (Option<App>, Vec<Problem>) {
    let source = Source::new(Path::new("spin.toml"), text.to_owned());
    let id = TenantId::parse("app").unwrap();
    let profile = profile.map(|name| At { value: name.to_owned(), place: Place::whole(&source) });
    let given = Given::new(&id, std::iter::empty(), std::iter::empty());
    let reader = Reader::new(Arc::clone(&source), Some(id));
    let (app, problems) = reader.read(|reader, file| read(reader, file, &given, PathBuf::new(), profile.as_ref()));
    // A manifest with one key may leave its component idle; another test covers that.
    (app.flatten(), problems.into_iter().filter(|problem| problem.kind != Kind::IdleComponent).collect())
}

/// The smallest manifest of a version, whose lines can be replaced, by table.
struct Least {
    top: String,
    application: String,
    trigger: String,
    component: String,
    more: String,
}

impl Least {
    fn new(version: u8, kind: &str) -> Self {
        let of_kind = match kind {
            "redis" => "channel = \"c\"\n",
            "cron" => "cron_expression = \"0 0 * * * *\"\n",
            _ => "route = \"/\"\n",
        };
        if version == 1 {
            let top = format!("spin_manifest_version = \"1\"\nname = \"app\"\ntrigger = {{ type = \"{kind}\" }}\n");
            Self {
                top,
                application: String::new(),
                trigger: format!("[component.trigger]\n{of_kind}"),
                component: "[[component]]\nid = \"a\"\nsource = \"a.wasm\"\n".to_owned(),
                more: String::new(),
            }
        } else {
            Self {
                top: "spin_manifest_version = 2\n".to_owned(),
                application: "[application]\nname = \"app\"\n".to_owned(),
                trigger: format!("[[trigger.{kind}]]\ncomponent = \"a\"\n{of_kind}"),
                component: "[component.a]\nsource = \"a.wasm\"\n".to_owned(),
                more: String::new(),
            }
        }
    }

    fn text(&self, version: u8) -> String {
        if version == 1 {
            [&*self.top, &self.more, &self.component, &self.trigger].concat()
        } else {
            [&*self.top, &self.application, &self.trigger, &self.component, &self.more].concat()
        }
    }
}

/// Sets a key in these lines, or replaces its value.
fn set(lines: &mut String, key: &str, value: &str) {
    let of = format!("{key} = ");
    *lines = lines.lines().filter(|line| !line.starts_with(&of)).map(|line| format!("{line}\n")).collect();
    *lines += &format!("{of}{value}\n");
}

/// A trigger of this kind, with its required keys.
fn trigger(kind: &str) -> String {
    let keys = match kind {
        "http" => "route = \"/x\"\n",
        "redis" => "channel = \"c\"\n",
        "cron" => "cron_expression = \"0 0 * * * *\"\n",
        _ => "route = \"/x\"\nchannel = \"c\"\n",
    };
    format!("[[trigger.{kind}]]\ncomponent = \"a\"\n{keys}")
}

/// A manifest with the key as its row writes it, and the profile to request.
fn manifest(key: &Key, version: u8) -> (String, Option<&'static str>) {
    let kind = if key.table.contains("redis") || matches!(key.name, "channel" | "address" | "delivery") {
        "redis"
    } else if key.table == "trigger.cron" {
        "cron"
    } else {
        "http"
    };
    let mut least = Least::new(version, kind);
    let name = if key.name == "NAME" { "anything" } else { key.name };
    let example = match key.name {
        "spin_manifest_version" if version == 1 => "\"1\"".to_owned(),
        _ => key.example.replace("sha256:…", &format!("sha256:{}", "ab".repeat(32))),
    };
    let mut profile = None;
    match (key.table, version) {
        ("", 2) if name == "application" => least.application = format!("application = {example}\n"),
        ("", 2) if ["trigger", "component"].contains(&name) => {
            // An empty table is no application, which is reported by itself; the smallest manifest has both tables.
        }
        ("", 1) if name == "component" => {}
        ("", _) if name == "spin_version" => least.top = least.top.replace("spin_manifest_version", "spin_version"),
        ("", _) => set(&mut least.top, name, &example),
        ("application", _) => set(&mut least.application, name, &example),
        (table, _) if table.starts_with("application.") => least.more = format!("[{table}]\n{name} = {example}\n"),
        ("trigger", 1) => {
            least.top = least.top.replace(" }", &format!(", {name} = {example} }}"));
            if name == "type" {
                least.top = least.top.replacen("type = \"http\", ", "", 1);
            }
        }
        ("trigger", _) => {
            least.more = trigger(name);
        }
        ("trigger.http", _) if name == "static_response" => {
            least.trigger = format!("[[trigger.http]]\nroute = \"/\"\nstatic_response = {example}\n");
        }
        ("trigger.http" | "trigger.redis" | "trigger.cron" | "component.ID.trigger", _) => {
            set(&mut least.trigger, name, &example)
        }
        ("trigger.http.route", _) => {
            least.more = format!("[[trigger.http]]\ncomponent = \"a\"\nroute = {{ {name} = {example} }}\n");
        }
        ("trigger.http.executor", _) => {
            let executor = match name {
                "type" => format!("{{ type = {example} }}"),
                _ => format!("{{ type = \"wagi\", {name} = {example} }}"),
            };
            set(&mut least.trigger, "executor", &executor);
        }
        ("trigger.http.static_response", _) => {
            least.trigger = format!("[[trigger.http]]\nroute = \"/\"\nstatic_response = {{ {name} = {example} }}\n");
        }
        ("variables.NAME", _) => {
            let default = if name == "default" { "" } else { ", default = \"d\"" };
            least.more = format!("[variables]\nx = {{ {name} = {example}{default} }}\n");
        }
        ("component.ID", 1) if name == "trigger" => {}
        ("component.ID", _) => set(&mut least.component, name, &example),
        (table, _) if table.starts_with("component.ID.profile.NAME") => {
            profile = Some("debug");
            in_component(&mut least.component, key, &example);
        }
        (table, _) if table.starts_with("component.ID.") => in_component(&mut least.component, key, &example),
        (table, _) => panic!("no manifest has {table}"),
    }
    (least.text(version), profile)
}

/// Sets a key of a table inside a component.
fn in_component(component: &mut String, key: &Key, example: &str) {
    let name = key.name;
    let (within, value) = match key.table {
        "component.ID.source" if ["url", "digest"].contains(&name) => {
            let digest = "ab".repeat(32);
            ("source", format!("{{ url = \"https://example.com/a.wasm\", digest = \"sha256:{digest}\" }}"))
        }
        "component.ID.source" => {
            ("source", "{ registry = \"example.com\", package = \"a:b\", version = \"1.0.0\" }".to_owned())
        }
        "component.ID.files[]" => ("files", "[{ source = \"assets\", destination = \"/assets\" }]".to_owned()),
        "component.ID.build" if name == "command" => ("build", format!("{{ command = {example} }}")),
        "component.ID.build" => ("build", format!("{{ command = \"make\", {name} = {example} }}")),
        "component.ID.profile.NAME" => ("profile", format!("{{ debug = {{ {name} = {example} }} }}")),
        "component.ID.profile.NAME.build" => {
            ("profile", format!("{{ debug = {{ build = {{ {name} = {example} }} }} }}"))
        }
        table => panic!("no component has {table}"),
    };
    set(component, within, &value);
}

#[test]
fn each_key_is_treated_as_the_table_says() {
    for version in [1, 2] {
        for key in KEYS.iter().filter(|key| key.versions.has(version)) {
            let (text, profile) = manifest(key, version);
            let (app, problems) = looked(&text, profile);
            let told = || format!("{}.{} in version {version}: {problems:#?}\n{text}", key.table, key.name);
            match key.here {
                Here::Served | Here::Skipped(_) => {
                    assert!(problems.is_empty() && app.is_some(), "{}", told());
                }
                Here::Warned => {
                    let is_it = |problem: &Problem| problem.kind == Kind::WithoutEffect && problem.place.span.is_some();
                    assert!(problems.len() == 1 && problems.iter().all(is_it) && app.is_some(), "{}", told());
                }
                Here::Refused(instead) => {
                    let is_it = |problem: &Problem| {
                        problem.kind == Kind::NotServed
                            && problem.wanted == instead
                            && problem.place.span.is_some()
                            && problem.summary.starts_with('`')
                    };
                    assert!(!problems.is_empty() && problems.iter().all(is_it), "{}", told());
                }
            }
        }
    }
}

/// A table of the manifest with an unknown key in it, and the keys of this table that do not apply there.
const STRANGERS: [(u8, &str, &str, &[&str]); 16] = [
    (1, "", "", &[]),
    (2, "", "", &[]),
    (2, "application", "[application]\n", &[]),
    (2, "application.trigger.http", "[application.trigger.http]\n", &[]),
    (2, "application.trigger.redis", "[application.trigger.redis]\n", &[]),
    (1, "trigger", "[trigger]\ntype = \"http\"\n", &[]),
    (2, "trigger.http", "[[trigger.http]]\nroute = \"/\"\ncomponent = \"a\"\n", &[]),
    (2, "trigger.http.executor", "[[trigger.http]]\n[trigger.http.executor]\ntype = \"wagi\"\n", &[]),
    (2, "trigger.http.static_response", "[[trigger.http]]\n[trigger.http.static_response]\n", &[]),
    (2, "trigger.redis", "[[trigger.redis]]\nchannel = \"c\"\ncomponent = \"a\"\n", &[]),
    (2, "variables.NAME", "[variables.x]\n", &[]),
    (1, "variables.NAME", "[variables.x]\n", &[]),
    (1, "component.ID", "[[component]]\nid = \"a\"\nsource = \"a.wasm\"\n", &[]),
    (2, "component.ID", "[component.a]\nsource = \"a.wasm\"\n", &[]),
    (2, "component.ID.profile.NAME", "[component.a]\nsource = \"a.wasm\"\n[component.a.profile.debug]\n", &[]),
    (
        1,
        "component.ID.trigger",
        "trigger = { type = \"redis\" }\n[[component]]\nid = \"a\"\nsource = \"a\"\n[component.trigger]\nchannel = \"c\"\n",
        &["route", "executor"],
    ),
];

#[test]
fn the_table_has_exactly_the_keys_that_the_reader_accepts() {
    for (version, table, head, of_others) in STRANGERS {
        let top = if version == 1 { "spin_manifest_version = \"1\"\n" } else { "spin_manifest_version = 2\n" };
        let text = format!("{top}{head}nobody_knows = 1\n");
        let (_, problems) = looked(&text, Some("debug"));
        let unknown =
            problems.iter().find(|problem| problem.kind == Kind::UnknownKey && problem.found.contains("nobody"));
        let wanted = unknown.map(|problem| problem.wanted.trim_start_matches("one of ").to_owned()).unwrap_or_default();
        let mut known: Vec<&str> = wanted.split(", ").filter(|name| !name.is_empty()).collect();
        let keys = KEYS.iter().filter(|key| key.table == table && key.versions.has(version)).map(|key| key.name);
        let mut said: Vec<&str> = keys.filter(|name| !of_others.contains(name)).collect();
        // The reader looks for the second name of the version if the first is missing.
        known.retain(|name| *name != "spin_version");
        said.retain(|name| *name != "spin_version");
        known.sort_unstable();
        said.sort_unstable();
        assert_eq!(known, said, "{table} in version {version}: {problems:#?}");
    }
}

#[test]
fn the_committed_manifest_reference_matches_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/spin-manifest.md");
    let text = super::written::reference();
    if std::env::var_os("TOLLGATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, written, "{} is out of date: TOLLGATE_GOLDEN=write", path.display());
}

/// Reads a version-2 manifest with these triggers.
fn of_triggers(triggers: &str) -> (App, Vec<String>) {
    let text = format!(
        "spin_manifest_version = 2\n[application]\nname = \"a\"\n{triggers}\n[component.a]\nsource = \"a.wasm\"\n[component.b]\nsource = \"b.wasm\"\n"
    );
    let (app, problems) = looked(&text, None);
    let lines = problems.iter().map(|problem| format!("{} {}", problem.line(), problem.found)).collect();
    (app.unwrap_or_else(|| panic!("{problems:#?}")), lines)
}

#[test]
fn of_two_equal_routes_one_answers_and_the_other_gets_a_warning() {
    let trigger =
        |route: &str, component: &str| format!("[[trigger.http]]\nroute = \"{route}\"\ncomponent = \"{component}\"\n");
    let (app, told) = of_triggers(&[trigger("/x", "a"), trigger("/y", "a"), trigger("/x", "b")].concat());
    let routes = |app: &App| {
        app.routes.iter().map(|route| format!("{} {}", route.path.value, route.component.value)).collect::<Vec<_>>()
    };
    assert_eq!(routes(&app), ["/y a", "/x b"]);
    assert_eq!(
        told,
        ["spin.toml:5:9: no request reaches this route [W0406 shadowed-route] /x again, in line 11, which answers"]
    );
    let (app, told) = of_triggers(
        &[trigger("/x/:a", "a"), trigger("/x/:b", "b"), trigger("/x/*", "b"), trigger("x/...", "a")].concat(),
    );
    assert_eq!(routes(&app), ["/x/:a a", "/x/* b"]);
    assert_eq!(told.len(), 2, "{told:?}");
    let fixed = "[[trigger.http]]\nroute = \"/x\"\nstatic_response = { body = \"fixed\" }\n";
    let (app, told) = of_triggers(&[fixed, &trigger("/x", "a")].concat());
    assert_eq!((routes(&app).len(), app.fixed.len(), told.len()), (1, 0, 1));
    let (app, _) = of_triggers(&[trigger("/x", "a").as_str(), fixed].concat());
    assert_eq!((routes(&app).len(), app.fixed.len()), (0, 1));
}

#[test]
fn version_1_without_a_list_of_hosts_may_open_any_redis() {
    let redis = |more: &str| {
        let text = format!(
            "spin_version = \"1\"\nname = \"a\"\ntrigger = {{ type = \"http\" }}\n[[component]]\nid = \"a\"\nsource = \"a.wasm\"\n{more}[component.trigger]\nroute = \"/\"\n"
        );
        let app = looked(&text, None).0.unwrap();
        app.components.iter().flat_map(|component| &component.redis).map(|at| at.value.clone()).collect::<Vec<_>>()
    };
    assert_eq!(redis(""), ["*"]);
    assert_eq!(redis("allowed_http_hosts = [\"example.com\"]\n"), ["*"]);
    assert_eq!(redis("allowed_outbound_hosts = []\n"), Vec::<String>::new());
    assert_eq!(redis("allowed_outbound_hosts = [\"redis://h:1\"]\n"), ["redis://h:1"]);
}

#[test]
fn an_entry_that_a_template_leaves_empty_grants_nothing() {
    let (_, told) = looked(
        "spin_manifest_version = 2\n[application]\nname = \"a\"\n[variables]\nhost = { default = \"\" }\n[[trigger.http]]\nroute = \"/\"\ncomponent = \"a\"\n\
         [component.a]\nsource = \"a.wasm\"\nallowed_outbound_hosts = [\"{{ host }}\", \"https://{{ host }}\", \"http://a.example\"]\n",
        None,
    );
    assert!(told.is_empty(), "{told:#?}");
}
