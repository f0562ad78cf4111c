//! Compares the linker with the WIT: a component that imports every function of a candidate links.

use std::path::Path;

use wasm_encoder as core;
use wasmtime::component::Component;
use wasmtime::{Config, Engine};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::abi::{AbiVariant, WasmSignature, WasmType};
use wit_parser::{
    Function, LiftLowerAbi, ManglingAndAbi, Resolve, WasmExport, WasmExportKind, WasmImport, WorldId, WorldItem,
    WorldKey,
};

use super::{Candidate, HANDLERS};
use crate::host::Linkers;

const NAMES: ManglingAndAbi = ManglingAndAbi::Legacy(LiftLowerAbi::Sync);

/// A core module that imports and exports every function of a world.
#[derive(Default)]
struct Module {
    types: core::TypeSection,
    imports: core::ImportSection,
    functions: core::FunctionSection,
    exports: core::ExportSection,
    code: core::CodeSection,
    imported: u32,
}

impl Module {
    fn kind(&mut self, signature: &WasmSignature) -> u32 {
        let value = |kind: &WasmType| match kind {
            WasmType::I64 | WasmType::PointerOrI64 => core::ValType::I64,
            WasmType::F32 => core::ValType::F32,
            WasmType::F64 => core::ValType::F64,
            WasmType::I32 | WasmType::Pointer | WasmType::Length => core::ValType::I32,
        };
        self.types.ty().function(signature.params.iter().map(value), signature.results.iter().map(value));
        self.types.len() - 1
    }

    fn import(&mut self, resolve: &Resolve, key: &WorldKey, function: &Function) {
        let import = WasmImport::Func { interface: Some(key), func: function };
        let (module, name) = resolve.wasm_import_name(NAMES, import);
        let kind = self.kind(&resolve.wasm_signature(AbiVariant::GuestImport, function));
        self.imports.import(&module, &name, core::EntityType::Function(kind));
        self.imported += 1;
    }

    fn export(&mut self, name: &str, signature: &WasmSignature) {
        let kind = self.kind(signature);
        self.functions.function(kind);
        self.exports.export(name, core::ExportKind::Func, self.imported + self.functions.len() - 1);
        let mut body = core::Function::new([]);
        body.instructions().unreachable().end();
        self.code.function(&body);
    }

    fn of(resolve: &Resolve, world: WorldId) -> Vec<u8> {
        let mut module = Self::default();
        let world = &resolve.worlds[world];
        let functions = |item: &WorldItem| match item {
            WorldItem::Interface { id, .. } => resolve.interfaces[*id].functions.values().cloned().collect(),
            WorldItem::Function(_) | WorldItem::Type { .. } => Vec::new(),
        };
        for (key, item) in &world.imports {
            functions(item).iter().for_each(|function| module.import(resolve, key, function));
        }
        for (key, item) in &world.exports {
            for function in functions(item) {
                let export = WasmExport::Func { interface: Some(key), func: &function, kind: WasmExportKind::Normal };
                let signature = resolve.wasm_signature(AbiVariant::GuestExport, &function);
                module.export(&resolve.wasm_export_name(NAMES, export), &signature);
            }
        }
        let (params, results) = (vec![WasmType::I32; 4], vec![WasmType::I32]);
        let realloc = WasmSignature { params, results, indirect_params: false, retptr: false };
        module.export("cabi_realloc", &realloc);
        module.exports.export("memory", core::ExportKind::Memory, 0);
        let mut memories = core::MemorySection::new();
        memories.memory(core::MemoryType {
            minimum: 1,
            maximum: None,
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
        let mut bytes = core::Module::new();
        bytes.section(&module.types).section(&module.imports).section(&module.functions).section(&memories);
        bytes.section(&module.exports).section(&module.code);
        bytes.finish()
    }
}

/// An empty component that imports and exports everything in a candidate's WIT, and its number of functions.
fn component(engine: &Engine, candidate: Candidate) -> Component {
    let folder = candidate.version().replace("0.2.0-rc-", "wit/wasi-");
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap();
    let world = resolve.select_world(&[package], Some("proxy")).unwrap();
    let mut module = Module::of(&resolve, world);
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
        let interfaces = kind.imports(&engine).filter(|(name, _)| candidate.has(name)).count();
        assert!(interfaces >= 28, "{candidate:?}: {interfaces} interfaces");
        assert!(kind.exports(&engine).any(|(name, _)| HANDLERS.contains(&name)), "{candidate:?}");
        if let Err(error) = linkers.link(&component) {
            panic!("{candidate:?}: {error:#}");
        }
    }
}
