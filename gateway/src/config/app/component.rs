//! One component of a manifest: where it comes from, what it is given, and what another profile says of it.

use toml::de::DeValue;

use super::{App, Manifest, outbound, own_name};
use crate::config::files;
use crate::config::kind::Kind;
use crate::config::reader::{At, Section};
use crate::config::remote;
use crate::config::tenant_file::ComponentRead;
use crate::ids::{ComponentName, NAME_RULE, StoreName};

/// What to do instead of `dependencies`.
pub(super) const COMPOSE: &str = "compose the component before";

impl Manifest<'_> {
    /// What both versions say of a component; `variables` is what its own are called.
    pub(super) fn component(
        &self,
        section: &Section<'_>,
        id: &At<String>,
        variables: &'static str,
    ) -> Option<ComponentRead> {
        let name = ComponentName::parse(&own_name(&id.value));
        if name.is_none() {
            let summary = "this component's id will not do".to_owned();
            self.reader.bad(Kind::BadValue, &id.place, summary, format!("{:?}", id.value), NAME_RULE);
        }
        section.string("description");
        section.has("build");
        self.refuse(
            section,
            &["sqlite_databases", "ai_models"],
            "keep data in key_value_stores or Redis, all of it the tenant's own",
        );
        let files = files::read(section, &self.dir);
        let source = section.required("source", remote::source(section, &self.dir), "source = \"app.wasm\"");
        let stores = section.list("key_value_stores", NAME_RULE, StoreName::parse).unwrap_or_default();
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
                    self.reader.bad(Kind::BadValue, &text.place, summary, format!("{:?}", text.value), wanted);
                }
            }
        }
        allowed
    }

    /// The component as it is in the profile that is asked for: another source, and more of the environment.
    pub(super) fn profiled(&self, mut component: ComponentRead, section: &Section<'_>, app: &mut App) -> ComponentRead {
        let Some(asked) = self.profile else {
            section.has("profile");
            return component;
        };
        let profiles = section.section("profile").iter().flat_map(Section::named).collect::<Vec<_>>();
        for (_, profile) in profiles.iter().filter(|(name, _)| name.value == asked) {
            app.has_profile = true;
            if let Some(source) = remote::source(profile, &self.dir) {
                component.source = source;
            }
            let more = environment(profile);
            component.environment.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
            component.environment.extend(more);
            profile.has("build");
            self.refuse(profile, &["dependencies"], COMPOSE);
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
