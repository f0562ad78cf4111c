//! What a guest may call: the linker, one file an interface, and the list of what is served.
//!
//! Default deny: sockets are there so that standard libraries link, and refuse everything; files are those that were granted,
//! to read; outbound HTTP goes to granted origins only; a key-value store that was not granted does not exist.

mod denied;
mod egress;
mod guest;
mod http;
pub(crate) mod inbound;
mod keyvalue;
mod keyvalue_other;
mod random;
mod spin;
mod spin_keyvalue;
mod spin_redis;
mod spin_three;
mod stdio;
mod variables;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, HasSelf, InstancePre, Linker, Type};

pub(crate) use denied::is_denied;
pub(crate) use egress::{Asked, Egress, Kept, Neighbours, Settings, Told, Whom, trusting};
pub(crate) use guest::{Denied, Guest, Make};
pub(crate) use http::UNREAD_BYTES_MAX;
pub(crate) use variables::is_name as is_variable;

/// Imports that are served: how the name begins, and what to say of it.
pub(crate) const SERVED: [(&str, &str); 21] = [
    ("wasi:http/types@", "0.2.x, 0.3.0"),
    ("wasi:http/outgoing-handler@", "0.2.x, to granted origins"),
    ("wasi:http/client@", "0.3.0, to granted origins"),
    ("wasi:cli/", "0.2.x, 0.3.0"),
    ("wasi:clocks/", "0.2.x, 0.3.0"),
    ("wasi:filesystem/", "0.2.x, 0.3.0, to read granted files"),
    ("wasi:io/", "0.2.x"),
    ("wasi:random/", "0.2.x, 0.3.0"),
    ("wasi:sockets/", "0.2.x, 0.3.0, which deny"),
    ("wasi:keyvalue/store@", "0.2.0-draft, 0.2.0-draft2"),
    ("wasi:keyvalue/atomics@", "0.2.0-draft, 0.2.0-draft2"),
    ("wasi:keyvalue/batch@", "0.2.0-draft, 0.2.0-draft2, with either get-many"),
    ("fermyon:spin/key-value", "of Spin 1, 2.0.0"),
    ("fermyon:spin/redis", "of Spin 1, 2.0.0"),
    ("fermyon:spin/redis-types", "of Spin 1"),
    ("fermyon:spin/variables@", "2.0.0"),
    ("fermyon:spin/config", "of Spin 1"),
    ("spin:variables/variables@", "3.0.0"),
    ("wasi:config/store@", "0.2.0-draft-2024-09-27, 0.2.0-rc.1"),
    ("spin:key-value/key-value@", "3.0.0"),
    ("spin:redis/redis@", "3.0.0"),
];

/// The interfaces whose import needs a grant of stores, and those that need one of addresses.
pub(crate) const NEED_STORES: [&str; 3] = ["wasi:keyvalue/", "fermyon:spin/key-value", "spin:key-value/"];
pub(crate) const NEED_REDIS: [&str; 2] = ["fermyon:spin/redis", "spin:redis/"];

/// Everything that is served, ready to link components against.
pub(crate) struct Linkers {
    usual: Linker<Guest>,
    /// For components that mean Spin's `get-many`.
    of_spin: Linker<Guest>,
}

impl Linkers {
    /// With what is `async` in the component model too, where the engine has concurrent calls.
    ///
    /// # Errors
    /// Two interfaces claim one name, which is a build fault.
    pub(crate) fn new(engine: &wasmtime::Engine, is_concurrent: bool) -> wasmtime::Result<Self> {
        let (mut usual, mut of_spin) = (most(engine, is_concurrent)?, most(engine, is_concurrent)?);
        keyvalue::bindings::wasi::keyvalue::batch::add_to_linker::<_, HasSelf<Guest>>(&mut usual, |guest| guest)?;
        keyvalue_other::of_spin::wasi::keyvalue::batch::add_to_linker::<_, HasSelf<Guest>>(&mut of_spin, |guest| {
            guest
        })?;
        Ok(Self { usual, of_spin })
    }

    /// Links a component, as far as that goes without an instance.
    ///
    /// # Errors
    /// It imports what nobody serves.
    pub(crate) fn link(&self, component: &Component) -> wasmtime::Result<InstancePre<Guest>> {
        let linker = if means_get_many_of_spin(component) { &self.of_spin } else { &self.usual };
        match denied::with(linker, component)? {
            Some(linker) => linker.instantiate_pre(component),
            None => linker.instantiate_pre(component),
        }
    }
}

/// All but the interface that has two shapes.
fn most(engine: &wasmtime::Engine, is_concurrent: bool) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    if is_concurrent {
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
        spin_three::bindings::Imports::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    }
    keyvalue::bindings::wasi::keyvalue::store::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    keyvalue::bindings::wasi::keyvalue::atomics::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    keyvalue_other::draft::Imports::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    spin::one::Imports::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    spin::two::Imports::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    variables::draft::Imports::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    variables::candidate::Imports::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    Ok(linker)
}

/// Spin's answers with a list of tuples, the proposal's with one of options.
fn means_get_many_of_spin(component: &Component) -> bool {
    let engine = component.engine();
    let batch = component.component_type().get_import(engine, "wasi:keyvalue/batch@0.2.0-draft2").map(|item| item.ty);
    let Some(ComponentItem::ComponentInstance(batch)) = batch else { return false };
    let function = batch.get_export(engine, "get-many").map(|item| item.ty);
    let Some(ComponentItem::ComponentFunc(get_many)) = function else { return false };
    let Some(Type::Result(answer)) = get_many.results().next() else { return false };
    matches!(answer.ok(), Some(Type::List(list)) if matches!(list.ty(), Type::Tuple(_)))
}
