//! Checks a component's imports before it is compiled, so that nobody waits minutes to learn of an unserved import. It
//! names all of them.

use wasmparser::component_types::{ComponentAnyTypeId, ComponentEntityType};
use wasmparser::types::TypesRef;
use wasmparser::{Parser, Payload, Validator, WasmFeatures};

/// The names in a component that cannot be linked.
pub(super) struct Unlinked {
    pub(super) imports: Vec<String>,
    pub(super) exports: Vec<String>,
    /// Imports that the gateway does not serve.
    pub(super) unserved: Vec<String>,
}

/// The names in a component with an imported function or resource that the gateway does not serve. Nothing for a component
/// that may link, and for an invalid one: compiling says more about it.
pub(super) fn unlinked(wasm: &[u8], is_served: impl Fn(&str) -> bool) -> Option<Unlinked> {
    let (imports, exports) = names(wasm)?;
    // Most components end here, after a look at their sections.
    if imports.iter().all(|import| is_served(import)) {
        return None;
    }
    let types = Validator::new_with_features(WasmFeatures::all()).validate_all(wasm).ok()?;
    let is_unserved = |import: &&String| !is_served(import) && needs_somebody(types.as_ref(), import);
    let unserved: Vec<String> = imports.iter().filter(is_unserved).cloned().collect();
    (!unserved.is_empty()).then_some(Unlinked { imports, exports, unserved })
}

/// The names of the component itself, without those of components inside it.
fn names(wasm: &[u8]) -> Option<(Vec<String>, Vec<String>)> {
    let (mut imports, mut exports, mut depth) = (Vec::new(), Vec::new(), 0_u32);
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.ok()?;
        if matches!(payload, Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) {
            depth += 1;
        } else if matches!(payload, Payload::End(_)) {
            depth = depth.saturating_sub(1);
        } else if depth > 0 {
            continue;
        } else if let Payload::ComponentImportSection(section) = payload {
            for import in section {
                imports.push(import.ok()?.name.name.to_owned());
            }
        } else if let Payload::ComponentExportSection(section) = payload {
            for export in section {
                exports.push(export.ok()?.name.name.to_owned());
            }
        }
    }
    Some((imports, exports))
}

/// Whether an import is more than types, which link without an implementation.
fn needs_somebody(types: TypesRef<'_>, import: &str) -> bool {
    let Some(item) = types.component_item_for_import(import) else { return true };
    if let ComponentEntityType::Instance(id) = item.ty {
        return types[id].exports.values().any(|item| is_more_than_a_type(&item.ty));
    }
    is_more_than_a_type(&item.ty)
}

const fn is_more_than_a_type(item: &ComponentEntityType) -> bool {
    match item {
        ComponentEntityType::Type { created, .. } => matches!(created, ComponentAnyTypeId::Resource(_)),
        ComponentEntityType::Module(_)
        | ComponentEntityType::Func(_)
        | ComponentEntityType::Value(_)
        | ComponentEntityType::Instance(_)
        | ComponentEntityType::Component(_) => true,
    }
}
