//! What a guest may call: the linker, one file an interface, and the list of what is served.
//!
//! Default deny: sockets and the filesystem are there so that standard libraries link, and refuse everything; outbound
//! HTTP goes to granted origins only; a key-value store that was not granted does not exist.

mod egress;
mod guest;
mod http;
mod keyvalue;
mod random;
mod spin;
mod spin_keyvalue;
mod spin_redis;
mod stdio;

use wasmtime::component::{HasSelf, Linker};

pub(crate) use egress::{Egress, Settings};
pub(crate) use guest::{Denied, Guest, Make};
pub(crate) use http::UNREAD_BYTES_MAX;

/// Imports that are served: how the name begins, and what to say of it.
pub(crate) const SERVED: [(&str, &str); 15] = [
    ("wasi:http/types@", "0.2.x, 0.3.0"),
    ("wasi:http/outgoing-handler@", "0.2.x, to granted origins"),
    ("wasi:http/client@", "0.3.0, to granted origins"),
    ("wasi:cli/", "0.2.x, 0.3.0"),
    ("wasi:clocks/", "0.2.x, 0.3.0"),
    ("wasi:filesystem/", "0.2.x, 0.3.0, empty"),
    ("wasi:io/", "0.2.x"),
    ("wasi:random/", "0.2.x, 0.3.0"),
    ("wasi:sockets/", "0.2.x, 0.3.0, which deny"),
    ("wasi:keyvalue/store@", "0.2.0-draft2"),
    ("wasi:keyvalue/atomics@", "0.2.0-draft2"),
    ("wasi:keyvalue/batch@", "0.2.0-draft2"),
    ("fermyon:spin/key-value", "of Spin 1, 2.0.0"),
    ("fermyon:spin/redis", "of Spin 1, 2.0.0"),
    ("fermyon:spin/redis-types", "of Spin 1"),
];

/// The interfaces whose import needs a grant of stores, and those that need one of addresses.
pub(crate) const NEED_STORES: [&str; 2] = ["wasi:keyvalue/", "fermyon:spin/key-value"];
pub(crate) const NEED_REDIS: [&str; 1] = ["fermyon:spin/redis"];

/// Everything that is served, ready to link components against.
///
/// # Errors
/// Two interfaces claim one name, which is a build fault.
pub(crate) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    keyvalue::bindings::Imports::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    spin::one::Imports::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    spin::two::Imports::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    Ok(linker)
}
