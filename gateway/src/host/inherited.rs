//! What a dependency or middleware in a composed component does not inherit.
//!
//! Such a part imports an interface that carries a capability under a separate name, `denied:…`, which the compiling child
//! gives it (`sandbox/compose.rs`). Here that name links to functions that refuse. So a composed component has two imports
//! of one interface, the real one and the denied one, and each part has the one that it was given. No host function needs
//! to know its caller, and a handle of one is not a handle of the other.
//!
//! The rest is shared, because it gives no authority: wasi:io, clocks, random, standard streams (to the tenant's own log),
//! the types of wasi:http and wasi:filesystem, and sockets, which refuse everybody.

use wasmtime::component::types::{ComponentFunc, ComponentInstance, ComponentItem};
use wasmtime::component::{Access, Component, Linker, LinkerInstance, Resource, ResourceAny, ResourceType, Type, Val};
use wasmtime::{AsContextMut as _, StoreContextMut};
use wasmtime_wasi_http::p2::types::HostOutgoingRequest;
use wasmtime_wasi_http::p3::bindings::http::types::HostRequestWithStore;
use wasmtime_wasi_http::{RequestOptions, WasiHttp, WasiHttpView as _, p3};

use super::denied::weight;
use super::{Guest, SERVED, is_denied};
use crate::tenant::cost;

/// The capabilities that can be inherited, by the manifest's keys, and the beginnings of their interfaces' names.
pub(crate) const CAPABILITIES: [(&str, &[&str]); 7] = [
    (
        "allowed_outbound_hosts",
        &["wasi:http/outgoing-handler@", "wasi:http/client@", "fermyon:spin/http", "fermyon:spin/redis", "spin:redis/"],
    ),
    ("key_value_stores", &["wasi:keyvalue/", "fermyon:spin/key-value", "spin:key-value/"]),
    ("variables", &["fermyon:spin/variables@", "fermyon:spin/config", "spin:variables/", "wasi:config/"]),
    ("environment", &["wasi:cli/environment@"]),
    ("files", &["wasi:filesystem/preopens@"]),
    // The gateway has none of these, so there is nothing to inherit.
    ("sqlite_databases", &[]),
    ("ai_models", &[]),
];

/// Interfaces without authority. If you remove one, increase the number in the recipe's magic, so that everything is
/// composed again.
const SHARED: [&str; 9] = [
    "wasi:http/types@",
    "wasi:cli/",
    "wasi:clocks/",
    // A descriptor comes only from preopens.
    "wasi:filesystem/",
    "wasi:io/",
    // To the tenant's own trace and log, as the standard streams.
    "wasi:otel/",
    // Types only.
    "fermyon:spin-cron/",
    "wasi:random/",
    "wasi:sockets/",
];

/// How the names of denied interfaces begin.
const PREFIX: &str = "denied:";

/// Error cases that express a refusal, in order of preference.
const WORDS: [&str; 7] = [
    "access-denied",
    "HTTP-request-denied",
    "destination-not-allowed",
    "not-permitted",
    "other",
    "error",
    "internal-error",
];

/// Whether an import is a denied one.
pub(crate) fn is_refusal(import: &str) -> bool {
    import.starts_with(PREFIX)
}

/// Whether the host serves an interface with this name, in any version.
pub(crate) fn is_served(import: &str) -> bool {
    is_denied(import) || is_refusal(import) || SERVED.iter().any(|(name, _)| import.starts_with(name))
}

/// The name under which a part that inherits `inherits` imports this interface, if it may not have the real one.
///
/// Security: every interface that is served and neither shared nor inherited gets one. So an interface that nobody
/// classified is denied.
pub(crate) fn denied_name(import: &str, inherits: &[String]) -> Option<String> {
    let is_of = |names: &[&str]| names.iter().any(|name| import.starts_with(name));
    let key = CAPABILITIES.iter().find(|(_, names)| is_of(names)).map(|(key, _)| *key);
    let is_kept = match key {
        Some(key) => inherits.iter().any(|inherited| inherited == key),
        None => is_of(&SHARED) || is_denied(import) || !is_served(import),
    };
    let (package, interface) = import.split_once('/').filter(|_| !is_kept)?;
    Some(format!("{PREFIX}{}/{interface}", package.replace(':', "-")))
}

/// A linker with refusals for each denied import of a component. Nothing if it has none.
///
/// # Errors
/// The name is already defined. This is a build error.
pub(super) fn with(linker: &Linker<Guest>, component: &Component) -> wasmtime::Result<Option<Linker<Guest>>> {
    let (engine, kind) = (component.engine(), component.component_type());
    let (mut more, mut known) = (None, Vec::new());
    for (name, import) in kind.imports(engine) {
        let ComponentItem::ComponentInstance(instance) = import.ty else { continue };
        if name.starts_with(PREFIX) {
            let linker = more.get_or_insert_with(|| linker.clone());
            define(linker.instance(name)?, name, &instance, engine, &known)?;
        }
        // A resource of an earlier import is only used here, and belongs to that import.
        known.extend(instance.exports(engine).filter_map(|(_, export)| match export.ty {
            ComponentItem::Resource(resource) => Some(resource),
            ComponentItem::ComponentFunc(_)
            | ComponentItem::CoreFunc(_)
            | ComponentItem::Module(_)
            | ComponentItem::Component(_)
            | ComponentItem::ComponentInstance(_)
            | ComponentItem::Type(_) => None,
        }));
    }
    Ok(more)
}

fn define(
    mut linker: LinkerInstance<'_, Guest>,
    interface: &str,
    instance: &ComponentInstance,
    engine: &wasmtime::Engine,
    known: &[ResourceType],
) -> wasmtime::Result<()> {
    // As the part's own source names it: no served namespace contains a hyphen.
    let interface = interface.trim_start_matches(PREFIX).replacen('-', ":", 1);
    for (name, export) in instance.exports(engine) {
        let text = format!("{interface}#{name} was not inherited by this part");
        match export.ty {
            ComponentItem::ComponentFunc(function) if function.async_() => {
                linker.func_new_concurrent(name, move |accessor, function, given, answer| {
                    let text = text.clone();
                    Box::pin(async move {
                        accessor.with(|mut access| refuse(access.as_context_mut(), &function, given, answer, text))
                    })
                })?;
            }
            ComponentItem::ComponentFunc(_) => {
                linker.func_new(name, move |store, function, given, answer| {
                    refuse(store, &function, given, answer, text.clone())
                })?;
            }
            ComponentItem::Resource(resource) if !known.contains(&resource) => {
                linker.resource(name, ResourceType::host::<Nothing>(), |_, _| Ok(()))?;
            }
            ComponentItem::Resource(_)
            | ComponentItem::CoreFunc(_)
            | ComponentItem::Module(_)
            | ComponentItem::Component(_)
            | ComponentItem::ComponentInstance(_)
            | ComponentItem::Type(_) => {}
        }
    }
    Ok(())
}

/// The type of a denied interface's own resources. None is ever created.
struct Nothing;

/// Returns the interface's own error, or an empty list. If the result type allows neither, the call traps and the tenant's
/// log names it. A function without a result does nothing.
fn refuse(
    mut store: StoreContextMut<'_, Guest>,
    function: &ComponentFunc,
    given: &[Val],
    answer: &mut [Val],
    text: String,
) -> wasmtime::Result<()> {
    store.data_mut().charge(cost::HOST_CALL + weight(given));
    for value in given {
        give_back(&mut store, value)?;
    }
    let (Some(kind), Some(answer)) = (function.results().next(), answer.first_mut()) else { return Ok(()) };
    match refusal(&kind, &text) {
        Some(refusal) => *answer = refusal,
        None => return Err(wasmtime::Error::msg(text)),
    }
    Ok(())
}

/// Drops what the call handed over to the host.
fn give_back(store: &mut StoreContextMut<'_, Guest>, value: &Val) -> wasmtime::Result<()> {
    match value {
        Val::Resource(handle) => drop_handle(store, *handle),
        Val::Option(Some(value)) => give_back(store, value),
        // No denied function takes a handle inside any other type.
        Val::Bool(_)
        | Val::S8(_)
        | Val::U8(_)
        | Val::S16(_)
        | Val::U16(_)
        | Val::S32(_)
        | Val::U32(_)
        | Val::S64(_)
        | Val::U64(_)
        | Val::Float32(_)
        | Val::Float64(_)
        | Val::Char(_)
        | Val::String(_)
        | Val::List(_)
        | Val::Map(_)
        | Val::Record(_)
        | Val::Tuple(_)
        | Val::Variant(..)
        | Val::Enum(_)
        | Val::Option(None)
        | Val::Result(_)
        | Val::Flags(_)
        | Val::Future(_)
        | Val::Stream(_)
        | Val::ErrorContext(_)
        | Val::FixedLengthList(_) => Ok(()),
    }
}

fn drop_handle(store: &mut StoreContextMut<'_, Guest>, handle: ResourceAny) -> wasmtime::Result<()> {
    fn take<T: Send + 'static>(store: &mut StoreContextMut<'_, Guest>, handle: ResourceAny) -> wasmtime::Result<()> {
        let resource: Resource<T> = handle.try_into_resource(&mut *store)?;
        let place = resource.rep();
        if resource.owned() {
            store.data_mut().http().table.delete(resource)?;
        }
        store.data_mut().table.settle(place)
    }
    let is = |kind| handle.ty() == kind;
    if is(ResourceType::host::<HostOutgoingRequest>()) {
        take::<HostOutgoingRequest>(store, handle)
    } else if is(ResourceType::host::<RequestOptions>()) {
        take::<RequestOptions>(store, handle)
    } else if is(ResourceType::host::<p3::Request>()) {
        // The writer of its body learns that nobody reads it.
        let request = handle.try_into_resource(&mut *store)?;
        let place = request.rep();
        let access = Access::<Guest, WasiHttp>::new(store.as_context_mut(), Guest::http);
        <WasiHttp as HostRequestWithStore<Guest>>::drop(access, request)?;
        store.data_mut().table.settle(place)
    } else {
        Err(wasmtime::Error::msg("a handle of another kind was handed to a denied function"))
    }
}

/// A value of this type that expresses a refusal.
fn refusal(kind: &Type, text: &str) -> Option<Val> {
    match kind {
        Type::Result(result) => {
            let error = match result.err() {
                Some(error) => Some(Box::new(self::error(&error, text)?)),
                None => None,
            };
            Some(Val::Result(Err(error)))
        }
        Type::List(_) => Some(Val::List(Vec::new())),
        Type::Option(_) => Some(Val::Option(None)),
        Type::Bool
        | Type::S8
        | Type::U8
        | Type::S16
        | Type::U16
        | Type::S32
        | Type::U32
        | Type::S64
        | Type::U64
        | Type::Float32
        | Type::Float64
        | Type::Char
        | Type::String
        | Type::Map(_)
        | Type::Record(_)
        | Type::Tuple(_)
        | Type::Variant(_)
        | Type::Enum(_)
        | Type::Flags(_)
        | Type::Own(_)
        | Type::Borrow(_)
        | Type::Future(_)
        | Type::Stream(_)
        | Type::ErrorContext
        | Type::FixedLengthList(_) => None,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "an error is one of these three, or nothing that can be made here")]
fn error(kind: &Type, text: &str) -> Option<Val> {
    match kind {
        Type::String => Some(Val::String(text.to_owned())),
        Type::Enum(names) => {
            let fits = |word: &&str| names.names().any(|name| name == *word);
            let word = WORDS.into_iter().find(|word| fits(word)).map(str::to_owned);
            word.or_else(|| names.names().last().map(str::to_owned)).map(Val::Enum)
        }
        Type::Variant(variant) => {
            let place = |name: &str| WORDS.iter().position(|word| *word == name).unwrap_or(WORDS.len());
            let mut cases: Vec<_> = variant.cases().collect();
            cases.sort_by_key(|case| place(case.name));
            cases.into_iter().find_map(|case| {
                let inside = match &case.ty {
                    None => None,
                    Some(Type::String) => Some(Box::new(Val::String(text.to_owned()))),
                    Some(Type::Option(option)) if matches!(option.ty(), Type::String) => {
                        Some(Box::new(Val::Option(Some(Box::new(Val::String(text.to_owned()))))))
                    }
                    Some(_) => return None,
                };
                Some(Val::Variant(case.name.to_owned(), inside))
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(import: &str, inherits: &[&str]) -> Option<String> {
        denied_name(import, &inherits.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn every_served_interface_is_shared_or_belongs_to_a_capability() {
        let all: Vec<&str> = CAPABILITIES.iter().map(|(key, _)| *key).collect();
        for (name, _) in SERVED {
            let import = format!("{}@1.0.0", name.trim_end_matches(['@', '/']));
            let import = if import.contains('/') { import } else { import.replace('@', "/x@") };
            assert_eq!(denied(&import, &all), None, "{name} is sorted nowhere: see CAPABILITIES and SHARED");
        }
    }

    #[test]
    fn a_part_gets_only_what_it_inherits() {
        let name = "wasi:keyvalue/store@0.2.0-draft2";
        assert_eq!(denied(name, &[]).as_deref(), Some("denied:wasi-keyvalue/store@0.2.0-draft2"));
        assert_eq!(denied(name, &["variables"]).as_deref(), Some("denied:wasi-keyvalue/store@0.2.0-draft2"));
        assert_eq!(denied(name, &["variables", "key_value_stores"]), None);
        for (import, key) in [
            ("wasi:http/outgoing-handler@0.2.6", "allowed_outbound_hosts"),
            ("wasi:http/client@0.3.0", "allowed_outbound_hosts"),
            ("fermyon:spin/redis", "allowed_outbound_hosts"),
            ("spin:redis/redis@3.0.0", "allowed_outbound_hosts"),
            ("fermyon:spin/key-value@2.0.0", "key_value_stores"),
            ("fermyon:spin/config", "variables"),
            ("wasi:cli/environment@0.3.0", "environment"),
            ("wasi:filesystem/preopens@0.2.6", "files"),
        ] {
            assert!(denied(import, &[]).is_some_and(|name| is_served(&name)), "{import}");
            assert_eq!(denied(import, &[key]), None, "{import}");
        }
        for shared in ["wasi:io/streams@0.2.6", "wasi:cli/stdout@0.2.6", "wasi:http/types@0.2.6", "acme:lib/api@1.0.0"]
        {
            assert_eq!(denied(shared, &[]), None, "{shared}");
        }
    }
}
