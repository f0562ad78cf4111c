//! A tenant's data under an operator's hands: `POST /tenants/ID/data/…`, JSON in and out, for `tollgate kv`.
//!
//! Security: each call is for the one tenant of its path and goes through the same scopes as its guests' calls; without the
//! token it is 401. What changes anything is noted in the log, with neither keys nor values.
//!
//! Limit: a body of [`BODY_BYTES_MAX`]; sizes and batches as for guests.

use std::sync::Arc;

use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::moves::Moves;
use super::token::Token;
use crate::config::Plan;
use crate::ids::{NAME_RULE, StoreName, TenantId};
use crate::store::{Allowance, Error, Name, Raw, Reply, Scoped, Store, Text};

/// A batch of 8 MiB, all of it quotation marks at the worst.
const BODY_BYTES_MAX: usize = 24 << 20;

#[derive(Clone, Debug)]
pub(crate) struct Data {
    pub(crate) store: Arc<Store>,
    pub(crate) token: Token,
    pub(crate) moves: Moves,
}

/// What is asked, by the last part of the path.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    store: Option<String>,
    cursor: Option<String>,
    #[serde(default)]
    keys: Vec<Text>,
    #[serde(default)]
    pairs: Vec<(Text, Text)>,
    /// Where to move it.
    to: Option<String>,
    /// A Redis command and its arguments.
    #[serde(default)]
    command: Vec<Text>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum Told {
    Nil,
    Status(String),
    Int(i64),
    Bytes(Text),
}

/// A status, and why.
type Refusal = (StatusCode, String);

impl Data {
    /// The answer, as JSON.
    pub(super) async fn answer(
        &self,
        tenant: &TenantId,
        plan: Option<&Plan>,
        call: &str,
        request: Request<Incoming>,
    ) -> Result<Value, Refusal> {
        if !self.token.is_in(request.headers()) {
            let text = "this needs the token in the gateway's state folder, admin.token";
            return Err((StatusCode::UNAUTHORIZED, text.to_owned()));
        }
        let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await;
        let body = body.map_err(|error| (StatusCode::PAYLOAD_TOO_LARGE, error.to_string()))?.to_bytes();
        let asked = serde_json::from_slice(&body).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
        if matches!(call, "set" | "delete" | "purge" | "command" | "move" | "publish" | "replay" | "forget") {
            tracing::info!(target: "admin", %tenant, call, "an operator changes a tenant's data");
        }
        self.done(tenant, plan, call, asked).await
    }

    async fn done(&self, tenant: &TenantId, plan: Option<&Plan>, call: &str, asked: Asked) -> Result<Value, Refusal> {
        let space = plan.and_then(|plan| plan.quota.storage);
        let allowance = space.map(|space| Allowance { bytes: space.bytes, keys: space.keys });
        let ttl = |name: &StoreName| plan?.store_ttl.of(name);
        let raw = || self.store.raw(tenant, allowance);
        let name = || store_name(asked.store.as_deref().unwrap_or("default"));
        let scoped = || name().map(|name| self.store.scoped(tenant, &name, allowance, ttl(&name)));
        match call {
            "names" => self.names(tenant, asked.cursor.as_deref()).await,
            "keys" => keys(&scoped()?, asked.cursor.as_deref()).await,
            "get" => {
                let keys: Vec<&[u8]> = asked.keys.iter().map(|key| key.0.as_slice()).collect();
                let values = scoped()?.get_many(&keys).await.map_err(|error| refusal(&error))?;
                Ok(json!({ "values": values.into_iter().map(|value| value.map(Text)).collect::<Vec<_>>() }))
            }
            "set" => {
                let pairs = asked.pairs.iter().map(|(key, value)| (key.0.clone(), value.0.clone())).collect();
                scoped()?.set_many(pairs).await.map_err(|error| refusal(&error))?;
                Ok(json!({ "set": asked.pairs.len() }))
            }
            "delete" => {
                let keys = asked.keys.iter().map(|key| key.0.clone()).collect();
                scoped()?.delete_many(keys).await.map_err(|error| refusal(&error))?;
                Ok(json!({ "deleted": asked.keys.len() }))
            }
            "command" => command(&raw(), asked.command).await,
            "publish" => {
                let [channel, payload] = asked.keys.as_slice() else {
                    return Err((StatusCode::BAD_REQUEST, "a channel and a message are two".to_owned()));
                };
                raw().publish(&channel.0, &payload.0).await.map_err(|error| refusal(&error))?;
                Ok(json!({ "published": true }))
            }
            "dead" | "replay" | "forget" => self.dead(tenant, call, asked).await,
            "move" => {
                let to = asked.to.as_deref().unwrap_or_default();
                let begun = self.moves.begin(tenant, plan, to);
                begun.map_err(|error| (StatusCode::UNPROCESSABLE_ENTITY, format!("{error:#}")))?;
                Ok(json!({ "begun": true }))
            }
            "moving" => {
                let never = || (StatusCode::NOT_FOUND, "it was not moved since the gateway started".to_owned());
                self.moves.status(tenant).ok_or_else(never)
            }
            "purge" => {
                let only = asked.store.as_deref().map(store_name).transpose()?;
                let removed = self.store.purge(tenant, only.as_ref()).await.map_err(|error| refusal(&error))?;
                Ok(json!({ "removed": removed }))
            }
            _ => Err((StatusCode::NOT_FOUND, "there is no such call".to_owned())),
        }
    }

    /// Messages that failed too often: the channel is the first key, and their identities follow.
    async fn dead(&self, tenant: &TenantId, call: &str, asked: Asked) -> Result<Value, Refusal> {
        let mut keys = asked.keys.into_iter();
        let channel = keys.next().ok_or_else(|| (StatusCode::BAD_REQUEST, "a channel is wanted".to_owned()))?.0;
        let ids: Vec<String> = keys.filter_map(|id| String::from_utf8(id.0).ok()).collect();
        let store = &self.store;
        let changed = match call {
            "replay" => store.replay(tenant, &channel, &ids).await,
            "forget" => store.forget_dead(tenant, &channel, &ids).await,
            _ => {
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
    let Some(name) = words.next() else { return Err((StatusCode::BAD_REQUEST, "there is no command".to_owned())) };
    let replies = raw.execute(&name, words.collect()).await.map_err(|error| refusal(&error))?;
    let told = replies.into_iter().map(|reply| match reply {
        Reply::Nil => Told::Nil,
        Reply::Status(text) => Told::Status(text),
        Reply::Int(number) => Told::Int(number),
        Reply::Bytes(bytes) => Told::Bytes(Text(bytes)),
    });
    Ok(json!({ "replies": told.collect::<Vec<_>>() }))
}

fn store_name(text: &str) -> Result<StoreName, Refusal> {
    let wrong = || (StatusCode::BAD_REQUEST, format!("{text:?} is not the name of a store: {NAME_RULE}"));
    StoreName::parse(text).ok_or_else(wrong)
}

fn refusal(error: &Error) -> Refusal {
    let status = match error {
        Error::Unavailable | Error::LeftAlone | Error::Timeout => StatusCode::SERVICE_UNAVAILABLE,
        Error::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        Error::OverQuota(_) => StatusCode::INSUFFICIENT_STORAGE,
        Error::Shards { .. } => StatusCode::CONFLICT,
        Error::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Error::NotANumber | Error::WrongType(_) | Error::Refused(_) | Error::Command(_) | Error::BadCursor => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
    };
    (status, error.to_string())
}
