//! The rewriting of Redis commands, whatever a guest asks.
#![no_main]
#![allow(dead_code, unused_imports, unreachable_pub, reason = "the gateway uses more of these files than this does")]

#[path = "../../src/ids.rs"]
mod ids;

mod store {
    #[path = "../../../src/store/commands/mod.rs"]
    pub(crate) mod commands;
    #[path = "../../../src/store/error.rs"]
    mod error;
    #[path = "../../../src/store/layout.rs"]
    pub(crate) mod layout;

    pub(crate) use error::{BATCH_BYTES_MAX, BATCH_MAX, Error, KEY_BYTES_MAX, Result, VALUE_BYTES_MAX};
    pub(crate) use layout::Prefix;
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| store::commands::fuzzed::any_command(data));
