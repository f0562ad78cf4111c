//! Which server has which slot of the cluster, known from the servers themselves.
//!
//! All keys of one call are in one slot, so that the call goes to one server, and one pool for each server is enough. (The
//! redis crate's cluster client sends nothing while it refreshes its slots, and never leaves a primary that hangs.) A MOVED
//! or ASK from a server takes effect at once. A watcher asks all servers for the slots every [`CALM`], and every
//! [`TROUBLED`] while a breaker is open, and believes the server that names primaries which answer.
//!
//! Limit: [`NODES_MAX`] servers.

#![expect(clippy::wildcard_enum_match_arm, reason = "the enums of the redis crate are open")]

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use deadpool_redis::redis::{self, ConnectionAddr, ConnectionInfo, ErrorKind, ServerErrorKind, Value};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::login::Login;
use super::node::{Answer, Call, Node, connection_config};
use crate::deadline::Deadline;
use crate::store::layout::slot;
use crate::store::{Error, Result};

const SLOTS: usize = 16_384;
const NODES_MAX: usize = 1000;
const CALM: Duration = Duration::from_secs(10);
const TROUBLED: Duration = Duration::from_millis(250);
/// Time limit for a server's answer about the slots.
const LOOK: Duration = Duration::from_millis(400);
/// How often one call follows a redirection, or waits while the cluster is changing.
const ATTEMPTS: usize = 5;
const PAUSE: Duration = Duration::from_millis(25);

#[derive(Debug)]
pub(super) struct Cluster(Arc<State>);

#[derive(Debug)]
struct State {
    /// How to connect, and to which servers first.
    login: Arc<Login>,
    map: ArcSwap<Map>,
    trouble: Arc<Notify>,
    timeout: Duration,
}

/// The slots as last seen.
#[derive(Debug, Default)]
struct Map {
    /// For each slot, the index of its server in `nodes` plus one; 0 if it is unknown.
    slots: Vec<u16>,
    nodes: Vec<Arc<Node>>,
    by_address: HashMap<String, Arc<Node>>,
    /// The primaries in the order of `nodes`.
    primaries: Vec<String>,
}

impl Map {
    fn node(&self, slot: u16) -> Option<&Arc<Node>> {
        let place = self.slots.get(usize::from(slot)).copied()?.checked_sub(1)?;
        self.nodes.get(usize::from(place))
    }

    /// Whether a breaker is open, or a slot has no server.
    fn is_troubled(&self) -> bool {
        self.slots.is_empty() || self.slots.contains(&0) || self.nodes.iter().any(|node| node.breaker.is_open())
    }
}

/// Ranges of slots, both ends included, and the address of their primary.
type View = Vec<(u16, u16, String)>;

impl Cluster {
    /// Starts the watcher. No server has to be reachable yet.
    pub(super) fn watch(login: Arc<Login>, timeout: Duration) -> Self {
        let trouble = Arc::new(Notify::new());
        let state = Arc::new(State { login, map: ArcSwap::default(), trouble: Arc::clone(&trouble), timeout });
        let watched = Arc::downgrade(&state);
        tokio::spawn(async move {
            while let Some(pause) = look(&watched).await {
                // A caller that noticed a problem need not wait; but the servers are not asked all the time either.
                tokio::time::sleep(TROUBLED).await;
                let _either = tokio::time::timeout(pause.saturating_sub(TROUBLED), trouble.notified()).await;
            }
        });
        Self(state)
    }

    /// Sends one call to the server that has this key's slot.
    pub(super) async fn call(&self, key: &[u8], call: &Call<'_>) -> Result<Answer> {
        let slot = slot(key);
        let mut node = self.0.map.load().node(slot).cloned();
        let mut is_asked = false;
        let mut last = Err(Error::Unavailable);
        for _ in 0..ATTEMPTS {
            let Some(to) = &node else {
                self.0.trouble.notify_one();
                if !self.0.map.load().slots.is_empty() {
                    return last;
                }
                // The servers have not been asked yet.
                tokio::time::sleep(PAUSE).await;
                node = self.0.map.load().node(slot).cloned();
                continue;
            };
            last = if is_asked { to.ask(call).await } else { to.call(call).await };
            is_asked = false;
            let Ok(Err(error)) = &last else {
                if last.is_err() {
                    self.0.trouble.notify_one();
                }
                return last;
            };
            match error.kind() {
                ErrorKind::Server(kind @ (ServerErrorKind::Moved | ServerErrorKind::Ask)) => {
                    is_asked = kind == ServerErrorKind::Ask;
                    let Some((address, _slot)) = error.redirect_node() else { return last };
                    node = self.0.at(address);
                    self.0.trouble.notify_one();
                }
                ErrorKind::Server(ServerErrorKind::TryAgain | ServerErrorKind::ClusterDown) => {
                    self.0.trouble.notify_one();
                    tokio::time::sleep(PAUSE).await;
                    node = self.0.map.load().node(slot).cloned();
                }
                _ => return last,
            }
        }
        last
    }
}

impl State {
    /// The server at this address, whether it is known yet or not.
    fn at(&self, address: &str) -> Option<Arc<Node>> {
        if let Some(node) = self.map.load().by_address.get(address) {
            return Some(Arc::clone(node));
        }
        let node = Arc::new(self.new_node(address)?);
        self.map.rcu(|map| {
            let mut by_address = map.by_address.clone();
            if by_address.len() < NODES_MAX {
                by_address.entry(address.to_owned()).or_insert_with(|| Arc::clone(&node));
            }
            Map { slots: map.slots.clone(), nodes: map.nodes.clone(), by_address, primaries: map.primaries.clone() }
        });
        self.map.load().by_address.get(address).cloned()
    }

    fn new_node(&self, address: &str) -> Option<Node> {
        Node::at(Arc::clone(&self.login), Some(address.to_owned()), self.timeout).ok()
    }

    /// The answers of all servers. The address that was asked comes first.
    async fn views(&self) -> Vec<(String, View)> {
        let known = self.map.load().by_address.keys().cloned().collect::<Vec<_>>();
        let seeds = self.login.infos();
        let mut asked = JoinSet::new();
        let mut addresses = std::collections::HashSet::new();
        for address in seeds.iter().map(|info| info.addr().to_string()).chain(known).take(NODES_MAX) {
            if addresses.insert(address.clone()) {
                let login = Arc::clone(&self.login);
                asked.spawn(Deadline::after(LOOK).run(async move {
                    let view = ask(&login, &address).await?;
                    Some((address, view))
                }));
            }
        }
        let answers = asked.join_all().await;
        answers.into_iter().filter_map(|answer| answer.ok().flatten()).collect()
    }

    /// Adopts one of the answers: the one that names primaries which answer for the most slots.
    fn believe(&self, views: &[(String, View)]) {
        let answering: std::collections::HashSet<&String> = views.iter().map(|(address, _)| address).collect();
        let served = |view: &View| -> usize {
            let slots = view.iter().filter(|(_, _, primary)| answering.contains(primary));
            slots.map(|(first, last, _)| usize::from(last.saturating_sub(*first)) + 1).sum()
        };
        let Some((_, view)) = views.iter().max_by_key(|(_, view)| served(view)) else { return };
        let was = self.map.load();
        let mut map = Map { slots: vec![0; SLOTS], by_address: was.by_address.clone(), ..Map::default() };
        for (first, last, primary) in view {
            let known = map.primaries.iter().position(|known| known == primary);
            let place = known.or_else(|| {
                let node = map.by_address.get(primary).cloned().or_else(|| Some(Arc::new(self.new_node(primary)?)))?;
                map.by_address.insert(primary.clone(), Arc::clone(&node));
                map.nodes.push(node);
                map.primaries.push(primary.clone());
                Some(map.nodes.len() - 1)
            });
            let Some(place) = place.and_then(|place| u16::try_from(place + 1).ok()) else { continue };
            let range = usize::from(*first)..=usize::from(*last).min(SLOTS - 1);
            map.slots.get_mut(range).unwrap_or_default().fill(place);
        }
        if map.primaries != was.primaries {
            tracing::info!(target: "store", primaries = map.primaries.len(), "the cluster's primaries are now {:?}", map.primaries);
        }
        // Servers that are not named any more and do not answer are forgotten.
        let named = |address: &String| map.primaries.contains(address) || answering.contains(address);
        map.by_address.retain(|address, _| named(address));
        self.map.store(Arc::new(map));
    }
}

/// The same connection settings, for the server at `host:port`.
pub(super) fn with_address(info: &ConnectionInfo, address: &str) -> Option<ConnectionInfo> {
    let (host, port) = address.rsplit_once(':')?;
    let (host, port) = (host.trim_matches(['[', ']']).to_owned(), port.parse().ok()?);
    let to = match info.addr().clone() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure, tls_params }
        }
        _ => ConnectionAddr::Tcp(host, port),
    };
    Some(info.clone().set_addr(to))
}

/// Asks all servers once, and returns how long to rest. Nothing if nobody needs the slots any more.
async fn look(watched: &Weak<State>) -> Option<Duration> {
    let state = watched.upgrade()?;
    let views = state.views().await;
    state.believe(&views);
    Some(if state.map.load().is_troubled() { TROUBLED } else { CALM })
}

/// CLUSTER SLOTS of one server, on a connection of its own.
async fn ask(login: &Login, address: &str) -> Option<View> {
    let own_host = address.rsplit_once(':')?.0.trim_matches(['[', ']']).to_owned();
    let mut connection = Box::pin(login.connect(Some(address), &connection_config(LOOK))).await.ok()?;
    let ranges: Vec<Vec<Value>> = redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await.ok()?;
    let range = |range: Vec<Value>| {
        let number = |value: &Value| match value {
            Value::Int(number) => u16::try_from(*number).ok(),
            _ => None,
        };
        let Some(Value::Array(primary)) = range.get(2) else { return None };
        let host = match primary.first()? {
            // A server that does not know its own name means the one by which it was asked.
            Value::BulkString(host) if !host.is_empty() => String::from_utf8(host.clone()).ok()?,
            _ => own_host.clone(),
        };
        Some((number(range.first()?)?, number(range.get(1)?)?, format!("{host}:{}", number(primary.get(1)?)?)))
    };
    Some(ranges.into_iter().filter_map(range).collect())
}
