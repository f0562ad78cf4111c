//! The fermyon:spin interfaces for Spin's guests: the bindings, and what both generations of key-value and redis share.
//!
//! Security: a store is looked up among the component's grants by name, and an address among its grants byte by byte. Both
//! lead to the tenant's own namespace, and a guest never chooses which server answers.

use crate::host::guest::Guest;
use crate::ids::Line;
use crate::store::{self, Answered, Raw, Reply, Scoped, Value};
use crate::tenant::{MESSAGES_IN_A_LINE_MAX, cost};

pub(super) mod one {
    //! For a component that imports it without a version; generated from `wit/fermyon-spin-1`.
    wasmtime::component::bindgen!({
        path: "wit/fermyon-spin-1",
        world: "imports",
        imports: { default: async | trappable },
        require_store_data_send: true,
    });
}

pub(super) mod two {
    //! For a component of Spin 2 and later; generated from `wit/fermyon-spin-2.0.0`.
    wasmtime::component::bindgen!({
        path: "wit/fermyon-spin-2.0.0",
        world: "imports",
        imports: { default: async | trappable },
        with: {
            "fermyon:spin/key-value.store": super::super::spin_keyvalue::OpenStore,
            "fermyon:spin/redis.connection": super::super::spin_redis::Connection,
        },
        require_store_data_send: true,
    });
}

/// The most keys that `get-keys` returns.
const KEYS_MAX: usize = 100_000;
const KEYS_BYTES_MAX: usize = 8 << 20;

/// Why a call failed, before it is translated to an interface's own error.
pub(super) enum Failed {
    WrongType,
    /// The first word is stable.
    Other(String),
}

impl Failed {
    pub(super) fn text(self) -> String {
        match self {
            Self::WrongType => "wrong-type: the key holds another kind of value".to_owned(),
            Self::Other(text) => text,
        }
    }
}

impl From<store::Error> for Failed {
    fn from(error: store::Error) -> Self {
        if let store::Error::WrongType(_) = error { Self::WrongType } else { Self::Other(error.to_string()) }
    }
}

impl From<String> for Failed {
    fn from(text: String) -> Self {
        Self::Other(text)
    }
}

pub(super) type Answer<T> = Result<T, Failed>;

/// The answer has another type than the command's; no server answers like this.
fn strange() -> Failed {
    Failed::Other("internal: the store failed".to_owned())
}

impl Guest {
    pub(super) async fn value(&mut self, scoped: &Scoped, key: &str) -> Answer<Option<Value>> {
        self.spend(1, key.len())?;
        let value = scoped.get(key.as_bytes()).await?;
        self.brought(value.as_ref().map_or(0, Vec::len));
        Ok(value)
    }

    pub(super) async fn put(&mut self, scoped: &Scoped, key: String, value: Value) -> Answer<()> {
        self.spend(1, key.len() + value.len())?;
        Ok(scoped.set_many(vec![(key.into_bytes(), value)]).await.map_err(|error| self.refused(error))?)
    }

    pub(super) async fn remove(&mut self, scoped: &Scoped, key: String) -> Answer<()> {
        self.spend(1, key.len())?;
        Ok(scoped.delete_many(vec![key.into_bytes()]).await?)
    }

    pub(super) async fn holds(&mut self, scoped: &Scoped, key: &str) -> Answer<bool> {
        self.spend(1, key.len())?;
        Ok(scoped.exists(key.as_bytes()).await?)
    }

    /// Each page is one operation.
    pub(super) async fn all_keys(&mut self, scoped: &Scoped) -> Answer<Vec<String>> {
        let (mut keys, mut bytes, mut cursor) = (Vec::new(), 0, None);
        loop {
            self.spend(1, 0)?;
            let page = scoped.list(cursor.as_deref()).await?;
            self.brought_keys(&page.keys);
            bytes += page.keys.iter().map(Vec::len).sum::<usize>();
            // Keys are texts in these interfaces. A key that another interface wrote as bytes is not visible here.
            keys.extend(page.keys.into_iter().filter_map(|key| String::from_utf8(key).ok()));
            if keys.len() > KEYS_MAX || bytes > KEYS_BYTES_MAX {
                return Err(Failed::Other("too-large: this store has more keys than one call may bring".to_owned()));
            }
            match page.cursor {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        // A backend may list a key twice while it changes.
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }

    pub(super) async fn send(&mut self, raw: &Raw, channel: &str, payload: &[u8]) -> Answer<()> {
        self.spend(1, channel.len() + payload.len())?;
        let line = self.next_message()?;
        Ok(raw.publish(channel.as_bytes(), payload, line).await?)
    }

    /// The position of a message that the guest sends, in the chain of messages that each caused the next.
    pub(super) fn next_message(&self) -> Result<Line, String> {
        let max = self.budget.messages_max();
        let next = self.budget.next_message();
        let sent = next.filter(|line| self.ledger.send_message(*line, max));
        sent.ok_or_else(|| {
            self.notices.too_many_messages(&self.budget);
            self.ledger.figures.message_refused();
            match next {
                None => format!("quota-exceeded: messages in a line {MESSAGES_IN_A_LINE_MAX}"),
                Some(_) => format!("quota-exceeded: messages of one cause {max}"),
            }
        })
    }

    /// Runs a Redis command: charges one operation, and what it carries and returns.
    pub(super) async fn command(&mut self, raw: &Raw, name: &str, arguments: Vec<Vec<u8>>) -> Answer<Vec<Reply>> {
        self.spend_on_command(name, &arguments)?;
        let answered = raw.execute(name.as_bytes(), arguments).await;
        self.replied(answered)
    }

    /// Charges a command: one operation, and what it carries.
    pub(super) fn spend_on_command(&mut self, name: &str, arguments: &[Vec<u8>]) -> Result<(), String> {
        self.charge((arguments.len() as u64).saturating_mul(cost::CARRIED_TEXT));
        self.spend(1, arguments.iter().map(Vec::len).sum::<usize>().saturating_add(name.len()))
    }

    /// Charges what a command returned, and the elements that the store processed for it.
    pub(super) fn replied(&mut self, answered: store::Result<Answered>) -> Answer<Vec<Reply>> {
        let Answered { replies, work } = answered.map_err(|error| self.refused(error))?;
        self.charge(work.saturating_mul(cost::STORAGE_ELEMENT));
        let bytes = replies.iter().map(|reply| match reply {
            Reply::Bytes(bytes) => bytes.len(),
            Reply::Status(text) => text.len(),
            Reply::Nil | Reply::Int(_) => 1,
        });
        let bytes = bytes.sum();
        self.brought(bytes);
        self.charge(replies.len() as u64 * cost::CARRIED_TEXT);
        Ok(replies)
    }

    /// Runs a command whose answer is a number.
    pub(super) async fn number(&mut self, raw: &Raw, name: &str, arguments: Vec<Vec<u8>>) -> Answer<i64> {
        number(&self.command(raw, name, arguments).await?)
    }

    pub(super) async fn raw_value(&mut self, raw: &Raw, key: String) -> Answer<Option<Value>> {
        self.command(raw, "GET", vec![key.into_bytes()]).await.and_then(value)
    }

    pub(super) async fn raw_members(&mut self, raw: &Raw, key: String) -> Answer<Vec<String>> {
        self.command(raw, "SMEMBERS", vec![key.into_bytes()]).await.and_then(members)
    }
}

/// Reads the answer of a command that returns a number.
///
/// # Errors
/// The answer is not a number; no server answers like this.
pub(super) fn number(replies: &[Reply]) -> Answer<i64> {
    let [Reply::Int(number)] = replies else { return Err(strange()) };
    Ok(*number)
}

/// Reads the answer of GET.
pub(super) fn value(mut replies: Vec<Reply>) -> Answer<Option<Value>> {
    match replies.pop() {
        Some(Reply::Bytes(bytes)) => Ok(Some(bytes)),
        Some(Reply::Nil) => Ok(None),
        _ => Err(strange()),
    }
}

/// Reads the answer of SMEMBERS, whose members are texts in these interfaces.
pub(super) fn members(replies: Vec<Reply>) -> Answer<Vec<String>> {
    let text = |reply| {
        let Reply::Bytes(bytes) = reply else { return Err(strange()) };
        String::from_utf8(bytes).map_err(|_not_text| Failed::WrongType)
    };
    replies.into_iter().map(text).collect()
}

/// Converts a count, which cannot be negative.
pub(super) fn count(number: i64) -> u32 {
    u32::try_from(number).unwrap_or_default()
}

/// A key and further values, as a command's arguments.
pub(super) fn arguments(key: String, others: Vec<String>) -> Vec<Vec<u8>> {
    std::iter::once(key).chain(others).map(String::into_bytes).collect()
}
