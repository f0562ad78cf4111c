//! What a guest may call: the linker, one file for each interface, and the list of what is served.
//!
//! Denied by default: sockets exist so that standard libraries link, and refuse everything; only granted files can be read;
//! outbound HTTP goes only to granted origins; opening a key-value store or a Redis without a grant is denied, whether or not
//! a store with that name exists (`stores.rs`).

mod body_buffer;
mod candidates;
mod cursors;
mod denied;
mod egress;
mod error_words;
mod guest;
mod http;
pub(crate) mod inbound;
mod inherited;
mod kept;
mod keyvalue;
mod keyvalue_other;
mod setup;
mod meter;
mod notices;
mod otel;
mod outgoing;
mod priced;
mod random;
mod response_bodies;
#[cfg(test)]
pub(crate) mod resources;
mod sizes;
mod spin;
mod spin_http;
mod spin_keyvalue;
mod spin_redis;
mod spin_three;
mod stdio;
mod stores;
mod table;
mod variables;
mod weight;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, HasSelf, InstancePre, Linker, Type};

pub(crate) use body_buffer::{BodyBuffer, Stuck};
pub(crate) use candidates::HANDLERS as HANDLERS_OF_2023;
pub(crate) use denied::{DENIED, is_denied};
#[cfg(test)]
pub(crate) use denied::{OF_SPIN, Stands};
pub(crate) use egress::{Asked, Callee, Egress, Kept, Neighbours, SELF, Settings, Told, trusting};
pub(crate) use guest::Guest;
pub(crate) use inherited::{CAPABILITIES, denied_name, is_refusal, is_served};
pub(crate) use meter::{Denied, Held};
pub(crate) use setup::GuestSetup;
pub(crate) use table::Places;
pub(crate) use variables::is_name as is_variable;
pub(crate) use weight::head_weighs;

/// Imports that are served: how the name begins, and its description.
pub(crate) const SERVED: [(&str, &str); 28] = [
    ("wasi:http/types@", "0.2.x, 0.3.x, 0.3.0-rc-2026-03-15, 0.2.0-rc-2023-10-18, 0.2.0-rc-2023-11-10"),
    ("wasi:http/outgoing-handler@", "0.2.x, 0.2.0-rc-2023-10-18, 0.2.0-rc-2023-11-10, to granted origins"),
    ("wasi:http/client@", "0.3.x, 0.3.0-rc-2026-03-15, to granted origins"),
    ("wasi:cli/", "0.2.x, 0.3.x, 0.3.0-rc-2026-03-15, 0.2.0-rc-2023-10-18, 0.2.0-rc-2023-11-10"),
    ("wasi:clocks/", "0.2.x, 0.3.x, 0.3.0-rc-2026-03-15, 0.2.0-rc-2023-10-18, 0.2.0-rc-2023-11-10"),
    (
        "wasi:filesystem/",
        "0.2.x, 0.3.x, 0.3.0-rc-2026-03-15, 0.2.0-rc-2023-10-18, 0.2.0-rc-2023-11-10, to read granted files",
    ),
    ("wasi:io/", "0.2.x, 0.2.0-rc-2023-10-18, 0.2.0-rc-2023-11-10"),
    ("wasi:random/", "0.2.x, 0.3.x, 0.3.0-rc-2026-03-15, 0.2.0-rc-2023-10-18, 0.2.0-rc-2023-11-10"),
    ("wasi:sockets/", "0.2.x, 0.3.x, 0.3.0-rc-2026-03-15, 0.2.0-rc-2023-10-18, 0.2.0-rc-2023-11-10, which deny"),
    ("wasi:keyvalue/store@", "0.2.0-draft, 0.2.0-draft2"),
    ("wasi:keyvalue/atomics@", "0.2.0-draft, 0.2.0-draft2"),
    ("wasi:keyvalue/batch@", "0.2.0-draft, 0.2.0-draft2, with either get-many"),
    ("fermyon:spin/http", "of Spin 1, to granted origins"),
    ("fermyon:spin/http-types", "of Spin 1"),
    ("fermyon:spin/key-value", "of Spin 1, 2.0.0"),
    ("fermyon:spin/redis", "of Spin 1, 2.0.0"),
    ("fermyon:spin/redis-types", "of Spin 1"),
    ("fermyon:spin/variables@", "2.0.0"),
    ("fermyon:spin/config", "of Spin 1"),
    ("fermyon:spin-cron/cron-types@", "2.0.0"),
    ("spin:variables/variables@", "3.0.0"),
    ("wasi:config/store@", "0.2.0-draft-2024-09-27, 0.2.0-rc.1"),
    ("spin:key-value/key-value@", "3.0.0"),
    ("spin:redis/redis@", "3.0.0"),
    ("wasi:otel/types@", "0.2.0-rc.2"),
    ("wasi:otel/tracing@", "0.2.0-rc.2, to the request's trace"),
    ("wasi:otel/logs@", "0.2.0-rc.2, to the tenant's log"),
    ("wasi:otel/metrics@", "0.2.0-rc.2, to the tenant's log"),
];

/// How [`SERVED`] covers an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Served,
    /// The interface is served in these versions only.
    OtherVersion(&'static str),
    Unknown,
}

/// Looks an import up by its name.
pub(crate) fn standing(import: &str) -> Standing {
    if is_denied(import) {
        return Standing::Served;
    }
    let (interface, version) = import.split_once('@').map_or((import, None), |(name, version)| (name, Some(version)));
    let is_of = |row: &str| match row.strip_suffix('@').unwrap_or(row) {
        package if package.ends_with('/') => interface.starts_with(package),
        name => interface == name,
    };
    let mut other = None;
    for (_, versions) in SERVED.iter().filter(|(name, _)| is_of(name)) {
        if versions.split(", ").any(|served| is_version(served, version)) {
            return Standing::Served;
        }
        other.get_or_insert(*versions);
    }
    other.map_or(Standing::Unknown, Standing::OtherVersion)
}

/// Whether a row's version links an import of this version: the exact candidate, or a release that is compatible.
fn is_version(served: &str, version: Option<&str>) -> bool {
    let Some(version) = version else { return served.starts_with("of Spin 1") };
    // Build metadata after `+` does not matter for linking.
    let is_release = !version.split('+').next().unwrap_or_default().contains('-');
    match served.strip_suffix(".x") {
        Some(line) => is_release && version.strip_prefix(line).is_some_and(|rest| rest.starts_with('.')),
        None if is_release && !served.starts_with('0') && served.contains('.') => {
            served.split('.').next() == version.split('.').next()
        }
        None => served == version,
    }
}

/// Interfaces whose import needs a grant of stores, and those that need a grant of addresses.
pub(crate) const NEED_STORES: [&str; 3] = ["wasi:keyvalue/", "fermyon:spin/key-value", "spin:key-value/"];
pub(crate) const NEED_REDIS: [&str; 2] = ["fermyon:spin/redis", "spin:redis/"];

/// Everything that is served, ready to link components against.
pub(crate) struct Linkers {
    usual: Linker<Guest>,
    /// For components that use Spin's `get-many`.
    of_spin: Linker<Guest>,
}

impl Linkers {
    /// Includes `async` functions of the component model if the engine has concurrent calls.
    ///
    /// # Errors
    /// Two interfaces have the same name. This is a build error.
    pub(crate) fn new(engine: &wasmtime::Engine, is_concurrent: bool) -> wasmtime::Result<Self> {
        let (mut usual, mut of_spin) = (most(engine, is_concurrent)?, most(engine, is_concurrent)?);
        keyvalue::bindings::wasi::keyvalue::batch::add_to_linker::<_, HasSelf<Guest>>(&mut usual, |guest| guest)?;
        keyvalue_other::of_spin::wasi::keyvalue::batch::add_to_linker::<_, HasSelf<Guest>>(&mut of_spin, |guest| {
            guest
        })?;
        Ok(Self { usual, of_spin })
    }

    /// Links a component, as far as this is possible without an instance.
    ///
    /// # Errors
    /// It imports something that is not served.
    pub(crate) fn link(&self, component: &Component) -> wasmtime::Result<InstancePre<Guest>> {
        let linker = if means_get_many_of_spin(component) { &self.of_spin } else { &self.usual };
        let of_2023 = candidates::with(linker, component)?;
        let linker = of_2023.as_ref().unwrap_or(linker);
        let denied = denied::with(linker, component)?;
        let linker = denied.as_ref().unwrap_or(linker);
        let refused = inherited::with(linker, component)?;
        refused.as_ref().unwrap_or(linker).instantiate_pre(component)
    }
}

/// Everything except the interface with two versions of one function.
fn most(engine: &wasmtime::Engine, is_concurrent: bool) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    if is_concurrent {
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
        spin_three::bindings::Imports::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    }
    // Functions that retain bytes also have a price, so they are defined before those that only have a price.
    priced::add(&mut linker, is_concurrent)?;
    kept::add(&mut linker, is_concurrent)?;
    keyvalue::bindings::wasi::keyvalue::store::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    keyvalue::bindings::wasi::keyvalue::atomics::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    keyvalue_other::draft::Imports::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    spin::one::Imports::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    spin::two::Imports::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    variables::draft::Imports::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    variables::candidate::Imports::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    inbound::cron::fermyon::spin_cron::cron_types::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    otel::bindings::wasi::otel::tracing::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    otel::bindings::wasi::otel::logs::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    otel::bindings::wasi::otel::metrics::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    Ok(linker)
}

/// Spin's returns a list of tuples, the proposal's a list of options.
fn means_get_many_of_spin(component: &Component) -> bool {
    let engine = component.engine();
    let batch = component.component_type().get_import(engine, "wasi:keyvalue/batch@0.2.0-draft2").map(|item| item.ty);
    let Some(ComponentItem::ComponentInstance(batch)) = batch else { return false };
    let function = batch.get_export(engine, "get-many").map(|item| item.ty);
    let Some(ComponentItem::ComponentFunc(get_many)) = function else { return false };
    let Some(Type::Result(answer)) = get_many.results().next() else { return false };
    matches!(answer.ok(), Some(Type::List(list)) if matches!(list.ty(), Type::Tuple(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_is_served_only_in_the_versions_of_its_row() {
        for served in [
            "wasi:http/types@0.2.0",
            "wasi:http/types@0.2.12",
            "wasi:http/types@0.3.2",
            "wasi:cli/stdout@0.3.0",
            "fermyon:spin/key-value",
            "fermyon:spin/key-value@2.0.0",
            "fermyon:spin/http",
            "spin:redis/redis@3.0.0",
            "wasi:keyvalue/store@0.2.0-draft2",
        ] {
            assert_eq!(standing(served), Standing::Served, "{served}");
        }
        for other in [
            "wasi:http/types@0.3.0-rc-2025-09-16",
            "wasi:http/types@0.4.0",
            "wasi:http/types@0.20.0",
            "wasi:http/types",
            "fermyon:spin/key-value@3.0.0",
            "spin:redis/redis",
        ] {
            assert!(matches!(standing(other), Standing::OtherVersion(_)), "{other}: {:?}", standing(other));
        }
        assert_eq!(standing("acme:thing/api@1.0.0"), Standing::Unknown);
        assert_eq!(standing("wasi:httpx/types@0.2.0"), Standing::Unknown);
    }
}
