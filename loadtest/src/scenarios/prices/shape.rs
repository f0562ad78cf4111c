//! Values of any WIT type, as WebAssembly text that makes them: flat values for arguments, and values in memory.
//!
//! Two globals hold the length of texts and the number of list elements, so that one module drives a function with small
//! and with large arguments.
#![expect(clippy::wildcard_enum_match_arm, reason = "most kinds of types have nothing to look for in them")]

use std::fmt::Write as _;

use wit_parser::abi::{FlatTypes, WasmType};
use wit_parser::{Handle, Int, Resolve, SizeAlign, Type, TypeDefKind, TypeId};

/// Where the texts begin: one of letters, one of a path, and one of JSON.
pub(super) const LETTERS: u32 = 64 << 10;
pub(super) const PATH: u32 = LETTERS + (1 << 20) + 64;
pub(super) const JSON: u32 = PATH + (1 << 20) + 64;
/// Where the text for arguments that are addresses begins.
pub(super) const ADDRESS: u32 = 32 << 10;
/// Where the elements of lists begin, for one function at a time.
pub(super) const LISTS: u32 = 4 << 20;
pub(super) const LISTS_END: u32 = 12 << 20;
/// Elements of a long list.
pub(super) const ELEMENTS: u32 = 10_000;

/// How a module gets its handles.
pub(super) trait Handles {
    /// The name of a global that holds a handle to this resource; if `is_own`, a new handle for each call.
    ///
    /// # Errors
    /// If nothing here can make one.
    fn handle(&mut self, resource: TypeId, is_own: bool) -> Result<String, String>;
}

/// Makes the values of one function's arguments.
pub(super) struct Shape<'a, H> {
    pub(super) resolve: &'a Resolve,
    pub(super) sizes: &'a SizeAlign,
    pub(super) handles: H,
    /// Code that fills the lists before the first call.
    pub(super) before: String,
    next_list: u32,
}

pub(super) fn wat(kind: WasmType) -> &'static str {
    match kind {
        WasmType::I64 | WasmType::PointerOrI64 => "i64",
        WasmType::F32 => "f32",
        WasmType::F64 => "f64",
        WasmType::I32 | WasmType::Pointer | WasmType::Length => "i32",
    }
}

/// Where a text or a list of bytes begins, and its length.
fn text_at(name: &str) -> (u32, &'static str) {
    match name {
        "address" => (ADDRESS, "(global.get $address)"),
        name if name.contains("path") || name == "uri" => (PATH, "(global.get $length)"),
        "value" | "body" => (JSON, "(global.get $length)"),
        _ => (LETTERS, "(global.get $length)"),
    }
}

impl<'a, H: Handles> Shape<'a, H> {
    pub(super) const fn new(resolve: &'a Resolve, sizes: &'a SizeAlign, handles: H) -> Self {
        Self { resolve, sizes, handles, before: String::new(), next_list: LISTS }
    }

    pub(super) fn size(&self, of: &Type) -> u32 {
        u32::try_from(self.sizes.size(of).size_wasm32()).unwrap_or(u32::MAX)
    }

    fn offsets(&self, types: &[Type]) -> Vec<u32> {
        let offsets = self.sizes.field_offsets(types);
        offsets.iter().map(|(offset, _)| u32::try_from(offset.size_wasm32()).unwrap_or(u32::MAX)).collect()
    }

    fn payload(&self, tag: Int, cases: &[Option<Type>]) -> u32 {
        let offset = self.sizes.payload_offset(tag, cases.iter().map(Option::as_ref));
        u32::try_from(offset.size_wasm32()).unwrap_or(u32::MAX)
    }

    /// The type behind its names.
    fn kind(&self, of: &Type) -> Option<&'a TypeDefKind> {
        let Type::Id(id) = of else { return None };
        match &self.resolve.types[*id].kind {
            TypeDefKind::Type(inner) => self.kind(inner),
            kind => Some(kind),
        }
    }

    fn plain(&self, of: &Type) -> Type {
        match of {
            Type::Id(id) => match &self.resolve.types[*id].kind {
                TypeDefKind::Type(inner) => self.plain(inner),
                _ => *of,
            },
            of => *of,
        }
    }

    /// The fields of a record or tuple.
    fn fields(&self, kind: &TypeDefKind) -> Option<Vec<(String, Type)>> {
        match kind {
            TypeDefKind::Record(record) => {
                Some(record.fields.iter().map(|field| (field.name.clone(), field.ty)).collect())
            }
            TypeDefKind::Tuple(tuple) => Some(tuple.types.iter().map(|of| ("member".to_owned(), *of)).collect()),
            _ => None,
        }
    }

    /// The cases of a variant, option, result or enum: the width of the tag, and the payloads.
    fn cases(&self, kind: &TypeDefKind) -> Option<(Int, Vec<Option<Type>>)> {
        match kind {
            TypeDefKind::Variant(of) => Some((of.tag(), of.cases.iter().map(|case| case.ty).collect())),
            TypeDefKind::Option(of) => Some((Int::U8, vec![None, Some(*of)])),
            TypeDefKind::Result(of) => Some((Int::U8, vec![of.ok, of.err])),
            TypeDefKind::Enum(of) => Some((of.tag(), vec![None; of.cases.len()])),
            _ => None,
        }
    }

    fn has_text(&self, of: &Type) -> bool {
        match (self.plain(of), self.kind(of)) {
            (Type::String, _) | (_, Some(TypeDefKind::List(_))) => true,
            (_, Some(kind)) => {
                let fields = self.fields(kind).is_some_and(|all| all.iter().any(|(_, of)| self.has_text(of)));
                let cases = self.cases(kind).is_some_and(|(_, all)| all.iter().flatten().any(|of| self.has_text(of)));
                fields || cases
            }
            _ => false,
        }
    }

    /// The case that carries most: the last one with a text in it, else the last one with a payload, else the first.
    fn case(&self, cases: &[Option<Type>]) -> usize {
        let has_text = cases.iter().rposition(|case| case.is_some_and(|of| self.has_text(&of)));
        has_text.or_else(|| cases.iter().rposition(Option::is_some)).unwrap_or(0)
    }

    /// A value on the stack, one instruction for each flat part.
    ///
    /// # Errors
    /// If such a value cannot be made here; the text is for the table.
    pub(super) fn flat(&mut self, name: &str, of: &Type) -> Result<Vec<(WasmType, String)>, String> {
        let kind = match self.plain(of) {
            Type::String => {
                let (at, length) = text_at(name);
                return Ok(vec![(WasmType::I32, format!("(i32.const {at})")), (WasmType::I32, length.to_owned())]);
            }
            Type::U64 | Type::S64 => return Ok(vec![(WasmType::I64, "(i64.const 1)".to_owned())]),
            Type::F32 => return Ok(vec![(WasmType::F32, "(f32.const 1)".to_owned())]),
            Type::F64 => return Ok(vec![(WasmType::F64, "(f64.const 1)".to_owned())]),
            Type::ErrorContext => return Err("an error context".to_owned()),
            Type::Id(_) => self.kind(of).ok_or("a type of no kind")?,
            _ => return Ok(vec![(WasmType::I32, "(i32.const 1)".to_owned())]),
        };
        if let Some(fields) = self.fields(kind) {
            let mut all = Vec::new();
            for (name, of) in fields {
                all.extend(self.flat(&name, &of)?);
            }
            return Ok(all);
        }
        if let Some((_, cases)) = self.cases(kind) {
            let case = self.case(&cases);
            let payload = cases[case].map_or(Ok(Vec::new()), |inner| self.flat(name, &inner))?;
            let mut storage = [WasmType::I32; 64];
            let mut joined = FlatTypes::new(&mut storage);
            self.resolve.push_flat(of, &mut joined);
            let mut flat = vec![(WasmType::I32, format!("(i32.const {case})"))];
            for (at, wanted) in joined.to_vec().into_iter().enumerate().skip(1) {
                flat.push((wanted, payload.get(at - 1).map_or_else(|| zero(wanted), |part| joined_to(part, wanted))));
            }
            return Ok(flat);
        }
        match kind {
            TypeDefKind::Flags(flags) => Ok(vec![(WasmType::I32, "(i32.const 0)".to_owned()); flags.repr().count()]),
            TypeDefKind::Handle(Handle::Own(resource)) => {
                Ok(vec![(WasmType::I32, format!("(global.get {})", self.handles.handle(*resource, true)?))])
            }
            TypeDefKind::Handle(Handle::Borrow(resource)) => {
                Ok(vec![(WasmType::I32, format!("(global.get {})", self.handles.handle(*resource, false)?))])
            }
            TypeDefKind::List(element) => {
                let (at, length) = self.list(name, element, true)?;
                Ok(vec![(WasmType::I32, format!("(i32.const {at})")), (WasmType::I32, length)])
            }
            TypeDefKind::Future(_) | TypeDefKind::Stream(_) => Err("it takes a stream or a future".to_owned()),
            _ => Err("a type that is not made here".to_owned()),
        }
    }

    /// Where the elements of a list are, and how many. They are stored once, before the first call.
    fn list(&mut self, name: &str, element: &Type, is_outer: bool) -> Result<(u32, String), String> {
        if self.plain(element) == Type::U8 {
            let (at, length) = text_at(name);
            return Ok((at, length.to_owned()));
        }
        let size = self.size(element);
        let at = self.next_list;
        let room = if is_outer { size * ELEMENTS } else { size };
        self.next_list = (at + room).next_multiple_of(16);
        if self.next_list > LISTS_END {
            return Err("lists that have no room".to_owned());
        }
        let mut stores = String::new();
        self.store(name, element, 0, &mut stores)?;
        let length = if is_outer { "(global.get $elements)" } else { "(i32.const 1)" };
        write!(
            self.before,
            "(local.set $at (i32.const {at})) (local.set $left {length})
             (loop $more {stores}
               (local.set $at (i32.add (local.get $at) (i32.const {size})))
               (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))\n"
        )
        .map_err(|error| error.to_string())?;
        Ok((at, length.to_owned()))
    }

    /// Generates code that stores a value at `$at` plus `offset` bytes.
    pub(super) fn store(&mut self, name: &str, of: &Type, offset: u32, out: &mut String) -> Result<(), String> {
        let mut put = |how: &str, value: &str| -> Result<(), String> {
            write!(out, "({how} offset={offset} (local.get $at) {value})").map_err(|error| error.to_string())
        };
        let kind = match self.plain(of) {
            Type::String => {
                let (at, length) = text_at(name);
                put("i32.store", &format!("(i32.const {at})"))?;
                let _in_memory = write!(out, "(i32.store offset={} (local.get $at) {length})", offset + 4);
                return Ok(());
            }
            Type::Bool | Type::U8 | Type::S8 => return put("i32.store8", "(i32.const 1)"),
            Type::U16 | Type::S16 => return put("i32.store16", "(i32.const 1)"),
            Type::U64 | Type::S64 => return put("i64.store", "(i64.const 1)"),
            Type::F64 => return put("f64.store", "(f64.const 1)"),
            Type::F32 => return put("f32.store", "(f32.const 1)"),
            Type::U32 | Type::S32 | Type::Char => return put("i32.store", "(i32.const 1)"),
            Type::ErrorContext => return Err("an error context".to_owned()),
            Type::Id(_) => self.kind(of).ok_or("a type of no kind")?,
        };
        if let Some(fields) = self.fields(kind) {
            let types: Vec<Type> = fields.iter().map(|(_, of)| *of).collect();
            for ((name, of), at) in fields.iter().zip(self.offsets(&types)) {
                self.store(name, of, offset + at, out)?;
            }
            return Ok(());
        }
        if let Some((tag, cases)) = self.cases(kind) {
            let case = self.case(&cases);
            let how = match tag {
                Int::U8 => "i32.store8",
                Int::U16 => "i32.store16",
                Int::U32 | Int::U64 => "i32.store",
            };
            put(how, &format!("(i32.const {case})"))?;
            let Some(inner) = cases[case] else { return Ok(()) };
            return self.store(name, &inner, offset + self.payload(tag, &cases), out);
        }
        match kind {
            TypeDefKind::Flags(_) => put("i32.store8", "(i32.const 0)"),
            TypeDefKind::Handle(Handle::Own(_)) => Err("a handle to give away, in memory".to_owned()),
            TypeDefKind::Handle(Handle::Borrow(resource)) => {
                let handle = self.handles.handle(*resource, false)?;
                put("i32.store", &format!("(global.get {handle})"))
            }
            TypeDefKind::List(element) => {
                // The inner list is filled before the outer one, which refers to it.
                let (at, length) = self.list(name, element, false)?;
                put("i32.store", &format!("(i32.const {at})"))?;
                let _in_memory = write!(out, "(i32.store offset={} (local.get $at) {length})", offset + 4);
                Ok(())
            }
            _ => Err("it takes a stream or a future".to_owned()),
        }
    }

    /// Generates code for the handles in a result at `$at` plus `offset` bytes: `then` gets each handle's resource, and the
    /// instruction that loads it. Returns none if there are no handles.
    pub(super) fn owned(&self, of: &Type, offset: u32, then: &dyn Fn(TypeId, &str) -> String) -> Option<String> {
        let kind = self.kind(of)?;
        if let Some(fields) = self.fields(kind) {
            let types: Vec<Type> = fields.iter().map(|(_, of)| *of).collect();
            let parts = types.iter().zip(self.offsets(&types));
            let all: Vec<String> = parts.filter_map(|(of, at)| self.owned(of, offset + at, then)).collect();
            return (!all.is_empty()).then(|| all.concat());
        }
        if let Some((tag, cases)) = self.cases(kind) {
            let payload = offset + self.payload(tag, &cases);
            let mut all = String::new();
            for (case, inner) in cases.iter().enumerate() {
                let Some(done) = inner.and_then(|inner| self.owned(&inner, payload, then)) else { continue };
                let tag = format!("(i32.load8_u offset={offset} (local.get $at))");
                let _in_memory = write!(all, "(if (i32.eq {tag} (i32.const {case})) (then {done}))");
            }
            return (!all.is_empty()).then_some(all);
        }
        match kind {
            TypeDefKind::Handle(Handle::Own(resource)) => {
                Some(then(*resource, &format!("(i32.load offset={offset} (local.get $at))")))
            }
            TypeDefKind::List(element) => {
                let done = self.owned(element, 0, then)?;
                let size = self.size(element);
                Some(format!(
                    "(local.set $left (i32.load offset={} (local.get $at)))
                     (local.set $at (i32.load offset={offset} (local.get $at)))
                     (block $none (br_if $none (i32.eqz (local.get $left)))
                       (loop $more {done} (local.set $at (i32.add (local.get $at) (i32.const {size})))
                         (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))",
                    offset + 4
                ))
            }
            _ => None,
        }
    }

    /// Whether a result contains a stream or a future, which this program does not drop.
    pub(super) fn is_streamed(&self, of: &Type) -> bool {
        match self.kind(of) {
            Some(TypeDefKind::Future(_) | TypeDefKind::Stream(_)) => true,
            Some(kind) => {
                let fields = self.fields(kind).is_some_and(|all| all.iter().any(|(_, of)| self.is_streamed(of)));
                let cases =
                    self.cases(kind).is_some_and(|(_, all)| all.iter().flatten().any(|of| self.is_streamed(of)));
                fields || cases
            }
            None => false,
        }
    }
}

fn zero(kind: WasmType) -> String {
    format!("({}.const 0)", wat(kind))
}

/// Converts a part of a payload to the flat type that all cases share.
fn joined_to((kind, value): &(WasmType, String), wanted: WasmType) -> String {
    match (wat(*kind), wat(wanted)) {
        (kind, wanted) if kind == wanted => value.clone(),
        ("i32", "i64") => format!("(i64.extend_i32_u {value})"),
        ("f32", "i32") => format!("(i32.reinterpret_f32 {value})"),
        ("f64", "i64") => format!("(i64.reinterpret_f64 {value})"),
        ("f32", "i64") => format!("(i64.extend_i32_u (i32.reinterpret_f32 {value}))"),
        _ => zero(wanted),
    }
}
