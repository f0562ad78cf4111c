//! The linker against the WIT: a component that imports all of a candidate links, and one that exports its handler has one.

use std::path::Path;

use wasmtime::component::Component;
use wasmtime::{Config, Engine};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::{ManglingAndAbi, Resolve};

use super::{Candidate, HANDLERS};
use crate::host::Linkers;

/// A component that does nothing, and imports and exports all that the WIT of a candidate has.
fn component(engine: &Engine, candidate: Candidate) -> Component {
    let folder = candidate.version().replace("0.2.0-rc-", "wit/wasi-");
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap();
    let world = resolve.select_world(&[package], Some("proxy")).unwrap();
    let mut module = wit_component::dummy_module(&resolve, world, ManglingAndAbi::Standard32);
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    let mut encoder = ComponentEncoder::default().module(&module).unwrap();
    Component::new(engine, encoder.encode().unwrap()).unwrap()
}

#[test]
fn a_component_that_imports_all_of_a_candidate_links() {
    let engine = Engine::new(&Config::new()).unwrap();
    let linkers = Linkers::new(&engine, false).unwrap();
    for candidate in Candidate::ALL {
        let component = component(&engine, candidate);
        let kind = component.component_type();
        let functions = kind.imports(&engine).count();
        assert!(functions >= 27, "{candidate:?}: {functions} interfaces");
        assert!(kind.exports(&engine).any(|(name, _)| HANDLERS.contains(&name)), "{candidate:?}");
        linkers.link(&component).unwrap_or_else(|error| panic!("{candidate:?}: {error:#}"));
    }
}
