//! The gateway's module of this name, without the connection.

#[path = "../../../src/http/front/chunks.rs"]
mod chunks;
#[path = "../../../src/http/front/fuzzed.rs"]
pub(crate) mod fuzzed;
#[path = "../../../src/http/front/head.rs"]
mod head;
#[path = "../../../src/http/front/refusals.rs"]
mod refusals;

pub(crate) use refusals::Malformed;
