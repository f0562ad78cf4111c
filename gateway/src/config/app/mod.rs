//! A Spin application as it is: `spin.toml` of manifest versions 1 and 2, read into the components, routes and subscriptions
//! that a tenant's own file would have.
//!
//! Source: the manifest reference, <https://spinframework.dev/v3/manifest-reference> and `/v1/manifest-reference`. What is not
//! served is refused by name, with what to use instead; hosts, limits and quotas are the tenant file's.

mod http;
mod outbound;
mod variables;

use std::path::PathBuf;

use toml::de::DeValue;

use super::files;
use super::reader::{At, Reader, Section};
use super::tenant_file::{CHANNEL, ComponentRead, FixedRead, RouteRead, SubscriptionRead, is_channel, once};
use crate::ids::{ComponentName, NAME_RULE, StoreName};
pub(super) use variables::Given;
use variables::Variables;

/// What the manifest says.
#[derive(Default)]
pub(super) struct App {
    pub(super) components: Vec<ComponentRead>,
    pub(super) routes: Vec<RouteRead>,
    pub(super) fixed: Vec<FixedRead>,
    pub(super) subscriptions: Vec<SubscriptionRead>,
}

/// The manifest being read, and what its templates stand for.
struct Manifest<'r> {
    reader: &'r Reader,
    variables: Variables,
    /// Of the manifest, from the tenant's folder.
    dir: PathBuf,
}

/// Nothing where a key is missing or wrong that the rest cannot do without.
pub(super) fn read(reader: &Reader, file: &Section<'_>, given: &Given, dir: PathBuf) -> Option<App> {
    let number = |value: &DeValue<'_>| match value {
        DeValue::Integer(number) => number.as_str().parse::<u8>().ok().filter(|version| matches!(version, 1 | 2)),
        DeValue::String(text) => (text == "1").then_some(1),
        DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    };
    let wanted = "spin_manifest_version = 2, or \"1\"";
    let version = file.take("spin_manifest_version", wanted, number);
    let version = version.or_else(|| file.take("spin_version", wanted, number));
    let version = file.required("spin_manifest_version", version, wanted)?;
    let variables = Variables::read(reader, file, given);
    let manifest = Manifest { reader, variables, dir };
    let app = if version.value == 1 { manifest.one(file) } else { manifest.two(file) };
    if let Some(app) = &app
        && app.routes.is_empty()
        && app.fixed.is_empty()
        && app.subscriptions.is_empty()
    {
        let summary = "nothing starts a component of this application".to_owned();
        reader.bad(
            "missing-key",
            &file.place(),
            summary,
            "no trigger".to_owned(),
            "a trigger of the type http or redis",
        );
    }
    app
}

/// What starts components of a version-1 application, which has one kind for all.
enum Kind {
    Http { base: String },
    Redis,
}

impl Manifest<'_> {
    /// `[[component]]` with its trigger inside, and one kind of trigger for the whole application.
    fn one(&self, file: &Section<'_>) -> Option<App> {
        for key in ["name", "version", "description"] {
            file.string(key);
        }
        file.list("authors", "a text", |text| Some(text.to_owned()));
        let trigger = file.section("trigger");
        let kind = trigger.as_ref().and_then(|trigger| {
            let words = [("http", true), ("redis", false)];
            let kind = trigger.required("type", trigger.word("type", &words), "type = \"http\" or \"redis\"");
            let base = trigger.string("base").map_or_else(|| "/".to_owned(), |base| base.value);
            trigger.string("address");
            trigger.finish();
            Some(if kind?.value { Kind::Http { base } } else { Kind::Redis })
        });
        if trigger.is_none() {
            let summary = "`trigger` is missing".to_owned();
            self.reader.bad(
                "missing-key",
                &file.place(),
                summary,
                "no such key".to_owned(),
                "trigger = { type = \"http\" }",
            );
        }
        let mut app = App::default();
        let mut is_whole = true;
        for section in file.sections("component") {
            let id = section.required("id", section.string("id"), "id = \"hello\"");
            let Some(component) = id.and_then(|id| self.component(&section, &id, "config")) else {
                is_whole = false;
                continue;
            };
            let name = At { value: component.name.value.to_string(), place: component.name.place.clone() };
            app.components.push(component);
            if let (Some(trigger), Some(kind)) = (section.section("trigger"), &kind) {
                match kind {
                    Kind::Http { base } => app.routes.extend(self.route(&trigger, name, base)),
                    Kind::Redis => app.subscriptions.extend(self.subscription(&trigger, name)),
                }
                trigger.finish();
            }
            section.finish();
        }
        (is_whole && kind.is_some()).then_some(app)
    }

    /// `[[trigger.http]]`, `[[trigger.redis]]` and `[component.ID]`.
    fn two(&self, file: &Section<'_>) -> Option<App> {
        if let Some(application) = file.section("application") {
            for key in ["name", "version", "description"] {
                application.string(key);
            }
            application.list("authors", "a text", |text| Some(text.to_owned()));
            application.list("targets", "a text", |text| Some(text.to_owned()));
            application.has("trigger");
            application.has("tool");
            application.finish();
        }
        let mut app = App::default();
        let mut is_whole = true;
        for (id, section) in file.section("component").iter().flat_map(Section::named) {
            let component = self.component(&section, &id, "variables");
            section.has("tool");
            section.has("profile");
            section.list("targets", "a text", |text| Some(text.to_owned()));
            self.refuse(
                &section,
                &["dependencies", "dependencies_inherit_configuration"],
                "compose the component before",
            );
            section.finish();
            is_whole &= component.is_some();
            app.components.extend(component);
        }
        let Some(triggers) = file.section("trigger") else { return is_whole.then_some(app) };
        for section in triggers.sections("http") {
            section.string("id");
            is_whole &= self.http_trigger(&section, &mut app).is_some();
            section.finish();
        }
        for section in triggers.sections("redis") {
            section.string("id");
            let component = self.of_trigger(&section, &mut app);
            let subscription = component.and_then(|component| self.subscription(&section, component));
            section.finish();
            is_whole &= subscription.is_some();
            app.subscriptions.extend(subscription);
        }
        triggers.finish();
        is_whole.then_some(app)
    }

    /// The component that a version-2 trigger names, as it is called here; or that stands in it, and has no other name than
    /// its number.
    fn of_trigger(&self, section: &Section<'_>, app: &mut App) -> Option<At<String>> {
        if section.look_quietly("component", |value| value.as_table().map(|_| ())).is_some() {
            let inside = section.section("component")?;
            let id = At { value: format!("inline-{}", app.components.len()), place: section.place() };
            let component = self.component(&inside, &id, "variables");
            inside.finish();
            app.components.push(component?);
            return Some(id);
        }
        let named = |value: &DeValue<'_>| value.as_str().map(own_name);
        let component = section.take("component", "the id of a component, or a table that is one", named);
        section.required("component", component, "component = \"hello\"")
    }

    /// What both versions say of a component; `variables` is what its own are called.
    fn component(&self, section: &Section<'_>, id: &At<String>, variables: &'static str) -> Option<ComponentRead> {
        let name = ComponentName::parse(&own_name(&id.value));
        if name.is_none() {
            let summary = "this component's id will not do".to_owned();
            self.reader.bad("bad-value", &id.place, summary, format!("{:?}", id.value), NAME_RULE);
        }
        section.string("description");
        section.has("build");
        self.refuse(
            section,
            &["sqlite_databases", "ai_models"],
            "keep data in key_value_stores or Redis, all of it the tenant's own",
        );
        let files = files::read(section, &self.dir);
        let source = "a path from the manifest's folder; what is elsewhere must be fetched before";
        let path = |value: &DeValue<'_>| Some(self.dir.join(value.as_str()?).to_str()?.to_owned());
        let source = section.required("source", section.take("source", source, path), "source = \"app.wasm\"");
        let stores = section.list("key_value_stores", NAME_RULE, StoreName::parse).unwrap_or_default();
        let texts = |value: &DeValue<'_>| value.as_str().filter(|text| !text.contains('\0')).map(str::to_owned);
        let environment = section.section("environment").map_or_else(Vec::new, |environment| {
            let entries = environment.entries("a text", |_, value| texts(value));
            entries.into_iter().map(|(name, text)| (name.value, text)).collect()
        });
        let own = section.section(variables).map_or_else(Vec::new, |own| {
            let entries = own.entries("a text, with {{ variables }}", |_, value| texts(value));
            let expanded = entries.into_iter().filter_map(|(name, text)| {
                let text = At { value: text, place: name.place };
                Some((name.value, self.variables.expand(self.reader, &text)?))
            });
            expanded.collect()
        });
        let allowed = self.allowed(section);
        let (name, redis) = (At { value: name?, place: id.place.clone() }, allowed.redis);
        let (variables, egress) = (Some(own), Some(allowed.origins));
        Some(ComponentRead {
            name,
            source: source?,
            stores,
            redis,
            environment,
            files,
            variables,
            egress,
            is_spin: true,
        })
    }

    fn allowed(&self, section: &Section<'_>) -> outbound::Allowed {
        let mut allowed = outbound::Allowed::default();
        let lists: [(&'static str, outbound::Add, &str); 2] = [
            ("allowed_outbound_hosts", outbound::Allowed::origin, outbound::WANTED),
            ("allowed_http_hosts", outbound::Allowed::host, outbound::WANTED_HOST),
        ];
        for (key, add, wanted) in lists {
            for text in section.list(key, "a text", |text| Some(text.to_owned())).unwrap_or_default() {
                let Some(value) = self.variables.expand(self.reader, &text) else { continue };
                let text = At { value, place: text.place };
                if !add(&mut allowed, &text) {
                    let summary = format!("`{}` has an entry that will not do", section.path(key));
                    self.reader.bad("bad-value", &text.place, summary, format!("{:?}", text.value), wanted);
                }
            }
        }
        allowed
    }

    fn subscription(&self, section: &Section<'_>, component: At<String>) -> Option<SubscriptionRead> {
        // The gateway's own store answers, whatever the address.
        section.string("address");
        let channel = section.required("channel", section.string("channel"), "channel = \"orders\"")?;
        let value = self.variables.expand(self.reader, &channel)?;
        if !is_channel(&value) {
            let summary = format!("`{}` has a value that will not do", section.path("channel"));
            self.reader.bad("bad-value", &channel.place, summary, format!("{value:?}"), CHANNEL);
            return None;
        }
        let once = once(section);
        Some(SubscriptionRead { channel: At { value, place: channel.place }, once, component })
    }

    /// Keys that mean something which is not served.
    fn refuse(&self, section: &Section<'_>, keys: &[&'static str], instead: &str) {
        for key in keys {
            let Some(place) = section.has(key) else { continue };
            if section.is_empty_list(key) {
                continue;
            }
            let summary = format!("`{}` is not served here", section.path(key));
            self.reader.bad("not-served", &place, summary, format!("`{key}`"), instead);
        }
    }
}

/// What a component of Spin's is called here: in small letters, with `-` for `_`.
pub(crate) fn own_name(id: &str) -> String {
    id.to_ascii_lowercase().replace('_', "-")
}
