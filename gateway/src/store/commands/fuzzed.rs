//! Properties that hold for any commands of a guest. `gateway/fuzz` looks for bytes that break them; a test runs those that
//! were worth keeping (`gateway/fuzz/corpus/commands`).

use super::{Namespace, Prepared, prepare, redis};
use crate::ids::TenantId;
use crate::store::Prefix;
use crate::store::layout::Place;

/// The words of a command. The byte before a word gives its length, in steps of four above 200, so that limits are reached.
fn words(mut data: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    while let Some((length, rest)) = data.split_first() {
        let length = usize::from(*length);
        let length = if length > 200 { (length - 200) * 40 } else { length };
        let (word, rest) = rest.split_at(length.min(rest.len()));
        // The bytes need not contain a long word completely: it repeats them.
        let word = if length > word.len() && !word.is_empty() {
            word.iter().copied().cycle().take(length).collect()
        } else {
            word.to_vec()
        };
        words.push(word);
        data = rest;
    }
    words
}

/// # Panics
/// A key would leave its tenant's prefix, or a prefix would reach a guest.
pub(crate) fn any_command(data: &[u8]) {
    let mut words = words(data);
    if words.is_empty() {
        return;
    }
    let name = words.remove(0);
    let Some(tenant) = TenantId::parse("a") else { return };
    let inside = Prefix::default().namespace(&Place::of(&tenant, 0, 1));
    let Ok(prepared) = prepare(&inside, &name, words.clone()) else { return };
    is_rewritten(&inside, &words, &prepared);
    is_told_without_prefix(&inside, &prepared);
    // The fuzzer is built without the embedded store.
    #[cfg(test)]
    crate::store::embedded::raw::stays_inside(&prepared, &inside.as_bucket());
}

/// Whether each key, and nothing else, begins with the prefix, and the rest is the guest's.
fn is_rewritten(inside: &Namespace, given: &[Vec<u8>], prepared: &Prepared) {
    assert!(prepared.is_inside());
    let sent = prepared.words().get(1..).unwrap_or_default();
    assert_eq!(sent.len(), given.len());
    // What a scan sends in place of its pattern and its COUNT.
    let scan = (prepared.rule.bound == super::table::Bound::Scan).then(|| super::options::Scan::parse(given)).flatten();
    let own = scan.map(|scan| [scan.patterns, scan.counts].concat()).unwrap_or_default();
    let mut keys = 0;
    for (at, (sent, given)) in sent.iter().zip(given).enumerate() {
        let is_key = *sent == [inside.as_bytes(), given].concat();
        let is_own = own.contains(&at) && [b"*".as_slice(), b"250"].contains(&sent.as_slice());
        assert!(is_key || is_own || sent == given, "a word was changed otherwise");
        keys += usize::from(sent != given && !is_own);
    }
    assert_eq!(keys, prepared.keys().count());
}

fn is_told_without_prefix(inside: &Namespace, prepared: &Prepared) {
    let prefix = String::from_utf8_lossy(inside.as_bytes()).into_owned();
    let keys = prepared.keys().map(|key| String::from_utf8_lossy(key).into_owned());
    let text = format!("ERR no such key {}", keys.collect::<Vec<_>>().join(" "));
    let told = prepared.without_prefix(&text);
    // The guest's own key may contain the prefix.
    let own = prepared.keys().any(|key| key.get(inside.as_bytes().len()..).is_some_and(|own| own.contains(&b':')));
    assert!(own || !told.contains(&prefix), "{told}");
    let named = prepared.keys().next().map(|key| redis::Value::BulkString(key.to_vec()));
    let _flat = prepared.answer(redis::Value::Array(named.into_iter().collect()));
}
