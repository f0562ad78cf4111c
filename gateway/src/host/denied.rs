//! Spin interfaces that the gateway does not implement, but that the complete world of an SDK imports whether a component
//! uses them or not. They link. A call returns the interface's own error, so that the guest can continue, and a line in the
//! tenant's log names the call. If a function has no error, the call ends the component.
//!
//! The error is the one that Spin returns for a missing grant, if the interface has it.

use wasmtime::component::types::{ComponentFunc, ComponentInstance, ComponentItem};
use wasmtime::component::{Component, Linker, LinkerInstance, Resource, ResourceAny, ResourceType, Type, Val};
use wasmtime::{AsContextMut, StoreContextMut};

use super::Guest;

/// How their names begin.
pub(crate) const DENIED: [&str; 10] = [
    "fermyon:spin/llm",
    "fermyon:spin/mqtt",
    "fermyon:spin/mysql",
    "fermyon:spin/postgres",
    "fermyon:spin/rdbms-types",
    "fermyon:spin/sqlite",
    "spin:mqtt/",
    "spin:mysql/",
    "spin:postgres/",
    "spin:sqlite/",
];

/// Error cases of these interfaces, in order of preference.
const CASES: [&str; 5] = ["access-denied", "connection-failed", "runtime-error", "invalid-address", "other"];

/// The text of every such error, if it can have one.
const WHY: &str = "this interface is not served here; use key-value stores or Redis";

/// How the gateway treats one of Spin's interfaces.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stands {
    Served,
    /// It links, and calls are denied.
    Denied,
}

/// Every interface that Spin's own worlds import, except WASI's 0.2 and 0.3. The names are those of `wit/world.wit`
/// (`spin:up` 4.0.0 and 4.1.0) and of `wit/deps/spin@*/world.wit` (`spin:up` 3.2.0 and 3.4.0, `fermyon:spin` 2.0.0, and
/// without a version) at Spin 4.0.2.
#[cfg(test)]
pub(crate) const OF_SPIN: [(&str, Stands); 36] = [
    ("wasi:config/store@0.2.0-draft-2024-09-27", Stands::Served),
    ("wasi:keyvalue/store@0.2.0-draft2", Stands::Served),
    ("wasi:keyvalue/atomics@0.2.0-draft2", Stands::Served),
    ("wasi:keyvalue/batch@0.2.0-draft2", Stands::Served),
    ("wasi:otel/types@0.2.0-rc.2", Stands::Served),
    ("wasi:otel/tracing@0.2.0-rc.2", Stands::Served),
    ("wasi:otel/metrics@0.2.0-rc.2", Stands::Served),
    ("wasi:otel/logs@0.2.0-rc.2", Stands::Served),
    ("spin:key-value/key-value@3.0.0", Stands::Served),
    ("spin:redis/redis@3.0.0", Stands::Served),
    ("spin:variables/variables@3.0.0", Stands::Served),
    ("spin:mqtt/mqtt@3.0.0", Stands::Denied),
    ("spin:mysql/mysql@3.0.0", Stands::Denied),
    ("spin:postgres/postgres@3.0.0", Stands::Denied),
    ("spin:postgres/postgres@4.0.0", Stands::Denied),
    ("spin:postgres/postgres@4.2.0", Stands::Denied),
    ("spin:sqlite/sqlite@3.0.0", Stands::Denied),
    ("spin:sqlite/sqlite@3.1.0", Stands::Denied),
    ("fermyon:spin/key-value@2.0.0", Stands::Served),
    ("fermyon:spin/redis@2.0.0", Stands::Served),
    ("fermyon:spin/variables@2.0.0", Stands::Served),
    ("fermyon:spin/llm@2.0.0", Stands::Denied),
    ("fermyon:spin/mqtt@2.0.0", Stands::Denied),
    ("fermyon:spin/mysql@2.0.0", Stands::Denied),
    ("fermyon:spin/postgres@2.0.0", Stands::Denied),
    ("fermyon:spin/rdbms-types@2.0.0", Stands::Denied),
    ("fermyon:spin/sqlite@2.0.0", Stands::Denied),
    ("fermyon:spin/config", Stands::Served),
    ("fermyon:spin/key-value", Stands::Served),
    ("fermyon:spin/redis", Stands::Served),
    ("fermyon:spin/llm", Stands::Denied),
    ("fermyon:spin/sqlite", Stands::Denied),
    ("fermyon:spin/redis-types", Stands::Served),
    ("fermyon:spin/mysql", Stands::Denied),
    ("fermyon:spin/postgres", Stands::Denied),
    ("fermyon:spin/rdbms-types", Stands::Denied),
];

/// Whether an import with this name links without being served.
pub(crate) fn is_denied(import: &str) -> bool {
    DENIED.iter().any(|name| import.starts_with(name))
}

/// A linker with the denied interfaces that a component imports. Nothing if it imports none.
///
/// # Errors
/// The name is already defined. This is a build error.
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
        match export.ty {
            ComponentItem::ComponentFunc(function) => {
                let call = Call { name: format!("{interface}#{name}"), answer: Answer::of(name, &function) };
                if function.async_() {
                    linker.func_new_concurrent(name, move |accessor, _, given, results| {
                        let answered =
                            accessor.with(|mut access| call.answer(access.as_context_mut(), (given, results)));
                        Box::pin(async move { answered })
                    })?;
                } else {
                    linker.func_new(name, move |store, _, given, results| call.answer(store, (given, results)))?;
                }
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

/// A function that is not served.
struct Call {
    /// Including its interface.
    name: String,
    answer: Answer,
}

/// The result of a call.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// A case of the interface's error, and whether it has a text.
    Case(String, bool),
    /// A case of an error that is an enumeration.
    Word(String),
    /// An error that is a text.
    Text,
    /// A resource whose other functions return errors: a constructor cannot return one.
    Made,
    /// No result with which the guest could continue.
    Trap,
}

impl Answer {
    fn of(name: &str, function: &ComponentFunc) -> Self {
        if name.starts_with("[constructor]") {
            return Self::Made;
        }
        let Some(Type::Result(result)) = function.results().next() else { return Self::Trap };
        let best = |has: &dyn Fn(&str) -> bool| CASES.into_iter().find(|name| has(name)).map(str::to_owned);
        match result.err() {
            Some(Type::Variant(error)) => {
                let cases = error.cases().filter_map(|case| match case.ty {
                    None => Some((case.name.to_owned(), false)),
                    Some(Type::String) => Some((case.name.to_owned(), true)),
                    Some(_) => None,
                });
                let cases: Vec<_> = cases.collect();
                let best = best(&|name| cases.iter().any(|(case, _)| case == name));
                let found = cases.iter().find(|(case, _)| Some(case) == best.as_ref()).or(cases.last());
                found.map_or(Self::Trap, |(name, has_text)| Self::Case(name.clone(), *has_text))
            }
            Some(Type::Enum(error)) => {
                let best = best(&|name| error.names().any(|case| case == name));
                best.or_else(|| error.names().last().map(str::to_owned)).map_or(Self::Trap, Self::Word)
            }
            Some(Type::String) => Self::Text,
            Some(_) | None => Self::Trap,
        }
    }
}

/// The weight of a call's arguments. The component chooses the types of the denied functions, and the host lifts all
/// arguments.
pub(super) fn weight(values: &[Val]) -> u64 {
    const VALUE: u64 = 40;
    let (mut left, mut weight): (Vec<&Val>, u64) = (values.iter().collect(), 0);
    while let Some(value) = left.pop() {
        weight = weight.saturating_add(VALUE);
        #[expect(clippy::wildcard_enum_match_arm, reason = "seven of thirty kinds have something in them")]
        match value {
            Val::String(text) => weight = weight.saturating_add(text.len() as u64),
            Val::List(all) | Val::Tuple(all) => left.extend(all),
            Val::Record(fields) => left.extend(fields.iter().map(|(_, value)| value)),
            Val::Option(Some(value))
            | Val::Variant(_, Some(value))
            | Val::Result(Ok(Some(value)) | Err(Some(value))) => {
                left.push(value);
            }
            // The others carry nothing.
            _ => {}
        }
    }
    weight
}

impl Call {
    /// # Errors
    /// The function has no error, so that the guest cannot continue.
    fn answer(
        &self,
        mut store: StoreContextMut<'_, Guest>,
        (given, results): (&[Val], &mut [Val]),
    ) -> wasmtime::Result<()> {
        store.data_mut().charge(weight(given));
        for value in given {
            if let Val::Resource(resource) = value {
                // A lent handle must be returned before the call ends.
                let _back = Resource::<()>::try_from_resource_any(*resource, &mut store)?;
            }
        }
        let text = || format!("{} was called: {WHY}", self.name);
        let error = match &self.answer {
            Answer::Case(name, true) => Val::Variant(name.clone(), Some(Box::new(Val::String(text())))),
            Answer::Case(name, false) => Val::Variant(name.clone(), None),
            Answer::Word(name) => Val::Enum(name.clone()),
            Answer::Text => Val::String(text()),
            Answer::Made => {
                let made = ResourceAny::try_from_resource(Resource::<()>::new_own(0), &mut store)?;
                return put(results, Val::Resource(made));
            }
            Answer::Trap => return Err(wasmtime::Error::msg(text())),
        };
        store.data().notices.say(&text());
        put(results, Val::Result(Err(Some(Box::new(error)))))
    }
}

fn put(results: &mut [Val], value: Val) -> wasmtime::Result<()> {
    match results {
        [result] => {
            *result = value;
            Ok(())
        }
        _ => Err(wasmtime::Error::msg("a function of another shape than its type says")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::SERVED;

    #[test]
    fn arguments_weigh_what_the_host_lifts() {
        let list = Val::List((0..1000).map(Val::U32).collect());
        assert_eq!(weight(&[]), 0);
        assert_eq!(weight(&[Val::U8(1), Val::String("four".to_owned())]), 84);
        assert_eq!(weight(&[Val::Option(Some(Box::new(list)))]), 40 * 1002);
    }

    #[test]
    fn every_interface_of_spins_worlds_is_treated_as_the_table_says() {
        for (name, stands) in OF_SPIN {
            let is_served = SERVED.iter().any(|(served, _)| name.starts_with(served));
            assert_eq!((is_served, is_denied(name)), (stands == Stands::Served, stands == Stands::Denied), "{name}");
        }
    }
}
