//! Storage quotas on every backend: each write is counted, writes above the quota are refused, and a recount gives the same
//! sum.

use tests::{Answer, Gateway, Protocol, Site, Storage, Tenant};

struct House {
    gateway: Gateway,
    site: Site,
    _storage: Storage,
}

const LIMITS: &str = "[limits]\nstorage_ops = 5000\nfuel = \"5G\"\n[quota]\nstorage = { bytes = \"20KiB\", keys = 10 }";

impl House {
    async fn on(storage: Storage) -> Self {
        let kv = Tenant::new("kv.localhost", "kv").stores(&["default", "second"]).with(LIMITS);
        let raw =
            Tenant::new("raw.localhost", "spin").stores(&["default"]).redis(&["redis://granted:6379"]).with(LIMITS);
        let site = Site::new().tenant("kv", &kv).tenant("raw", &raw);
        let gateway = Gateway::start_with(&site, &["--storage", &storage.url()]);
        gateway.storage().await;
        Self { gateway, site, _storage: storage }
    }

    async fn call(&self, host: &str, path: &str, value: impl Into<bytes::Bytes>) -> Answer {
        self.gateway.client(Protocol::H2).call("POST", &format!("{host}.localhost"), path, value).await
    }

    async fn kv(&self, path: &str, value: impl Into<bytes::Bytes>) -> String {
        self.call("kv", path, value).await.text()
    }

    async fn execute(&self, words: &[&[u8]]) -> String {
        self.call("raw", "/redis2/execute/granted", tests::spin_words(words)).await.text()
    }

    /// Recounts by command.
    fn count(&self, tenant: &str) -> String {
        let (code, said) = self.gateway.tell(&self.site, &["tenant", "count", tenant]);
        assert_eq!(code, Some(0), "{said}");
        said
    }
}

#[tokio::test]
async fn a_stores_data_is_counted_and_limited() {
    for storage in Storage::each() {
        let house = House::on(storage).await;
        assert_eq!(house.kv("/-/set/a", "12345").await, "set");
        assert_eq!(house.kv("/second/set/b", "").await, "set", "an empty value is a key all the same");
        assert_eq!(house.kv("/-/set/a", "123").await, "set");
        assert_eq!(house.kv("/-/set-many/x", "c=1\nd=2\nc=333").await, "set 3");
        assert_eq!(house.count("kv"), "kv uses 11 bytes in 4 keys\n", "a3 b0 c3 d1, and four names");
        assert_eq!(house.kv("/-/increment/n", "41").await, "41");
        assert_eq!(house.kv("/-/increment/n", "59").await, "100");
        assert_eq!(house.kv("/-/delete-many/x", "c\nd\nmissing").await, "deleted");
        assert_eq!(house.count("kv"), "kv uses 9 bytes in 3 keys\n");
        let stored = house.gateway.tenant("kv").await["stored"].clone();
        assert_eq!((&stored["bytes"], &stored["keys"]), (&9.into(), &3.into()), "{stored}");
        assert!(stored["bytes_max"].as_u64() > Some(9), "{stored}");
        // Bytes: a write that does not fit is refused completely, and a smaller one still succeeds.
        let large = "x".repeat(15 << 10);
        assert_eq!(house.kv("/-/set/large", large.clone()).await, "set");
        let refused = "Error::Other(\"quota-exceeded: storage.bytes\")";
        assert_eq!(house.kv("/-/set/more", large.clone()).await, refused);
        assert_eq!(house.kv("/-/set-many/x", format!("e=1\nf={large}")).await, refused);
        assert_eq!(house.kv("/-/exists/e", "").await, "false", "nothing of a batch that was refused is there");
        assert_eq!(house.kv("/-/set/large", "y".repeat(16 << 10)).await, "set", "a larger one in its place");
        assert_eq!(house.kv("/-/delete/large", "").await, "deleted");
        assert_eq!(house.kv("/-/set/more", large).await, "set");
        // Keys.
        for n in 0..6 {
            assert_eq!(house.kv(&format!("/-/set/key-{n}"), "v").await, "set");
        }
        let refused = "Error::Other(\"quota-exceeded: storage.keys\")";
        assert_eq!(house.kv("/second/set/one-more", "v").await, refused);
        assert_eq!(house.kv("/-/set/key-1", "w").await, "set", "one that is there may change");
        let counted = house.count("kv");
        assert!(counted.ends_with(" in 10 keys\n"), "nothing was booked otherwise: {counted}");
        let metric = "tollgate_quota_refusals_total{tenant=\"kv\",quota=\"storage\"}";
        assert_eq!(house.gateway.metric(metric).await, 3.0);
    }
}

/// Many concurrent writers of one store and of one key: the sum equals a recount.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sum_is_right_under_contention() {
    for storage in Storage::each() {
        let house = std::sync::Arc::new(House::on(storage).await);
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let house = std::sync::Arc::clone(&house);
                tokio::spawn(async move {
                    for n in 0..12 {
                        let key = (writer + n) % 9;
                        match n % 4 {
                            0 | 1 => house.kv(&format!("/-/set/key-{key}"), "v".repeat(n * 10 + writer)).await,
                            2 => house.kv(&format!("/-/delete/key-{key}"), "").await,
                            _ => house.kv("/-/increment/sum", "1").await,
                        };
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        let counted = house.count("kv");
        assert!(!counted.contains("tracked"), "{counted}");
        assert_eq!(house.kv("/-/get/sum", "").await, "24");
    }
}

#[tokio::test]
async fn raw_keys_are_counted_and_limited_as_well() {
    for storage in Storage::each() {
        let house = House::on(storage).await;
        for n in 0..10u8 {
            assert_eq!(house.execute(&[b"SET", &[b'k', n], b"v"]).await, "status OK");
        }
        let refused = "Error::Other(\"quota-exceeded: storage.keys\")";
        assert_eq!(house.execute(&[b"SET", b"one more", b"v"]).await, refused);
        assert_eq!(house.execute(&[b"SET", &[b'k', 0], b"w"]).await, "status OK", "one that is there may change");
        assert_eq!(house.execute(&[b"GET", &[b'k', 0]]).await, "bytes 77");
        assert_eq!(house.execute(&[b"DEL", &[b'k', 0], &[b'k', 1]]).await, "int 2");
        assert_eq!(house.execute(&[b"SADD", b"set", b"a", b"b"]).await, "int 2");
        let counted = house.count("raw");
        assert!(counted.ends_with(" in 9 keys\n") && !counted.contains("booked"), "{counted}");
        let large = vec![b'x'; 15 << 10];
        assert_eq!(house.execute(&[b"SET", &[b'k', 2], &large]).await, "status OK");
        let other = house.execute(&[b"SET", &[b'k', 3], &large]).await;
        let third = house.execute(&[b"SET", &[b'k', 4], &large]).await;
        let refused = "Error::Other(\"quota-exceeded: storage.bytes\")";
        assert!(
            other == refused || third == refused,
            "one command may go over on Redis, and no second: {other}, {third}"
        );
        assert_eq!(
            house.execute(&[b"DEL", &[b'k', 2], &[b'k', 3], &[b'k', 4]]).await,
            "int 3",
            "deleting is always done"
        );
        assert_eq!(house.execute(&[b"APPEND", b"text", b"abc"]).await, "int 3");
        let counted = house.count("raw");
        assert!(!counted.contains("booked"), "{counted}");
    }
}
