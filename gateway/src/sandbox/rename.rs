//! Renames a component's imports, without reading anything else in it.

use std::borrow::Cow;

use wasmparser::{BinaryReader, ComponentImportSectionReader};

/// The id of a component's import section (Binary.md of the component model).
const IMPORTS: u8 = 10;

/// The component with other names for some of its imports. Only names change, so that references to an import stay valid.
pub(super) fn renamed(wasm: &[u8], rename: impl Fn(&str) -> Option<String>) -> Result<Vec<u8>, String> {
    let said = |error: wasmparser::BinaryReaderError| error.to_string();
    let mut reader = BinaryReader::new(wasm, 0);
    let mut renamed = reader.read_bytes(8).map_err(said)?.to_vec();
    while !reader.eof() {
        let kind = reader.read_u8().map_err(said)?;
        let length = reader.read_var_u32().map_err(said)? as usize;
        let section = reader.read_bytes(length).map_err(said)?;
        let section = if kind == IMPORTS { Cow::Owned(imports(section, &rename)?) } else { Cow::Borrowed(section) };
        renamed.push(kind);
        leb128(&mut renamed, section.len());
        renamed.extend_from_slice(&section);
    }
    Ok(renamed)
}

/// Rewrites an import section: the number of imports, then for each a byte, the name and the type.
fn imports(section: &[u8], rename: impl Fn(&str) -> Option<String>) -> Result<Vec<u8>, String> {
    let said = |error: wasmparser::BinaryReaderError| error.to_string();
    let reader = ComponentImportSectionReader::new(BinaryReader::new(section, 0)).map_err(said)?;
    let mut renamed = Vec::new();
    leb128(&mut renamed, reader.count() as usize);
    let imports = reader.into_iter_with_offsets().collect::<Result<Vec<_>, _>>().map_err(said)?;
    let ends = imports.iter().skip(1).map(|(start, _)| *start).chain([section.len()]);
    for ((start, import), end) in imports.iter().zip(ends) {
        let whole = section.get(*start..end).ok_or("an import is cut short")?;
        let Some(name) = rename(import.name.name) else {
            renamed.extend_from_slice(whole);
            continue;
        };
        let mut reader = BinaryReader::new(whole, 0);
        // Other bytes mark forms that carry more than a name. No tool writes them for an interface's own name.
        if !matches!(reader.read_u8().map_err(said)?, 0 | 1) {
            return Err(format!("the import {} is in a form that is not known", import.name.name));
        }
        reader.read_string().map_err(said)?;
        renamed.push(0);
        leb128(&mut renamed, name.len());
        renamed.extend_from_slice(name.as_bytes());
        renamed.extend_from_slice(whole.get(reader.original_position()..).unwrap_or_default());
    }
    Ok(renamed)
}

fn leb128(out: &mut Vec<u8>, mut number: usize) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        if number == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component that imports instances of type 0 under these names, between two sections that are not read.
    fn component(names: &[&str]) -> Vec<u8> {
        let mut section = vec![u8::try_from(names.len()).unwrap()];
        for name in names {
            section.extend([0, u8::try_from(name.len()).unwrap()]);
            section.extend(name.bytes());
            section.extend([5, 0]);
        }
        let mut whole = b"\0asm\x0d\0\x01\0".to_vec();
        whole.extend([7, 2, 1, 66, IMPORTS]);
        leb128(&mut whole, section.len());
        whole.extend(section);
        whole.extend([0, 3, 1, b'x', 9]);
        whole
    }

    #[test]
    fn names_change_and_nothing_else_does() {
        let before = component(&["a:b/c@1.0.0", "plain", "wasi:io/poll@0.2.0"]);
        let long = format!("denied:{}/c", "x".repeat(90));
        let to = |name: &str| (name == "a:b/c@1.0.0").then(|| long.clone());
        assert_eq!(renamed(&before, to).unwrap(), component(&[&long, "plain", "wasi:io/poll@0.2.0"]));
        assert_eq!(renamed(&before, |_| None).unwrap(), before);
    }

    #[test]
    fn a_truncated_component_is_refused() {
        let whole = component(&["a:b/c", "d:e/f"]);
        for cut in (0..whole.len()).filter(|cut| ![8, 12, whole.len() - 5].contains(cut)) {
            assert!(renamed(&whole[..cut], |name| Some(format!("{name}x"))).is_err(), "cut at {cut}");
        }
    }
}
