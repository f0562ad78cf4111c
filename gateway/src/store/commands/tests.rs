use std::collections::BTreeMap;

use proptest::prelude::*;

use super::table::RULES;
use super::*;
use crate::ids::TenantId;
use crate::store::Prefix;
use crate::store::layout::Place;
use crate::store::tests::server;

fn inside() -> Namespace {
    Prefix::default().namespace(&Place::of(&TenantId::parse("acme").unwrap(), 0, 1))
}

fn words(text: &str) -> Words {
    text.split(' ').filter(|word| !word.is_empty()).map(|word| word.as_bytes().to_vec()).collect()
}

fn prepared(text: &str) -> Result<Prepared> {
    let mut words = words(text);
    let name = words.remove(0);
    prepare(&inside(), &name, words)
}

fn sent(text: &str) -> String {
    let prepared = prepared(text).unwrap();
    prepared.words().iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_table_is_in_order_for_the_search() {
    assert!(RULES.is_sorted_by(|a, b| a.name < b.name));
    assert!(RULES.iter().all(|rule| table::find(rule.name).is_some_and(|found| found.name == rule.name)));
}

#[test]
fn every_key_gets_the_prefix_and_nothing_else_does() {
    let p = "tg:{acme}:r:";
    for (given, wanted) in [
        ("get k", format!("GET {p}k")),
        ("DEL a b", format!("UNLINK {p}a {p}b")),
        ("MSET a 1 b 2", format!("MSET {p}a 1 {p}b 2")),
        ("BITOP AND d a b", format!("BITOP AND {p}d {p}a {p}b")),
        ("SMOVE a b m", format!("SMOVE {p}a {p}b m")),
        ("ZUNIONSTORE d 2 a b WEIGHTS 1 2", format!("ZUNIONSTORE {p}d 2 {p}a {p}b WEIGHTS 1 2")),
        ("LMPOP 1 a LEFT", format!("LMPOP 1 {p}a LEFT")),
        (
            "XREADGROUP GROUP STREAMS c COUNT 2 STREAMS a b > >",
            format!("XREADGROUP GROUP STREAMS c COUNT 2 STREAMS {p}a {p}b > >"),
        ),
        ("OBJECT ENCODING a", format!("OBJECT ENCODING {p}a")),
    ] {
        assert_eq!(sent(given), wanted);
    }
}

#[test]
fn a_malformed_command_is_refused_before_it_is_sent() {
    for (given, wanted) in [
        ("GET", "ERR wrong number"),
        ("MSET a", "ERR wrong number"),
        ("RENAME a", "ERR wrong number"),
        ("ZUNION 3 a b", "ERR syntax"),
        ("ZUNION 0 a", "ERR syntax"),
        ("ZUNION -1 a", "ERR syntax"),
        ("XREAD STREAMS a b 0", "ERR syntax"),
        ("XREAD COUNT 1", "ERR syntax"),
        ("XREAD GROUP g c STREAMS a 0", "ERR syntax"),
        ("XREAD BLOCK 0 STREAMS a 0", "refused: XREAD"),
        ("OBJECT FREQ a", "refused: OBJECT"),
        ("COPY a b REPLACE db 1", "refused: COPY"),
        ("EVIL a", "refused: EVIL"),
    ] {
        let error = prepared(given).unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{given}: {error}");
    }
}

fn word() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..12),
        "[0-9]{1,3}".prop_map(String::into_bytes),
        proptest::sample::select(vec![
            "STREAMS",
            "COUNT",
            "GROUP",
            "STORE",
            "DB",
            "BLOCK",
            "USAGE",
            "ENCODING",
            "CREATE",
            "tg:{b}:r:k"
        ])
        .prop_map(|word| word.as_bytes().to_vec()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// For any words of a guest: all keys that are sent have the prefix, and everything else is unchanged.
    #[test]
    fn nothing_leaves_the_prefix(at in 0..RULES.len(), given in proptest::collection::vec(word(), 0..9)) {
        let rule = &RULES[at];
        let Ok(prepared) = prepare(&inside(), rule.name.as_bytes(), given.clone()) else { return Ok(()) };
        prop_assert!(prepared.is_inside());
        prop_assert_eq!(prepared.words().len(), given.len() + 1);
        for (at, word) in given.iter().enumerate() {
            let is_key = prepared.keys.contains(&(at + 1));
            let wanted = if is_key { inside().key(word) } else { word.clone() };
            // A scan's pattern is not sent, and its COUNT is a hint.
            let is_hint = rule.bound == Bound::Scan && at > 2;
            prop_assume!(!is_hint || prepared.words()[at + 1] == wanted);
            prop_assert_eq!(&prepared.words()[at + 1], &wanted);
        }
    }
}

/// Arguments that may be valid for the rule.
fn plausible(rule: &Rule, seed: usize) -> Words {
    let key = |n: usize| format!("key-{n}");
    let keys = |count: usize| (0..count).map(key).collect::<Vec<_>>();
    let count = 1 + seed % 3;
    let counted = |count: usize| [vec![count.to_string()], keys(count)].concat();
    let mut words: Vec<String> = match rule.keys {
        Keys::First => keys(1),
        Keys::Two => keys(2),
        Keys::All => keys(count),
        Keys::Alternate => (0..count).flat_map(|n| [key(n), "value".to_owned()]).collect(),
        Keys::Rest => [vec!["AND".to_owned()], keys(count + 1)].concat(),
        Keys::Counted => counted(count),
        Keys::FirstAndCounted => [vec!["destination".to_owned()], counted(count)].concat(),
        Keys::Under(subs) => vec![subs[seed % subs.len()].to_owned(), key(0)],
        Keys::Streams => {
            let options: &[&str] = match (rule.name, seed % 3) {
                ("XREAD", 0) => &[],
                ("XREAD", _) => &["COUNT", "3"],
                // COMMAND GETKEYS searches for the word STREAMS anywhere. How the server reads the command itself is tested
                // above.
                (_, 0) => &["GROUP", "g", "COUNT"],
                (_, 1) => &["GROUP", "g", "c", "NOACK", "COUNT", "3"],
                _ => &["COUNT", "3", "GROUP", "g", "c"],
            };
            let head = options.iter().copied().chain(["STREAMS"]).map(str::to_owned);
            head.chain(keys(count)).chain((0..count).map(|_| "0".to_owned())).collect()
        }
    };
    if !matches!(rule.keys, Keys::All | Keys::Alternate | Keys::Rest | Keys::Streams) {
        words.extend((0..seed / 3 % 9).map(|n| if n % 2 == 0 { "1".to_owned() } else { "2".to_owned() }));
    }
    words.into_iter().map(String::into_bytes).collect()
}

#[test]
fn keys_are_where_the_server_says_they_are() {
    let (_server, mut connection) = server();
    let mut compared: BTreeMap<&str, usize> = BTreeMap::new();
    for rule in &RULES {
        for seed in 0..45 {
            let arguments = plausible(rule, seed);
            let Ok(prepared) = prepare(&inside(), rule.name.as_bytes(), arguments.clone()) else { continue };
            let mut ask = redis::cmd("COMMAND");
            ask.arg("GETKEYS");
            prepared.words().iter().for_each(|word| _ = ask.arg(word.as_slice()));
            // GETKEYS also checks the number of arguments; such commands are for the server to refuse.
            let Ok(theirs) = ask.query::<Vec<Vec<u8>>>(&mut connection) else { continue };
            let mut theirs = theirs;
            let mut ours: Words = prepared.keys().map(<[u8]>::to_vec).collect();
            theirs.sort();
            ours.sort();
            assert_eq!(
                ours,
                theirs,
                "{} {:?}",
                rule.name,
                arguments.iter().map(|a| String::from_utf8_lossy(a)).collect::<Vec<_>>()
            );
            *compared.entry(rule.name).or_default() += 1;
        }
    }
    let unseen: Vec<&str> = RULES.iter().map(|rule| rule.name).filter(|name| !compared.contains_key(name)).collect();
    assert!(unseen.is_empty(), "the server said nothing of {unseen:?}");
}

/// A command of the server that no rule names is refused with a reason. The server's flags tell which ones are dangerous.
#[test]
fn nothing_that_the_server_calls_dangerous_is_in_the_table() {
    let (_server, mut connection) = server();
    for category in ["dangerous", "admin", "blocking", "scripting", "transaction", "connection", "pubsub"] {
        let names: Vec<String> = redis::cmd("ACL").arg("CAT").arg(category).query(&mut connection).unwrap();
        assert!(!names.is_empty(), "{category}");
        for name in names {
            let name = name.to_ascii_uppercase();
            // Without BLOCK, which is refused, these two do not block.
            let is_known = ["XREAD", "XREADGROUP"].contains(&name.as_str());
            assert!(is_known || table::find(&name).is_none(), "{category}: {name}");
        }
    }
}

#[test]
fn commands_that_write_are_those_of_the_server() {
    let (_server, mut connection) = server();
    let writes: Vec<String> = redis::cmd("ACL").arg("CAT").arg("write").query(&mut connection).unwrap();
    for rule in &RULES {
        let name = rule.name.to_ascii_lowercase();
        let theirs = writes.iter().any(|write| *write == name || write.starts_with(&format!("{name}|")));
        assert_eq!(effects::effect(rule.name) != Effect::None, theirs, "{name}");
    }
}

/// Inputs that fuzzing found, and inputs that a person wrote.
#[test]
fn every_file_of_the_corpus_is_handled() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/commands");
    let mut checked = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        fuzzed::any_command(&std::fs::read(entry.unwrap().path()).unwrap());
        checked += 1;
    }
    assert!(checked >= 20, "{checked}");
}

proptest! {
    #[test]
    fn the_properties_hold_for_any_bytes(data: Vec<u8>) {
        fuzzed::any_command(&data);
    }
}
