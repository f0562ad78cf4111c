//! `tollgate messages list`, `replay` and `delete`: messages that failed too often, in the running gateway.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::tenant_id;
use super::{Common, running, runtime};
use crate::admin::Client;
use crate::store::Text;

const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Args, Debug)]
pub(super) struct Messages {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the messages, oldest first, one JSON object a line: id, tries, payload
    List(Which),
    /// Try the messages again
    Replay(Which),
    /// Delete the messages
    Delete(Which),
}

#[derive(Args, Debug)]
struct Which {
    /// The tenant that the channel belongs to (the name of its folder)
    #[arg(long, value_name = "ID")]
    tenant: String,
    /// Name of the channel, as the tenant's components use it
    channel: String,
    /// Ids of messages, as `list` prints them
    #[arg(value_name = "MESSAGE-ID")]
    ids: Vec<String>,
    /// All messages that are there now
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Deserialize)]
struct Page {
    dead: Vec<Value>,
}

pub(super) fn messages(asked: &Messages) -> anyhow::Result<ExitCode> {
    let (which, call) = match &asked.what {
        What::List(which) => (which, None),
        What::Replay(which) => (which, Some("replay")),
        What::Delete(which) => (which, Some("forget")),
    };
    let id = tenant_id(&which.tenant)?;
    let boot = match running(&which.common) {
        Ok(boot) => boot,
        Err(code) => return Ok(code),
    };
    let mut client = Client::new(&boot, PATIENCE)?;
    let base = format!("/v1/tenants/{id}/data");
    runtime()?.block_on(async {
        let Some(call) = call else { return list(&mut client, &base, which).await };
        if which.ids.is_empty() && !which.all {
            bail!("no messages were chosen: give their ids (tollgate messages list), or --all");
        }
        let changed = if which.all {
            let mut changed = 0;
            // A replayed message that fails again is appended behind the others, so each is requested once.
            let mut after = None;
            while let Some(ids) = page(&mut client, &base, which, after.as_deref()).await? {
                changed += change(&mut client, &base, call, &which.channel, &ids).await?;
                after = ids.last().cloned();
            }
            changed
        } else {
            change(&mut client, &base, call, &which.channel, &which.ids).await?
        };
        writeln!(std::io::stdout(), "{changed} messages")?;
        Ok(if changed == 0 && !which.all { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    })
}

async fn dead(client: &mut Client, base: &str, which: &Which, after: Option<&str>) -> anyhow::Result<Vec<Value>> {
    let body = json!({ "keys": [Text(which.channel.clone().into_bytes())], "cursor": after });
    let answer = client.post(&format!("{base}/dead"), &body).await?;
    let page: Page = serde_json::from_slice(&answer).context("the gateway's answer is not understood")?;
    Ok(page.dead)
}

fn id_of(message: &Value) -> Option<String> {
    Some(message.get("id")?.as_str()?.to_owned())
}

async fn page(
    client: &mut Client,
    base: &str,
    which: &Which,
    after: Option<&str>,
) -> anyhow::Result<Option<Vec<String>>> {
    let ids: Vec<String> = dead(client, base, which, after).await?.iter().filter_map(id_of).collect();
    Ok((!ids.is_empty()).then_some(ids))
}

async fn change(client: &mut Client, base: &str, call: &str, channel: &str, ids: &[String]) -> anyhow::Result<u64> {
    let words = std::iter::once(channel).chain(ids.iter().map(String::as_str));
    let keys: Vec<Text> = words.map(|word| Text(word.as_bytes().to_vec())).collect();
    let answer = client.post(&format!("{base}/{call}"), &json!({ "keys": keys })).await?;
    let answer: Value = serde_json::from_slice(&answer).context("the gateway's answer is not understood")?;
    answer.get("changed").and_then(Value::as_u64).context("the gateway's answer is not understood")
}

async fn list(client: &mut Client, base: &str, which: &Which) -> anyhow::Result<ExitCode> {
    let mut after = None;
    loop {
        let messages = dead(client, base, which, after.as_deref()).await?;
        let Some(last) = messages.last() else { return Ok(ExitCode::SUCCESS) };
        after = id_of(last);
        let wanted =
            |message: &&Value| which.ids.is_empty() || id_of(message).is_some_and(|id| which.ids.contains(&id));
        for message in messages.iter().filter(wanted) {
            writeln!(std::io::stdout(), "{message}")?;
        }
    }
}
