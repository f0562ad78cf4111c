//! Many components that differ only in a number, each with its own compiled code on disk.
//!
//! The gateway compiles the first. The code of the others is a copy of it under their digests, because compiling ten
//! thousand takes two hours here. Each is another file to the kernel and another component to the gateway.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::report::sha256;
use crate::servers::Site;

/// A component with the same code and another digest: one more custom section (core specification, §5.5.3).
fn numbered(component: &[u8], number: u32) -> Vec<u8> {
    let mut section = vec![7];
    section.extend_from_slice(b"variant");
    section.extend_from_slice(&number.to_le_bytes());
    let mut bytes = component.to_vec();
    bytes.push(0);
    bytes.push(12);
    bytes.extend_from_slice(&section);
    bytes
}

/// Makes this many tenants `t0`, `t1` …, each with its own component, already compiled.
pub(super) fn tenants(site: &Site, component: &Path, count: usize) -> anyhow::Result<Vec<String>> {
    let bytes = fs::read(component)?;
    // The one that the gateway compiles.
    site.tenant("t0", component, "")?;
    drop(site.serve("t0.localhost")?);
    let compiled = site.dir.join("state/compiled");
    let own = sha256(&bytes);
    let made: Vec<PathBuf> = fs::read_dir(&compiled)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    let components = site.dir.join("components");
    fs::create_dir_all(&components)?;
    let mut hosts = vec!["t0.localhost".to_owned()];
    for number in 1..count {
        let bytes = numbered(&bytes, u32::try_from(number)?);
        let own_digest = sha256(&bytes);
        for path in &made {
            let name = path.file_name().and_then(|name| name.to_str()).context("a strange name")?;
            if let Some(rest) = name.strip_prefix(&own) {
                fs::copy(path, compiled.join(format!("{own_digest}{rest}")))?;
            }
        }
        let file = components.join(format!("{number}.wasm"));
        fs::write(&file, &bytes)?;
        let id = format!("t{number}");
        site.tenant(&id, &file, "")?;
        hosts.push(format!("{id}.localhost"));
    }
    Ok(hosts)
}
