//! The input of [`super::tenant`] besides the tenant's file, and its result.

use std::sync::Arc;
use std::time::SystemTime;

use super::certificates::{ClientsFiles, PairFiles};
use crate::config::disk::Wasm;
use crate::config::mounts::{BadFiles, Files};
use crate::config::plan::Plan;
use crate::config::reader::At;
use crate::domain::Pattern;

/// What a tenant's file refers to.
pub(crate) struct Materials {
    /// One for each component.
    pub(crate) wasm: Vec<Wasm>,
    /// For each component, one for each of its parts.
    pub(crate) parts: Vec<Vec<Wasm>>,
    /// The files that a component may read, or which mount cannot be used and why.
    pub(crate) files: Vec<Option<Result<Files, BadFiles>>>,
    /// One for each pair of files.
    pub(crate) pairs: Vec<PairFiles>,
    pub(crate) clients: Option<ClientsFiles>,
    /// When all of this was read.
    pub(crate) now: SystemTime,
    /// One for each variable.
    pub(crate) variables: Vec<Result<String, String>>,
    /// One for each secret.
    pub(crate) secrets: Vec<Result<String, String>>,
}

/// A valid tenant, and where its file claims its hosts.
#[derive(Clone)]
pub(crate) struct Found {
    pub(crate) plan: Arc<Plan>,
    pub(crate) claims: Arc<[At<Pattern>]>,
}
