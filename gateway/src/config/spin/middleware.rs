//! The middleware of a trigger, which wraps the component for its route.

use super::{App, Manifest};
use crate::config::files::component::ComponentRead;
use crate::config::files::dependencies::{PartRead, middleware};
use crate::config::reader::{At, Section};
use crate::ids::ComponentName;

/// The middleware of one trigger: for the route with this number, or for all that reaches the component.
pub(super) struct Around {
    route: Option<usize>,
    component: String,
    parts: Vec<PartRead>,
}

impl Manifest<'_> {
    /// Reads `dependencies.middleware` of a trigger, which wraps the component for its route.
    pub(super) fn around(&self, trigger: &Section<'_>, component: &At<String>, app: &mut App, has_route: bool) {
        let Some(section) = trigger.section("dependencies") else { return };
        let parts = middleware(self.reader, &section, &self.dir);
        section.finish();
        if !parts.is_empty() {
            let route = has_route.then_some(app.routes.len());
            app.around.push(Around { route, component: component.value.clone(), parts });
        }
    }
}

impl App {
    /// Wraps components in their middleware. If something else starts the same component, the route gets a copy of it,
    /// which differs only in its middleware and its name: the component's name with the number of the route.
    pub(super) fn surround(&mut self) {
        for Around { route, component: name, parts } in std::mem::take(&mut self.around) {
            let starts = self.routes.iter().map(|route| &route.component.value);
            let starts = starts.chain(self.subscriptions.iter().map(|subscription| &subscription.component.value));
            let starts = starts.chain(self.schedules.iter().map(|schedule| &schedule.component.value));
            let is_alone = starts.filter(|other| **other == name).count() <= 1;
            let is_it = |component: &&mut ComponentRead| component.name.value.as_str() == name;
            // A name without a component is reported with the route.
            let Some(component) = self.components.iter_mut().find(is_it) else { continue };
            match route.and_then(|route| Some((route, self.routes.get_mut(route)?))) {
                Some((number, route)) if !is_alone => {
                    let mut second = component.clone();
                    let Some(name) = ComponentName::parse(&format!("{name}-route-{number}")) else { continue };
                    route.component.value = name.to_string();
                    second.name.value = name;
                    second.middleware = parts;
                    self.components.push(second);
                }
                Some(_) | None => component.middleware = parts,
            }
        }
    }
}
