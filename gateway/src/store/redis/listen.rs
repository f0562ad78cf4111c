//! One connection that listens for all tenants. Whatever ended it, it reconnects by itself with every subscription.
//!
//! On a cluster it connects to any one server, which receives what is published on each of them. (Sharded channels would
//! spare the servers that, but they would not receive a plain PUBLISH, which operators and Spin's own tools send.) Messages
//! that are published while it is disconnected are lost, as usual with Redis.
//!
//! Limit: messages of [`VALUE_BYTES_MAX`]; longer ones are dropped.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool_redis::redis::aio::{PubSubSink, PubSubStream};
use deadpool_redis::redis::{Client, Msg, RedisResult};
use futures_util::StreamExt as _;
use tokio::sync::watch;

use super::login::Login;
use super::{Redis, Topology, sentinels};
use crate::store::VALUE_BYTES_MAX;
use crate::store::messages::{Channel, Hand, IncomingMessage, Wanted};
use crate::store::notes::Notes;

/// The pause between two attempts, and its maximum after several.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Time limit for the server's answers, and how often it gets a PING.
const PATIENCE: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_secs(2);

/// Where to listen.
pub(in crate::store) struct Listener {
    login: Arc<Login>,
    /// The index of the next server.
    turn: usize,
}

impl Redis {
    pub(in crate::store) fn listener(&self) -> Listener {
        Listener { login: Arc::clone(&self.login), turn: 0 }
    }
}

impl Listener {
    /// Listens until nobody needs it any more.
    pub(in crate::store) async fn run(mut self, mut wanted: watch::Receiver<Wanted>, hand: Hand) {
        let mut pause = PAUSE;
        loop {
            let (mut sink, stream) = match tokio::time::timeout(PATIENCE, self.connect()).await {
                Ok(Ok(connection)) => connection,
                Ok(Err(_)) | Err(_) => {
                    self.turn += 1;
                    // The password may have changed.
                    let _changed = self.login.reload().await;
                    // Many gateways lose a server at the same moment.
                    tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.5))).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                    if wanted.has_changed().is_err() {
                        return;
                    }
                    continue;
                }
            };
            pause = PAUSE;
            if listen(&mut sink, stream, &mut wanted, &hand).await {
                return;
            }
            tracing::warn!(target: "store", "the connection that receives messages ended; the gateway opens a new one");
            self.turn += 1;
        }
    }

    async fn connect(&self) -> RedisResult<(PubSubSink, PubSubStream)> {
        let infos = self.login.infos();
        let client = match self.login.at.topology {
            Topology::Sentinel => sentinels(&self.login.at, &infos)?.async_get_client().await?,
            Topology::Single | Topology::Cluster => {
                let info = infos.get(self.turn % infos.len().max(1));
                Client::open(info.cloned().ok_or((deadpool_redis::redis::ErrorKind::InvalidClientConfig, "no URL"))?)?
            }
        };
        Ok(Box::pin(client.get_async_pubsub()).await?.split())
    }
}

/// Returns whether listening has ended for good, and not only this connection.
async fn listen(
    sink: &mut PubSubSink,
    mut stream: PubSubStream,
    wanted: &mut watch::Receiver<Wanted>,
    hand: &Hand,
) -> bool {
    let (mut subscribed, mut notes) = (BTreeSet::new(), Notes::default());
    let mut look = tokio::time::interval(LOOK);
    loop {
        let channels = Wanted::clone(&wanted.borrow_and_update());
        if !matches!(tokio::time::timeout(PATIENCE, agree(sink, &mut subscribed, &channels)).await, Ok(Ok(()))) {
            return false;
        }
        loop {
            tokio::select! {
                message = stream.next() => {
                    let Some(message) = message else { return false };
                    hear(&message, &channels, &mut notes, hand);
                }
                changed = wanted.changed() => match changed {
                    Ok(()) => break,
                    Err(_nobody) => return true,
                },
                _ = look.tick() => {
                    // A server that hangs is silent too.
                    let alive = tokio::time::timeout(PATIENCE, sink.ping::<deadpool_redis::redis::Value>()).await;
                    if !matches!(alive, Ok(Ok(_))) {
                        return false;
                    }
                }
            }
        }
    }
}

/// Passes a message on, or keeps a note about one.
fn hear(message: &Msg, channels: &Wanted, notes: &mut Notes, hand: &Hand) {
    let Ok(whole) = message.get_channel::<Vec<u8>>() else { return };
    let (payload, now) = (message.get_payload_bytes(), Instant::now());
    match channels.get(&whole) {
        Some(Channel::Of(tenant, channel)) => {
            let line = notes.line(&whole, payload, now);
            let payload = if payload.len() > VALUE_BYTES_MAX { None } else { Some(payload.to_vec()) };
            hand(IncomingMessage { tenant: tenant.clone(), channel: channel.clone(), payload, line });
        }
        Some(Channel::Notes(of)) => notes.add(of, payload, now),
        None => {}
    }
}

/// Subscribes to new channels, and unsubscribes from those that are not needed any more.
async fn agree(sink: &mut PubSubSink, subscribed: &mut BTreeSet<Vec<u8>>, wanted: &Wanted) -> RedisResult<()> {
    let new: Vec<&Vec<u8>> = wanted.keys().filter(|channel| !subscribed.contains(*channel)).collect();
    for some in new.chunks(500) {
        sink.subscribe(some).await?;
    }
    let old: Vec<&Vec<u8>> = subscribed.iter().filter(|channel| !wanted.contains_key(*channel)).collect();
    for some in old.chunks(500) {
        sink.unsubscribe(some).await?;
    }
    *subscribed = wanted.keys().cloned().collect();
    Ok(())
}
