//! What a part of a composed component does not inherit: a dependency, or middleware.
//!
//! An interface that carries a capability is imported by such a part under a name of its own, `denied:…`, which the compiling
//! child gives it (`sandbox/compose.rs`). Here that name links to functions that refuse. So a composed component has two
//! imports of one interface, the real one and the denied one, and each part holds the one it was given: no function of the
//! host has to know who calls it, and a handle of the one is no handle of the other.
//!
//! Shared, because there is no authority in them: wasi:io, clocks, random, standard streams (to the tenant's own log), the
//! types of wasi:http and wasi:filesystem, and sockets, which refuse everybody.

use wasmtime::component::types::{ComponentFunc, ComponentInstance, ComponentItem};
use wasmtime::component::{Access, Component, Linker, LinkerInstance, Resource, ResourceAny, ResourceType, Type, Val};
use wasmtime::{AsContextMut as _, StoreContextMut};
use wasmtime_wasi_http::p2::types::HostOutgoingRequest;
use wasmtime_wasi_http::p3::bindings::http::types::HostRequestWithStore;
use wasmtime_wasi_http::{RequestOptions, WasiHttp, WasiHttpView as _, p3};

use super::denied::weight;
use super::{Guest, SERVED, is_denied};
use crate::tenant::cost;

/// What may be inherited, by the manifest's keys, and how the names of its interfaces begin.
pub(crate) const CAPABILITIES: [(&str, &[&str]); 7] = [
    (
        "allowed_outbound_hosts",
        &["wasi:http/outgoing-handler@", "wasi:http/client@", "fermyon:spin/http", "fermyon:spin/redis", "spin:redis/"],
    ),
    ("key_value_stores", &["wasi:keyvalue/", "fermyon:spin/key-value", "spin:key-value/"]),
    ("variables", &["fermyon:spin/variables@", "fermyon:spin/config", "spin:variables/", "wasi:config/"]),
    ("environment", &["wasi:cli/environment@"]),
    ("files", &["wasi:filesystem/preopens@"]),
    // Nobody here has one of these, so there is nothing to inherit.
    ("sqlite_databases", &[]),
    ("ai_models", &[]),
];

/// Interfaces without authority. Who takes one away raises the number in the recipe's magic, so that all is composed anew.
const SHARED: [&str; 9] = [
    "wasi:http/types@",
    "wasi:cli/",
    "wasi:clocks/",
    // A descriptor comes from preopens alone.
    "wasi:filesystem/",
    "wasi:io/",
    // To the tenant's own trace and log, as standard streams are.
    "wasi:otel/",
    // Types alone.
    "fermyon:spin-cron/",
    "wasi:random/",
    "wasi:sockets/",
];

/// How the names of what was not inherited begin.
const PREFIX: &str = "denied:";

/// Cases of errors that say what this is, the best first.
const WORDS: [&str; 7] = [
    "access-denied",
    "HTTP-request-denied",
    "destination-not-allowed",
    "not-permitted",
    "other",
    "error",
    "internal-error",
];

/// Whether an import is one of those that refuse.
pub(crate) fn is_refusal(import: &str) -> bool {
    import.starts_with(PREFIX)
}

/// Whether the host serves an interface of this name, in whichever version.
pub(crate) fn is_served(import: &str) -> bool {
    is_denied(import) || is_refusal(import) || SERVED.iter().any(|(name, _)| import.starts_with(name))
}

/// The name under which a part that inherits `inherits` imports this interface, where it may not have it itself.
///
/// Security: whatever is served and is neither shared nor inherited gets one, so an interface that nobody sorted is denied.
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

/// The linker with what refuses in the place of each denied import of a component; nothing where it has none.
///
/// # Errors
/// One of them is claimed already, which is a build fault.
pub(super) fn with(linker: &Linker<Guest>, component: &Component) -> wasmtime::Result<Option<Linker<Guest>>> {
    let (engine, kind) = (component.engine(), component.component_type());
    let (mut more, mut known) = (None, Vec::new());
    for (name, import) in kind.imports(engine) {
        let ComponentItem::ComponentInstance(instance) = import.ty else { continue };
        if name.starts_with(PREFIX) {
            let linker = more.get_or_insert_with(|| linker.clone());
            define(linker.instance(name)?, name, &instance, engine, &known)?;
        }
        // A resource that came before is only used here, and is whoever's it was.
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
    // As the part's own source calls it: no namespace that is served has a hyphen.
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

/// What a denied interface's own resources are; nobody ever makes one.
struct Nothing;

/// Answers with the interface's own error, or with nothing where it lists something. Where its type has no room for either,
/// the call traps and the tenant's log names it. A function without a result does nothing.
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

/// What was handed over with a call is the host's to drop.
fn give_back(store: &mut StoreContextMut<'_, Guest>, value: &Val) -> wasmtime::Result<()> {
    match value {
        Val::Resource(handle) => drop_handle(store, *handle),
        Val::Option(Some(value)) => give_back(store, value),
        // No function that is denied takes a handle in anything else.
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
        // Who writes its body learns that nobody reads it.
        let request = handle.try_into_resource(&mut *store)?;
        let place = request.rep();
        let access = Access::<Guest, WasiHttp>::new(store.as_context_mut(), Guest::http);
        <WasiHttp as HostRequestWithStore<Guest>>::drop(access, request)?;
        store.data_mut().table.settle(place)
    } else {
        Err(wasmtime::Error::msg("a handle of another kind was handed to a denied function"))
    }
}

/// A value of this type that says no.
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
    fn what_is_served_is_shared_or_belongs_to_a_capability() {
        let all: Vec<&str> = CAPABILITIES.iter().map(|(key, _)| *key).collect();
        for (name, _) in SERVED {
            let import = format!("{}@1.0.0", name.trim_end_matches(['@', '/']));
            let import = if import.contains('/') { import } else { import.replace('@', "/x@") };
            assert_eq!(denied(&import, &all), None, "{name} is sorted nowhere: see CAPABILITIES and SHARED");
        }
    }

    #[test]
    fn a_part_has_what_it_inherits_and_no_more() {
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
