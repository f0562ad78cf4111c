//! The token for full access, in a file of the gateway: `admin.token` in its state folder. Anyone who can read that file
//! may see tenants' data.
//!
//! Security: a gateway that finds no token creates one. Only the gateway's user can read it, and it is compared in constant
//! time.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use http::{HeaderMap, header};

use crate::config::SECRET_BYTES_MIN;

/// Random bytes of a token that the gateway makes.
const BYTES: usize = 32;

#[derive(Clone)]
pub(crate) struct Token(Arc<str>);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(token)")
    }
}

impl Token {
    /// # Errors
    /// The file can neither be read nor created, or the token in it is shorter than the key `admin.token` allows.
    pub(crate) fn load_or_make(path: &Path) -> io::Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) if text.trim().len() >= SECRET_BYTES_MIN => return Ok(Self(text.trim().into())),
            Ok(text) if !text.trim().is_empty() => {
                let found = text.trim().len();
                let why = format!(
                    "the token has {found} bytes; wanted at least {SECRET_BYTES_MIN}. Write a longer one, for example by `openssl rand -hex 32`, or \
                     delete the file: the gateway then makes one"
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(_empty) => std::fs::remove_file(path)?,
            Err(_not_there) => {}
        }
        let text = random()?;
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        writeln!(file, "{text}")?;
        Ok(Self(text.into()))
    }

    /// A new token, and its text.
    ///
    /// # Errors
    /// No random bytes are available.
    pub(crate) fn new() -> io::Result<(Self, String)> {
        let text = random()?;
        Ok((Self(text.as_str().into()), text))
    }

    /// The token in the configuration.
    pub(crate) fn of(secret: &str) -> Self {
        Self(secret.into())
    }

    /// Whether a request carries it, as RFC 6750 defines.
    pub(super) fn is_in(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        given.is_some_and(|given| aws_lc_rs::constant_time::verify_slices_are_equal(given, self.0.as_bytes()).is_ok())
    }
}

fn random() -> io::Result<String> {
    let mut bytes = [0; BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_unspecified| io::Error::other("no random bytes"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_stays_the_same_and_only_its_user_can_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.token");
        let token = Token::load_or_make(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Token::load_or_make(&path).unwrap().0, token.0);
        let mut headers = HeaderMap::new();
        assert!(!token.is_in(&headers));
        headers.insert(header::AUTHORIZATION, format!("Bearer {}", token.0).parse().unwrap());
        assert!(token.is_in(&headers));
        headers.insert(header::AUTHORIZATION, format!("Bearer {}0", token.0).parse().unwrap());
        assert!(!token.is_in(&headers));
    }

    #[test]
    fn a_short_token_is_refused_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.token");
        for (text, is_good) in [("x".repeat(31), false), ("x".repeat(32), true)] {
            std::fs::write(&path, &text).unwrap();
            let loaded = Token::load_or_make(&path);
            assert_eq!(loaded.is_ok(), is_good, "{text}");
            assert!(loaded.is_ok_and(|token| *token.0 == *text) || !is_good);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        std::fs::write(&path, "short").unwrap();
        let said = Token::load_or_make(&path).unwrap_err().to_string();
        assert!(said.contains("5 bytes") && said.contains("at least 32"), "{said}");
    }
}
