//! Checks before any request whether a component's handler has the signature of wasi:http.
//!
//! Wasmtime compares types only when an instance is created, and every request would fail. This compares what both versions
//! of the interface fix: parameters, results, and that the resources are wasi:http's own.

use wasmtime::Engine;
use wasmtime::component::types::{Component, ComponentFunc, ComponentInstance, ComponentItem};
use wasmtime::component::{ResourceType, Type};

const HANDLER_02: &str = "wasi:http/incoming-handler@0.2";
const HANDLER_03: &str = "wasi:http/handler@0.3";
const TYPES: &str = "wasi:http/types@";

/// What is wrong with the handler, in words. Nothing if it is right or there is none.
pub(super) fn problem(component: &Component, engine: &Engine) -> Option<String> {
    let named = |name: &str| name.starts_with(HANDLER_02) || name.starts_with(HANDLER_03);
    let (name, instance) = component.exports(engine).find_map(|(name, item)| {
        let instance = named(name).then(|| instance(item.ty)).flatten()?;
        Some((name.to_owned(), instance))
    })?;
    let is_02 = name.starts_with(HANDLER_02);
    let function = instance.exports(engine).find_map(|(export, item)| match item.ty {
        ComponentItem::ComponentFunc(function) => (export == "handle").then_some(function),
        ComponentItem::CoreFunc(_)
        | ComponentItem::Module(_)
        | ComponentItem::Component(_)
        | ComponentItem::ComponentInstance(_)
        | ComponentItem::Type(_)
        | ComponentItem::Resource(_) => None,
    });
    let Some(function) = function else { return Some(format!("{name} has no function `handle`")) };
    let resource = |name: &str| resource(component, engine, name);
    let is_right = if is_02 { is_handler_02(&function, resource) } else { is_handler_03(&function, resource) };
    let wanted = if is_02 {
        "handle: func(request: own<incoming-request>, response-out: own<response-outparam>)"
    } else {
        "handle: async func(request: own<request>) -> result<own<response>, error-code>"
    };
    (!is_right).then(|| format!("{name} has a `handle` of another type than {wanted}"))
}

fn instance(item: ComponentItem) -> Option<ComponentInstance> {
    if let ComponentItem::ComponentInstance(instance) = item { Some(instance) } else { None }
}

/// A resource of the imported wasi:http/types. Empty if the component does not import it, and then it has no handles of it
/// either.
fn resource(component: &Component, engine: &Engine, name: &str) -> Vec<ResourceType> {
    let types = component.imports(engine).filter(|(import, _)| import.starts_with(TYPES));
    let resources = types.filter_map(|(_, item)| instance(item.ty)).flat_map(|instance| {
        let named = instance.exports(engine).filter(|(export, _)| *export == name);
        let found =
            named.filter_map(
                |(_, item)| {
                    if let ComponentItem::Resource(resource) = item.ty { Some(resource) } else { None }
                },
            );
        found.collect::<Vec<_>>()
    });
    resources.collect()
}

fn is_own(given: &Type, wanted: &[ResourceType]) -> bool {
    matches!(given, Type::Own(resource) if wanted.contains(resource))
}

fn is_handler_02(function: &ComponentFunc, resource: impl Fn(&str) -> Vec<ResourceType>) -> bool {
    let parameters: Vec<Type> = function.params().map(|(_, kind)| kind).collect();
    let [request, out] = parameters.as_slice() else { return false };
    is_own(request, &resource("incoming-request"))
        && is_own(out, &resource("response-outparam"))
        && function.results().len() == 0
}

fn is_handler_03(function: &ComponentFunc, resource: impl Fn(&str) -> Vec<ResourceType>) -> bool {
    let parameters: Vec<Type> = function.params().map(|(_, kind)| kind).collect();
    let results: Vec<Type> = function.results().collect();
    let ([request], [Type::Result(answer)]) = (parameters.as_slice(), results.as_slice()) else { return false };
    function.async_()
        && is_own(request, &resource("request"))
        && answer.ok().is_some_and(|ok| is_own(&ok, &resource("response")))
        && matches!(answer.err(), Some(Type::Variant(_)))
}
