//! What calls of WASI's own interfaces carry, charged; and the names in them, bounded.
//!
//! Wasmtime bounds what a call may lift (`sandbox/fuel.rs` sets that to what the guest's fuel pays for) and tells nobody how
//! much it was. So each function of WASI that takes a text or a list, or answers with one, is defined once more here, in front
//! of the same implementation: by tables that the candidates of 2023 share (`candidates/`), whose macro weighs all arguments
//! and the answer. Interfaces of our own charge where they are implemented.
//!
//! Invariant: a function of any interface burns fuel with the bytes it is given. `loadtest prices` drives all of them.

pub(super) mod names;
mod of_otel;
mod three;
mod two;
mod weight;

use wasmtime::component::Linker;

use super::Guest;
pub(super) use weight::{Weight, of_bytes, of_fields};

/// Puts the priced functions in place of WASI's.
///
/// # Errors
/// Two interfaces claim one name, which is a build fault.
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
    fn each_priced_interface_stands_in_front_of_one_that_is_there() {
        let mut config = wasmtime::Config::new();
        config.wasm_component_model_async(true).concurrency_support(true);
        let engine = wasmtime::Engine::new(&config).unwrap();
        let mut linker = Linker::<Guest>::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker).unwrap();
        wasmtime_wasi::p3::add_to_linker(&mut linker).unwrap();
        wasmtime_wasi_http::p3::add_to_linker(&mut linker).unwrap();
        // Where shadowing is not allowed, what is defined already is refused: so each stands where WASI's own stood.
        for (name, interface) in two::ALL.iter().chain(&three::ALL) {
            let mut to = linker.instance(name).unwrap();
            let refused = interface(&mut to).expect_err(name);
            assert!(refused.to_string().contains("defined twice"), "{name}: {refused:#}");
        }
    }
}
