//! What `tollgate up` says of the one project that it serves, over the project's own files.
//!
//! Security: only `up` makes one. A gateway has none, so that no tenant's `localhost` is the gateway's machine.

use std::sync::Arc;

use super::problem::{Place, Source};
use super::reader::At;
use super::reference::Reference;
use super::tenant_file::TenantFile;
use crate::domain::Pattern;
use crate::tenant::{Grant, GrantedHost};

/// Flags of `tollgate up`, and what it found in the environment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Project {
    /// The profile of the manifest.
    pub(crate) profile: Option<String>,
    /// The environment of all components; these win over the files.
    pub(crate) env: Vec<(String, String)>,
    /// Variables; these win over the files.
    pub(crate) variables: Vec<(String, String)>,
    /// `SPIN_VARIABLE_NAME` of the environment and of `.env`; the files win over these.
    pub(crate) spin_variables: Vec<(String, String)>,
    /// Only these components are served; all of them where none is named.
    pub(crate) components: Vec<String>,
    /// Set in the default store before the first request.
    pub(crate) key_values: Vec<(String, String)>,
}

impl Project {
    /// What must be known before the manifest is read.
    pub(super) fn begin(&self, source: &Arc<Source>, file: &mut TenantFile) {
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

    /// What changes the components and triggers that were read.
    pub(super) fn end(&self, file: &mut TenantFile) {
        for component in &mut file.components {
            component.environment.retain(|(name, _)| self.env.iter().all(|(given, _)| given != name));
            component.egress.iter_mut().flatten().for_each(to_this_machine);
        }
        file.egress.iter_mut().for_each(to_this_machine);
        if self.components.is_empty() {
            return;
        }
        let is_asked = |name: &str| self.components.iter().any(|asked| asked == name || super::own_name(asked) == name);
        file.components.retain(|component| is_asked(component.name.value.as_str()));
        file.routes.retain(|route| is_asked(&route.component.value));
        file.subscriptions.retain(|subscription| is_asked(&subscription.component.value));
        // A fixed answer is no component's.
        file.fixed.clear();
    }
}

/// A name that means this machine leads to it (RFC 6761 §6.3).
fn to_this_machine(grant: &mut Grant) {
    if let GrantedHost::Name(Pattern::Exact(name)) = &grant.host {
        let name = name.as_str();
        if name == "localhost" || name.ends_with(".localhost") {
            grant.host = GrantedHost::ThisMachine(name.to_owned());
        }
    }
}
