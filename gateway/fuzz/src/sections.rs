//! Fuzzes the reader of HTTP/2 and HTTP/3 field sections with arbitrary fields of a client.
#![no_main]
#![allow(dead_code, unused_imports, reason = "the gateway uses more of these files than this does")]

#[path = "../../src/domain.rs"]
mod domain;
#[path = "../../src/fault.rs"]
mod fault;
mod http;

libfuzzer_sys::fuzz_target!(|data: &[u8]| http::blocks::fuzzed::any_section(data));
