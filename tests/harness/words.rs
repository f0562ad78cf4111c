//! Bytes as text: digests, and byte arguments for the guest `spin`.

use std::fmt::Write as _;

/// Two digits for each byte.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// The digest that identifies a component.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref())
}

/// One line for each argument. An empty line would be no argument, so each begins with an `x`, which is not a digit.
#[must_use]
pub fn spin_words<W: AsRef<[u8]>>(words: &[W]) -> String {
    let lines: Vec<String> = words.iter().map(|word| format!("x{}", hex(word.as_ref()))).collect();
    lines.join("\n")
}
