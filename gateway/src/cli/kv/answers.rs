//! The gateway's answers to calls about a tenant's data.

use serde::Deserialize;

use crate::store::Text;

/// Some keys, and the cursor of the next ones.
#[derive(Deserialize)]
pub(super) struct Keys {
    pub(super) keys: Vec<Text>,
    pub(super) cursor: Option<String>,
}

/// Some of the tenant's names.
#[derive(Deserialize)]
pub(super) struct Names {
    pub(super) stores: Vec<String>,
    pub(super) raw: Vec<Text>,
    pub(super) cursor: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Values {
    pub(super) values: Vec<Option<Text>>,
}

#[derive(Deserialize)]
pub(super) struct Purged {
    pub(super) removed: Option<u64>,
}
