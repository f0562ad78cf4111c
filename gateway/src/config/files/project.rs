//! The settings of `tollgate up` for the one project that it serves, on top of the project's own files.
//!
//! Security: only `up` creates this. A gateway has none, so that a tenant's `localhost` never means the gateway's machine.

use std::sync::Arc;

use super::tenant::TenantFile;
use crate::config::problem::{Place, Problem, Source};
use crate::config::reader::At;
use crate::config::reader::reference::Reference;
use crate::domain::Pattern;
use crate::tenant::{Grant, GrantedHost};

/// Flags of `tollgate up`, and what it found in the environment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Project {
    /// The profile of the manifest.
    pub(crate) profile: Option<String>,
    /// Environment variables of all components; they override the files.
    pub(crate) env: Vec<(String, String)>,
    /// Variables; they override the files.
    pub(crate) variables: Vec<(String, String)>,
    /// `SPIN_VARIABLE_NAME` of the environment and of `.env`; the files override these.
    pub(crate) spin_variables: Vec<(String, String)>,
    /// Serves only these components; all of them if none is named.
    pub(crate) components: Vec<String>,
    /// Pairs to set in the default store before the first request.
    pub(crate) key_values: Vec<(String, String)>,
    /// Receives the problems of the files each time they are loaded.
    pub(crate) teller: Teller,
}

/// Shows problems to the developer.
#[derive(Clone)]
pub(crate) struct Teller(Arc<Tell>);

type Tell = dyn Fn(&[Problem]) + Send + Sync;

impl Teller {
    pub(crate) fn new(tell: impl Fn(&[Problem]) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    pub(crate) fn tell(&self, problems: &[Problem]) {
        (self.0)(problems);
    }
}

impl Default for Teller {
    /// Shows them to nobody.
    fn default() -> Self {
        Self::new(|_problems| ())
    }
}

impl std::fmt::Debug for Teller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Teller")
    }
}

/// Names by which this machine reaches itself; a request to `[::1]` counts as `localhost`.
const OWN_NAMES: [&str; 4] = ["localhost", "127.0.0.1", "0.0.0.0", "*.localhost"];

impl Project {
    /// The hosts of the file, and also every name of this machine; no certificate has to cover those.
    pub(crate) fn hosts(of_file: &[At<Pattern>]) -> Vec<Pattern> {
        let mut hosts: Vec<Pattern> = of_file.iter().map(|host| host.value.clone()).collect();
        let own = OWN_NAMES.into_iter().filter_map(Pattern::parse).filter(|name| !hosts.contains(name));
        hosts.extend(own.collect::<Vec<_>>());
        hosts
    }

    /// Applies the settings that must be known before the manifest is read.
    pub(crate) fn begin(&self, source: &Arc<Source>, file: &mut TenantFile) {
        let at = |value: &str| At { value: value.to_owned(), place: Place::whole(source) };
        if let Some(profile) = &self.profile {
            file.app_profile = Some(at(profile));
        }
        for (name, value) in &self.variables {
            file.variables.retain(|(known, _)| known.value != *name);
            file.variables.push((at(name), Reference::Text(value.clone())));
        }
        for (name, value) in &self.env {
            file.env.retain(|(known, _)| known != name);
            file.env.push((name.clone(), value.clone()));
        }
    }

    /// Applies the settings that change the components and triggers of the manifest.
    pub(crate) fn end(&self, file: &mut TenantFile) {
        for component in &mut file.components {
            component.environment.retain(|(name, _)| self.env.iter().all(|(given, _)| given != name));
            component.egress.iter_mut().flatten().for_each(to_this_machine);
        }
        file.egress.iter_mut().for_each(to_this_machine);
        if self.components.is_empty() {
            return;
        }
        let is_asked = |name: &str| self.components.iter().any(|asked| asked == name);
        file.components.retain(|component| is_asked(component.name.value.as_str()));
        file.routes.retain(|route| is_asked(&route.component.value));
        file.subscriptions.retain(|subscription| is_asked(&subscription.component.value));
        // A fixed answer belongs to no component.
        file.fixed.clear();
    }
}

/// Lets a name that means this machine reach this machine (RFC 6761 §6.3).
fn to_this_machine(grant: &mut Grant) {
    if let GrantedHost::Name(Pattern::Exact(name)) = &grant.host {
        let name = name.as_str();
        if name == "localhost" || name.ends_with(".localhost") {
            grant.host = GrantedHost::ThisMachine(name.to_owned());
        }
    }
}
