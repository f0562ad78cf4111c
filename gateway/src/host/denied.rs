//! Interfaces of Spin's that nothing stands behind here, and that the whole world of an SDK imports whether a component uses
//! them or not: they link, and a call of one ends the component with its name in the tenant's log.

use wasmtime::component::types::{ComponentInstance, ComponentItem};
use wasmtime::component::{Component, Linker, LinkerInstance, ResourceType};

use super::Guest;

/// How their names begin.
const DENIED: [&str; 9] = [
    "fermyon:spin/llm@",
    "fermyon:spin/mqtt@",
    "fermyon:spin/mysql@",
    "fermyon:spin/postgres@",
    "fermyon:spin/rdbms-types@",
    "fermyon:spin/sqlite@",
    "spin:mqtt/",
    "spin:postgres/",
    "spin:sqlite/",
];

/// Whether an import of this name links without being served.
pub(crate) fn is_denied(import: &str) -> bool {
    DENIED.iter().any(|name| import.starts_with(name))
}

/// The linker with those of them that a component imports; nothing where it imports none.
///
/// # Errors
/// One of them is claimed already, which is a build fault.
pub(super) fn with(linker: &Linker<Guest>, component: &Component) -> wasmtime::Result<Option<Linker<Guest>>> {
    let engine = component.engine();
    let kind = component.component_type();
    let mut more = None;
    for (name, import) in kind.imports(engine).filter(|(name, _)| is_denied(name)) {
        if let ComponentItem::ComponentInstance(instance) = import.ty {
            let linker = more.get_or_insert_with(|| linker.clone());
            define(linker.instance(name)?, name, &instance, engine)?;
        }
    }
    Ok(more)
}

fn define(
    mut linker: LinkerInstance<'_, Guest>,
    interface: &str,
    instance: &ComponentInstance,
    engine: &wasmtime::Engine,
) -> wasmtime::Result<()> {
    for (name, export) in instance.exports(engine) {
        let text = format!("{interface}#{name} is not served here: storage is key-value stores and Redis");
        match export.ty {
            ComponentItem::ComponentFunc(function) if function.async_() => {
                linker.func_new_concurrent(name, move |_, _, _, _| {
                    let text = text.clone();
                    Box::pin(async move { Err(wasmtime::Error::msg(text)) })
                })?;
            }
            ComponentItem::ComponentFunc(_) => {
                linker.func_new(name, move |_, _, _, _| Err(wasmtime::Error::msg(text.clone())))?;
            }
            ComponentItem::Resource(_) => linker.resource(name, ResourceType::host::<()>(), |_, _| Ok(()))?,
            ComponentItem::CoreFunc(_)
            | ComponentItem::Module(_)
            | ComponentItem::Component(_)
            | ComponentItem::ComponentInstance(_)
            | ComponentItem::Type(_) => {}
        }
    }
    Ok(())
}
