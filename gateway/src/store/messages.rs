//! Messages on tenants' channels: who listens to which, by one subscription connection a backend for all tenants.
//!
//! Invariant: a channel of a backend is of one tenant, by the prefix that `layout` makes; what is heard on it is handed on with
//! that tenant's name and its own name for the channel.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::watch;

use super::{Backend, Store};
use crate::ids::{Line, TenantId};

/// A message for a tenant.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) tenant: TenantId,
    /// As the tenant calls it.
    pub(crate) channel: String,
    /// Nothing, where it was too long to be taken.
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) line: Line,
}

/// A channel that something listens to.
#[derive(Clone, Debug)]
pub(crate) struct Listened {
    pub(crate) tenant: TenantId,
    /// As the tenant calls it.
    pub(crate) channel: String,
    /// Whether its messages are kept until one gateway handled them.
    pub(crate) is_once: bool,
}

/// A channel that is listened to, by its whole name.
#[derive(Clone, Debug)]
pub(super) enum Channel {
    /// Whose it is, and as its tenant calls it.
    Of(TenantId, String),
    /// What gateways say of messages on the channel with this whole name ([`super::notes`]).
    Notes(Vec<u8>),
}

/// Channels by their whole names.
pub(super) type Wanted = Arc<BTreeMap<Vec<u8>, Channel>>;
/// What becomes of a message; it must not wait.
pub(super) type Hand = Arc<dyn Fn(Heard) + Send + Sync>;

/// What is listened to, and what becomes of it.
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
    wanted: Vec<Listened>,
    /// Those whose messages are kept.
    once: HashMap<TenantId, HashSet<String>>,
    /// Of the embedded store.
    here: Wanted,
    /// What each Redis is listened to for, by the address of its backend.
    there: HashMap<usize, watch::Sender<Wanted>>,
}

impl Messages {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether messages of this channel are kept until one gateway handled them.
    pub(super) fn is_once(&self, tenant: &TenantId, channel: &[u8]) -> bool {
        let state = self.state();
        let Some(once) = state.once.get(tenant) else { return false };
        std::str::from_utf8(channel).is_ok_and(|channel| once.contains(channel))
    }

    /// A message that was published in this process.
    pub(super) fn publish_here(&self, channel: &[u8], payload: &[u8], line: Line) {
        let wanted = Arc::clone(&self.state().here);
        if let (Some(Channel::Of(tenant, channel)), Some(hand)) = (wanted.get(channel), self.hand.get()) {
            hand(Heard { tenant: tenant.clone(), channel: channel.clone(), payload: Some(payload.to_vec()), line });
        }
    }
}

impl Store {
    /// Says what becomes of messages, once.
    pub(crate) fn hand_messages_to(&self, hand: impl Fn(Heard) + Send + Sync + 'static) {
        let _first = self.messages.hand.set(Arc::new(hand));
    }

    /// Listens to these channels from now on and to no others.
    pub(crate) fn listen(&self, wanted: Vec<Listened>) {
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

    /// The same channels, wherever their tenants are now.
    pub(super) fn listen_again(&self) {
        let Some(hand) = self.messages.hand.get() else { return };
        let mut state = self.messages.state();
        let mut by_backend: HashMap<usize, (Arc<Backend>, BTreeMap<_, _>)> = HashMap::new();
        for Listened { tenant, channel, is_once } in &state.wanted {
            let backend = self.backend(tenant);
            let names = self.prefix.channels(tenant);
            let whole = names.key(channel.as_bytes());
            let at = Arc::as_ptr(&backend) as usize;
            let (_, wanted) = by_backend.entry(at).or_insert_with(|| (backend, BTreeMap::new()));
            // One whose messages are kept has their numbers beside them.
            if !is_once {
                wanted.insert(names.note(channel.as_bytes()), Channel::Notes(whole.clone()));
            }
            wanted.insert(whole, Channel::Of(tenant.clone(), channel.clone()));
        }
        state.here = Wanted::default();
        // Who is listened to no more finds its sender gone.
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
