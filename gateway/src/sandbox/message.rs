//! Starts a component for a message: determines which of the two handlers it has, and calls it.

use std::future::poll_fn;
use std::time::Instant;

use wasmtime::Store;
use wasmtime::component::InstancePre;

use super::call::instantiated;
use crate::host::Guest;
use crate::host::inbound::{one, three};
use crate::ids::{Line, RequestId};
use crate::telemetry::Record;

/// The handler of a component that a message may start.
pub(super) enum MessageHandler {
    /// `fermyon:spin/inbound-redis`.
    One(one::ListenerPre<Guest>),
    /// `spin:redis/inbound-redis@3.0.0`.
    Three(three::ListenerPre<Guest>),
}

/// A message on a channel.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) payload: Vec<u8>,
    pub(crate) line: Line,
}

/// What starts a component, other than a request.
#[derive(Debug)]
pub(crate) enum Cause {
    Message(Message),
    /// A scheduled time, in seconds since 1970.
    Due(u64),
}

impl Cause {
    /// The chain of messages up to what it starts, whose record has this id.
    pub(super) const fn line(&self, id: RequestId) -> Line {
        match self {
            Self::Message(message) => message.line,
            Self::Due(_) => Line::none(id),
        }
    }
}

/// What a component reports about a message or a run: success or not. The latter is no fault of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handled {
    Done,
    Refused,
}

impl MessageHandler {
    /// Returns nothing if the component has no such handler.
    pub(super) fn of(pre: &InstancePre<Guest>) -> Option<Self> {
        let one = || one::ListenerPre::new(pre.clone()).ok().map(Self::One);
        one().or_else(|| three::ListenerPre::new(pre.clone()).ok().map(Self::Three))
    }

    pub(super) async fn call(
        &self,
        store: &mut Store<Guest>,
        payload: Vec<u8>,
        record: &Record,
        started: Instant,
    ) -> wasmtime::Result<Handled> {
        let is_done = match self {
            Self::One(pre) => {
                let listener = pre.instantiate_async(&mut *store).await?;
                instantiated(record, started).await;
                listener.fermyon_spin_inbound_redis().call_handle_message(store, &payload).await?.is_ok()
            }
            Self::Three(pre) => {
                let listener = pre.instantiate_async(&mut *store).await?;
                instantiated(record, started).await;
                let call = async |accessor: &wasmtime::component::Accessor<Guest>| {
                    let inbound = listener.spin_redis_inbound_redis();
                    let answer = inbound.call_handle_message(accessor, payload).await?;
                    poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
                    wasmtime::Result::<bool>::Ok(answer.is_ok())
                };
                store.run_concurrent(call).await??
            }
        };
        Ok(if is_done { Handled::Done } else { Handled::Refused })
    }
}
