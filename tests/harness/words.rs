//! Bytes as text: digests, and how the guest `spin` takes arguments that are bytes.

use std::fmt::Write as _;

/// Two digits a byte.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// The digest by which a component is known.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref())
}

/// A line an argument; a line that is empty would be none, so each begins with an `x`, which is no digit.
#[must_use]
pub fn spin_words<W: AsRef<[u8]>>(words: &[W]) -> String {
    let lines: Vec<String> = words.iter().map(|word| format!("x{}", hex(word.as_ref()))).collect();
    lines.join("\n")
}
