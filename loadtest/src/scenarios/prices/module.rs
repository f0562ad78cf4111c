//! A component for each WIT world. It calls the function that the request's path names, as often and with texts and lists
//! as long as the path says.
#![expect(clippy::wildcard_enum_match_arm, reason = "most kinds of types have nothing to look for in them")]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Context as _;
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::abi::{AbiVariant, WasmSignature};
use wit_parser::{
    Function, Handle, LiftLowerAbi, ManglingAndAbi, Resolve, ResourceIntrinsic, SizeAlign, Type, TypeDefKind, TypeId,
    TypeOwner, WasmExport, WasmExportKind, WasmImport, WorldItem, WorldKey,
};

use super::shape::{ADDRESS, ELEMENTS, Handles, JSON, LETTERS, LISTS_END, PATH, Shape, wat};
use super::worlds::World;

const NAMES: ManglingAndAbi = ManglingAndAbi::Legacy(LiftLowerAbi::Sync);
/// Address of the results.
const ANSWER: u32 = 1 << 10;
/// Address of the texts and lists in results; each call overwrites those of the last.
const HEAP: u32 = LISTS_END;
const HEAP_END: u32 = 32 << 20;
const PAGE: u32 = 64 << 10;
/// Maximum length of a text.
pub(super) const TEXT: u32 = 1 << 20;

/// The names of resources and of the functions that make them, where that is not the first function that returns one.
const MAKERS: [(&str, &str); 4] = [
    ("pollable", "subscribe-duration"),
    ("input-stream", "get-stdin"),
    ("output-stream", "get-stdout"),
    ("descriptor", "get-directories"),
];

/// A function of a world, and whether it is driven.
pub(super) struct Driven {
    /// Its interface's name, `#`, and its own name.
    pub(super) name: String,
    /// Why it is not driven, if it is not.
    pub(super) not: Option<String>,
}

/// The component of a world, and its functions in the order of their numbers in a request's path.
pub(super) struct Driver {
    pub(super) component: Vec<u8>,
    pub(super) functions: Vec<Driven>,
}

/// The imports, by the names that the module uses for them.
struct Imports<'a> {
    resolve: &'a Resolve,
    functions: Vec<(&'a WorldKey, &'a Function)>,
    text: String,
    drops: BTreeMap<String, String>,
}

fn signature(signature: &WasmSignature) -> String {
    let list = |word: &str, all: &[_]| match all {
        [] => String::new(),
        all => format!("({word} {})", all.iter().map(|kind| wat(*kind)).collect::<Vec<_>>().join(" ")),
    };
    list("param", &signature.params) + &list("result", &signature.results)
}

impl<'a> Imports<'a> {
    fn of(resolve: &'a Resolve, world: &'a wit_parser::World) -> Self {
        let mut functions = Vec::new();
        for (key, item) in &world.imports {
            if let WorldItem::Interface { id, .. } = item {
                functions.extend(resolve.interfaces[*id].functions.values().map(|function| (key, function)));
            }
        }
        let mut text = String::new();
        for (at, (key, function)) in functions.iter().enumerate() {
            let import = WasmImport::Func { interface: Some(key), func: function };
            let (module, name) = resolve.wasm_import_name(NAMES, import);
            let kind = signature(&resolve.wasm_signature(AbiVariant::GuestImport, function));
            let _in_memory = writeln!(text, "(import \"{module}\" \"{name}\" (func $f{at} {kind}))");
        }
        Self { resolve, functions, text, drops: BTreeMap::new() }
    }

    /// The resource behind a type alias.
    fn resource(&self, id: TypeId) -> TypeId {
        match &self.resolve.types[id].kind {
            TypeDefKind::Type(Type::Id(inner)) => self.resource(*inner),
            _ => id,
        }
    }

    fn name(&self, id: TypeId) -> &'a str {
        self.resolve.types[self.resource(id)].name.as_deref().unwrap_or_default()
    }

    /// The function that drops a handle.
    fn drop(&mut self, id: TypeId) -> String {
        let id = self.resource(id);
        let TypeOwner::Interface(interface) = self.resolve.types[id].owner else { return "drop".to_owned() };
        let key = WorldKey::Interface(interface);
        let found = self.functions.iter().find(|(key, _)| matches!(key, WorldKey::Interface(id) if *id == interface));
        let key = found.map_or(&key, |(key, _)| key);
        let (module, name) = self.resolve.wasm_import_name(
            NAMES,
            WasmImport::ResourceIntrinsic {
                interface: Some(key),
                resource: id,
                intrinsic: ResourceIntrinsic::ImportedDrop,
            },
        );
        let next = format!("$d{}", self.drops.len());
        let import = format!("(import \"{module}\" \"{name}\"");
        self.drops.entry(import).or_insert(next).clone()
    }
}

/// Generates code that makes the handles for one function.
struct Maker<'m, 'a> {
    imports: &'m mut Imports<'a>,
    sizes: &'a SizeAlign,
    globals: &'m mut Vec<String>,
    /// Instructions that run once, before each call, and after it.
    once: String,
    each: String,
    after: String,
    is_each: bool,
    depth: u32,
}

impl Maker<'_, '_> {
    /// The function that returns a handle to this resource.
    fn maker(&self, resource: TypeId) -> Option<usize> {
        let name = self.imports.name(resource);
        let returns = |function: &Function| function.result.is_some_and(|result| self.gives(&result, resource));
        let all = &self.imports.functions;
        let chosen = MAKERS.iter().find(|(of, _)| *of == name).and_then(|(_, maker)| {
            all.iter().position(|(_, function)| function.name.ends_with(maker) && returns(function))
        });
        let constructor = || all.iter().position(|(_, f)| f.name == format!("[constructor]{name}") && returns(f));
        let any = || all.iter().position(|(_, function)| returns(function));
        chosen.or_else(constructor).or_else(any)
    }

    fn gives(&self, of: &Type, resource: TypeId) -> bool {
        let Type::Id(id) = of else { return false };
        match &self.imports.resolve.types[*id].kind {
            TypeDefKind::Type(inner) | TypeDefKind::Option(inner) | TypeDefKind::List(inner) => {
                self.gives(inner, resource)
            }
            TypeDefKind::Handle(Handle::Own(own)) => self.imports.resource(*own) == resource,
            TypeDefKind::Result(result) => result.ok.is_some_and(|ok| self.gives(&ok, resource)),
            TypeDefKind::Tuple(tuple) => tuple.types.iter().any(|part| self.gives(part, resource)),
            _ => false,
        }
    }
}

impl Handles for &mut Maker<'_, '_> {
    fn handle(&mut self, resource: TypeId, is_own: bool) -> Result<String, String> {
        let resource = self.imports.resource(resource);
        let name = self.imports.name(resource);
        if matches!(name, "incoming-request" | "request") {
            return if is_own { Err("a request arrives once".to_owned()) } else { Ok("$request".to_owned()) };
        }
        let at = self.maker(resource).ok_or_else(|| format!("nobody has a {name} here"))?;
        if self.depth > 4 {
            return Err(format!("a {name} is too far away"));
        }
        let global = format!("$h{}", self.globals.len());
        self.globals.push(global.clone());
        let (_, function) = self.imports.functions[at];
        let was_each = self.is_each;
        // The handles that a handle is made from are made together with it.
        let is_each = if self.depth == 0 { is_own } else { was_each };
        self.is_each = is_each;
        self.depth += 1;
        let resolve = self.imports.resolve;
        let sizes = self.sizes;
        let drop_others = |_: TypeId, load: &str| format!("(global.set {global} {load})");
        let (call, before) = {
            let mut shape = Shape::new(resolve, sizes, &mut **self);
            let arguments = arguments(&mut shape, function)?;
            let result = function.result.ok_or("it returns nothing")?;
            let call = if resolve.wasm_signature(AbiVariant::GuestImport, function).retptr {
                let found = shape.owned(&result, 0, &drop_others).ok_or("it returns no handle")?;
                format!("(call $f{at} {arguments} (i32.const {ANSWER})) (local.set $at (i32.const {ANSWER})) {found}")
            } else {
                format!("(global.set {global} (call $f{at} {arguments}))")
            };
            (call, shape.before)
        };
        self.depth -= 1;
        self.is_each = was_each;
        let code = format!(
            "(call $small) {before} (global.set {global} (i32.const -1)) {call}
             (if (i32.eq (global.get {global}) (i32.const -1)) (then unreachable)) (call $chosen)\n"
        );
        if is_each {
            self.each += &code;
            if !is_own {
                let drop = self.imports.drop(resource);
                self.after.insert_str(0, &format!("(call {drop} (global.get {global}))"));
            }
        } else {
            self.once += &code;
        }
        Ok(global)
    }
}

/// All arguments of a call, as instructions, without the address of its result.
fn arguments<H: Handles>(shape: &mut Shape<'_, H>, function: &Function) -> Result<String, String> {
    let signature = shape.resolve.wasm_signature(AbiVariant::GuestImport, function);
    if signature.indirect_params {
        return Err("more arguments than are flat".to_owned());
    }
    let mut all = Vec::new();
    for param in &function.params {
        all.extend(shape.flat(&param.name, &param.ty)?.into_iter().map(|(_, value)| value));
    }
    Ok(all.join(" "))
}

/// The code for one function's entry in the table: what runs once, and what runs each time.
fn driven<'a>(
    imports: &mut Imports<'a>,
    sizes: &'a SizeAlign,
    globals: &mut Vec<String>,
    at: usize,
) -> Result<(String, String), String> {
    let (_, function) = imports.functions[at];
    let resolve = imports.resolve;
    let mut maker = Maker {
        imports,
        sizes,
        globals,
        once: String::new(),
        each: String::new(),
        after: String::new(),
        is_each: false,
        depth: 0,
    };
    let (call, before, owned) = {
        let mut shape = Shape::new(resolve, sizes, &mut maker);
        if function.result.is_some_and(|result| shape.is_streamed(&result)) {
            return Err("it answers with a stream or a future".to_owned());
        }
        let signature = resolve.wasm_signature(AbiVariant::GuestImport, function);
        let (given, before_call) = if signature.indirect_params {
            in_memory(&mut shape, function)?
        } else {
            (arguments(&mut shape, function)?, String::new())
        };
        let answer = if signature.retptr { format!("(i32.const {ANSWER})") } else { String::new() };
        let call = format!("{before_call} (call $f{at} {given} {answer})");
        let owned = std::cell::RefCell::new(Vec::new());
        let then = |resource: TypeId, load: &str| {
            owned.borrow_mut().push(resource);
            format!("(call $drop{} {load})", owned.borrow().len() - 1)
        };
        let mut done = String::new();
        if signature.retptr {
            let found = function.result.and_then(|result| shape.owned(&result, 0, &then)).unwrap_or_default();
            let _in_memory = write!(done, "{call} (local.set $at (i32.const {ANSWER})) {found}");
        } else if let Some(Type::Id(id)) = function.result
            && let TypeDefKind::Handle(Handle::Own(resource)) = &resolve.types[id].kind
        {
            let _in_memory = write!(done, "{} ", then(*resource, &call));
        } else {
            let _in_memory = write!(done, "{call} {}", if signature.results.is_empty() { "" } else { "drop" });
        }
        (done, shape.before, owned.into_inner())
    };
    let (once, each, after) = (maker.once, maker.each, maker.after);
    let mut call = call;
    for (at, resource) in owned.into_iter().enumerate().rev() {
        call = call.replace(&format!("$drop{at} "), &format!("{} ", imports.drop(resource)));
    }
    Ok((format!("{once} {before}"), format!("{each} {call} {after}")))
}

/// Arguments that are passed in memory: their address, and the code that stores them.
fn in_memory<H: Handles>(shape: &mut Shape<'_, H>, function: &Function) -> Result<(String, String), String> {
    const GIVEN: u32 = 8 << 10;
    let types: Vec<Type> = function.params.iter().map(|param| param.ty).collect();
    let offsets = shape.sizes.field_offsets(&types);
    let offsets: Vec<u32> =
        offsets.iter().map(|(offset, _)| u32::try_from(offset.size_wasm32()).unwrap_or_default()).collect();
    let mut stores = String::new();
    for (param, offset) in function.params.iter().zip(offsets) {
        shape.store(&param.name, &param.ty, offset, &mut stores)?;
    }
    Ok((format!("(i32.const {GIVEN})"), format!("(local.set $at (i32.const {GIVEN})) {stores}")))
}

/// The component of a world.
///
/// # Errors
/// If the WIT or the component made from it is invalid: a bug of this program.
#[expect(clippy::too_many_lines, reason = "most of it is the module's text")]
pub(super) fn driver(of: &World, address: &str) -> anyhow::Result<Driver> {
    let (resolve, world) = of.resolve()?;
    let mut sizes = SizeAlign::default();
    sizes.fill(&resolve);
    let chosen = &resolve.worlds[world];
    let mut imports = Imports::of(&resolve, chosen);
    let (mut globals, mut functions, mut bodies, mut places) = (Vec::new(), Vec::new(), String::new(), String::new());
    for at in 0..imports.functions.len() {
        let (key, function) = imports.functions[at];
        let name = format!("{}#{}", resolve.name_world_key(key), function.name);
        let excepted = of.excepted(&name).map(str::to_owned);
        let made = excepted.map_or_else(|| driven(&mut imports, &sizes, &mut globals, at), Err);
        let not = match made {
            Ok((once, each)) => {
                let locals = "(local $at i32) (local $left i32)";
                write!(bodies, "(func $once{at} {locals} {once})\n(func $each{at} {locals} {each})\n")?;
                write!(places, " $once{at} $each{at}")?;
                None
            }
            Err(why) => {
                write!(places, " $nothing $nothing")?;
                Some(why)
            }
        };
        functions.push(Driven { name, not });
    }
    let path = imports
        .functions
        .iter()
        .position(|(_, f)| {
            matches!(&*f.name, "[method]incoming-request.path-with-query" | "[method]request.get-path-with-query")
        })
        .context("no path")?;
    let (key, handler) = chosen
        .exports
        .iter()
        .find_map(|(key, item)| match item {
            WorldItem::Interface { id, .. } => Some((key, resolve.interfaces[*id].functions.values().next()?)),
            WorldItem::Function(_) | WorldItem::Type { .. } => None,
        })
        .context("no handler")?;
    let export = WasmExport::Func { interface: Some(key), func: handler, kind: WasmExportKind::Normal };
    let export = resolve.wasm_export_name(NAMES, export);
    let is_three = resolve.wasm_signature(AbiVariant::GuestExport, handler).results.len() == 1;
    let (params, answer) = if is_three {
        (
            "(param $given i32) (result i32)",
            format!("(i32.store8 (i32.const {ANSWER}) (i32.const 1)) (i32.const {ANSWER})"),
        )
    } else {
        ("(param $given i32) (param i32)", String::new())
    };
    let drops: String =
        imports.drops.iter().map(|(import, name)| format!("{import} (func {name} (param i32)))\n")).collect();
    let globals: String = globals.iter().map(|name| format!("(global {name} (mut i32) (i32.const 0))\n")).collect();
    let text = format!(
        "(module {}{drops}
           (memory (export \"memory\") {})
           (data (i32.const {ADDRESS}) \"{address}\")
           {globals}
           (global $address i32 (i32.const {}))
           (global $request (mut i32) (i32.const 0))
           (global $heap (mut i32) (i32.const {HEAP}))
           (global $length (mut i32) (i32.const 4))
           (global $elements (mut i32) (i32.const 1))
           (global $lengths (mut i32) (i32.const 4))
           (global $counts (mut i32) (i32.const 1))
           (global $cursor (mut i32) (i32.const 0))
           (type $step (func))
           (table funcref (elem{places} $nothing $nothing))
           (func $nothing)
           (func $small (global.set $length (i32.const 4)) (global.set $elements (i32.const 1)))
           (func $chosen
             (global.set $length (global.get $lengths)) (global.set $elements (global.get $counts)))
           (func (export \"cabi_realloc\") (param $old i32) (param $had i32) (param $align i32) (param $size i32)
             (result i32) (local $at i32)
             (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
             (global.set $heap (i32.add (local.get $at) (local.get $size)))
             (if (i32.gt_u (global.get $heap) (i32.const {HEAP_END})) (then unreachable))
             (local.get $at))
           (func $number (result i32) (local $sum i32) (local $digit i32)
             (global.set $cursor (i32.add (global.get $cursor) (i32.const 1)))
             (loop $more
               (local.set $digit (i32.sub (i32.load8_u (global.get $cursor)) (i32.const 48)))
               (if (i32.lt_u (local.get $digit) (i32.const 10)) (then
                 (local.set $sum (i32.add (i32.mul (local.get $sum) (i32.const 10)) (local.get $digit)))
                 (global.set $cursor (i32.add (global.get $cursor) (i32.const 1)))
                 (br $more))))
             (local.get $sum))
           {bodies}
           (func (export \"{export}\") {params} (local $place i32) (local $left i32)
             (global.set $request (local.get $given))
             (memory.fill (i32.const {LETTERS}) (i32.const 97) (i32.const {TEXT}))
             (memory.fill (i32.const {PATH}) (i32.const 97) (i32.const {TEXT}))
             (i32.store8 (i32.const {PATH}) (i32.const 47))
             (memory.fill (i32.const {JSON}) (i32.const 49) (i32.const {TEXT}))
             (call $f{path} (local.get $given) (i32.const {ANSWER}))
             (global.set $cursor (i32.load (i32.const {})))
             (local.set $place (i32.mul (call $number) (i32.const 2)))
             (global.set $lengths (call $number))
             (global.set $counts (call $number))
             (local.set $left (call $number))
             (call $chosen)
             (call_indirect (type $step) (local.get $place))
             (block $done
               (br_if $done (i32.eqz (local.get $left)))
               (loop $again
                 (global.set $heap (i32.const {HEAP}))
                 (call_indirect (type $step) (i32.add (local.get $place) (i32.const 1)))
                 (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))
             {answer}))",
        imports.text,
        HEAP_END / PAGE,
        address.len(),
        ANSWER + 4,
    );
    let mut module = wat::parse_str(&text).with_context(|| format!("{}: {text}", of.name()))?;
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    let component = ComponentEncoder::default().module(&module)?.encode().with_context(|| of.name().to_owned())?;
    Ok(Driver { component, functions })
}

/// Maximum that a request may ask for: bytes of the longest texts, and elements of the longest lists.
pub(super) const MOST: (u32, u32) = (TEXT, ELEMENTS);
