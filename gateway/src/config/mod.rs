//! Operators' configuration: reads each file to its end, checks all of it, and reports every problem at once.
//!
//! The room has floors. Each one builds only on those above it in this list:
//!
//! - `problem` describes what is wrong with a file, and `reader` walks a TOML file and records problems. `disk` reads one
//!   file, up to a maximum size, and `remote` fetches components.
//! - `mounts` finds the files that a component may read. `files` knows the keys of `gateway.toml` and `tenant.toml`, and
//!   `spin` those of Spin's manifests.
//! - `plan` is the result for a tenant; [`Boot`] is the result for the machine, whose changes need a restart. `resolve`
//!   makes a plan; it is pure.
//! - `watch` watches for changes. `load` does the I/O and remembers what it read.
//! - `compile` has components compiled and checks them against what the gateway serves. `gateway` builds a [`Snapshot`]
//!   from plans.
//! - `budget` adds up what the settings allow, and `keys` documents every key.
//!
//! Invariant: a problem of one tenant affects only that tenant; the plans of others do not depend on it.

mod problem;
mod reader;
mod remote;
mod disk;
mod mounts;
mod files;
mod spin;
mod plan;
mod snapshot;
mod resolve;
mod watch;
mod load;
mod compile;
mod budget;
mod keys;
#[cfg(any(test, fuzzing))]
mod fuzzed;
#[cfg(test)]
mod tests;

pub(crate) use budget::{Machine, bounds as budget_bounds, descriptors, unconfined, warnings as budget_warnings};
pub(crate) use compile::{look, look_now, may_pass, prepare};
pub(crate) use files::boot::{Boot, Overrides, SECRET_BYTES_MIN};
pub(crate) use files::gateway::redis_at;
pub(crate) use files::project::{Project, Teller};
pub(crate) use files::tenant::{CHANNEL, is_channel};
#[cfg(fuzzing)]
pub(crate) use fuzzed::any_file;
pub(crate) use keys::{File as KeysFile, Shown, reference, schema, show_gateway, show_tenant};
pub(crate) use load::copies::{clear_away, files_of, stage};
pub(crate) use load::folders::names;
pub(crate) use load::known::{Before, Known};
pub(crate) use load::left::left_behind;
pub(crate) use load::reach::reach;
pub(crate) use load::{gateway, tenants, tenants_at_a_start};
pub(crate) use plan::{Plan, Planned, PlannedComponent, PlannedRoute, is_known};
pub(crate) use problem::{Kind, Problem, render_all};
pub(crate) use resolve::certificates::EXPIRES_SOON;
pub(crate) use snapshot::{Snapshot, Standing};
pub(crate) use spin::manifest_reference;
pub(crate) use watch::{Changed, Watch, folders as watched_folders};
