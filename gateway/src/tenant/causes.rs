//! Counts messages that were sent because of messages, by their common cause: one request must not fill its tenant's queue
//! for ever.
//!
//! Limit: [`KEPT_MAX`] causes of a tenant are known, those that sent most recently. A forgotten cause starts again from
//! zero. Each gateway counts only its own messages.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::ids::{Line, RequestId};

const KEPT_MAX: usize = 1000;

/// The causes of one tenant.
#[derive(Debug, Default)]
pub(super) struct Causes(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    causes: HashMap<[u8; 16], Sent>,
    /// A counter that advances with each message.
    now: u64,
}

#[derive(Debug, Default)]
struct Sent {
    count: u64,
    last: u64,
}

impl Causes {
    /// Counts one more message. Returns whether it is among the first `max` that were sent because of messages with its
    /// cause.
    pub(super) fn send(&self, line: Line, max: u64) -> bool {
        if line.number < 2 {
            return true;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.now += 1;
        let (now, cause) = (known.now, RequestId::bytes(line.cause));
        if known.causes.len() >= KEPT_MAX && !known.causes.contains_key(&cause) {
            let oldest = known.causes.iter().min_by_key(|(_, sent)| sent.last).map(|(cause, _)| *cause);
            oldest.and_then(|oldest| known.causes.remove(&oldest));
        }
        let sent = known.causes.entry(cause).or_default();
        (sent.count, sent.last) = (sent.count.saturating_add(1), now);
        sent.count <= max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line {
        Line::none(RequestId::new()).next().next()
    }

    #[test]
    fn each_cause_has_its_own_count_and_first_messages_do_not_count() {
        let causes = Causes::default();
        let (one, two) = (line(), line());
        let first = Line::none(RequestId::new()).next();
        assert!((0..100).all(|_| causes.send(first, 3)), "nothing sent it for a message");
        let sent = |line| (0..5).filter(|_| causes.send(line, 3)).count();
        assert_eq!((sent(one), sent(two), sent(one.next())), (3, 3, 0));
    }

    #[test]
    fn an_active_cause_is_not_forgotten_for_a_new_one() {
        let causes = Causes::default();
        let busy = line();
        let sent = (0..3 * KEPT_MAX).filter(|_| causes.send(line(), 1) && causes.send(busy, 7)).count();
        assert_eq!(sent, 7);
        assert_eq!(causes.0.lock().unwrap().causes.len(), KEPT_MAX);
    }
}
