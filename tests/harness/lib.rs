//! The basis of every suite: the real gateway on free ports, real guests, a real Redis, clients over real TLS.
//!
//! A server that a test starts ends with the test. Nothing here sleeps and hopes: it waits for a state, with a time limit.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on should say so and stop"
)]

mod client;
mod gateway;
mod origin;
mod pebble;
mod ports;
mod python;
mod redis;
mod registry;
mod site;
pub mod wat;
mod words;

pub use client::{Answer, Body, Client, Protocol, Sender, empty, full, read, request};
pub use gateway::{Gateway, check, checked, run, tollgate};
pub use origin::{Asked, Origin};
pub use pebble::Pebble;
pub use ports::{free_address, free_port};
pub use python::{cache, python};
pub use redis::{Redis, RedisCluster, RedisSentinel, Storage};
pub use registry::Registry;
pub use site::{Site, Tenant};
pub use words::{hex, sha256, spin_words};

use std::path::PathBuf;
use std::time::Duration;

/// How long any step may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The root of the repository where cargo runs the tests, which may differ from where it built them: clones that share a
/// target directory also share binaries.
#[must_use]
pub fn top() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    here.parent().expect("tests/ has a parent").to_owned()
}

/// The folder of `make guests`.
#[must_use]
pub fn guests() -> PathBuf {
    std::env::var_os("TOLLGATE_GUESTS").map_or_else(|| top().join("tests/guests/target/components"), PathBuf::from)
}

/// A guest that `make guests` built.
#[must_use]
pub fn guest(name: &str) -> PathBuf {
    let path = guests().join(format!("{name}.wasm"));
    assert!(path.exists(), "{} is missing: run `make guests`", path.display());
    path
}

/// Waits until `look` returns something.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let start = std::time::Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
