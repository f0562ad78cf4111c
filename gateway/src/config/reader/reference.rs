//! Texts that are in the file or elsewhere: in an environment variable or in their own file.

use std::path::Path;

use toml::de::DeValue;

/// A text, or where to find one that must not be in the file.
#[derive(Clone, Debug)]
pub(crate) enum Reference {
    Text(String),
    Env(String),
    File(String),
}

impl Reference {
    /// The file that it names.
    pub(crate) fn path(&self) -> Option<&str> {
        match self {
            Self::File(path) => Some(path),
            Self::Text(_) | Self::Env(_) => None,
        }
    }

    /// # Errors
    /// What was found instead, without any part of the secret.
    pub(crate) fn read(&self, base: &Path) -> Result<String, String> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::Env(name) => std::env::var(name).map_err(|error| format!("{name}: {error}")),
            Self::File(path) => {
                let path = base.join(path);
                let text = read_whole(&path);
                text.map(|text| text.trim_end_matches(['\n', '\r']).to_owned())
                    .map_err(|error| crate::confine::refused(&path, &error))
            }
        }
    }
}

/// Maximum size of a file that contains a text.
const BYTES_MAX: u64 = 1 << 20;

/// Refuses devices and pipes, which could block the reader for ever.
fn read_whole(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut text = String::new();
    std::fs::File::open(path)?.take(BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > BYTES_MAX {
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "larger than 1 MiB"));
    }
    Ok(text)
}

/// Reads a text, `{ env = … }` or `{ file = … }`.
pub(crate) fn reference(value: &DeValue<'_>) -> Option<Reference> {
    if let Some(text) = value.as_str() {
        return Some(Reference::Text(text.to_owned()));
    }
    let table = value.as_table().filter(|table| table.len() == 1)?;
    let (name, value) = table.iter().next()?;
    let text = value.get_ref().as_str()?.to_owned();
    match name.get_ref().as_ref() {
        "env" => Some(Reference::Env(text)),
        "file" => Some(Reference::File(text)),
        _ => None,
    }
}
