//! Converts core modules to components before they are compiled. Spin does the same when it loads one.
//!
//! There are two generations of bindings. Modules of wit-bindgen 0.5 and later carry their world in a custom section
//! (`component-type…`). Modules of older SDKs (Spin 0.5 and 1.x) carry nothing, and their imports and exports have other
//! names. Their calling convention is the canonical ABI all the same, so that they need only new names and a world.
//!
//! Source: <https://github.com/spinframework/spin>, crates/componentize, for the names;
//! <https://github.com/WebAssembly/component-model>, CanonicalABI.md, for the convention.
//!
//! Security: this runs in the compiling child, within its limits of memory and time.

use std::borrow::Cow;

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as PREVIEW1, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER as ADAPTER,
};
use wasm_encoder::reencode::{Reencode as _, RoundtripReencoder};
use wasm_encoder::{ExportSection, ImportSection, Module, RawSection};
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The world of the old modules: the interfaces of Spin 1.
const WIT: &str = include_str!("../../wit/fermyon-spin-1/spin.wit");
/// Imports of the old modules: the module, its function if that has another name now, the interface, and the interface's
/// function.
const OLD_IMPORTS: [(&str, Option<&str>, &str, Option<&str>); 4] = [
    ("wasi-outbound-http", Some("request"), "fermyon:spin/http", Some("send-request")),
    ("spin-config", None, "fermyon:spin/config", None),
    ("outbound-redis", None, "fermyon:spin/redis", None),
    ("key-value", None, "fermyon:spin/key-value", None),
];
/// Imports of the old modules that the gateway does not implement.
const OLD_DENIED: [&str; 4] = ["outbound-pg", "outbound-mysql", "sqlite", "llm"];
const OLD_HTTP: &str = "handle-http-request";
const OLD_REDIS: &str = "handle-redis-message";
/// Exports of the old modules, and their names in the component's interfaces.
const OLD_EXPORTS: [(&str, &str); 2] =
    [(OLD_HTTP, "fermyon:spin/inbound-http#handle-request"), (OLD_REDIS, "fermyon:spin/inbound-redis#handle-message")];

/// Why a core module cannot become a component.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It is invalid, or does not fit the world that it names.
    Invalid(String),
    /// It has nothing that this gateway starts.
    NoHandler(String),
}

impl Unfit {
    fn invalid(error: impl Into<anyhow::Error>) -> Self {
        Self::Invalid(format!("{:#}", error.into()))
    }
}

/// The component that these bytes are, or that is made from the core module in them.
///
/// # Errors
/// [`Unfit`], for a core module of none of the kinds above.
pub(super) fn component_of(wasm: &[u8]) -> Result<Cow<'_, [u8]>, Unfit> {
    if !Parser::is_core_wasm(wasm) {
        return Ok(Cow::Borrowed(wasm));
    }
    let shape = Shape::of(wasm).map_err(Unfit::invalid)?;
    let module = if shape.has_world {
        Cow::Borrowed(wasm)
    } else if let Some(world) = shape.old_world() {
        Cow::Owned(renewed(wasm, world)?)
    } else {
        return Err(Unfit::NoHandler(shape.told()));
    };
    let encoded = ComponentEncoder::default().validate(false).module(&module).and_then(|encoder| {
        // The adapter is left out if the module does not import it.
        encoder.adapter(PREVIEW1, ADAPTER)?.encode()
    });
    encoded.map(Cow::Owned).map_err(Unfit::invalid)
}

/// The properties by which the kinds of modules are told apart.
#[derive(Debug, Default)]
struct Shape {
    has_world: bool,
    exports: Vec<String>,
}

impl Shape {
    fn of(wasm: &[u8]) -> wasmparser::Result<Self> {
        let mut shape = Self::default();
        for payload in Parser::new(0).parse_all(wasm) {
            #[expect(clippy::wildcard_enum_match_arm, reason = "two of thirty kinds of sections tell")]
            match payload? {
                Payload::ExportSection(exports) => {
                    for export in exports {
                        shape.exports.push(export?.name.to_owned());
                    }
                }
                Payload::CustomSection(section) => shape.has_world |= section.name().starts_with("component-type"),
                _ => {}
            }
        }
        Ok(shape)
    }

    fn has(&self, export: &str) -> bool {
        self.exports.iter().any(|name| name == export)
    }

    /// The world in [`WIT`] for a module of an old SDK.
    fn old_world(&self) -> Option<&'static str> {
        match (self.has(OLD_HTTP), self.has(OLD_REDIS)) {
            (true, true) => Some("old-both"),
            (true, false) => Some("old-http"),
            (false, true) => Some("old-redis"),
            (false, false) => None,
        }
    }

    /// What the module is, if it is nothing that the gateway starts.
    fn told(&self) -> String {
        const NAMES_MAX: usize = 5;
        if self.has("_start") {
            return "a WASI command: it starts at `_start` and exports no handler".to_owned();
        }
        let names: Vec<_> = self.exports.iter().take(NAMES_MAX).map(|name| shortened(name)).collect();
        let more = if self.exports.len() > NAMES_MAX { ", …" } else { "" };
        match names.as_slice() {
            [] => "a core module without exports".to_owned(),
            names => format!("a core module that exports {}{more}", names.join(", ")),
        }
    }
}

/// The guest chose this name, of any length.
fn shortened(name: &str) -> &str {
    const BYTES_MAX: usize = 60;
    name.get(..name.floor_char_boundary(BYTES_MAX)).unwrap_or_default()
}

/// A module of an old SDK with the present names of its interfaces, and its world.
fn renewed(wasm: &[u8], world: &str) -> Result<Vec<u8>, Unfit> {
    let mut module = Module::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(Unfit::invalid)?;
        #[expect(clippy::wildcard_enum_match_arm, reason = "all sections but two are copied as they are")]
        match payload {
            Payload::ImportSection(section) => {
                module.section(&imports(section)?);
            }
            Payload::ExportSection(section) => {
                module.section(&exports(section)?);
            }
            payload => {
                if let Some((id, range)) = payload.as_section() {
                    module.section(&RawSection { id, data: wasm.get(range).unwrap_or_default() });
                }
            }
        }
    }
    let mut module = module.finish();
    let mut resolve = Resolve::default();
    let package = resolve.push_str("spin.wit", WIT).map_err(Unfit::invalid)?;
    let world = resolve.select_world(&[package], Some(world)).map_err(Unfit::invalid)?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).map_err(Unfit::invalid)?;
    Ok(module)
}

fn imports(section: wasmparser::ImportSectionReader<'_>) -> Result<ImportSection, Unfit> {
    let mut imports = ImportSection::new();
    for import in section.into_imports() {
        let import = import.map_err(Unfit::invalid)?;
        let kind = RoundtripReencoder.entity_type(import.ty).map_err(Unfit::invalid)?;
        if OLD_DENIED.contains(&import.module) {
            let text = format!("it imports {}, which is not served here; use key-value stores or Redis", import.module);
            return Err(Unfit::Invalid(text));
        }
        let new = OLD_IMPORTS
            .iter()
            .find(|(module, name, ..)| *module == import.module && name.is_none_or(|name| name == import.name));
        let (module, name) = new.map_or((import.module, import.name), |(_, _, interface, function)| {
            (*interface, function.unwrap_or(import.name))
        });
        imports.import(module, name, kind);
    }
    Ok(imports)
}

fn exports(section: wasmparser::ExportSectionReader<'_>) -> Result<ExportSection, Unfit> {
    let mut exports = ExportSection::new();
    for export in section {
        let export = export.map_err(Unfit::invalid)?;
        let kind = RoundtripReencoder.export_kind(export.kind).map_err(Unfit::invalid)?;
        let new = OLD_EXPORTS.iter().find(|(name, _)| *name == export.name);
        exports.export(new.map_or(export.name, |(_, new)| new), kind, export.index);
    }
    Ok(exports)
}
