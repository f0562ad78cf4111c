//! Files of configuration, whatever stands in them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tollgate::any_file(data));
