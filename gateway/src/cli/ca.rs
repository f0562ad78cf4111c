//! `tollgate ca`.

use std::io::Write as _;
use std::process::ExitCode;

use super::{Common, boot};
use crate::tls::DevCa;

pub(super) fn ca(common: &Common) -> anyhow::Result<ExitCode> {
    let boot = match boot(common) {
        Ok(boot) => boot,
        Err(code) => return Ok(code),
    };
    let ca = DevCa::load_or_make(&boot.state.join("tls"))?;
    let path = std::fs::canonicalize(ca.path())?;
    let (pem, path) = (std::fs::read_to_string(&path)?, path.display());
    let text = format!(
        "{pem}
This is {path}, the CA of this machine's development certificates. Its key is in the same folder and never leaves this \
    machine. To trust the CA:

  curl      curl --cacert {path} https://hello.localhost:8443/
  Debian    cp {path} /usr/local/share/ca-certificates/tollgate-dev.crt && update-ca-certificates
  macOS     security add-trusted-cert -r trustRoot -k ~/Library/Keychains/login.keychain-db {path}
  Firefox   Settings, Certificates, Authorities, Import
  Node.js   NODE_EXTRA_CA_CERTS={path} node …

To remove it, undo these steps and delete the folder. The next `tollgate serve` creates a new CA.
"
    );
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
