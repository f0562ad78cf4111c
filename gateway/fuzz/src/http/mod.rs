//! The part of the gateway's room `http` that the readers under test need.

#[path = "../../../src/http/blocks/mod.rs"]
pub(crate) mod blocks;
#[path = "../../../src/http/grammar/mod.rs"]
pub(crate) mod grammar;

pub(crate) mod front;
