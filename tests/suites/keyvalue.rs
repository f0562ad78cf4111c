//! wasi:keyvalue, every call, on every backend: a tenant cannot tell the backends apart.

use tests::{Answer, Gateway, Protocol, Site, Storage, Tenant};

/// A gateway with one key-value guest, and the backend, which lives as long as it.
struct Store {
    gateway: Gateway,
    _storage: Storage,
}

impl Store {
    async fn on(storage: Storage) -> Self {
        let limits = "[limits]\nstorage_ops = 5000\nfuel = \"5G\"\n[quota]\nin_flight = 200";
        let kv = Tenant::new("kv.localhost", "kv").stores(&["default", "second"]).with(limits);
        let tight = Tenant::new("tight.localhost", "kv").stores(&["default"]).with("[limits]\nstorage_ops = 10");
        let draft = Tenant::new("draft.localhost", "kv-draft").stores(&["default", "second"]).with(limits);
        let site = Site::new().tenant("kv", &kv).tenant("tight", &tight).tenant("draft", &draft);
        let gateway = Gateway::start_with(&site, &["--storage", &storage.url()]);
        gateway.storage().await;
        Self { gateway, _storage: storage }
    }

    async fn call(&self, path: &str, value: impl Into<bytes::Bytes>) -> Answer {
        self.gateway.client(Protocol::H2).call("POST", "kv.localhost", path, value).await
    }

    async fn text(&self, path: &str, value: impl Into<bytes::Bytes>) -> String {
        self.call(path, value).await.text()
    }

    async fn ask(&self, host: &str, path: &str, value: impl Into<bytes::Bytes>) -> String {
        self.gateway.client(Protocol::H2).call("POST", host, path, value).await.text()
    }
}

/// The two drafts, for everything that both have in common.
const DRAFTS: [&str; 2] = ["kv.localhost", "draft.localhost"];

async fn each(test: impl AsyncFn(Store)) {
    for storage in Storage::each() {
        test(Store::on(storage).await).await;
    }
}

#[tokio::test]
async fn a_value_is_set_read_and_deleted() {
    each(async |store| {
        for host in DRAFTS {
            assert_eq!(store.ask(host, "/-/get/a", "").await, "(none)");
            assert_eq!(store.ask(host, "/-/set/a", "one").await, "set");
            assert_eq!(store.ask(host, "/-/get/a", "").await, "one");
            assert_eq!(store.ask(host, "/-/exists/a", "").await, "true");
            assert_eq!(store.ask(host, "/-/set/a", "").await, "set");
            assert_eq!(store.ask(host, "/-/get/a", "").await, "", "an empty value is a value");
            assert_eq!(store.ask(host, "/-/delete/a", "").await, "deleted");
            assert_eq!(store.ask(host, "/-/delete/a", "").await, "deleted", "deleting what is not there succeeds");
            assert_eq!(store.ask(host, "/-/exists/a", "").await, "false");
        }
    })
    .await;
}

#[tokio::test]
async fn stores_are_separate_and_the_empty_name_is_default() {
    each(async |store| {
        store.text("/-/set/a", "of default").await;
        assert_eq!(store.text("/default/get/a", "").await, "of default");
        assert_eq!(store.text("/second/get/a", "").await, "(none)");
        let refused = store.call("/third/get/a", "").await;
        assert_eq!(refused.text(), "Error::AccessDenied", "what was not granted is not there");
    })
    .await;
}

#[tokio::test]
async fn batches_answer_in_the_order_of_their_keys() {
    each(async |store| {
        for host in DRAFTS {
            assert_eq!(store.ask(host, "/-/set-many/x", "a=1\nb=2\nc=3").await, "set 3");
            assert_eq!(store.ask(host, "/-/get-many/x", "c\nmissing\na").await, "c=3 (none) a=1");
            assert_eq!(store.ask(host, "/-/delete-many/x", "a\nmissing\nb").await, "deleted");
            assert_eq!(store.ask(host, "/-/list/x", "").await, "1 pages: c");
            assert_eq!(store.ask(host, "/-/get-many/x", "").await, "", "an empty batch is one");
            assert_eq!(store.ask(host, "/-/set-many/x", "").await, "set 0");
            assert_eq!(store.ask(host, "/-/delete-many/x", "").await, "deleted");
        }
    })
    .await;
}

#[tokio::test]
async fn a_listing_returns_every_key_once_over_many_pages() {
    each(async |store| {
        for host in DRAFTS {
            for part in 0..3 {
                let lines: Vec<_> = (0..900).map(|n| format!("key-{part}-{n:03}={}", "v".repeat(100))).collect();
                assert_eq!(store.ask(host, "/-/set-many/x", lines.join("\n")).await, "set 900");
            }
            let listed = store.ask(host, "/-/list/x", "").await;
            let (pages, keys) = listed.split_once(" pages: ").unwrap();
            assert!(pages.parse::<u32>().unwrap() >= 3, "{pages}");
            let mut keys: Vec<_> = keys.split(' ').collect();
            keys.dedup();
            assert_eq!(keys.len(), 2700);
            let bad = store.text("/-/list-from/not-a-cursor", "").await;
            assert!(bad.contains("bad-cursor:"), "{bad}");
        }
    })
    .await;
}

/// The first draft's numbers are unsigned. Its cursors are the backend's own on Redis, and stand for the embedded store's.
#[tokio::test]
async fn the_first_draft_counts_without_a_sign() {
    each(async |store| {
        let ask = async |path: &str, value: &str| store.ask("draft.localhost", path, value.to_owned()).await;
        assert_eq!(ask("/-/increment/n", "40").await, "40");
        assert_eq!(ask("/-/increment/n", "2").await, "42");
        assert!(ask("/-/increment/n", &u64::MAX.to_string()).await.contains("wrong-type:"));
        ask("/-/set/n", "-7").await;
        assert!(ask("/-/increment/n", "1").await.contains("wrong-type:"), "the sum is below zero");
        let unknown = ask(&format!("/-/list-from/{}", u64::MAX), "").await;
        assert!(unknown.contains("bad-cursor:"), "{unknown}");
        assert_eq!(ask("/third/get/a", "").await, "Error::AccessDenied");
    })
    .await;
}

/// One version has two types of `get-many`; the component's import tells which one is meant.
#[tokio::test]
async fn get_many_has_the_type_that_the_component_imports() {
    each(async |store| {
        store.ask("draft.localhost", "/-/set-many/x", "a=1\nb=2").await;
        let found = store.ask("draft.localhost", "/-/get-many-of-spin/x", "b\nmissing\na").await;
        assert_eq!(found, "b=2 missing=(none) a=1");
    })
    .await;
}

#[tokio::test]
async fn increments_are_atomic_and_count_decimal_numbers_only() {
    each(async |store| {
        let adds = (0..40).map(|_| store.text("/-/increment/n", "3"));
        let mut sums: Vec<i64> = Vec::new();
        for add in futures(adds).await {
            sums.push(add.parse().unwrap());
        }
        sums.sort_unstable();
        assert_eq!(sums, (1..=40).map(|n| n * 3).collect::<Vec<_>>(), "each sum was seen once");
        assert_eq!(store.text("/-/increment/n", "-120").await, "0");
        store.text("/-/set/n", "seven").await;
        let refused = store.text("/-/increment/n", "1").await;
        assert!(refused.contains("wrong-type:"), "{refused}");
        store.text("/-/set/n", i64::MAX.to_string()).await;
        let refused = store.text("/-/increment/n", "1").await;
        assert!(refused.contains("wrong-type:"), "an overflow changes nothing: {refused}");
        assert_eq!(store.text("/-/get/n", "").await, i64::MAX.to_string());
    })
    .await;
}

#[tokio::test]
async fn compare_and_swap_is_right_under_contention() {
    each(async |store| {
        assert_eq!(store.text("/-/cas-beaten/k", "").await, "beaten by meanwhile");
        assert_eq!(store.text("/-/get/k", "").await, "meanwhile", "a swap that failed wrote nothing");
        let adds = (0..32).map(|_| store.text("/-/cas-add/n", ""));
        for add in futures(adds).await {
            assert!(add.contains(" after "), "{add}");
        }
        assert_eq!(store.text("/-/get/n", "").await, "32", "no addition was lost");
    })
    .await;
}

/// Sixty-four writers, each adding to one number by compare-and-swap and to another by `increment`; `TOLLGATE_ROUNDS` sets
/// the number of additions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_increment_of_many_writers_is_lost() {
    let rounds: usize = std::env::var("TOLLGATE_ROUNDS").map_or(4, |rounds| rounds.parse().unwrap());
    each(async |store| {
        let writers = (0..64).map(|_| {
            let client = store.gateway.client(Protocol::H2);
            tokio::spawn(async move {
                for _ in 0..rounds {
                    let swapped = client.call("POST", "kv.localhost", "/-/cas-add/swapped", "").await.text();
                    assert!(swapped.contains(" after "), "{swapped}");
                    let added = client.call("POST", "kv.localhost", "/-/increment/added", "1").await.text();
                    assert!(added.parse::<i64>().is_ok(), "{added}");
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        for key in ["swapped", "added"] {
            assert_eq!(store.text(&format!("/-/get/{key}"), "").await, (64 * rounds).to_string(), "{key}");
        }
    })
    .await;
}

/// Runs all of them at once, each in its own task.
async fn futures<F: Future>(work: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = work.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        for (future, done) in &mut waiting {
            if done.is_none()
                && let std::task::Poll::Ready(output) = future.as_mut().poll(cx)
            {
                *done = Some(output);
            }
        }
        let all = waiting.iter().all(|(_, done)| done.is_some());
        if all { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    waiting.into_iter().filter_map(|(_, done)| done).collect()
}

#[tokio::test]
async fn a_value_that_is_too_large_is_refused_and_nothing_is_lost() {
    each(async |store| {
        let mib = vec![b'v'; 1 << 20];
        assert_eq!(store.text("/-/set/big", mib.clone()).await, "set");
        let refused = store.text("/-/set/big", [mib.as_slice(), b"!"].concat()).await;
        assert!(refused.contains("too-large:"), "{refused}");
        assert_eq!(store.call("/-/get/big", "").await.body.len(), 1 << 20);
        let refused = store.text(&format!("/-/set/{}", "k".repeat(1025)), "v").await;
        assert!(refused.contains("too-large:"), "{refused}");
        let many: Vec<_> = (0..1001).map(|n| format!("k{n}")).collect();
        let refused = store.text("/-/get-many/x", many.join("\n")).await;
        assert!(refused.contains("too-large:"), "{refused}");
        for n in 0..9 {
            store.text(&format!("/-/set/big{n}"), mib.clone()).await;
        }
        let names: Vec<_> = (0..9).map(|n| format!("big{n}")).collect();
        let refused = store.text("/-/get-many/x", names.join("\n")).await;
        assert!(refused.contains("too-large:"), "9 MiB at once: {refused}");
    })
    .await;
}

#[tokio::test]
async fn a_requests_storage_operations_are_limited() {
    each(async |store| {
        let gateway = &store.gateway;
        let answer = gateway.get("tight.localhost", "/-/get-100/k").await;
        assert!(answer.text().contains("quota-exceeded: storage_ops 10"), "{}", answer.text());
        assert_eq!(gateway.record(&answer).await["storage_ops"], 11, "ten and the one that was refused");
        let batch =
            gateway.client(Protocol::H2).call("POST", "tight.localhost", "/-/get-many/x", "a\n".repeat(11)).await;
        assert!(batch.text().contains("quota-exceeded:"), "{}", batch.text());
        let fits =
            gateway.client(Protocol::H2).call("POST", "tight.localhost", "/-/get-many/x", "a\n".repeat(10)).await;
        assert_eq!(fits.status.as_u16(), 200, "{}", fits.text());
    })
    .await;
}
