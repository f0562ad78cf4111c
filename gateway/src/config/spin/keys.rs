//! Every key of Spin's manifests, of versions 1 and 2 as in Spin 4.2, in one table: how the gateway treats it. The reader
//! refuses and skips keys by this table, and `docs/spin-manifest.md` is generated from it.
//!
//! Source: `crates/manifest/src/schema` of Spin, and the settings of its HTTP and Redis triggers.

use super::Manifest;
use crate::config::problem::Kind;
use crate::config::reader::Section;

/// The versions of the manifest that have a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum In {
    One,
    Two,
    Both,
}

/// How the gateway treats a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Here {
    /// It means the same as in Spin, and the reader takes it by name.
    Served,
    /// Its type is checked, and it has no effect.
    Skipped(Takes),
    /// The same, with a warning.
    Warned,
    /// It is a problem that names the key; the text says what to do instead.
    Refused(&'static str),
}

/// The type that a skipped key must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    Text,
    Texts,
    Bool,
    /// Any value: its own tool checks it.
    Any,
}

/// One key of a table. `ID` and `NAME` stand for names that the manifest chooses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) table: &'static str,
    pub(super) name: &'static str,
    pub(super) versions: In,
    pub(super) here: Here,
    /// What it does, or why it has no effect.
    pub(super) says: &'static str,
    /// An example value.
    pub(super) example: &'static str,
}

impl In {
    pub(super) const fn has(self, version: u8) -> bool {
        matches!((self, version), (Self::Both, _) | (Self::One, 1) | (Self::Two, 2))
    }
}

impl Manifest<'_> {
    /// Handles the keys of a table that are not served.
    pub(super) fn settle(&self, section: &Section<'_>, table: &str) {
        for key in KEYS.iter().filter(|key| key.table == table && key.versions.has(self.version)) {
            match key.here {
                // A warning depends on the value, so the reader handles it.
                Here::Served | Here::Warned => {}
                Here::Skipped(Takes::Text) => drop(section.string(key.name)),
                Here::Skipped(Takes::Bool) => drop(section.boolean(key.name)),
                Here::Skipped(Takes::Texts) => drop(section.list(key.name, "a text", |_| Some(()))),
                Here::Skipped(Takes::Any) => drop(section.has(key.name)),
                Here::Refused(instead) => self.refuse(section, key.name, instead),
            }
        }
    }

    /// Reports a key that asks for something the gateway does not serve, unless it is an empty list.
    pub(super) fn refuse(&self, section: &Section<'_>, key: &'static str, instead: &str) {
        let Some(place) = section.has(key).filter(|_| !section.is_empty_list(key)) else { return };
        let summary = format!("`{}` is not served here", section.path(key));
        self.reader.bad(Kind::NotServed, &place, summary, format!("`{key}`"), instead);
    }
}

/// What the table says to do instead of using a key.
pub(super) fn instead_of(table: &str, name: &str) -> &'static str {
    let key = KEYS.iter().find(|key| key.table == table && key.name == name);
    match key.map(|key| key.here) {
        Some(Here::Refused(instead)) => instead,
        Some(Here::Served | Here::Skipped(_) | Here::Warned) | None => "remove it",
    }
}

const fn key(
    table: &'static str,
    name: &'static str,
    versions: In,
    here: Here,
    says: &'static str,
    example: &'static str,
) -> Key {
    Key { table, name, versions, here, says, example }
}

const DATA: Here = Here::Refused("store data in key_value_stores or Redis, which belong to the tenant");
const MODELS: Here = Here::Refused("call a model over HTTP, with its host in allowed_outbound_hosts");
const COMPOSE: Here = Here::Refused("compose the component in the build");
const WAGI: Here = Here::Refused("a component of wasi:http");
const PACKAGE: Here =
    Here::Refused("{ url = \"https://…\", digest = \"sha256:…\" }, or { oci = \"registry.example/name@sha256:…\" }");
const TRIGGER: Here = Here::Refused("a trigger of the type http, redis or cron");
const TEXT: Here = Here::Skipped(Takes::Text);
const TEXTS: Here = Here::Skipped(Takes::Texts);
const ANY: Here = Here::Skipped(Takes::Any);
const BUILD: &str = "`tollgate build` uses it";

#[rustfmt::skip]
pub(super) const KEYS: &[Key] = {
    use Here::{Served, Skipped, Warned, Refused};
    use In::{Both, One, Two};
    &[
        key("", "spin_manifest_version", Both, Served, "the version of the manifest: `\"1\"` or `2`", "2"),
        key("", "spin_version", One, Served, "old name of `spin_manifest_version`", "\"1\""),
        key("", "name", One, TEXT, "the name of the tenant's folder is used instead", "\"app\""),
        key("", "version", One, TEXT, "information only", "\"1.0.0\""),
        key("", "description", One, TEXT, "information only", "\"what it is\""),
        key("", "authors", One, TEXTS, "information only", "[\"A <a@example.org>\"]"),
        key("", "trigger", One, Served, "the type of all triggers", "{ type = \"http\" }"),
        key("", "trigger", Two, Served, "the triggers", "{}"),
        key("", "application", Two, Served, "settings of the application", "{ name = \"app\" }"),
        key("", "variables", Both, Served, "variables for components", "{}"),
        key("", "component", Both, Served, "the components", "{}"),
        key("application", "name", Two, TEXT, "the name of the tenant's folder is used instead", "\"app\""),
        key("application", "version", Two, TEXT, "information only", "\"1.0.0\""),
        key("application", "description", Two, TEXT, "information only", "\"what it is\""),
        key("application", "authors", Two, TEXTS, "information only", "[\"A <a@example.org>\"]"),
        key("application", "targets", Two, ANY, "for Spin's build; the gateway checks a component's imports when it loads the component", "[\"spin-up:3.2\", { path = \"env.toml\" }]"),
        key("application", "trigger", Two, Served, "settings for all triggers of a type", "{}"),
        key("application", "tool", Two, ANY, "settings of other tools", "{ lint = { level = \"high\" } }"),
        key("application.trigger.http", "base", Two, Refused("write the base in each route, such as route = \"/base/hello\""), "Spin 4 refuses it as well, unless it is `\"/\"`", "\"/base\""),
        key("application.trigger.redis", "address", Two, TEXT, "the tenant's channels are in the gateway's own store", "\"redis://localhost:6379\""),
        key("trigger", "type", One, Served, "`\"http\"` or `\"redis\"`", "\"http\""),
        key("trigger", "base", One, Warned, "not added to routes, as in Spin 4; a value other than `\"/\"` causes a warning", "\"/base\""),
        key("trigger", "address", One, TEXT, "the tenant's channels are in the gateway's own store", "\"redis://localhost:6379\""),
        key("trigger", "http", Two, Served, "`[[trigger.http]]`", "[]"),
        key("trigger", "redis", Two, Served, "`[[trigger.redis]]`", "[]"),
        key("trigger", "cron", Two, Served, "`[[trigger.cron]]` of Spin's cron plugin", "[]"),
        key("trigger", "sqs", Two, TRIGGER, "a trigger of a Spin plugin", "[{ component = \"a\" }]"),
        key("trigger", "mqtt", Two, TRIGGER, "a trigger of a Spin plugin", "[{ component = \"a\" }]"),
        key("trigger", "kinesis", Two, TRIGGER, "a trigger of a Spin plugin", "[{ component = \"a\" }]"),
        key("trigger", "command", Two, TRIGGER, "a trigger of a Spin plugin", "[{ component = \"a\" }]"),
        key("trigger", "NAME", Two, TRIGGER, "any other trigger of a Spin plugin", "[{ component = \"a\" }]"),
        key("trigger.http", "id", Two, TEXT, "not used", "\"one\""),
        key("trigger.http", "component", Two, Served, "an id, or a component as a table", "\"a\""),
        key("trigger.http", "components", Two, COMPOSE, "more components that it requires", "{ x = \"a\" }"),
        key("trigger.http", "dependencies", Two, Served, "`middleware` that wraps the component (Spin 4.1)", "{ middleware = [{ path = \"m.wasm\" }] }"),
        key("trigger.http", "route", Two, Served, "a path, or `{ private = true }`", "\"/hello/:name/...\""),
        key("trigger.http", "executor", Two, Served, "the component's exports decide", "{ type = \"http\" }"),
        key("trigger.http", "static_response", Two, Served, "a fixed response, without a component", "{ body = \"hello\" }"),
        key("trigger.http.route", "private", Two, Served, "`true`: only components of the application can reach it", "true"),
        key("trigger.http.executor", "type", Two, Served, "`\"http\"` or `\"spin\"`; `\"wagi\"` is refused", "\"spin\""),
        key("trigger.http.executor", "entrypoint", Two, WAGI, "for WAGI", "\"_start\""),
        key("trigger.http.executor", "argv", Two, WAGI, "for WAGI", "\"${ARGS}\""),
        key("trigger.http.static_response", "status_code", Two, Served, "default 200", "204"),
        key("trigger.http.static_response", "headers", Two, Served, "at most 50", "{ x-a = \"b\" }"),
        key("trigger.http.static_response", "body", Two, Served, "a text", "\"hello\""),
        key("trigger.redis", "id", Two, TEXT, "not used", "\"one\""),
        key("trigger.redis", "component", Two, Served, "an id, or a component as a table", "\"a\""),
        key("trigger.redis", "components", Two, COMPOSE, "more components that it requires", "{ x = \"a\" }"),
        key("trigger.redis", "dependencies", Two, COMPOSE, "components that wrap the component (Spin 4.1)", "{ middleware = [{ path = \"m.wasm\" }] }"),
        key("trigger.redis", "channel", Two, Served, "a channel of the tenant; may have `{{ templates }}`", "\"orders\""),
        key("trigger.redis", "address", Two, TEXT, "the tenant's channels are in the gateway's own store", "\"redis://localhost:6379\""),
        key("trigger.redis", "delivery", Two, Served, "only in Tollgate: `\"once\"` keeps a message until one gateway has handled it", "\"all\""),
        key("trigger.cron", "id", Two, TEXT, "not used", "\"one\""),
        key("trigger.cron", "component", Two, Served, "an id, or a component as a table", "\"a\""),
        key("trigger.cron", "cron_expression", Two, Served, "six fields, beginning with seconds, in UTC (docs/schedules.md)", "\"0 */5 * * * *\""),
        key("variables.NAME", "default", Both, Served, "the value if none is set", "\"x\""),
        key("variables.NAME", "required", Both, Skipped(Takes::Bool), "a variable without a default is required in any case", "true"),
        key("variables.NAME", "secret", Both, Skipped(Takes::Bool), "values are never shown, secret or not", "true"),
        key("variables.NAME", "description", Both, TEXT, "information only", "\"what it is\""),
        key("component.ID", "id", One, Served, "the component's id", "\"a\""),
        key("component.ID", "source", Both, Served, "a path, or the source to fetch it from", "\"app.wasm\""),
        key("component.ID", "description", Both, TEXT, "information only", "\"what it is\""),
        key("component.ID", "trigger", One, Served, "the trigger", "{ route = \"/\" }"),
        key("component.ID", "config", One, Served, "variables of the component; may have `{{ templates }}`", "{ x = \"y\" }"),
        key("component.ID", "variables", Two, Served, "variables of the component; may have `{{ templates }}`", "{ x = \"y\" }"),
        key("component.ID", "environment", Both, Served, "environment variables, in addition to `[env]` and `[secrets]` of tenant.toml", "{ X = \"y\" }"),
        key("component.ID", "files", Both, Served, "files that the component may read: patterns, or `{ source, destination }`", "[\"static/**/*\", { source = \"assets\", destination = \"/\" }]"),
        key("component.ID", "exclude_files", Both, Served, "patterns of files to leave out of `files`", "[\"**/*.bak\"]"),
        key("component.ID", "allowed_http_hosts", Both, Served, "hosts for outbound HTTP and HTTPS requests; `allowed_outbound_hosts` replaced it", "[\"example.com\"]"),
        key("component.ID", "allowed_outbound_hosts", Both, Served, "origins for outbound requests, in addition to `[egress] allow` of tenant.toml; see below", "[\"https://*.example.com\", \"http://10.0.0.0/8:8000..9000\", \"http://self\"]"),
        key("component.ID", "key_value_stores", Both, Served, "stores of the tenant; a name has 1 to 128 bytes", "[\"default\", \"my_store\"]"),
        key("component.ID", "sqlite_databases", Both, DATA, "an empty list is accepted", "[\"default\"]"),
        key("component.ID", "ai_models", Both, MODELS, "an empty list is accepted", "[\"llama2-chat\"]"),
        key("component.ID", "targets", Two, ANY, "for Spin's build", "[\"spin-up:3.2\"]"),
        key("component.ID", "build", Both, Served, BUILD, "{ command = \"make\" }"),
        key("component.ID", "tool", Two, ANY, "settings of other tools", "{ lint = { level = \"high\" } }"),
        key("component.ID", "dependencies", Two, Served, "components that provide its imports (Spin 3)", "{ \"a:b/c\" = { path = \"c.wasm\" } }"),
        key("component.ID", "dependencies_inherit_configuration", Two, Served, "whether dependencies get the configuration of the component", "true"),
        key("component.ID", "profile", Two, Served, "profiles; `app_profile` of tenant.toml selects one", "{ debug = { environment = {} } }"),
        key("component.ID.source", "url", Both, Served, "requires `digest`, and a `[[registry]]` for its host in gateway.toml", "\"https://example.com/app.wasm\""),
        key("component.ID.source", "digest", Both, Served, "`\"sha256:…\"`", "\"sha256:…\""),
        key("component.ID.source", "registry", Both, PACKAGE, "registry of WebAssembly packages", "\"example.com\""),
        key("component.ID.source", "package", Both, PACKAGE, "registry of WebAssembly packages", "\"a:b\""),
        key("component.ID.source", "version", Both, PACKAGE, "registry of WebAssembly packages", "\"1.0.0\""),
        key("component.ID.files[]", "source", Both, Served, "a path below the manifest's folder", "\"assets\""),
        key("component.ID.files[]", "destination", Both, Served, "the path that the component sees", "\"/assets\""),
        key("component.ID.build", "command", Both, Served, BUILD, "\"make\""),
        key("component.ID.build", "workdir", Both, Served, BUILD, "\"src\""),
        key("component.ID.build", "watch", Both, Served, "`tollgate up --watch` uses it", "[\"src/**/*\"]"),
        key("component.ID.profile.NAME", "source", Two, Served, "replaces that of the component", "\"debug.wasm\""),
        key("component.ID.profile.NAME", "environment", Two, Served, "overrides that of the component", "{ X = \"y\" }"),
        key("component.ID.profile.NAME", "dependencies", Two, Served, "overrides that of the component", "{ \"a:b/c\" = { path = \"c.wasm\" } }"),
        key("component.ID.profile.NAME", "build", Two, Served, BUILD, "{ command = \"make debug\" }"),
        key("component.ID.profile.NAME.build", "command", Two, Served, BUILD, "\"make debug\""),
        key("component.ID.trigger", "route", One, Served, "a path, or `{ private = true }`", "\"/hello/...\""),
        key("component.ID.trigger", "executor", One, Served, "the component's exports decide; `\"wagi\"` is refused", "{ type = \"spin\" }"),
        key("component.ID.trigger", "channel", One, Served, "a channel of the tenant", "\"orders\""),
        key("component.ID.trigger", "address", One, TEXT, "the tenant's channels are in the gateway's own store", "\"redis://localhost:6379\""),
        key("component.ID.trigger", "delivery", One, Served, "only in Tollgate: `\"once\"` keeps a message until one gateway has handled it", "\"all\""),
    ]
};
