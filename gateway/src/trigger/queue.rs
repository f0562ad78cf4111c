//! Queues of waiting messages, one for each channel, within limits for each tenant.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use crate::ids::TenantId;
use crate::sandbox::Message;

/// One channel of one tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) tenant: TenantId,
    pub(super) channel: String,
}

/// A message, and since when it waits.
pub(super) type Waiting = (Instant, Message);

/// There is no room for another message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

#[derive(Debug, Default)]
struct Channel {
    waiting: VecDeque<Waiting>,
    workers: u32,
}

#[derive(Debug, Default)]
struct Sum {
    messages: usize,
    bytes: usize,
}

/// All queues. A channel has an entry while a message waits or a worker runs.
#[derive(Debug)]
pub(super) struct Queues {
    channels: HashMap<Key, Channel>,
    sums: HashMap<TenantId, Sum>,
    messages_max: usize,
    bytes_max: usize,
}

impl Queues {
    pub(super) fn new(messages_max: usize, bytes_max: usize) -> Self {
        Self { channels: HashMap::new(), sums: HashMap::new(), messages_max, bytes_max }
    }

    /// Adds a message. Returns whether to start another worker for the channel, which then takes what waits.
    pub(super) fn push(&mut self, key: &Key, at_once: u32, message: Waiting) -> Result<bool, Full> {
        let sum = self.sums.entry(key.tenant.clone()).or_default();
        if sum.messages >= self.messages_max || sum.bytes + message.1.payload.len() > self.bytes_max {
            return Err(Full);
        }
        sum.messages += 1;
        sum.bytes += message.1.payload.len();
        let channel = self.channels.entry(key.clone()).or_default();
        channel.waiting.push_back(message);
        let starts = channel.workers < at_once.max(1);
        channel.workers += u32::from(starts);
        Ok(starts)
    }

    /// Takes the message that waited longest. Nothing if none waits; then the worker must end.
    pub(super) fn pop(&mut self, key: &Key) -> Option<Waiting> {
        let channel = self.channels.get_mut(key)?;
        let Some(message) = channel.waiting.pop_front() else {
            channel.workers -= 1;
            if channel.workers == 0 {
                self.channels.remove(key);
            }
            return None;
        };
        if let Some(sum) = self.sums.get_mut(&key.tenant) {
            sum.messages -= 1;
            sum.bytes -= message.1.payload.len();
            if sum.messages == 0 {
                self.sums.remove(&key.tenant);
            }
        }
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Line;

    fn key(tenant: &str, channel: &str) -> Key {
        Key { tenant: TenantId::parse(tenant).unwrap(), channel: channel.to_owned() }
    }

    #[test]
    fn a_channel_is_served_in_order_by_as_many_workers_as_it_may_have() {
        let mut queues = Queues::new(10, 100);
        let (a, b) = (key("a", "one"), key("a", "two"));
        let message = |text: &str| (Instant::now(), Message { payload: text.as_bytes().to_vec(), line: Line::first() });
        assert_eq!(queues.push(&a, 1, message("1")), Ok(true));
        assert_eq!(queues.push(&a, 1, message("2")), Ok(false));
        assert_eq!(queues.push(&b, 2, message("x")), Ok(true));
        assert_eq!(queues.push(&b, 2, message("y")), Ok(true));
        let text =
            |queues: &mut Queues, key: &Key| queues.pop(key).map(|(_, text)| String::from_utf8(text.payload).unwrap());
        assert_eq!(text(&mut queues, &a).as_deref(), Some("1"));
        assert_eq!(queues.push(&a, 1, message("3")), Ok(false), "the one is still at work");
        assert_eq!(text(&mut queues, &a).as_deref(), Some("2"));
        assert_eq!(text(&mut queues, &a).as_deref(), Some("3"));
        assert_eq!(text(&mut queues, &a), None);
        assert_eq!(queues.push(&a, 1, message("4")), Ok(true), "a new one");
    }

    #[test]
    fn limits_apply_to_each_tenant_and_nothing_is_left_behind() {
        let mut queues = Queues::new(2, 10);
        let (a, b) = (key("a", "one"), key("b", "one"));
        let message = |length: usize| (Instant::now(), Message { payload: vec![0; length], line: Line::first() });
        assert_eq!(queues.push(&a, 1, message(11)), Err(Full));
        assert_eq!(queues.push(&a, 1, message(6)), Ok(true));
        assert_eq!(queues.push(&a, 1, message(6)), Err(Full), "bytes");
        assert_eq!(queues.push(&a, 1, message(1)), Ok(false));
        assert_eq!(queues.push(&a, 1, message(1)), Err(Full), "messages");
        assert_eq!(queues.push(&b, 1, message(9)), Ok(true), "another tenant's");
        while queues.pop(&a).is_some() {}
        while queues.pop(&b).is_some() {}
        assert!(queues.channels.is_empty() && queues.sums.is_empty());
    }
}
