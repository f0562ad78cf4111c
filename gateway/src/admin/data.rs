//! Operators' access to a tenant's data: `POST /v1/tenants/ID/data/…`, with JSON in both directions, for `tollgate kv`.
//!
//! Security: each call is for the one tenant in its path, and uses the same scopes as its guests' calls. The token that may
//! only read is not enough. Each call is logged, without keys and values.
//!
//! Limit: a body of [`BODY_BYTES_MAX`]; sizes and batches as for guests.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::Admin;
use super::moves::Moves;
use super::refusal::{Json, Path, ProblemDetails, Refusal};
use crate::config::Plan;
use crate::ids::{Line, STORE_RULE, StoreName, TenantId};
use crate::store::{Allowance, Error, Name, Raw, Reply, Scoped, Store, Text};

/// A batch of 8 MiB that consists only of quotation marks, the worst case in JSON.
pub(super) const BODY_BYTES_MAX: usize = 24 << 20;

#[derive(Clone, Debug)]
pub(crate) struct Data {
    pub(crate) store: Arc<Store>,
    pub(crate) moves: Moves,
}

/// The request's parameters; which ones apply depends on the last part of the path.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// Name of the store; by default `default`.
    store: Option<String>,
    /// Where the previous page ended.
    cursor: Option<String>,
    /// Bytes, as a text or as `{"base64": "…"}`.
    #[serde(default)]
    #[schema(value_type = Vec<Value>)]
    keys: Vec<Text>,
    #[serde(default)]
    #[schema(value_type = Vec<Vec<Value>>)]
    pairs: Vec<(Text, Text)>,
    /// Destination of the move.
    to: Option<String>,
    /// A Redis command and its arguments.
    #[serde(default)]
    #[schema(value_type = Vec<Value>)]
    command: Vec<Text>,
}

/// The operation to perform.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Call {
    Names,
    Keys,
    Get,
    Set,
    Delete,
    Command,
    Publish,
    Dead,
    Replay,
    Forget,
    Move,
    Moving,
    Purge,
}

/// Reads or changes a tenant's data. The commands `kv`, `messages` and `publish` use this call.
#[utoipa::path(post, path = "/v1/tenants/{id}/data/{call}", tag = "data",
    params(("id" = String, Path), ("call" = inline(Call), Path)), request_body = Asked,
    responses(
        (status = 200, body = Value),
        (status = 400, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 409, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 507, body = ProblemDetails, content_type = "application/problem+json"),
    ))]
pub(super) async fn call(
    State(admin): State<Arc<Admin>>,
    Path((id, call)): Path<(String, Call)>,
    Json(asked): Json<Asked>,
) -> Result<axum::Json<Value>, Refusal> {
    let id = admin.known(&id)?;
    let plan = admin.road.snapshot.load().plans.get(&id).cloned();
    admin.data.done(&id, plan.as_deref(), call, asked).await.map(axum::Json)
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum Told {
    Nil,
    Status(String),
    Int(i64),
    Bytes(Text),
}

impl Data {
    async fn done(&self, tenant: &TenantId, plan: Option<&Plan>, call: Call, asked: Asked) -> Result<Value, Refusal> {
        let space = plan.and_then(|plan| plan.quota.storage);
        let allowance = space.map(|space| Allowance { bytes: space.bytes, keys: space.keys });
        let ttl = |name: &StoreName| plan?.store_ttl.of(name);
        let raw = || self.store.raw(tenant, allowance);
        let name = || store_name(asked.store.as_deref().unwrap_or("default"));
        let scoped = || name().map(|name| self.store.scoped(tenant, &name, allowance, ttl(&name)));
        match call {
            Call::Names => self.names(tenant, asked.cursor.as_deref()).await,
            Call::Keys => keys(&scoped()?, asked.cursor.as_deref()).await,
            Call::Get => {
                let keys: Vec<&[u8]> = asked.keys.iter().map(|key| key.0.as_slice()).collect();
                let values = scoped()?.get_many(&keys).await.map_err(|error| refusal(&error))?;
                Ok(json!({ "values": values.into_iter().map(|value| value.map(Text)).collect::<Vec<_>>() }))
            }
            Call::Set => {
                let pairs = asked.pairs.iter().map(|(key, value)| (key.0.clone(), value.0.clone())).collect();
                scoped()?.set_many(pairs).await.map_err(|error| refusal(&error))?;
                Ok(json!({ "set": asked.pairs.len() }))
            }
            Call::Delete => {
                let keys = asked.keys.iter().map(|key| key.0.clone()).collect();
                scoped()?.delete_many(keys).await.map_err(|error| refusal(&error))?;
                Ok(json!({ "deleted": asked.keys.len() }))
            }
            Call::Command => command(&raw(), asked.command).await,
            Call::Publish => {
                let [channel, payload] = asked.keys.as_slice() else {
                    return Err(Refusal::new(StatusCode::BAD_REQUEST, "a channel and a message are required"));
                };
                raw().publish(&channel.0, &payload.0, Line::first()).await.map_err(|error| refusal(&error))?;
                Ok(json!({ "published": true }))
            }
            Call::Dead | Call::Replay | Call::Forget => self.dead(tenant, call, asked).await,
            Call::Move => {
                let to = asked.to.as_deref().unwrap_or_default();
                let begun = self.moves.begin(tenant, plan, to);
                begun.map_err(|error| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{error:#}")))?;
                Ok(json!({ "begun": true }))
            }
            Call::Moving => {
                let never = || Refusal::new(StatusCode::NOT_FOUND, "its data was not moved since the gateway started");
                self.moves.status(tenant).ok_or_else(never)
            }
            Call::Purge => {
                let only = asked.store.as_deref().map(store_name).transpose()?;
                let removed = self.store.purge(tenant, only.as_ref()).await.map_err(|error| refusal(&error))?;
                Ok(json!({ "removed": removed }))
            }
        }
    }

    /// Operations on dead letters: the channel is the first key, and their ids follow.
    async fn dead(&self, tenant: &TenantId, call: Call, asked: Asked) -> Result<Value, Refusal> {
        let mut keys = asked.keys.into_iter();
        let channel = keys.next().ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, "a channel is required"))?.0;
        let ids: Vec<String> = keys.filter_map(|id| String::from_utf8(id.0).ok()).collect();
        let store = &self.store;
        let changed = match call {
            Call::Replay => store.replay(tenant, &channel, &ids).await,
            Call::Forget => store.forget_dead(tenant, &channel, &ids).await,
            Call::Names
            | Call::Keys
            | Call::Get
            | Call::Set
            | Call::Delete
            | Call::Command
            | Call::Publish
            | Call::Dead
            | Call::Move
            | Call::Moving
            | Call::Purge => {
                let dead = store.dead(tenant, &channel, asked.cursor.as_deref()).await;
                let dead = dead.map_err(|error| refusal(&error))?.into_iter();
                let dead = dead.map(|one| json!({ "id": one.id, "tries": one.tries, "payload": Text(one.payload) }));
                return Ok(json!({ "dead": dead.collect::<Vec<_>>() }));
            }
        };
        Ok(json!({ "changed": changed.map_err(|error| refusal(&error))? }))
    }

    async fn names(&self, tenant: &TenantId, cursor: Option<&str>) -> Result<Value, Refusal> {
        let found = self.store.names(tenant, cursor).await.map_err(|error| refusal(&error))?;
        let (mut stores, mut raw) = (Vec::new(), Vec::new());
        for name in found.names {
            match name {
                Name::Store(store) => stores.push(store.to_string()),
                Name::Raw(key) => raw.push(Text(key)),
            }
        }
        Ok(json!({ "stores": stores, "raw": raw, "cursor": found.cursor }))
    }
}

async fn keys(scoped: &Scoped, cursor: Option<&str>) -> Result<Value, Refusal> {
    let page = scoped.list(cursor).await.map_err(|error| refusal(&error))?;
    Ok(json!({ "keys": page.keys.into_iter().map(Text).collect::<Vec<_>>(), "cursor": page.cursor }))
}

async fn command(raw: &Raw, words: Vec<Text>) -> Result<Value, Refusal> {
    let mut words = words.into_iter().map(|word| word.0);
    let Some(name) = words.next() else { return Err(Refusal::new(StatusCode::BAD_REQUEST, "a command is required")) };
    let answered = raw.execute(&name, words.collect()).await.map_err(|error| refusal(&error))?;
    let told = answered.replies.into_iter().map(|reply| match reply {
        Reply::Nil => Told::Nil,
        Reply::Status(text) => Told::Status(text),
        Reply::Int(number) => Told::Int(number),
        Reply::Bytes(bytes) => Told::Bytes(Text(bytes)),
    });
    Ok(json!({ "replies": told.collect::<Vec<_>>() }))
}

fn store_name(text: &str) -> Result<StoreName, Refusal> {
    let wrong = || Refusal::new(StatusCode::BAD_REQUEST, format!("{text:?} is not a valid store name: {STORE_RULE}"));
    StoreName::parse(text).ok_or_else(wrong)
}

fn refusal(error: &Error) -> Refusal {
    let status = match error {
        Error::Unavailable | Error::LeftAlone | Error::NotNow | Error::Busy | Error::Timeout => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Error::TooLarge(_) | Error::TooMuch { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Error::OverQuota(_) => StatusCode::INSUFFICIENT_STORAGE,
        Error::Shards { .. } => StatusCode::CONFLICT,
        Error::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Error::NotANumber | Error::WrongType(_) | Error::Refused(_) | Error::Command(_) | Error::BadCursor => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
    };
    Refusal::new(status, error.to_string())
}
