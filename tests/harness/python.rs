//! Independent clients in Python (`tests/clients`); `make setup-test` fetches the libraries they need.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::top;

/// The folder of `make setup-test`.
#[must_use]
pub fn cache() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| Path::new(&std::env::var_os("HOME").unwrap()).join(".cache"));
    cache.join("tollgate")
}

/// Runs a client with this order and returns its answer; both are JSON.
pub async fn python(script: &str, order: Value) -> Value {
    let script = top().join("tests/clients").join(script);
    let run = move || {
        let python = cache().join("clients/bin/python");
        assert!(python.exists(), "{} is missing: run `make setup-test`", python.display());
        let mut child = Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(order.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", output.status);
        serde_json::from_slice(&output.stdout).unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}
