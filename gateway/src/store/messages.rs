//! Messages on tenants' channels: who listens to which, with one subscription connection to each backend for all tenants.
//!
//! Invariant: a channel of a backend belongs to one tenant, by the prefix that `layout` makes. A message is passed on with
//! that tenant's name and the tenant's own name of the channel.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::watch;

use super::{Backend, Store};
use crate::ids::{Line, TenantId};

/// A message for a tenant.
#[derive(Clone, Debug)]
pub(crate) struct IncomingMessage {
    pub(crate) tenant: TenantId,
    /// The tenant's name of the channel.
    pub(crate) channel: String,
    /// Nothing if the payload was too long.
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) line: Line,
}

/// A channel with a listener.
#[derive(Clone, Debug)]
pub(crate) struct ChannelListener {
    pub(crate) tenant: TenantId,
    /// The tenant's name of the channel.
    pub(crate) channel: String,
    /// Whether its messages are kept until one gateway has handled them.
    pub(crate) is_once: bool,
}

/// What a channel with a listener is for, by its complete name.
#[derive(Clone, Debug)]
pub(super) enum Channel {
    /// A tenant's channel, with the tenant's name of it.
    Of(TenantId, String),
    /// Notes of gateways about messages on the channel with this complete name ([`super::notes`]).
    Notes(Vec<u8>),
}

/// Channels by their complete names.
pub(super) type Wanted = Arc<BTreeMap<Vec<u8>, Channel>>;
/// Receives a message; it must not block.
pub(super) type Hand = Arc<dyn Fn(IncomingMessage) + Send + Sync>;

/// The channels with listeners, and the receiver of their messages.
#[derive(Default)]
pub(super) struct Messages {
    hand: OnceLock<Hand>,
    state: Mutex<State>,
}

impl std::fmt::Debug for Messages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Messages").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    wanted: Vec<ChannelListener>,
    /// Channels whose messages are kept.
    once: HashMap<TenantId, HashSet<String>>,
    /// For the embedded store.
    here: Wanted,
    /// For each Redis, the channels to listen to, by the address of its backend in memory.
    there: HashMap<usize, watch::Sender<Wanted>>,
}

impl Messages {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether messages of this channel are kept until one gateway has handled them.
    pub(super) fn is_once(&self, tenant: &TenantId, channel: &[u8]) -> bool {
        let state = self.state();
        let Some(once) = state.once.get(tenant) else { return false };
        std::str::from_utf8(channel).is_ok_and(|channel| once.contains(channel))
    }

    /// Delivers a message that was published in this process.
    pub(super) fn publish_here(&self, channel: &[u8], payload: &[u8], line: Line) {
        let wanted = Arc::clone(&self.state().here);
        if let (Some(Channel::Of(tenant, channel)), Some(hand)) = (wanted.get(channel), self.hand.get()) {
            hand(IncomingMessage {
                tenant: tenant.clone(),
                channel: channel.clone(),
                payload: Some(payload.to_vec()),
                line,
            });
        }
    }
}

impl Store {
    /// Sets the receiver of messages, once.
    pub(crate) fn hand_messages_to(&self, hand: impl Fn(IncomingMessage) + Send + Sync + 'static) {
        let _first = self.messages.hand.set(Arc::new(hand));
    }

    /// Listens to exactly these channels from now on.
    pub(crate) fn listen(&self, wanted: Vec<ChannelListener>) {
        let mut once: HashMap<TenantId, HashSet<String>> = HashMap::new();
        for listened in wanted.iter().filter(|listened| listened.is_once) {
            once.entry(listened.tenant.clone()).or_default().insert(listened.channel.clone());
        }
        {
            let mut state = self.messages.state();
            (state.wanted, state.once) = (wanted, once);
        }
        self.listen_again();
    }

    /// Listens to the same channels, on the tenants' present backends.
    pub(super) fn listen_again(&self) {
        let Some(hand) = self.messages.hand.get() else { return };
        let mut state = self.messages.state();
        let mut by_backend: HashMap<usize, (Arc<Backend>, BTreeMap<_, _>)> = HashMap::new();
        for ChannelListener { tenant, channel, is_once } in &state.wanted {
            let backend = self.backend(tenant);
            let names = self.prefix.channels(tenant);
            let whole = names.key(channel.as_bytes());
            let at = Arc::as_ptr(&backend) as usize;
            let (_, wanted) = by_backend.entry(at).or_insert_with(|| (backend, BTreeMap::new()));
            // If its messages are kept, they carry their line themselves.
            if !is_once {
                wanted.insert(names.note(channel.as_bytes()), Channel::Notes(whole.clone()));
            }
            wanted.insert(whole, Channel::Of(tenant.clone(), channel.clone()));
        }
        state.here = Wanted::default();
        // A listener that is not needed any more finds its sender dropped.
        state.there.retain(|at, _| by_backend.contains_key(at));
        for (at, (backend, wanted)) in by_backend {
            let wanted = Arc::new(wanted);
            match &*backend {
                Backend::Embedded(_) => state.here = wanted,
                Backend::Redis(redis) => match state.there.get(&at) {
                    Some(sender) => _ = sender.send_replace(wanted),
                    None => {
                        let (sender, receiver) = watch::channel(wanted);
                        state.there.insert(at, sender);
                        tokio::spawn(redis.listener().run(receiver, Arc::clone(hand)));
                    }
                },
            }
        }
    }
}
