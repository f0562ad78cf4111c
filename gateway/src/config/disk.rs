//! Reads one file from disk, up to a maximum size: a configuration file or a component.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::problem::{Kind, Place, Problem, Source};
use crate::config::remote;
use crate::confine;
use crate::ids::Digest;

/// Maximum size of a configuration file.
pub(crate) const FILE_BYTES_MAX: u64 = 1 << 20;

/// What the source of a component turned out to be.
pub(crate) enum Wasm {
    Component(PathBuf, Digest),
    Other(String),
    Unreadable(String),
    /// It is remote, and could not be fetched.
    Unfetched(String),
}

pub(crate) fn source(path: &Path) -> Result<Arc<Source>, Box<Problem>> {
    let bytes = read_limited(path, FILE_BYTES_MAX);
    let text =
        bytes.and_then(|bytes| String::from_utf8(bytes).map_err(|error| format!("not UTF-8: {}", error.utf8_error())));
    text.map(|text| Source::new(path, text)).map_err(|error| unreadable(path, &error, "a file that can be read"))
}

pub(crate) fn wasm(path: &Path) -> Wasm {
    match read_limited(path, remote::BYTES_MAX) {
        Err(error) => Wasm::Unreadable(error),
        Ok(bytes) => match bytes.get(..8) {
            // The two numbers after the magic are version and layer: 1 and 0 for a module, 13 and 1 for a component. The
            // compiler turns a core module into a component.
            Some(b"\0asm\x0d\0\x01\0" | b"\0asm\x01\0\0\0") => Wasm::Component(path.to_owned(), Digest::of(&bytes)),
            Some([0, b'a', b's', b'm', ..]) => Wasm::Other("WebAssembly of an unknown version".to_owned()),
            _ => Wasm::Other("no WebAssembly".to_owned()),
        },
    }
}

pub(crate) fn read_limited(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let read = || -> std::io::Result<Vec<u8>> {
        use std::io::Read as _;
        if !std::fs::metadata(path)?.is_file() {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Err(error) => Err(confine::refused(path, &error)),
        Ok(bytes) if bytes.len() as u64 > bytes_max => Err(format!("{}: more than {bytes_max} bytes", path.display())),
        Ok(bytes) => Ok(bytes),
    }
}

pub(crate) fn unreadable(path: &Path, found: &str, wanted: &str) -> Box<Problem> {
    Box::new(Problem {
        kind: Kind::Unreadable,
        tenant: None,
        place: Place::whole(&Source::new(path, String::new())),
        summary: "this cannot be read".to_owned(),
        found: found.to_owned(),
        wanted: wanted.to_owned(),
        hint: None,
        also: None,
    })
}
