use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

fn name(name: &str) -> StoreName {
    StoreName::parse(name).unwrap()
}

fn names() -> impl Strategy<Value = String> {
    "[a-z0-9][a-z0-9-]{0,62}"
}

fn open(dir: &std::path::Path) -> Arc<Store> {
    let kind = Kind::Embedded(dir.to_owned());
    let settings = Settings { kind, prefix: Prefix::default(), timeout: Duration::from_secs(10) };
    Arc::new(Store::open(&settings, Arc::default()).unwrap())
}

proptest! {
    /// A backend's key is (bucket, field) with the guest's key as the field, byte for byte. So no two (tenant, store,
    /// key) are one exactly if no two (tenant, store) give one bucket; and none leaves its prefix exactly if no
    /// tenant's bucket begins as another's do.
    #[test]
    fn no_two_stores_share_a_bucket_and_none_leaves_its_tenants_prefix(
        a in (names(), names()),
        b in (names(), names()),
        prefix in "[a-zA-Z0-9._-]{1,32}",
    ) {
        let prefix = Prefix::parse(&prefix).unwrap();
        let bucket = |(id, store): &(String, String)| prefix.bucket(&tenant(id), &name(store));
        prop_assert_eq!(bucket(&a) == bucket(&b), a == b);
        let own = |id: &str| format!("{}{{{id}}}:", prefix_text(&prefix));
        prop_assert!(bucket(&a).as_bytes().starts_with(own(&a.0).as_bytes()));
        if a.0 != b.0 {
            prop_assert!(!bucket(&a).as_bytes().starts_with(own(&b.0).as_bytes()));
        }
    }

    /// Redis Cluster hashes what stands in the first braces (cluster specification, "Hash tags"): a tenant's buckets
    /// are in one slot, whatever its stores are called.
    #[test]
    fn the_hash_tag_of_a_bucket_is_the_tenant(id in names(), store in names()) {
        let bucket = Prefix::default().bucket(&tenant(&id), &name(&store));
        let text = String::from_utf8(bucket.as_bytes().to_vec()).unwrap();
        let tag = text.split_once('{').unwrap().1.split_once('}').unwrap().0;
        prop_assert_eq!(tag, id);
    }

    /// Nothing but a name makes a tenant or a store: whatever a file says, it cannot spell another's bucket.
    #[test]
    fn what_is_not_a_name_makes_no_bucket(text in "\\PC{0,70}") {
        if TenantId::parse(&text).is_some() {
            prop_assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
        }
    }
}

fn prefix_text(prefix: &Prefix) -> String {
    let bucket = prefix.bucket(&tenant("x"), &name("x"));
    let text = String::from_utf8(bucket.as_bytes().to_vec()).unwrap();
    text.split_once('{').unwrap().0.to_owned()
}

/// What a history of calls on a few tenants' stores comes to, told by a plain map.
#[derive(Clone, Debug)]
enum Step {
    Set(usize, Vec<u8>, Vec<u8>),
    Delete(usize, Vec<u8>),
    Add(usize, Vec<u8>, i64),
    Swap(usize, Vec<u8>, Option<Vec<u8>>, Vec<u8>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Few scopes and short keys of few bytes, so that they collide.
    let key = || proptest::collection::vec(prop_oneof![Just(0u8), Just(b':'), Just(b'}'), Just(0xff)], 0..3);
    let value = || proptest::collection::vec(any::<u8>(), 0..3);
    let scope = || 0..4usize;
    let step = prop_oneof![
        (scope(), key(), value()).prop_map(|(s, k, v)| Step::Set(s, k, v)),
        (scope(), key()).prop_map(|(s, k)| Step::Delete(s, k)),
        (scope(), key(), any::<i64>()).prop_map(|(s, k, n)| Step::Add(s, k, n)),
        (scope(), key(), proptest::option::of(value()), value()).prop_map(|(s, k, e, v)| Step::Swap(s, k, e, v)),
    ];
    proptest::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn the_embedded_store_does_what_a_map_does_for_each_tenant_apart(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        // `a` and `a-b`, `s` and `s-t`: names that begin alike.
        let scopes = [("a", "s"), ("a", "s-t"), ("a-b", "s"), ("b", "s")]
            .map(|(id, store_name)| store.scoped(&tenant(id), &name(store_name), None));
        let mut model: [BTreeMap<Vec<u8>, Vec<u8>>; 4] = Default::default();
        runtime.block_on(async {
            for step in steps {
                follow(&scopes, &mut model, step).await?;
            }
            for (scope, expected) in scopes.iter().zip(&model) {
                let page = scope.list(None).await.unwrap();
                prop_assert_eq!(page.keys.into_iter().collect::<BTreeSet<_>>(), expected.keys().cloned().collect());
                for (key, value) in expected {
                    prop_assert_eq!(scope.get(key).await.unwrap(), Some(value.clone()));
                }
            }
            Ok(())
        })?;
    }
}

async fn follow(
    scopes: &[Scoped; 4],
    model: &mut [BTreeMap<Vec<u8>, Vec<u8>>; 4],
    step: Step,
) -> std::result::Result<(), TestCaseError> {
    match step {
        Step::Set(s, key, value) => {
            scopes[s].set_many(vec![(key.clone(), value.clone())]).await.unwrap();
            model[s].insert(key, value);
        }
        Step::Delete(s, key) => {
            scopes[s].delete_many(vec![key.clone()]).await.unwrap();
            model[s].remove(&key);
        }
        Step::Add(s, key, delta) => {
            let text = |value: &Vec<u8>| String::from_utf8(value.clone()).ok();
            let now = model[s].get(&key).map_or(Some(0), |value| {
                let number: i64 = text(value)?.parse().ok()?;
                (Some(number.to_string()) == text(value)).then_some(number)
            });
            let expected = now.and_then(|now| now.checked_add(delta)).ok_or(Error::NotANumber);
            prop_assert_eq!(scopes[s].increment(&key, delta).await, expected.clone());
            if let Ok(sum) = expected {
                model[s].insert(key, sum.to_string().into_bytes());
            }
        }
        Step::Swap(s, key, expected, new) => {
            let is_same = model[s].get(&key) == expected.as_ref();
            prop_assert_eq!(scopes[s].swap(&key, expected, new.clone()).await, Ok(is_same));
            if is_same {
                model[s].insert(key, new);
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_was_acknowledged_is_there_when_the_file_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let scope = |store: &Arc<Store>| store.scoped(&tenant("a"), &name("s"), None);
    let store = open(dir.path());
    scope(&store).set_many(vec![(b"k".to_vec(), b"v".to_vec())]).await.unwrap();
    drop(store);
    // The writer lets go of the file once its queue is closed.
    let store = loop {
        let kind = Kind::Embedded(dir.path().to_owned());
        let settings = Settings { kind, prefix: Prefix::default(), timeout: Duration::from_secs(10) };
        match Store::open(&settings, Arc::default()) {
            Ok(store) => break Arc::new(store),
            Err(_still_open) => std::thread::yield_now(),
        }
    };
    assert_eq!(scope(&store).get(b"k").await.unwrap(), Some(b"v".to_vec()));
}

#[tokio::test]
async fn a_bad_redis_url_is_refused_without_being_shown() {
    let kind = Kind::Redis(Secret("not-a-url://:hunter2@x".to_owned()), Topology::Single, String::new());
    let settings = Settings { kind, prefix: Prefix::default(), timeout: Duration::from_secs(1) };
    let error = format!("{:#}", Store::open(&settings, Arc::default()).unwrap_err());
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn a_prefix_cannot_look_like_something_else() {
    for bad in ["", "a:b", "a{", "}", "a b", &"a".repeat(33)] {
        assert!(Prefix::parse(bad).is_none(), "{bad}");
    }
}
