//! Reads a Spin application unchanged: `spin.toml` of manifest versions 1 and 2 becomes the components, routes and
//! subscriptions that a tenant's own file would have.
//!
//! Source: the manifest reference, <https://spinframework.dev/v3/manifest-reference> and `/v1/manifest-reference`. A key
//! that the gateway does not serve is refused by name, with what to use instead (`keys.rs` has every key); hosts, limits
//! and quotas come from the tenant file.

mod component;
mod cron;
mod http;
mod keys;
mod middleware;
mod outbound;
mod routes;
mod variables;
mod written;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use toml::de::DeValue;

use crate::config::files::component::ComponentRead;
use crate::config::files::parts;
use crate::config::files::tenant::{CHANNEL, FixedRead, RouteRead, ScheduleRead, SubscriptionRead, is_channel, once};
use crate::config::problem::Kind;
use crate::config::reader::{At, Reader, Section};
use crate::ids::ComponentName;
pub(crate) use variables::Given;
use variables::Variables;
pub(crate) use written::reference as manifest_reference;

/// What the manifest says.
#[derive(Default)]
pub(crate) struct App {
    pub(crate) components: Vec<ComponentRead>,
    pub(crate) routes: Vec<RouteRead>,
    pub(crate) fixed: Vec<FixedRead>,
    pub(crate) subscriptions: Vec<SubscriptionRead>,
    pub(crate) schedules: Vec<ScheduleRead>,
    /// The variables that it declares.
    pub(crate) declared: Vec<String>,
    /// Components that only their neighbours start.
    private: Vec<String>,
    /// Middleware that does not wrap its component yet.
    around: Vec<middleware::Around>,
    /// Whether a component has settings for the requested profile.
    has_profile: bool,
}

/// The manifest that is being read, and the variables of its templates.
struct Manifest<'r> {
    reader: &'r Reader,
    variables: Variables,
    /// 1 or 2.
    version: u8,
    /// The folder of the manifest, relative to the tenant's folder.
    dir: PathBuf,
    profile: Option<&'r str>,
}

/// None if a key that the rest depends on is missing or wrong. `profile` is the requested one of `[component.ID.profile]`.
pub(crate) fn read(
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
    let profile_name = profile.map(|at| at.value.as_str());
    let manifest = Manifest { reader, variables, version: version.value, dir, profile: profile_name };
    let mut app = if version.value == 1 { manifest.one(file) } else { manifest.two(file) };
    if let Some(app) = &mut app {
        app.declared = manifest.variables.names();
        app.surround();
        app.settle(reader);
        routes::arrange(reader, app);
    }
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

/// What starts the components of a version-1 application: one kind for all.
#[derive(Clone, Copy)]
enum Starts {
    Http,
    Redis,
}

impl App {
    /// Removes components that nothing starts, and those that are only parts of others.
    fn settle(&mut self, reader: &Reader) {
        let starts = self.routes.iter().map(|route| &route.component);
        let starts = starts.chain(self.subscriptions.iter().map(|subscription| &subscription.component));
        let starts = starts.chain(self.schedules.iter().map(|schedule| &schedule.component));
        let started: Vec<_> = starts.map(|component| component.value.clone()).chain(self.private.clone()).collect();
        let is_started = |name: &ComponentName| started.iter().any(|other| other == name.as_str());
        parts::settle(reader, &mut self.components, is_started);
        // A trigger that misspells its component is reported elsewhere, with the name that it may mean.
        let has = |name: &String| self.components.iter().any(|component| component.name.value.as_str() == name);
        if !started.iter().all(has) {
            return;
        }
        // Spin loads only the components that a trigger starts.
        self.components.retain(|component| {
            let is_kept = is_started(&component.name.value);
            if !is_kept {
                let summary = "nothing starts this component, so it is not loaded".to_owned();
                let found = format!("no trigger names {}", component.name.value);
                let wanted = "a trigger that names it, or another component that has it as a part";
                reader.bad(Kind::IdleComponent, &component.name.place, summary, found, wanted);
            }
            is_kept
        });
    }
}

impl Manifest<'_> {
    /// `[[component]]` with its trigger inside, and one kind of trigger for the whole application.
    fn one(&self, file: &Section<'_>) -> Option<App> {
        self.settle(file, "");
        let starts = self.starts(file);
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
            if let (Some(trigger), Some(starts)) = (section.section("trigger"), starts) {
                match starts {
                    Starts::Http => {
                        self.executor(&trigger);
                        is_whole &= self.route(&trigger, name, &mut app).is_some();
                    }
                    Starts::Redis => {
                        self.settle(&trigger, "component.ID.trigger");
                        app.subscriptions.extend(self.subscription(&trigger, name));
                    }
                }
                trigger.finish();
            }
            section.finish();
        }
        (is_whole && starts.is_some()).then_some(app)
    }

    /// `trigger` of a version-1 application.
    fn starts(&self, file: &Section<'_>) -> Option<Starts> {
        let Some(trigger) = file.section("trigger") else {
            if file.has("trigger").is_none() {
                let summary = "`trigger` is missing".to_owned();
                let wanted = "trigger = { type = \"http\" }";
                self.reader.bad(Kind::MissingKey, &file.place(), summary, "no such key".to_owned(), wanted);
            }
            return None;
        };
        self.settle(&trigger, "trigger");
        if let Some(base) = trigger.string("base").filter(|base| base.value != "/") {
            let summary = "`trigger.base` has no effect".to_owned();
            let wanted = "the base in front of each route; Spin 4 has no base either";
            self.reader.bad(Kind::WithoutEffect, &base.place, summary, format!("{:?}", base.value), wanted);
        }
        let kind = trigger.required("type", trigger.string("type"), "type = \"http\" or \"redis\"");
        trigger.finish();
        let kind = kind?;
        match kind.value.as_str() {
            "http" => Some(Starts::Http),
            "redis" => Some(Starts::Redis),
            _ => {
                let summary = "a trigger of this type is not served here".to_owned();
                let wanted = keys::instead_of("trigger", "NAME");
                self.reader.bad(Kind::NotServed, &kind.place, summary, format!("{:?}", kind.value), wanted);
                None
            }
        }
    }

    /// `[[trigger.http]]`, `[[trigger.redis]]`, `[[trigger.cron]]` and `[component.ID]`.
    fn two(&self, file: &Section<'_>) -> Option<App> {
        self.settle(file, "");
        self.application(file);
        let mut app = App::default();
        let mut is_whole = true;
        for (id, section) in file.section("component").iter().flat_map(Section::named) {
            let component = self.component(&section, &id, "variables");
            let component = component.map(|component| self.profiled(component, &section, &mut app));
            section.finish();
            is_whole &= component.is_some();
            app.components.extend(component);
        }
        let Some(triggers) = file.section("trigger") else { return is_whole.then_some(app) };
        self.settle(&triggers, "trigger");
        for section in triggers.sections("http") {
            self.settle(&section, "trigger.http");
            is_whole &= self.http_trigger(&section, &mut app).is_some();
            section.finish();
        }
        for section in triggers.sections("redis") {
            self.settle(&section, "trigger.redis");
            let component = self.of_trigger(&section, &mut app);
            let subscription = component.and_then(|component| self.subscription(&section, component));
            section.finish();
            is_whole &= subscription.is_some();
            app.subscriptions.extend(subscription);
        }
        for section in triggers.sections("cron") {
            self.settle(&section, "trigger.cron");
            is_whole &= self.cron_trigger(&section, &mut app).is_some();
        }
        for other in triggers.others() {
            let summary = format!("`{}` is not served here", triggers.path(&other.value));
            let wanted = keys::instead_of("trigger", "NAME");
            self.reader.bad(Kind::NotServed, &other.place, summary, format!("`{}`", other.value), wanted);
        }
        is_whole.then_some(app)
    }

    /// `[application]`: nothing of it is needed here.
    fn application(&self, file: &Section<'_>) {
        let Some(application) = file.section("application") else { return };
        self.settle(&application, "application");
        if let Some(triggers) = application.section("trigger") {
            for (table, key) in [("application.trigger.http", "http"), ("application.trigger.redis", "redis")] {
                let Some(section) = triggers.section(key) else { continue };
                let is_root = |value: &DeValue<'_>| (value.as_str()? == "/").then_some(());
                if key != "http" || section.look_quietly("base", is_root).is_none() {
                    self.settle(&section, table);
                }
                section.finish();
            }
        }
        application.finish();
    }

    /// The component of a version-2 trigger: the one that it names, or an inline one, whose name is a number.
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
        let named = |value: &DeValue<'_>| value.as_str().map(str::to_owned);
        let component = section.take("component", "the id of a component, or a table that is one", named);
        section.required("component", component, "component = \"hello\"")
    }

    fn subscription(&self, section: &Section<'_>, component: At<String>) -> Option<SubscriptionRead> {
        let channel = section.required("channel", section.string("channel"), "channel = \"orders\"")?;
        let value = self.variables.expand(self.reader, &channel)?;
        if !is_channel(&value) {
            let summary = format!("`{}` has an invalid value", section.path("channel"));
            self.reader.bad(Kind::BadValue, &channel.place, summary, format!("{value:?}"), CHANNEL);
            return None;
        }
        let once = once(section);
        Some(SubscriptionRead { channel: At { value, place: channel.place }, once, component })
    }
}
