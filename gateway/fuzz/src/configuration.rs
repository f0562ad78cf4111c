//! Fuzzes the readers of configuration files with arbitrary text.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tollgate::any_file(data));
