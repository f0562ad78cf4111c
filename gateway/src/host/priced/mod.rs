//! Charges what calls of WASI's own interfaces carry, and bounds the names in them.
//!
//! Wasmtime limits what a call may lift (`sandbox/fuel.rs` sets the limit to what the guest's fuel pays for), but does not
//! report how much it was. So each WASI function that takes or returns a text or a list is defined again here, in front of
//! the same implementation, by the tables that the candidates of 2023 share (`candidates/`). Their macro weighs all
//! arguments and the result. Our own interfaces charge in their implementation.
//!
//! Invariant: every function of every interface burns fuel for the bytes that it is given. `loadtest prices` calls all of
//! them.

pub(super) mod names;
mod of_otel;
mod three;
mod two;
mod weight;

use wasmtime::component::Linker;

use super::Guest;
pub(super) use weight::{Weight, of_bytes, of_fields};

/// Replaces WASI's functions by the priced ones.
///
/// # Errors
/// Two interfaces have the same name. This is a build error.
pub(super) fn add(linker: &mut Linker<Guest>, is_concurrent: bool) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    two::add(linker)?;
    if is_concurrent {
        three::add(linker)?;
    }
    linker.allow_shadowing(false);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_priced_interface_replaces_an_existing_one() {
        let mut config = wasmtime::Config::new();
        config.wasm_component_model_async(true).concurrency_support(true);
        let engine = wasmtime::Engine::new(&config).unwrap();
        let mut linker = Linker::<Guest>::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker).unwrap();
        wasmtime_wasi::p3::add_to_linker(&mut linker).unwrap();
        wasmtime_wasi_http::p3::add_to_linker(&mut linker).unwrap();
        // Without shadowing, defining a name twice is an error. So each priced function replaces one of WASI's.
        for (name, interface) in two::ALL.iter().chain(&three::ALL) {
            let mut to = linker.instance(name).unwrap();
            let refused = interface(&mut to).expect_err(name);
            assert!(refused.to_string().contains("defined twice"), "{name}: {refused:#}");
        }
    }
}
