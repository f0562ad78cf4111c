//! Fuzzes the readers of HTTP/1 heads and chunked bodies with arbitrary bytes of a client.
#![no_main]
#![allow(dead_code, unused_imports, reason = "the gateway uses more of these files than this does")]

#[path = "../../src/domain.rs"]
mod domain;
#[path = "../../src/fault.rs"]
mod fault;
mod http;

libfuzzer_sys::fuzz_target!(|data: &[u8]| http::front::fuzzed::any_message(data));
