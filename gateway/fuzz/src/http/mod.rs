//! The gateway's room of this name, as far as its readers need it.

#[path = "../../../src/http/blocks/mod.rs"]
pub(crate) mod blocks;
#[path = "../../../src/http/grammar/mod.rs"]
pub(crate) mod grammar;

/// As in the gateway, without the connection.
pub(crate) mod front {
    #[path = "../../../../src/http/front/chunks.rs"]
    mod chunks;
    #[path = "../../../../src/http/front/fuzzed.rs"]
    pub(crate) mod fuzzed;
    #[path = "../../../../src/http/front/head.rs"]
    mod head;
    #[path = "../../../../src/http/front/refusals.rs"]
    mod refusals;

    pub(crate) use refusals::Malformed;
}
