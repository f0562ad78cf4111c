//! A Spin application as it is: `spin.toml` of manifest versions 1 and 2, read into the components, routes and subscriptions
//! that a tenant's own file would have.
//!
//! Source: the manifest reference, <https://spinframework.dev/v3/manifest-reference> and `/v1/manifest-reference`. What is not
//! served is refused by name, with what to use instead; hosts, limits and quotas are the tenant file's.

mod component;
mod cron;
mod http;
mod outbound;
mod variables;

use std::path::PathBuf;

use toml::de::DeValue;

use super::kind::Kind;
use super::reader::{At, Reader, Section};
use super::tenant_file::{
    CHANNEL, ComponentRead, FixedRead, RouteRead, ScheduleRead, SubscriptionRead, is_channel, once,
};
pub(super) use variables::Given;
use variables::Variables;

/// What the manifest says.
#[derive(Default)]
pub(super) struct App {
    pub(super) components: Vec<ComponentRead>,
    pub(super) routes: Vec<RouteRead>,
    pub(super) fixed: Vec<FixedRead>,
    pub(super) subscriptions: Vec<SubscriptionRead>,
    pub(super) schedules: Vec<ScheduleRead>,
    /// Whether a component says something else for the profile that is asked for.
    has_profile: bool,
}

/// The manifest being read, and what its templates stand for.
struct Manifest<'r> {
    reader: &'r Reader,
    variables: Variables,
    /// Of the manifest, from the tenant's folder.
    dir: PathBuf,
    profile: Option<&'r str>,
}

/// Nothing where a key is missing or wrong that the rest cannot do without. `profile` is the one of `[component.ID.profile]`
/// that is asked for.
pub(super) fn read(
    reader: &Reader,
    file: &Section<'_>,
    given: &Given,
    dir: PathBuf,
    profile: Option<&At<String>>,
) -> Option<App> {
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
    let manifest = Manifest { reader, variables, dir, profile: profile.map(|at| at.value.as_str()) };
    let app = if version.value == 1 { manifest.one(file) } else { manifest.two(file) };
    if let Some(app) = &app
        && app.routes.is_empty()
        && app.fixed.is_empty()
        && app.subscriptions.is_empty()
        && app.schedules.is_empty()
    {
        let summary = "nothing starts a component of this application".to_owned();
        reader.bad(
            Kind::MissingKey,
            &file.place(),
            summary,
            "no trigger".to_owned(),
            "a trigger of the type http, redis or cron",
        );
    }
    if let (Some(app), Some(profile)) = (&app, profile)
        && !app.has_profile
    {
        let summary = format!("no component of {} has this profile", reader.place(None).source.path);
        let wanted = "a profile that a [component.ID.profile.NAME] names";
        reader.bad(Kind::BadValue, &profile.place, summary, format!("{:?}", profile.value), wanted);
    }
    app
}

/// What starts components of a version-1 application, which has one kind for all.
enum Starts {
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
            Some(if kind?.value { Starts::Http { base } } else { Starts::Redis })
        });
        if trigger.is_none() {
            let summary = "`trigger` is missing".to_owned();
            self.reader.bad(
                Kind::MissingKey,
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
                    Starts::Http { base } => app.routes.extend(self.route(&trigger, name, base)),
                    Starts::Redis => app.subscriptions.extend(self.subscription(&trigger, name)),
                }
                trigger.finish();
            }
            section.finish();
        }
        (is_whole && kind.is_some()).then_some(app)
    }

    /// `[[trigger.http]]`, `[[trigger.redis]]`, `[[trigger.cron]]` and `[component.ID]`.
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
            let component = component.map(|component| self.profiled(component, &section, &mut app));
            section.has("tool");
            section.list("targets", "a text", |text| Some(text.to_owned()));
            self.refuse(&section, &["dependencies", "dependencies_inherit_configuration"], component::COMPOSE);
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
        for section in triggers.sections("cron") {
            is_whole &= self.cron_trigger(&section, &mut app).is_some();
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
            let component = component.map(|component| self.profiled(component, &inside, app));
            inside.finish();
            app.components.push(component?);
            return Some(id);
        }
        let named = |value: &DeValue<'_>| value.as_str().map(own_name);
        let component = section.take("component", "the id of a component, or a table that is one", named);
        section.required("component", component, "component = \"hello\"")
    }

    fn subscription(&self, section: &Section<'_>, component: At<String>) -> Option<SubscriptionRead> {
        // The gateway's own store answers, whatever the address.
        section.string("address");
        let channel = section.required("channel", section.string("channel"), "channel = \"orders\"")?;
        let value = self.variables.expand(self.reader, &channel)?;
        if !is_channel(&value) {
            let summary = format!("`{}` has a value that will not do", section.path("channel"));
            self.reader.bad(Kind::BadValue, &channel.place, summary, format!("{value:?}"), CHANNEL);
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
            self.reader.bad(Kind::NotServed, &place, summary, format!("`{key}`"), instead);
        }
    }
}

/// What a component of Spin's is called here: in small letters, with `-` for `_`.
pub(crate) fn own_name(id: &str) -> String {
    id.to_ascii_lowercase().replace('_', "-")
}
