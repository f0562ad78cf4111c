//! Everything that Tollgate promises, held to by the true binary.
//!
//! Every guest of `tests/guests` is named by a suite, or `guests` fails.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should say so and stop")]

mod acl;
mod acme;
mod app;
mod app_http;
mod bombs;
mod cached;
mod check;
mod clients;
mod compression;
mod demo;
mod developer;
mod edge;
mod egress;
mod fairness;
mod faults;
mod fleet;
mod floods;
mod framing;
mod guests;
mod hostile;
mod http03;
mod http2;
mod http3;
mod isolation;
mod keyvalue;
mod kv;
mod lasting;
mod lifecycle;
mod matrix;
mod manifests;
mod memory;
mod messages;
mod observed;
mod once;
mod operators;
mod outbound;
mod proxies;
mod remote;
mod reuse;
mod shards;
mod space;
mod spin;
mod storage;
mod suspension;
mod tenants;
