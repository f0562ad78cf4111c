//! What each file says, key by key, before it is joined with anything: `gateway.toml` (one file here for each group of its sections)
//! and `tenant.toml`.

pub(crate) mod admin;
pub(crate) mod bounds;
pub(crate) mod defaults;
pub(crate) mod front;
pub(crate) mod gateway;
pub(crate) mod project;
pub(crate) mod telemetry;
pub(crate) mod tenant;
pub(crate) mod tls;
