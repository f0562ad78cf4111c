//! Every key of Spin's manifests, of versions 1 and 2 as Spin 4.2 has them, in one table: what happens to it here. The reader
//! refuses and skips by it, and `docs/spin-manifest.md` is made from it.
//!
//! Source: `crates/manifest/src/schema` of Spin, and the settings of its HTTP and Redis triggers.

use super::Manifest;
use crate::config::kind::Kind;
use crate::config::reader::Section;

/// Which versions of the manifest have a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum In {
    One,
    Two,
    Both,
}

/// What happens to a key here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Here {
    /// It means what it means in Spin, and the reader reads it by name.
    Served,
    /// It is looked at, and changes nothing.
    Skipped(Takes),
    /// The same, and whoever says it is warned.
    Warned,
    /// It is a problem that names it; the text says what to do instead.
    Refused(&'static str),
}

/// What a key that is skipped must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    Text,
    Texts,
    Bool,
    /// Whatever its tool wants.
    Any,
}

/// One key, below the table that it stands in. `ID` and `NAME` stand for what the manifest chooses itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) table: &'static str,
    pub(super) name: &'static str,
    pub(super) versions: In,
    pub(super) here: Here,
    /// What it does, or why it does nothing.
    pub(super) says: &'static str,
    /// As it may be written.
    pub(super) example: &'static str,
}

impl In {
    pub(super) const fn has(self, version: u8) -> bool {
        matches!((self, version), (Self::Both, _) | (Self::One, 1) | (Self::Two, 2))
    }
}

impl Manifest<'_> {
    /// Goes through the keys of a table that are not served.
    pub(super) fn settle(&self, section: &Section<'_>, table: &str) {
        for key in KEYS.iter().filter(|key| key.table == table && key.versions.has(self.version)) {
            match key.here {
                // What is warned of needs a look at the value.
                Here::Served | Here::Warned => {}
                Here::Skipped(Takes::Text) => drop(section.string(key.name)),
                Here::Skipped(Takes::Bool) => drop(section.boolean(key.name)),
                Here::Skipped(Takes::Texts) => drop(section.list(key.name, "a text", |_| Some(()))),
                Here::Skipped(Takes::Any) => drop(section.has(key.name)),
                Here::Refused(instead) => self.refuse(section, key.name, instead),
            }
        }
    }

    /// A key that means something which is not served, unless it is an empty list.
    pub(super) fn refuse(&self, section: &Section<'_>, key: &'static str, instead: &str) {
        let Some(place) = section.has(key).filter(|_| !section.is_empty_list(key)) else { return };
        let summary = format!("`{}` is not served here", section.path(key));
        self.reader.bad(Kind::NotServed, &place, summary, format!("`{key}`"), instead);
    }
}

/// What the table says to do instead of a key.
pub(super) fn instead_of(table: &str, name: &str) -> &'static str {
    let key = KEYS.iter().find(|key| key.table == table && key.name == name);
    match key.map(|key| key.here) {
        Some(Here::Refused(instead)) => instead,
        Some(Here::Served | Here::Skipped(_) | Here::Warned) | None => "take it out",
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

const DATA: Here = Here::Refused("keep data in key_value_stores or Redis, all of it the tenant's own");
const MODELS: Here = Here::Refused("ask a model over HTTP, by a host in allowed_outbound_hosts");
const COMPOSE: Here = Here::Refused("compose the component before");
const WAGI: Here = Here::Refused("a component of wasi:http");
const PACKAGE: Here =
    Here::Refused("{ url = \"https://…\", digest = \"sha256:…\" }, or { oci = \"registry.example/name@sha256:…\" }");
const TRIGGER: Here = Here::Refused("a trigger of the type http, redis or cron");
const TEXT: Here = Here::Skipped(Takes::Text);
const TEXTS: Here = Here::Skipped(Takes::Texts);
const ANY: Here = Here::Skipped(Takes::Any);
const BUILD: &str = "of `tollgate build`";

#[rustfmt::skip]
pub(super) const KEYS: &[Key] = {
    use Here::{Served, Skipped, Warned, Refused};
    use In::{Both, One, Two};
    &[
        key("", "spin_manifest_version", Both, Served, "which version it is: `\"1\"` or `2`", "2"),
        key("", "spin_version", One, Served, "the same, as it was called first", "\"1\""),
        key("", "name", One, TEXT, "the tenant's folder is its name here", "\"app\""),
        key("", "version", One, TEXT, "for readers", "\"1.0.0\""),
        key("", "description", One, TEXT, "for readers", "\"what it is\""),
        key("", "authors", One, TEXTS, "for readers", "[\"A <a@example.org>\"]"),
        key("", "trigger", One, Served, "the kind of all its triggers", "{ type = \"http\" }"),
        key("", "trigger", Two, Served, "what starts components", "{}"),
        key("", "application", Two, Served, "of the application as a whole", "{ name = \"app\" }"),
        key("", "variables", Both, Served, "what components may be given", "{}"),
        key("", "component", Both, Served, "what runs", "{}"),
        key("application", "name", Two, TEXT, "the tenant's folder is its name here", "\"app\""),
        key("application", "version", Two, TEXT, "for readers", "\"1.0.0\""),
        key("application", "description", Two, TEXT, "for readers", "\"what it is\""),
        key("application", "authors", Two, TEXTS, "for readers", "[\"A <a@example.org>\"]"),
        key("application", "targets", Two, ANY, "of Spin's build; a component is held against what is served here when it loads", "[\"spin-up:3.2\", { path = \"env.toml\" }]"),
        key("application", "trigger", Two, Served, "settings of all triggers of a type", "{}"),
        key("application", "tool", Two, ANY, "somebody's tools keep it", "{ lint = { level = \"high\" } }"),
        key("application.trigger.http", "base", Two, Refused("the base in front of each route, such as route = \"/base/hello\""), "Spin 4 refuses it too, but for `\"/\"`", "\"/base\""),
        key("application.trigger.redis", "address", Two, TEXT, "the gateway's own store has the tenant's channels", "\"redis://localhost:6379\""),
        key("trigger", "type", One, Served, "`\"http\"` or `\"redis\"`", "\"http\""),
        key("trigger", "base", One, Warned, "routes are where they are written, as in Spin 4; anything but `\"/\"` has a warning", "\"/base\""),
        key("trigger", "address", One, TEXT, "the gateway's own store has the tenant's channels", "\"redis://localhost:6379\""),
        key("trigger", "http", Two, Served, "`[[trigger.http]]`", "[]"),
        key("trigger", "redis", Two, Served, "`[[trigger.redis]]`", "[]"),
        key("trigger", "cron", Two, Served, "`[[trigger.cron]]` of Spin's cron plugin", "[]"),
        key("trigger", "sqs", Two, TRIGGER, "of a plugin", "[{ component = \"a\" }]"),
        key("trigger", "mqtt", Two, TRIGGER, "of a plugin", "[{ component = \"a\" }]"),
        key("trigger", "kinesis", Two, TRIGGER, "of a plugin", "[{ component = \"a\" }]"),
        key("trigger", "command", Two, TRIGGER, "of a plugin", "[{ component = \"a\" }]"),
        key("trigger", "NAME", Two, TRIGGER, "any other, which a plugin of Spin's would have", "[{ component = \"a\" }]"),
        key("trigger.http", "id", Two, TEXT, "nothing here asks for it", "\"one\""),
        key("trigger.http", "component", Two, Served, "an id, or a component as a table", "\"a\""),
        key("trigger.http", "components", Two, COMPOSE, "further components that it needs", "{ x = \"a\" }"),
        key("trigger.http", "dependencies", Two, Served, "`middleware` around the component (Spin 4.1)", "{ middleware = [{ path = \"m.wasm\" }] }"),
        key("trigger.http", "route", Two, Served, "a path, or `{ private = true }`", "\"/hello/:name/...\""),
        key("trigger.http", "executor", Two, Served, "what the component exports decides", "{ type = \"http\" }"),
        key("trigger.http", "static_response", Two, Served, "an answer without a component", "{ body = \"hello\" }"),
        key("trigger.http.route", "private", Two, Served, "`true`: only components of the application reach it", "true"),
        key("trigger.http.executor", "type", Two, Served, "`\"http\"` or `\"spin\"`; `\"wagi\"` is refused", "\"spin\""),
        key("trigger.http.executor", "entrypoint", Two, WAGI, "of wagi", "\"_start\""),
        key("trigger.http.executor", "argv", Two, WAGI, "of wagi", "\"${ARGS}\""),
        key("trigger.http.static_response", "status_code", Two, Served, "200 where it is not said", "204"),
        key("trigger.http.static_response", "headers", Two, Served, "50 at most", "{ x-a = \"b\" }"),
        key("trigger.http.static_response", "body", Two, Served, "a text", "\"hello\""),
        key("trigger.redis", "id", Two, TEXT, "nothing here asks for it", "\"one\""),
        key("trigger.redis", "component", Two, Served, "an id, or a component as a table", "\"a\""),
        key("trigger.redis", "components", Two, COMPOSE, "further components that it needs", "{ x = \"a\" }"),
        key("trigger.redis", "dependencies", Two, COMPOSE, "components around the component (Spin 4.1)", "{ middleware = [{ path = \"m.wasm\" }] }"),
        key("trigger.redis", "channel", Two, Served, "a channel of the tenant's own, also with `{{ templates }}`", "\"orders\""),
        key("trigger.redis", "address", Two, TEXT, "the gateway's own store has the tenant's channels", "\"redis://localhost:6379\""),
        key("trigger.redis", "delivery", Two, Served, "Tollgate's own: `\"once\"` keeps a message until one gateway handled it", "\"all\""),
        key("trigger.cron", "id", Two, TEXT, "nothing here asks for it", "\"one\""),
        key("trigger.cron", "component", Two, Served, "an id, or a component as a table", "\"a\""),
        key("trigger.cron", "cron_expression", Two, Served, "six fields, from the second on, in UTC; see the tenant's guide", "\"0 */5 * * * *\""),
        key("variables.NAME", "default", Both, Served, "its value where nobody gives one", "\"x\""),
        key("variables.NAME", "required", Both, Skipped(Takes::Bool), "what has no default must be given, said or not", "true"),
        key("variables.NAME", "secret", Both, Skipped(Takes::Bool), "no value is shown, secret or not", "true"),
        key("variables.NAME", "description", Both, TEXT, "for readers", "\"what it is\""),
        key("component.ID", "id", One, Served, "what others call it", "\"a\""),
        key("component.ID", "source", Both, Served, "a path, or where it is fetched from", "\"app.wasm\""),
        key("component.ID", "description", Both, TEXT, "for readers", "\"what it is\""),
        key("component.ID", "trigger", One, Served, "what starts it", "{ route = \"/\" }"),
        key("component.ID", "config", One, Served, "its variables, also with `{{ templates }}`", "{ x = \"y\" }"),
        key("component.ID", "variables", Two, Served, "its variables, also with `{{ templates }}`", "{ x = \"y\" }"),
        key("component.ID", "environment", Both, Served, "beside `[env]` and `[secrets]` of tenant.toml", "{ X = \"y\" }"),
        key("component.ID", "files", Both, Served, "that it may read: patterns, or `{ source, destination }`", "[\"static/**/*\", { source = \"assets\", destination = \"/\" }]"),
        key("component.ID", "exclude_files", Both, Served, "of those, not these", "[\"**/*.bak\"]"),
        key("component.ID", "allowed_http_hosts", Both, Served, "hosts by HTTP and HTTPS, as before `allowed_outbound_hosts`", "[\"example.com\"]"),
        key("component.ID", "allowed_outbound_hosts", Both, Served, "where it may send requests, beside `[egress] allow` of tenant.toml; see below", "[\"https://*.example.com\", \"http://10.0.0.0/8:8000..9000\", \"http://self\"]"),
        key("component.ID", "key_value_stores", Both, Served, "stores of the tenant's own, by any name of 1 to 128 bytes", "[\"default\", \"my_store\"]"),
        key("component.ID", "sqlite_databases", Both, DATA, "an empty list will do", "[\"default\"]"),
        key("component.ID", "ai_models", Both, MODELS, "an empty list will do", "[\"llama2-chat\"]"),
        key("component.ID", "targets", Two, ANY, "of Spin's build", "[\"spin-up:3.2\"]"),
        key("component.ID", "build", Both, Served, BUILD, "{ command = \"make\" }"),
        key("component.ID", "tool", Two, ANY, "somebody's tools keep it", "{ lint = { level = \"high\" } }"),
        key("component.ID", "dependencies", Two, Served, "components that it imports from (Spin 3)", "{ \"a:b/c\" = { path = \"c.wasm\" } }"),
        key("component.ID", "dependencies_inherit_configuration", Two, Served, "whether those have what it has", "true"),
        key("component.ID", "profile", Two, Served, "`app_profile` of tenant.toml says which", "{ debug = { environment = {} } }"),
        key("component.ID.source", "url", Both, Served, "with `digest`; its host needs a `[[registry]]` in gateway.toml", "\"https://example.com/app.wasm\""),
        key("component.ID.source", "digest", Both, Served, "`\"sha256:…\"`", "\"sha256:…\""),
        key("component.ID.source", "registry", Both, PACKAGE, "of wasm packages", "\"example.com\""),
        key("component.ID.source", "package", Both, PACKAGE, "of wasm packages", "\"a:b\""),
        key("component.ID.source", "version", Both, PACKAGE, "of wasm packages", "\"1.0.0\""),
        key("component.ID.files[]", "source", Both, Served, "below the manifest's folder", "\"assets\""),
        key("component.ID.files[]", "destination", Both, Served, "where the component finds it", "\"/assets\""),
        key("component.ID.build", "command", Both, Served, BUILD, "\"make\""),
        key("component.ID.build", "workdir", Both, Served, BUILD, "\"src\""),
        key("component.ID.build", "watch", Both, Served, "of `tollgate up --watch`", "[\"src/**/*\"]"),
        key("component.ID.profile.NAME", "source", Two, Served, "instead of the component's", "\"debug.wasm\""),
        key("component.ID.profile.NAME", "environment", Two, Served, "over the component's", "{ X = \"y\" }"),
        key("component.ID.profile.NAME", "dependencies", Two, Served, "over the component's", "{ \"a:b/c\" = { path = \"c.wasm\" } }"),
        key("component.ID.profile.NAME", "build", Two, Served, BUILD, "{ command = \"make debug\" }"),
        key("component.ID.profile.NAME.build", "command", Two, Served, BUILD, "\"make debug\""),
        key("component.ID.trigger", "route", One, Served, "a path, or `{ private = true }`", "\"/hello/...\""),
        key("component.ID.trigger", "executor", One, Served, "what the component exports decides; `\"wagi\"` is refused", "{ type = \"spin\" }"),
        key("component.ID.trigger", "channel", One, Served, "a channel of the tenant's own", "\"orders\""),
        key("component.ID.trigger", "address", One, TEXT, "the gateway's own store has the tenant's channels", "\"redis://localhost:6379\""),
        key("component.ID.trigger", "delivery", One, Served, "Tollgate's own: `\"once\"` keeps a message until one gateway handled it", "\"all\""),
    ]
};
