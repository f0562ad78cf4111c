//! The gateway's room of this name, as far as its readers need it.

#[path = "../../../src/http/blocks/mod.rs"]
pub(crate) mod blocks;
#[path = "../../../src/http/grammar/mod.rs"]
pub(crate) mod grammar;

pub(crate) mod front;
