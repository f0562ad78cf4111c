//! What the author of a Spin manifest should know, but need not change: which keys and channels replace a Redis server
//! here.

use crate::config::files::boot::Boot;
use crate::config::files::tenant::TenantFile;
use crate::config::problem::{Kind, Place, Problem};
use crate::ids::TenantId;

/// Maximum number of notices for one tenant.
const NOTICES_MAX: usize = 20;
/// The gateway's file that commands use by default.
const DEFAULT_CONFIG: &str = "config/gateway.toml";
/// What a notice expects from its reader.
const NOTHING: &str = "no change: the application is served as it is";

/// One notice for each Redis address that a manifest grants, and for each channel that starts a component.
pub(crate) fn of(id: &TenantId, file: &TenantFile, shards: u32, boot: &Boot) -> Vec<Problem> {
    if file.app.is_none() {
        return Vec::new();
    }
    let mut notices: Vec<Problem> = Vec::new();
    let mut add = |kind, place: &Place, summary: &str, found: &str, hint: String| {
        let is_new = notices.iter().all(|other| (other.kind, other.found.as_str()) != (kind, found));
        if is_new && notices.len() < NOTICES_MAX {
            notices.push(Problem {
                kind,
                tenant: Some(id.clone()),
                place: place.clone(),
                summary: summary.to_owned(),
                found: found.to_owned(),
                wanted: NOTHING.to_owned(),
                hint: Some(hint),
                also: None,
            });
        }
    };
    let prefix = &boot.storage.prefix;
    let is_embedded = boot.storage.is_embedded();
    let config = match boot.source.path.as_str() {
        DEFAULT_CONFIG => String::new(),
        path => format!(" --config {}", quoted(path)),
    };
    for address in file.components.iter().flat_map(|component| &component.redis) {
        if address.value == "*" {
            continue;
        }
        let summary = "the gateway does not contact this Redis server: components reach the tenant's own keys instead";
        let hint = if is_embedded {
            "the keys are in the gateway's embedded store; `--storage redis://HOST:PORT` keeps them on a Redis server"
                .to_owned()
        } else if shards > 1 {
            format!(
                "KEY is `{}` on the gateway's Redis server, with one of {shards} numbers for N",
                prefix.shown_key(&format!("{id}.N"), "KEY")
            )
        } else {
            format!(
                "KEY is `{0}` on the gateway's Redis server: {1} get '{0}'",
                prefix.shown_key(id.as_str(), "KEY"),
                boot.storage.redis_cli()
            )
        };
        add(Kind::RedisStandIn, &address.place, summary, &address.value, hint);
    }
    for subscription in &file.subscriptions {
        let channel = &subscription.channel.value;
        let summary = "this channel belongs to the tenant: a plain publish to its name reaches nobody";
        let publish = format!("tollgate publish{config} --tenant {id} {} MESSAGE", quoted(channel));
        let hint = if is_embedded {
            format!("publish with: {publish}")
        } else {
            let whole = prefix.shown_channel(id, channel);
            format!("publish with: {} publish {} MESSAGE, or: {publish}", boot.storage.redis_cli(), quoted(&whole))
        };
        add(Kind::ChannelStandIn, &subscription.channel.place, summary, channel, hint);
    }
    notices
}

/// Quotes a text so that a shell reads it as one word.
fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/' | b':');
    if !text.is_empty() && text.bytes().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}
