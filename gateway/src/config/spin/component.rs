//! One component of a manifest: where it comes from, what it is granted, and what a profile changes.

use toml::de::DeValue;

use super::keys::instead_of;
use super::{App, Manifest, outbound};
use crate::config::files::component::ComponentRead;
use crate::config::files::dependencies;
use crate::config::mounts;
use crate::config::problem::Kind;
use crate::config::reader::{At, Section};
use crate::config::remote::{self, Origin};
use crate::ids::{COMPONENT_RULE, ComponentName, STORE_RULE, StoreName};

impl Manifest<'_> {
    /// The keys of a component that both versions share; `variables` is the name of the table for its variables.
    pub(super) fn component(
        &self,
        section: &Section<'_>,
        id: &At<String>,
        variables: &'static str,
    ) -> Option<ComponentRead> {
        let name = ComponentName::of_manifest(&id.value);
        if name.is_none() {
            let summary = "this component's id is invalid".to_owned();
            self.reader.bad(Kind::BadValue, &id.place, summary, format!("{:?}", id.value), COMPONENT_RULE);
        }
        self.settle(section, "component.ID");
        // Only `tollgate build` reads this.
        section.has("build");
        let files = mounts::read(section, &self.dir);
        let dependencies =
            if self.version == 2 { dependencies::read(self.reader, section, &self.dir) } else { Vec::new() };
        let source = section.required("source", self.source(section), "source = \"app.wasm\"");
        let stores = section.list("key_value_stores", STORE_RULE, StoreName::parse).unwrap_or_default();
        let environment = environment(section);
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
            reuse: 1,
            handler: None,
            stores,
            redis,
            environment,
            files,
            variables,
            egress,
            dependencies,
            middleware: Vec::new(),
            is_spin: true,
        })
    }

    /// Where the component comes from. A package of a registry is refused with its own message.
    fn source(&self, section: &Section<'_>) -> Option<At<Origin>> {
        let is_package = |value: &DeValue<'_>| value.as_table()?.get("package").map(|_| ());
        if let (Some(place), Some(())) = (section.has("source"), section.look_quietly("source", is_package)) {
            let summary = format!("`{}.package` is not served here", section.path("source"));
            let wanted = instead_of("component.ID.source", "package");
            self.reader.bad(Kind::NotServed, &place, summary, "a package of a registry".to_owned(), wanted);
            return None;
        }
        remote::source(section, &self.dir)
    }

    /// The origins that it may send requests to, and the addresses that it may use for Redis.
    fn allowed(&self, section: &Section<'_>) -> outbound::Allowed {
        let mut allowed = outbound::Allowed::default();
        let lists: [(&'static str, outbound::Add, &str); 2] = [
            ("allowed_outbound_hosts", outbound::Allowed::origin, outbound::WANTED),
            ("allowed_http_hosts", outbound::Allowed::host, outbound::WANTED_HOST),
        ];
        for (key, add, wanted) in lists {
            for text in section.list(key, "a text", |text| Some(text.to_owned())).unwrap_or_default() {
                let Some(value) = self.variables.expand(self.reader, &text) else { continue };
                // An entry that a template leaves empty is an endpoint that does not exist.
                if value != text.value && matches!(value.as_str(), "" | "http://" | "https://") {
                    continue;
                }
                let text = At { value, place: text.place };
                let bad = |kind: Kind, summary: String, wanted: &str| {
                    self.reader.bad(kind, &text.place, summary, format!("{:?}", text.value), wanted);
                };
                match add(&mut allowed, &text) {
                    Ok(()) => {}
                    Err(outbound::Not::AGrant) => {
                        bad(Kind::BadValue, format!("`{}` has an invalid entry", section.path(key)), wanted);
                    }
                    Err(outbound::Not::Served) => {
                        let summary = format!("`{}` grants a service that is not served here", section.path(key));
                        bad(Kind::WithoutEffect, summary, outbound::WANTED_SERVICE);
                    }
                }
            }
        }
        if self.version == 1 && section.has("allowed_outbound_hosts").is_none() {
            // Before this list existed, every database was allowed. Of those, the gateway serves Redis.
            allowed.redis.push(At { value: "*".to_owned(), place: section.place() });
        }
        allowed
    }

    /// The component in the requested profile: another source, and additional environment variables.
    pub(super) fn profiled(&self, mut component: ComponentRead, section: &Section<'_>, app: &mut App) -> ComponentRead {
        let Some(asked) = self.profile else {
            section.has("profile");
            return component;
        };
        let profiles = section.section("profile").iter().flat_map(Section::named).collect::<Vec<_>>();
        for (_, profile) in profiles.iter().filter(|(name, _)| name.value == asked) {
            app.has_profile = true;
            if let Some(source) = self.source(profile) {
                component.source = source;
            }
            let more = environment(profile);
            component.environment.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
            component.environment.extend(more);
            profile.has("build");
            self.settle(profile, "component.ID.profile.NAME");
            let more = dependencies::listed(self.reader, profile, &self.dir, None);
            component.dependencies.retain(|of| more.iter().all(|other| other.name != of.name));
            component.dependencies.extend(more);
            profile.finish();
        }
        component
    }
}

fn environment(section: &Section<'_>) -> Vec<(String, String)> {
    section.section("environment").map_or_else(Vec::new, |environment| {
        let entries = environment.entries("a text", |_, value| texts(value));
        entries.into_iter().map(|(name, text)| (name.value, text)).collect()
    })
}

fn texts(value: &DeValue<'_>) -> Option<String> {
    value.as_str().filter(|text| !text.contains('\0')).map(str::to_owned)
}
