//! `[[component]]` of a tenant's file.

use std::path::Path;

use super::dependencies::{self, DependencyRead, PartRead};
use crate::config::mounts::{self, Mounts};
use crate::config::reader::{At, Reader, Section};
use crate::config::remote::{self, Origin};
use crate::ids::{ComponentName, NAME_RULE, STORE_RULE, StoreName};
use crate::tenant::{Grant, Handler};

#[derive(Clone)]
pub(crate) struct ComponentRead {
    pub(crate) name: At<ComponentName>,
    pub(crate) source: At<Origin>,
    /// Requests that one instance may answer, one after the other.
    pub(crate) reuse: u32,
    /// The handler that the gateway calls.
    pub(crate) handler: Option<Handler>,
    pub(crate) stores: Vec<At<StoreName>>,
    pub(crate) redis: Vec<At<String>>,
    /// Variables in addition to the tenant's.
    pub(crate) environment: Vec<(String, String)>,
    /// Files that it may read.
    pub(crate) files: Option<Mounts>,
    /// Replaces all of the tenant's variables, if the component lists its own.
    pub(crate) variables: Option<Vec<(String, String)>>,
    pub(crate) egress: Option<Vec<Grant>>,
    /// Parts that satisfy its imports.
    pub(crate) dependencies: Vec<DependencyRead>,
    /// Middleware around its handler, outermost first.
    pub(crate) middleware: Vec<PartRead>,
    /// Whether it comes from a Spin manifest.
    pub(crate) is_spin: bool,
}

impl ComponentRead {
    /// Dependencies first, then middleware.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &PartRead> {
        self.dependencies.iter().map(|dependency| &dependency.part).chain(&self.middleware)
    }
}

pub(crate) fn read(reader: &Reader, section: &Section<'_>) -> Option<ComponentRead> {
    let name = section.take("name", NAME_RULE, |value| value.as_str().and_then(ComponentName::parse));
    let name = section.required("name", name, "name = \"site\"");
    let source = section.required("source", remote::source(section, Path::new("")), "source = \"site.wasm\"");
    let stores = section.list("stores", STORE_RULE, StoreName::parse).unwrap_or_default();
    let address = |text: &str| {
        let is_one = ["redis://", "rediss://"].iter().any(|scheme| text.starts_with(scheme)) && text.len() < 256;
        is_one.then(|| text.to_owned())
    };
    let redis =
        section.list("redis", "an address as the component writes it, such as \"redis://localhost:6379\"", address);
    let files = mounts::read(section, Path::new(""));
    let reuse = section.count("reuse").map_or(1, |reuse| reuse.value);
    let handler = section.word("handler", &Handler::ALL).map(|handler| handler.value);
    let dependencies = dependencies::read(reader, section, Path::new(""));
    let middleware = dependencies::middleware(reader, section, Path::new(""));
    section.finish();
    let (environment, variables, egress) = (Vec::new(), None, None);
    let (name, source, redis) = (name?, source?, redis.unwrap_or_default());
    Some(ComponentRead {
        name,
        source,
        reuse,
        handler,
        stores,
        redis,
        environment,
        files,
        variables,
        egress,
        dependencies,
        middleware,
        is_spin: false,
    })
}
