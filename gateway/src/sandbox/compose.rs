//! Composes one component from several parts, in the compiling child before it compiles.
//!
//! A child gets either a component, or a [`Recipe`] followed by its parts. The composed component is the main part, with
//! dependencies in place of some of its imports and middleware around its handler. Its exports are the main part's; no one
//! can use other exports of a dependency.
//!
//! Isolation: a part other than the main one imports each interface that it does not inherit under a name that the host
//! links to refusals (`host/inherited.rs`). The part's own import section has this name before anything is joined, so that
//! no way of joining can connect the real interface.
//!
//! Only the child parses the bytes of a part.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use wac_graph::types::{Package, are_semver_compatible};
use wac_graph::{CompositionGraph, EncodeOptions, NodeId};

use super::recipe::{Dependency, Misfit, Recipe, Step};
use super::rename::renamed;
use crate::host;

/// The exports that answer HTTP. If a component has both, the first one is called.
const HANDLERS: [&str; 2] = ["wasi:http/incoming-handler@0.2.", "wasi:http/handler@0.3."];

/// An export that answers HTTP and cannot have middleware: Spin 1's handler has complete bodies, and cannot forward to
/// another handler.
const UNWRAPPED: &str = "fermyon:spin/inbound-http";

fn is_handler(name: &str) -> bool {
    name == UNWRAPPED || HANDLERS.iter().any(|prefix| name.starts_with(prefix))
}

/// The component that these bytes are or are composed to. `component_of` converts core modules.
///
/// # Errors
/// Which part does not fit, and why.
pub(super) fn composed<'i>(
    input: &'i [u8],
    component_of: impl Fn(&'i [u8]) -> Result<Cow<'i, [u8]>, String>,
) -> Result<Cow<'i, [u8]>, Misfit> {
    const COMPONENT: &str = "a valid component";
    let part = |index: usize, bytes: &'i [u8]| {
        component_of(bytes).map_err(|error| Misfit::of(index, "this is not a component", error, COMPONENT))
    };
    let Some(read) = Recipe::read(input) else { return part(0, input) };
    let (recipe, parts) =
        read.map_err(|error| Misfit::of(0, "this recipe is not one", error, "a recipe of this gateway"))?;
    let parts: Vec<_> =
        parts.into_iter().enumerate().map(|(index, bytes)| part(index, bytes)).collect::<Result<_, _>>()?;
    // The library panics on some unsupported input. More about the cause cannot be said.
    let joined = catch_unwind(AssertUnwindSafe(|| Composition::of(&recipe, &parts).and_then(Composition::encode)));
    let joined = joined.unwrap_or_else(|_panicked| {
        Err(Misfit::of(0, "the parts cannot be joined", "the composer failed", "parts of tools that it knows"))
    })?;
    Ok(Cow::Owned(joined))
}

/// The graph of instances so far.
struct Composition<'r> {
    graph: CompositionGraph,
    recipe: &'r Recipe,
    parts: &'r [Cow<'r, [u8]>],
    main: NodeId,
}

/// A part as an instance in the graph.
struct Placed {
    instance: NodeId,
    imports: Vec<String>,
    exports: Vec<String>,
}

impl<'r> Composition<'r> {
    fn of(recipe: &'r Recipe, parts: &'r [Cow<'r, [u8]>]) -> Result<Self, Misfit> {
        let mut graph = CompositionGraph::new();
        let main = place(&mut graph, 0, parts.first().map_or(&[][..], |part| &**part))?;
        let mut composition = Self { graph, recipe, parts, main: main.instance };
        let mut given: Vec<(String, usize)> = Vec::new();
        for (index, dependency) in (1..).zip(&recipe.dependencies) {
            composition.depend(index, dependency, &main.imports, &mut given)?;
        }
        let handler = composition.chain(&main)?;
        // Nothing may bypass the middleware: another handler of the component is not exported.
        for name in main.exports.iter().filter(|name| handler.is_none() || !is_handler(name)) {
            let export = composition.alias(0, composition.main, name)?;
            composition.export(export, name)?;
        }
        if let Some((export, name)) = handler {
            composition.export(export, &name)?;
        }
        Ok(composition)
    }

    fn encode(self) -> Result<Vec<u8>, Misfit> {
        // The compiler validates the result, with the features that are on.
        let options = EncodeOptions { validate: false, ..EncodeOptions::default() };
        let same = "interfaces that are one for all parts";
        let misfit =
            |error| Misfit::of(0, "the parts import one interface with different types", chain_of(error), same);
        self.graph.encode(options).map_err(misfit)
    }

    /// Connects a dependency to each import that its name matches.
    fn depend(
        &mut self,
        index: usize,
        dependency: &Dependency,
        imports: &[String],
        given: &mut Vec<(String, usize)>,
    ) -> Result<(), Misfit> {
        let matched: Vec<&String> = imports.iter().filter(|import| matches(&dependency.name, import)).collect();
        if matched.is_empty() {
            let wanted = format!("one of its imports: {}", listed(imports));
            return Err(Misfit::of(index, "the component imports nothing of this name", &dependency.name, &wanted));
        }
        let placed = self.place(index, &[])?;
        for import in matched {
            if host::is_served(import) {
                let (found, wanted) =
                    (format!("a dependency for {import}"), "imports that the gateway does not serve itself");
                return Err(Misfit::of(index, "the gateway serves this interface itself", found, wanted));
            }
            if let Some((_, other)) = given.iter().find(|(name, _)| name == import) {
                let found = format!("{import}, which dependency {other} provides as well");
                return Err(Misfit::of(
                    index,
                    "two dependencies provide one import",
                    found,
                    "one dependency for each import",
                ));
            }
            let export = dependency.export.as_ref().unwrap_or(import);
            let found = placed.exports.iter().find(|name| *name == export);
            let found = found.or_else(|| placed.exports.iter().find(|name| are_semver_compatible(name, export)));
            let Some(export) = found else {
                let exports = format!("exports of {}", listed(&placed.exports));
                return Err(Misfit::of(index, "this dependency lacks an export", exports, export));
            };
            let node = self.alias(index, placed.instance, export)?;
            self.give(index, self.main, import, node)?;
            given.push((import.clone(), index));
        }
        Ok(())
    }

    /// Wraps the main part's handler in middleware, from the innermost outwards. Returns the resulting export and its name.
    fn chain(&mut self, main: &Placed) -> Result<Option<(NodeId, String)>, Misfit> {
        let mut next = 1 + self.recipe.dependencies.len();
        let mut steps: Vec<(usize, &'r Step)> = Vec::new();
        for step in &self.recipe.middleware {
            steps.push((next, step));
            next += step.parts.len();
        }
        let handler = HANDLERS.iter().find_map(|prefix| main.exports.iter().find(|name| name.starts_with(prefix)));
        let Some(handler) = handler else {
            // A component that answers no HTTP needs no layer of the gateway. A component that answers in another way would
            // bypass the layers.
            let answers = main.exports.iter().any(|name| is_handler(name));
            let own = steps.iter().find(|(_, step)| answers || !step.is_of_gateway);
            return own.map_or(Ok(None), |(index, _)| {
                let found = format!("exports of {}", listed(&main.exports));
                Err(Misfit::of(
                    *index,
                    "this middleware wraps a component without an HTTP handler",
                    found,
                    "a component that answers HTTP",
                ))
            });
        };
        if steps.is_empty() {
            return Ok(None);
        }
        let (mut inner, mut name) = (self.alias(0, self.main, handler)?, handler.clone());
        for (first, step) in steps.into_iter().rev() {
            (inner, name) = self.around(first, step, inner, &name)?;
        }
        Ok(Some((inner, name)))
    }

    /// One layer around `inner`, a handler with the name `name`.
    fn around(&mut self, first: usize, step: &Step, inner: NodeId, name: &str) -> Result<(NodeId, String), Misfit> {
        let mut had = Vec::new();
        for index in first..first + step.parts.len() {
            // The handler import belongs to the next layer alone, so that it is not among those that may be denied.
            let placed = self.place(index, &[name])?;
            let of = |names: &[String]| names.iter().find(|other| are_semver_compatible(other, name)).cloned();
            if let (Some(import), Some(export)) = (of(&placed.imports), of(&placed.exports)) {
                self.give(index, placed.instance, &import, inner)?;
                return Ok((self.alias(index, placed.instance, &export)?, export));
            }
            self.graph.remove_node(placed.instance);
            had.push(format!("imports of {} and exports of {}", listed(&placed.imports), listed(&placed.exports)));
        }
        let wanted = format!("an import and an export of {name}, which this component exports");
        Err(Misfit::of(first, "this middleware does not fit the component", had.join("; or "), &wanted))
    }

    /// Places a part other than the main one, without the interfaces that it does not inherit. `more` are imports that the
    /// host does not satisfy.
    fn place(&mut self, index: usize, more: &[&str]) -> Result<Placed, Misfit> {
        let inherits = self.recipe.others().nth(index - 1).map_or(&[][..], |part| part.inherits.as_slice());
        let wasm = self.parts.get(index).map_or(&[][..], |part| &**part);
        let wasm = renamed(wasm, |import| host::denied_name(import, inherits));
        let wasm = wasm.map_err(|error| Misfit::of(index, "this part is not a valid component", error, "one"))?;
        let placed = place(&mut self.graph, index, &wasm)?;
        let is_satisfied =
            |import: &str| host::is_served(import) || more.iter().any(|name| are_semver_compatible(import, name));
        // Middleware that does not fit is reported elsewhere.
        let is_handler = |import: &str| HANDLERS.iter().any(|prefix| import.starts_with(prefix));
        match placed.imports.iter().find(|import| !is_satisfied(import) && !is_handler(import)) {
            Some(import) => {
                let wanted = "imports that the gateway serves";
                Err(Misfit::of(index, "nothing provides an import of this part", import, wanted))
            }
            None => Ok(placed),
        }
    }

    fn alias(&mut self, index: usize, instance: NodeId, export: &str) -> Result<NodeId, Misfit> {
        let misfit = |error| Misfit::of(index, "this part lacks an export", chain_of(error), export);
        self.graph.alias_instance_export(instance, export).map_err(misfit)
    }

    fn give(&mut self, index: usize, to: NodeId, import: &str, node: NodeId) -> Result<(), Misfit> {
        let wanted = format!("{import} with the functions and types that are imported");
        let misfit = |error| Misfit::of(index, "this part's export has other types", chain_of(error), &wanted);
        self.graph.set_instantiation_argument(to, import, node).map_err(misfit)
    }

    fn export(&mut self, node: NodeId, name: &str) -> Result<(), Misfit> {
        let misfit = |error| Misfit::of(0, "this export cannot be kept", chain_of(error), "an export of a known form");
        self.graph.export(node, name).map_err(misfit)
    }
}

fn place(graph: &mut CompositionGraph, index: usize, wasm: &[u8]) -> Result<Placed, Misfit> {
    let invalid = |error: String| Misfit::of(index, "this part is not a valid component", error, "a valid component");
    let package = Package::from_bytes(&format!("tollgate:part{index}"), None, wasm, graph.types_mut());
    let package = package.map_err(|error| invalid(format!("{error:#}")))?;
    let world = &graph.types()[package.ty()];
    let names = |names: Vec<&String>| names.into_iter().cloned().collect();
    let (imports, exports) = (names(world.imports.keys().collect()), names(world.exports.keys().collect()));
    let package = graph.register_package(package).map_err(|error| invalid(error.to_string()))?;
    Ok(Placed { instance: graph.instantiate(package), imports, exports })
}

/// Whether a dependency with this name is meant for this import: the name is equal, or names a part of it.
fn matches(name: &str, import: &str) -> bool {
    let split = |text: &str| {
        let (text, version) = text.split_once('@').map_or((text, None), |(text, version)| (text, Some(version)));
        let (package, interface) = text.split_once('/').map_or((text, None), |(of, interface)| (of, Some(interface)));
        (package.to_owned(), interface.map(str::to_owned), version.map(str::to_owned))
    };
    let ((package, interface, version), (of, in_it, at)) = (split(name), split(import));
    package == of && (interface.is_none() || interface == in_it) && (version.is_none() || version == at)
}

fn listed(names: &[String]) -> String {
    const SHOWN: usize = 20;
    match names {
        [] => "nothing".to_owned(),
        _ if names.len() > SHOWN => format!("{} and {} more", names[..SHOWN].join(", "), names.len() - SHOWN),
        _ => names.join(", "),
    }
}

fn chain_of(error: impl Into<anyhow::Error>) -> String {
    format!("{:#}", error.into())
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_dependencys_name_may_be_a_part_of_an_imports_name() {
        for (name, import) in [
            ("acme:lib/api@1.0.0", "acme:lib/api@1.0.0"),
            ("acme:lib/api", "acme:lib/api@1.0.0"),
            ("acme:lib/api", "acme:lib/api"),
            ("acme:lib", "acme:lib/api@1.0.0"),
            ("acme:lib@1.0.0", "acme:lib/api@1.0.0"),
            ("run", "run"),
        ] {
            assert!(matches(name, import), "{name} is for {import}");
        }
        for (name, import) in [
            ("acme:lib/api@1.0.0", "acme:lib/api"),
            ("acme:lib/api@1.0.0", "acme:lib/api@1.1.0"),
            ("acme:lib/api", "acme:lib/api-two"),
            ("acme:lib", "acme:other/api"),
            ("acme:lib@2.0.0", "acme:lib/api@1.0.0"),
            ("run", "run-it"),
        ] {
            assert!(!matches(name, import), "{name} is not for {import}");
        }
    }
}
