//! Guests' commands. Commands that cost about as much as their arguments are sent unchanged. Others are sent by a script
//! (`gateway/redis/guarded.lua`) that checks first, in one step with the command, and updates the tenant's sum.
//!
//! A large answer does not pass through the script, which would cost the server ten times as much: the script only checks,
//! on a connection of its own, and then the gateway sends the command under WATCH and MULTI, so that it runs only if the
//! checked data did not change.
//!
//! Limit: each tenant has at most one such answer in progress; its other calls wait for that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use deadpool_redis::redis::{Cmd, RedisError, Script, ScriptInvocation, Value};
use tokio::sync::Semaphore;

use super::node::{Call, Watched};
use super::{CHANGES, Redis, from_command};
use crate::store::account::Account;
use crate::store::{Answered, Effect, Error, Guard, Prepared, READ_BYTES_MAX, Result, VALUE_BYTES_MAX};

/// The limits for the script, beside its arguments. The reference and [`why`] state the same ones.
const BOUNDS: [(&str, usize); 15] = [
    // Elements of one collection.
    ("CARDINALITY", 100_000),
    // Elements of a key that the server frees by itself, at once: 60 ns each.
    ("LIGHT", 10_000),
    // Bytes that are freed at once: 50 µs for each MiB.
    ("FREED", 32 << 20),
    // Elements that are read, and elements that are combined.
    ("ELEMENTS", 10_000),
    ("GATHERED", 3_000),
    // What may pass through the script.
    ("FEW", 2_000),
    ("PAGED", 1_000),
    ("SMALL", 256 << 10),
    ("READ", READ_BYTES_MAX),
    ("VALUE", VALUE_BYTES_MAX),
    // A value in a hash with more than a thousand fields; a scan may return seven of them together.
    ("HASH_VALUE", 256 << 10),
    // List elements that are compared, and their bytes.
    ("WALK", 50_000),
    ("COMPARED", 16 << 20),
    ("GROUPS", 100),
    ("CONSUMERS", 1_000),
];

/// The script with its limits.
pub(super) fn script() -> Script {
    let bounds = BOUNDS.map(|(name, value)| format!("local {name} = {value}\n"));
    Script::new(&format!("{}{}", bounds.concat(), include_str!("../../../redis/guarded.lua")))
}

/// The meaning of the script's one-word error, for the guest's developer.
fn why(word: &str) -> &'static str {
    match word {
        "elements" => {
            "it would go through too many elements; read in parts (HSCAN, SSCAN, ZSCAN, or a range), or fewer keys"
        }
        "bytes" => "it would read more than 4 MiB; read in parts (HSCAN, SSCAN, ZSCAN, or a range), or fewer keys",
        "value" => "a value may have at most 1 MiB",
        "cardinality" => "a key may have at most 100000 elements; use several keys",
        "hash-value" => {
            "a value in a hash with more than 1000 fields may have at most 256 KiB; store it under a key of its own"
        }
        "mortal" => "a key that expires may have 10000 elements and 32 MiB; PERSIST it, or use several keys",
        "expires" => "a key that expires may have 10000 elements and 32 MiB; DEL it when you no longer need it",
        "replaces" => "what would be replaced has more than 10000 elements or 32 MiB; DEL it first",
        "frees" => "it would free more than 32 MiB at once; give fewer keys",
        "pops" => "several elements at once may have 256 KiB; take one at a time",
        "bits" => "the longest source, times the number of sources, may have at most 4 MiB; combine them in parts",
        "moves" => "an element that is moved may have 256 KiB; take it and add it instead",
        "walk" => "it would compare more than 50000 elements or 16 MiB (2000 where COUNT is 0); use a shorter list",
        "trims" => "it would free more than 32 MiB at once; trim in smaller steps, or DEL the key",
        "removes" => "it would remove more than 3000 elements; remove in smaller ranges, or DEL the key",
        "offset" => "an offset may be 10000; begin the range later instead",
        "entries" => "the entries have more than 256 KiB or 2000 fields and values; ask for fewer (COUNT)",
        "groups" => "a stream may have 100 groups; DESTROY those that are not used",
        "consumers" => "a group may have 1000 consumers; DELCONSUMER those that are gone",
        "pending" => "10000 entries of a stream may wait for XACK; acknowledge some first",
        _ => "it asks for more than one command may return",
    }
}

/// A refusal by the script.
pub(super) fn too_much(error: &RedisError, command: &Prepared) -> Option<Error> {
    let word = error.detail().unwrap_or_default().split_whitespace().next_back().unwrap_or_default();
    (error.code() == Some("TOOLARGE")).then(|| Error::TooMuch { command: command.name(), what: why(word) })
}

/// The tenants with a large answer in progress.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<HashMap<Box<[u8]>, Weak<Semaphore>>>);

impl Turns {
    fn of(&self, inside: &[u8]) -> Arc<Semaphore> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(inside).and_then(Weak::upgrade) {
            return turn;
        }
        // Removes entries that nobody holds or waits for.
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::new(Semaphore::new(1));
        turns.insert(inside.into(), Arc::downgrade(&turn));
        turn
    }
}

impl Redis {
    pub(in crate::store) async fn execute(&self, account: &Account, command: &Prepared) -> Result<Answered> {
        let key = command.keys().next().unwrap_or_default();
        let is_counted = account.allowance.is_some() && command.effect() != Effect::None;
        // Arguments count as work too.
        let carried = command.words().len() as u64;
        let mut sent = Cmd::new();
        command.words().iter().for_each(|word| _ = sent.arg(word.as_slice()));
        let reads = command.effect() == Effect::None;
        if command.guard().is_none() && !is_counted {
            let call = if reads { Call::Read(&sent) } else { Call::Command(&sent) };
            let answer = self.call(key, &call).await?;
            return told(command, answer.map(|value| (carried, value)));
        }
        let script = self.guarded(account, command, false);
        let call = if reads { Call::ReadScript(&script) } else { Call::Script(&script) };
        let answer = self.call(key, &call).await?;
        let code = answer.as_ref().err().and_then(RedisError::code).map(str::to_owned);
        let look = match code.as_deref() {
            Some("LARGE") => Some(self.guarded(account, command, true)),
            Some("HEAVY") => {
                // One bucket of the hash: a few values, however large the hash is.
                sent = Cmd::new();
                command.words().iter().take(3).for_each(|word| _ = sent.arg(word.as_slice()));
                sent.arg("COUNT").arg(1);
                None
            }
            _ => return told(command, answer.map(|value| parts(value, carried))),
        };
        let keys = command.keys().map(<[u8]>::to_vec).collect();
        // A future of some KiB, boxed so that not every caller contains it.
        let both = Box::pin(self.large(command.inside().as_bytes(), keys, look.as_ref(), &sent)).await?;
        let answer = both.ok_or(Error::TooMuch { command: command.name(), what: CHANGES })?;
        told(command, answer.map(|(work, value)| (work.saturating_add(carried), value)))
    }

    /// Runs a command with a large answer, on a connection of its own, in its tenant's turn. Returns what the check
    /// reported, and the answer. Nothing if its keys changed each time.
    pub(super) async fn large(
        &self,
        whose: &[u8],
        keys: Vec<Vec<u8>>,
        look: Option<&ScriptInvocation<'_>>,
        command: &Cmd,
    ) -> Result<Option<std::result::Result<(u64, Value), RedisError>>> {
        let turn = self.turns.of(whose);
        let _turn = turn.acquire().await.map_err(|_closed| Error::Unavailable)?;
        let key = keys.first().cloned().unwrap_or_default();
        let answer = self.call(&key, &Call::Watched(&Watched { keys, look, command })).await?;
        Ok(match answer {
            Ok(Value::Nil) => None,
            answer => Some(answer.map(|value| parts(value, 0))),
        })
    }

    fn guarded<'a>(&'a self, account: &Account, command: &Prepared, looks: bool) -> ScriptInvocation<'a> {
        let mut call = self.scripts.guarded.prepare_invoke();
        command.keys().for_each(|key| _ = call.key(key));
        match account.allowance.filter(|_| command.effect() != Effect::None) {
            Some(allowance) => {
                call.key(account.usage.as_bytes()).arg(allowance.bytes).arg(allowance.keys);
            }
            None => _ = call.arg(-1).arg(-1),
        }
        call.arg(u8::from(command.effect() == Effect::Grows)).arg(if looks { "look" } else { "do" });
        let none = Guard { check: "none", words: Vec::new() };
        let Guard { check, words } = command.guard().unwrap_or(&none);
        call.arg(*check).arg(words.len());
        words.iter().chain(command.words()).for_each(|word| _ = call.arg(word.as_slice()));
        call
    }
}

/// Splits the script's answer: the number of processed elements, and the answer.
fn parts(value: Value, carried: u64) -> (u64, Value) {
    let Value::Array(mut both) = value else { return (carried, value) };
    let (answer, work) = (both.pop().unwrap_or(Value::Nil), both.pop());
    let work = if let Some(Value::Int(work)) = work { u64::try_from(work).unwrap_or_default() } else { 0 };
    (work.saturating_add(carried), answer)
}

fn told(command: &Prepared, answer: std::result::Result<(u64, Value), RedisError>) -> Result<Answered> {
    let (work, value) = answer.map_err(|error| from_command(&error, command))?;
    let (value, steps) = command.sift(value)?;
    Ok(Answered { replies: command.answer(value), work: work.saturating_add(steps / 100) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A word of the script without an explanation would not help a developer.
    #[test]
    fn each_refusal_of_the_script_is_explained() {
        let text = include_str!("../../../redis/guarded.lua");
        let words: Vec<&str> = text.split("no('").skip(1).filter_map(|rest| rest.split('\'').next()).collect();
        assert!(words.len() > 20, "{words:?}");
        for word in words {
            assert_ne!(why(word), why("unknown"), "{word}");
        }
    }
}
