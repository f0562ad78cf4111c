//! Rewrites interface names in a component to the versions that the linker knows.
//!
//! The release candidate of WASI 0.3 for which Spin 4.0's SDKs were made (`0.3.0-rc-2026-03-15`) has the same functions and
//! types as 0.3.0. Only the version in the names differs. So a component of the candidate is rewritten with the final
//! version before it is compiled, and everything after the compiler knows only one version.
//!
//! Source: the candidate's and the final WIT at <https://github.com/WebAssembly/WASI>, compared interface by interface.

use std::borrow::Cow;

use wasm_encoder::reencode::{Error, Reencode, ReencodeComponent, component_utils as utils};
use wasm_encoder::{Alias, ComponentSectionId, RawSection};
use wasmparser::{ComponentAlias, ComponentExternName, ComponentTypeDeclaration, InstanceTypeDeclaration, Parser};

/// The version of the candidate, and the final one.
const CANDIDATE: &str = "@0.3.0-rc-2026-03-15";
const FINAL: &str = "@0.3.0";

/// The component with final versions in place of the candidate's.
///
/// # Errors
/// In words: it is not a valid component.
pub(super) fn respelt(component: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    // Names are in it as plain text, and most components have none of these.
    if memchr::memmem::find(component, CANDIDATE.as_bytes()).is_none() {
        return Ok(Cow::Borrowed(component));
    }
    let mut respelt = wasm_encoder::Component::new();
    let done = Respell.parse_component(&mut respelt, Parser::new(0), component);
    done.map_err(|error| error.to_string())?;
    Ok(Cow::Owned(respelt.finish()))
}

/// The name of a WASI interface of the candidate with its final version.
fn final_name(name: &str) -> Option<String> {
    let interface = name.strip_suffix(CANDIDATE).filter(|interface| interface.starts_with("wasi:"))?;
    Some(format!("{interface}{FINAL}"))
}

/// Writes a component unchanged except for names.
struct Respell;

impl Respell {
    fn name<'n>(spelt: &'n mut [Option<String>; 2], name: ComponentExternName<'n>) -> ComponentExternName<'n> {
        *spelt = [final_name(name.name), name.implements.and_then(final_name)];
        let [own, implements] = spelt;
        ComponentExternName {
            name: own.as_deref().unwrap_or(name.name),
            implements: implements.as_deref().or(name.implements),
            ..name
        }
    }

    fn alias<'n>(&mut self, spelt: &'n mut Option<String>, mut alias: ComponentAlias<'n>) -> Result<Alias<'n>, Error> {
        if let ComponentAlias::InstanceExport { name, .. } = &mut alias {
            *spelt = final_name(name);
            if let Some(spelt) = spelt {
                *name = spelt;
            }
        }
        self.component_alias(alias)
    }
}

type Done = Result<(), Error>;

impl Reencode for Respell {
    type Error = std::convert::Infallible;
}

impl ReencodeComponent for Respell {
    /// Core modules contain no interface names except in imports, for which their component may use any name.
    fn parse_component_submodule(
        &mut self,
        component: &mut wasm_encoder::Component,
        _parser: Parser,
        module: &[u8],
    ) -> Done {
        component.section(&RawSection { id: ComponentSectionId::CoreModule.into(), data: module });
        Ok(())
    }

    fn parse_component_alias_section(
        &mut self,
        aliases: &mut wasm_encoder::ComponentAliasSection,
        section: wasmparser::ComponentAliasSectionReader<'_>,
    ) -> Done {
        for alias in section {
            let mut spelt = None;
            aliases.alias(self.alias(&mut spelt, alias?)?);
        }
        Ok(())
    }

    fn parse_component_import_section(
        &mut self,
        imports: &mut wasm_encoder::ComponentImportSection,
        section: wasmparser::ComponentImportSectionReader<'_>,
    ) -> Done {
        for import in section {
            let import = import?;
            imports.import(Self::name(&mut [const { None }; 2], import.name), self.component_type_ref(import.ty)?);
        }
        Ok(())
    }

    fn parse_component_export(
        &mut self,
        exports: &mut wasm_encoder::ComponentExportSection,
        export: wasmparser::ComponentExport<'_>,
    ) -> Done {
        let mut spelt = [const { None }; 2];
        // Shortens the lifetime of the argument to that of the new name.
        let mut export = export;
        export.name = Self::name(&mut spelt, export.name);
        utils::parse_component_export(self, exports, export)
    }

    fn parse_component_instance(
        &mut self,
        instances: &mut wasm_encoder::ComponentInstanceSection,
        instance: wasmparser::ComponentInstance<'_>,
    ) -> Done {
        match instance {
            wasmparser::ComponentInstance::Instantiate { component_index, args } => {
                let index = self.component_index(component_index);
                let args: Vec<_> = args
                    .iter()
                    .map(|arg| {
                        let name = final_name(arg.name).map_or(Cow::Borrowed(arg.name), Cow::Owned);
                        (name, arg.kind.into(), self.component_external_index(arg.kind, arg.index))
                    })
                    .collect();
                instances.instantiate(index, args.iter().map(|(name, kind, index)| (&**name, *kind, *index)));
            }
            wasmparser::ComponentInstance::FromExports(exports) => {
                let mut exports: Vec<_> = exports.iter().map(|export| (export, [const { None }; 2])).collect();
                instances.export_items(exports.iter_mut().map(|(export, spelt)| {
                    let index = self.component_external_index(export.kind, export.index);
                    (Self::name(spelt, export.name), export.kind.into(), index)
                }));
            }
        }
        Ok(())
    }

    fn parse_component_instance_type_declaration(
        &mut self,
        instance: &mut wasm_encoder::InstanceType,
        declaration: InstanceTypeDeclaration<'_>,
    ) -> Done {
        let mut spelt = [const { None }; 2];
        let declaration = match declaration {
            InstanceTypeDeclaration::Export { name, ty } => {
                InstanceTypeDeclaration::Export { name: Self::name(&mut spelt, name), ty }
            }
            InstanceTypeDeclaration::Alias(alias) => {
                let mut spelt = None;
                instance.alias(self.alias(&mut spelt, alias)?);
                return Ok(());
            }
            other @ (InstanceTypeDeclaration::CoreType(_) | InstanceTypeDeclaration::Type(_)) => other,
        };
        utils::parse_component_instance_type_declaration(self, instance, declaration)
    }

    fn parse_component_type_declaration(
        &mut self,
        component: &mut wasm_encoder::ComponentType,
        declaration: ComponentTypeDeclaration<'_>,
    ) -> Done {
        let mut spelt = [const { None }; 2];
        let declaration = match declaration {
            ComponentTypeDeclaration::Export { name, ty } => {
                ComponentTypeDeclaration::Export { name: Self::name(&mut spelt, name), ty }
            }
            ComponentTypeDeclaration::Import(mut import) => {
                import.name = Self::name(&mut spelt, import.name);
                ComponentTypeDeclaration::Import(import)
            }
            ComponentTypeDeclaration::Alias(alias) => {
                let mut spelt = None;
                component.alias(self.alias(&mut spelt, alias)?);
                return Ok(());
            }
            other @ (ComponentTypeDeclaration::CoreType(_) | ComponentTypeDeclaration::Type(_)) => other,
        };
        utils::parse_component_type_declaration(self, component, declaration)
    }
}
