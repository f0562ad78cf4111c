//! Fuzzes the reader of the PROXY protocol with arbitrary bytes of a load balancer.
#![no_main]
#![allow(dead_code, reason = "the gateway uses more of these files than this does")]

#[path = "../../src/deadline.rs"]
mod deadline;
#[path = "../../src/listener/fuzzed.rs"]
mod fuzzed;
#[path = "../../src/networks.rs"]
mod networks;
#[path = "../../src/listener/proxied.rs"]
mod proxied;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzed::any_header(data));
