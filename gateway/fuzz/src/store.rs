//! The part of the gateway's room `store` that the commands need.

#[path = "../../src/store/commands/mod.rs"]
pub(crate) mod commands;
#[path = "../../src/store/error.rs"]
mod error;
#[path = "../../src/store/layout.rs"]
pub(crate) mod layout;

pub(crate) use error::{BATCH_BYTES_MAX, BATCH_MAX, Error, KEY_BYTES_MAX, Result, VALUE_BYTES_MAX};
pub(crate) use layout::Prefix;
