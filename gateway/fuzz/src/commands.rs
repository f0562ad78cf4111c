//! Fuzzes the rewriting of Redis commands with arbitrary commands of a guest.
#![no_main]
#![allow(dead_code, unused_imports, unreachable_pub, reason = "the gateway uses more of these files than this does")]

#[path = "../../src/ids.rs"]
mod ids;
mod store;

libfuzzer_sys::fuzz_target!(|data: &[u8]| store::commands::fuzzed::any_command(data));
