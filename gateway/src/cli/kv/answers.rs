//! What the gateway answers to calls about a tenant's data.

use serde::Deserialize;

use crate::store::Text;

/// Some keys, and where to go on.
#[derive(Deserialize)]
pub(super) struct Keys {
    pub(super) keys: Vec<Text>,
    pub(super) cursor: Option<String>,
}

/// Some of the names of what there is.
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
