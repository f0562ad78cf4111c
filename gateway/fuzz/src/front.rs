//! HTTP/1 heads and chunked bodies, whatever a client sends.
#![no_main]
#![allow(dead_code, reason = "the gateway uses more of these files than this does")]

/// The gateway's room of this name, as far as its front needs it.
const FIELDS_MAX: usize = 100;
#[path = "../../src/http/front/chunks.rs"]
mod chunks;
#[path = "../../src/http/front/fuzzed.rs"]
mod fuzzed;
#[path = "../../src/http/front/head.rs"]
mod head;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzed::any_message(data));
