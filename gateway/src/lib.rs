//! Tollgate: a gateway that answers each tenant's requests by running that tenant's WebAssembly component.
//!
//! The rooms, in the order in which a request meets them. An arrow points to what a room may name: words ←
//! telemetry ← {tenant, store, listener, tls, http} ← {route, host} ← admission ← sandbox ← response ← {cache, owners,
//! config, request, trigger, canary, admin, fleet} ← gateway ← cli;
//! `tests/layering.rs` holds every file to it.

// The compiler proves that the future of an operator's call is `Send` down to the store's sockets, which nests deeper than
// 128 types.
#![recursion_limit = "256"]

// Words that every room may use.
mod deadline;
mod domain;
mod fault;
mod ids;
mod networks;
mod shares;
mod confine;

// The road of a request.
mod listener;
mod tls;
mod http;
mod route;
mod admission;
mod tenant;
mod sandbox;
mod host;
mod store;
mod response;
mod telemetry;

// Around the road.
mod cache;
mod owners;
mod config;
mod request;
mod trigger;
mod canary;
mod admin;
mod fleet;
mod gateway;
pub mod cli;

/// Entry point for the fuzz targets in `gateway/fuzz`.
#[cfg(fuzzing)]
pub fn any_file(data: &[u8]) {
    config::any_file(data);
}
