//! Fuzzes the readers of host names, path patterns and paths with arbitrary text.
#![no_main]
#![allow(dead_code, reason = "the gateway uses more of these files than this does")]

#[path = "../../src/domain.rs"]
mod domain;
#[path = "../../src/route/fuzzed.rs"]
mod fuzzed;
#[path = "../../src/route/path.rs"]
mod path;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzed::any_names(data));
