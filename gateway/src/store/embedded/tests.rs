use std::time::{Duration, Instant};

use redb::ReadableTableMetadata as _;

use super::entries::{CHUNK, NEAR_MAX};
use super::jobs::Step;
use super::*;
use crate::ids::{StoreName, TenantId};
use crate::store::layout::Place;
use crate::store::{Allowance, Backend, Kind as Of, Prefix, Settings, Store, commands};

pub(super) const TIME: Duration = Duration::from_secs(5);
pub(super) const MIB: usize = 1 << 20;

pub(super) struct House {
    pub(super) store: Arc<Embedded>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) dir: tempfile::TempDir,
}

/// One tenant's store, its raw keys, and where both are counted.
pub(super) struct Whose {
    pub(super) bucket: Bucket,
    pub(super) space: Namespace,
    pub(super) account: Account,
}

pub(super) fn whose(tenant: &str) -> Whose {
    let (prefix, tenant) = (Prefix::default(), TenantId::parse(tenant).unwrap());
    let place = Place::of(&tenant, 0, 1);
    let bucket = prefix.bucket(&place, &StoreName::parse("default").unwrap());
    let account = Account { usage: prefix.usage(&place), allowance: None };
    Whose { bucket, space: prefix.namespace(&place), account }
}

impl House {
    pub(super) fn new() -> Self {
        // A folder beside the tests, because /tmp may be in memory.
        let dir = tempfile::tempdir_in(std::env::current_exe().unwrap().parent().unwrap()).unwrap();
        let metrics = Arc::default();
        let store = Arc::new(Embedded::open(dir.path(), &metrics).unwrap());
        Self { store, metrics, dir }
    }

    pub(super) async fn set(&self, whose: &Whose, pairs: Vec<(Vec<u8>, Value)>) -> Result<Written> {
        self.store.write(&whose.account, &whose.bucket, Write::Set(pairs)).await
    }

    pub(super) async fn get(&self, whose: &Whose, key: &[u8]) -> Option<Value> {
        self.store.get_many(&whose.bucket, &[key]).await.unwrap().pop().unwrap()
    }

    pub(super) async fn say(&self, whose: &Whose, words: &[&[u8]]) -> Result<Vec<Reply>> {
        let arguments = words[1..].iter().map(|word| word.to_vec()).collect();
        let command = commands::prepare(&whose.space, words[0], arguments).unwrap();
        self.store.execute(&whose.account, &whose.space, command).await
    }

    fn chunks(&self) -> u64 {
        self.store.database.view().unwrap().chunks.len().unwrap()
    }

    pub(super) async fn until(&self, what: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !what(self) {
            assert!(start.elapsed() < Duration::from_secs(60));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

pub(super) fn pair(key: &str, bytes: usize) -> (Vec<u8>, Value) {
    (key.as_bytes().to_vec(), vec![b'x'; bytes])
}

/// A batch that is written in slices.
fn batch() -> Vec<(Vec<u8>, Value)> {
    (0..7).map(|n| pair(&format!("batch-{n}"), MIB)).collect()
}

#[tokio::test]
async fn values_of_every_size_are_read_as_they_were_set_and_leave_nothing_behind() {
    let (house, a) = (House::new(), whose("a"));
    let sizes = [0, 1, NEAR_MAX - 1, NEAR_MAX, NEAR_MAX + 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK, MIB];
    // Each is replaced by one of every other size.
    for before in sizes {
        for after in sizes {
            for bytes in [before, after] {
                let value: Value = (0..bytes).map(|n| u8::try_from((n / 7 + bytes) % 251).unwrap()).collect();
                house.set(&a, vec![(b"k".to_vec(), value.clone())]).await.unwrap();
                assert_eq!(house.get(&a, b"k").await, Some(value));
                assert_eq!(house.store.usage(&a.account).unwrap(), Usage { bytes: 1 + bytes as u64, keys: 1 });
            }
        }
    }
    house.store.write(&a.account, &a.bucket, Write::Delete(vec![b"k".to_vec()])).await.unwrap();
    assert_eq!(house.get(&a, b"k").await, None);
    assert_eq!(house.store.usage(&a.account).unwrap(), Usage::default());
    house.until(|house| house.chunks() == 0).await;
}

#[tokio::test]
async fn a_large_batch_is_set_completely_and_counted_and_old_values_are_deleted() {
    let (house, a) = (House::new(), whose("a"));
    for _ in 0..2 {
        let mut pairs = batch();
        // The key that is named twice has its last value.
        pairs.push(pair("batch-0", 5));
        house.set(&a, pairs).await.unwrap();
    }
    assert_eq!(house.get(&a, b"batch-0").await, Some(vec![b'x'; 5]));
    assert_eq!(house.get(&a, b"batch-6").await, Some(vec![b'x'; MIB]));
    let usage = house.store.usage(&a.account).unwrap();
    assert_eq!(usage, Usage { bytes: (7 * 7 + 5 + 6 * MIB) as u64, keys: 7 });
    house.until(|house| house.chunks() == 6 * entries::chunks(MIB)).await;
    let keys = batch().into_iter().map(|(key, _)| key).collect();
    house.store.write(&a.account, &a.bucket, Write::Delete(keys)).await.unwrap();
    house.until(|house| house.chunks() == 0).await;
}

#[tokio::test]
async fn a_batch_over_the_quota_is_refused_completely_before_it_is_written() {
    let (house, mut a) = (House::new(), whose("a"));
    a.account.allowance = Some(Allowance { bytes: 6 << 20, keys: 100 });
    assert_eq!(house.set(&a, batch()).await, Err(Error::OverQuota("bytes")));
    assert_eq!((house.get(&a, b"batch-0").await, house.chunks()), (None, 0));
    a.account.allowance = Some(Allowance { bytes: 9 << 20, keys: 6 });
    assert_eq!(house.set(&a, batch()).await, Err(Error::OverQuota("keys")), "found out at its end");
    assert_eq!(house.get(&a, b"batch-0").await, None);
    house.until(|house| house.chunks() == 0).await;
    assert_eq!(house.store.usage(&a.account).unwrap(), Usage::default());
}

/// While another transaction holds the file, no job runs.
#[tokio::test]
async fn a_small_write_passes_another_tenants_large_ones() {
    let house = Arc::new(House::new());
    let order = Arc::<std::sync::Mutex<Vec<&str>>>::default();
    let held = house.store.database.whole().begin_write().unwrap();
    let ask = |name: &'static str, pairs: Vec<(Vec<u8>, Value)>| {
        let (house, order) = (Arc::clone(&house), Arc::clone(&order));
        tokio::spawn(async move {
            house.set(&whose(name), pairs).await.unwrap();
            order.lock().unwrap().push(name);
        })
    };
    let mut asked: Vec<_> = (0..4).map(|_| ask("noisy", batch())).collect();
    tokio::task::yield_now().await;
    asked.push(ask("quiet", vec![pair("k", 1)]));
    tokio::task::yield_now().await;
    held.abort().unwrap();
    for asked in asked {
        asked.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), ["quiet", "noisy", "noisy", "noisy", "noisy"]);
}

/// Waste of a tenant's earlier call is deleted while its batch is half written. The batch loses nothing.
#[tokio::test]
async fn deleting_waste_removes_nothing_of_a_half_written_batch() {
    let house = Arc::new(House::new());
    let a = whose("a");
    house.set(&a, batch()).await.unwrap();
    let held = house.store.database.whole().begin_write().unwrap();
    let keys = batch().into_iter().map(|(key, _)| key).collect();
    let deleting = {
        let house = Arc::clone(&house);
        tokio::spawn(async move {
            let a = whose("a");
            house.store.write(&a.account, &a.bucket, Write::Delete(keys)).await.unwrap();
        })
    };
    tokio::task::yield_now().await;
    let setting = {
        let house = Arc::clone(&house);
        tokio::spawn(async move { house.set(&whose("a"), batch()).await.unwrap() })
    };
    tokio::task::yield_now().await;
    held.abort().unwrap();
    deleting.await.unwrap();
    setting.await.unwrap();
    house.until(|house| house.chunks() == 7 * entries::chunks(MIB)).await;
    assert_eq!(house.get(&a, b"batch-6").await, Some(vec![b'x'; MIB]));
    assert_eq!(house.get(&a, b"batch-0").await, Some(vec![b'x'; MIB]));
}

#[tokio::test]
async fn a_write_whose_caller_left_is_not_executed() {
    let (house, a) = (House::new(), whose("a"));
    let held = house.store.database.whole().begin_write().unwrap();
    let ask = |key: &str| {
        let pair = pair(key, 1);
        let (house, a) = (&house, &a);
        async move { tokio::time::timeout(Duration::from_millis(20), house.set(a, vec![pair])).await }
    };
    // The first has its turn and waits for the file; the second waits for its turn.
    let kept = house.set(&a, vec![pair("kept", 1)]);
    let (kept, left) = tokio::join!(kept, async {
        let left = ask("left").await;
        held.abort().unwrap();
        left
    });
    assert!(kept.is_ok() && left.is_err());
    house.store.settled(&a.account, &a.bucket).await.unwrap();
    assert_eq!((house.get(&a, b"kept").await.is_some(), house.get(&a, b"left").await), (true, None));
    assert_eq!(house.metrics.store_jobs_dropped.get(), 1);
}

/// Steps by hand: a batch that is abandoned after some of its slices, or interrupted by the end of the process.
#[tokio::test]
async fn an_abandoned_batch_is_never_visible_and_leaves_nothing() {
    let (house, a) = (House::new(), whose("a"));
    let House { store, metrics, dir } = house;
    let database = store.database.whole();
    drop(store);
    let (done, caller) = oneshot::channel();
    let work = Work::from(Write::Set(batch()));
    let mut job = Job { account: a.account.clone(), bucket: a.bucket.clone(), work, staged: None, done };
    for slice in 0..4 {
        let write = database.begin_write().unwrap();
        let mut next = 100 * (slice + 1);
        let mut tables = Tables::open(&write, &mut next).unwrap();
        assert!(matches!(job.step(&mut tables), Ok(Step::More)));
        assert!(tables.price <= 3 * SLICE, "slice {slice} touched {}", tables.price);
        drop(tables);
        write.commit().unwrap();
    }
    assert!(View::open(&database).unwrap().chunks.len().unwrap() > 0, "some of it is written");
    assert!(View::open(&database).unwrap().entries.is_empty().unwrap(), "and none of it is seen");
    drop(caller);
    assert!(job.is_left());
    drop((job, database));
    // At the next start, chunks without an entry are deleted.
    let store = loop {
        match Embedded::open(dir.path(), &metrics) {
            Ok(store) => break Arc::new(store),
            Err(_still_open) => tokio::task::yield_now().await,
        }
    };
    let house = House { store, metrics, dir };
    house.until(|house| house.chunks() == 0).await;
    house.set(&a, batch()).await.unwrap();
    assert_eq!(house.get(&a, b"batch-3").await, Some(vec![b'x'; MIB]));
}

#[tokio::test]
async fn a_full_queue_of_one_tenant_refuses_no_other_tenant() {
    let house = Arc::new(House::new());
    let held = house.store.database.whole().begin_write().unwrap();
    let ask = |name: &'static str, bytes: usize| {
        let house = Arc::clone(&house);
        tokio::spawn(async move { house.set(&whose(name), vec![pair("k", bytes)]).await })
    };
    let first = ask("a", 1);
    house.until(|house| house.store.writes.is_running()).await;
    let asked: Vec<_> = (0..WAITING + 10).map(|_| ask("a", 1)).collect();
    let large: Vec<_> = (0..40).map(|_| ask("large", MIB)).collect();
    let other = ask("b", 1);
    tokio::task::yield_now().await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    held.abort().unwrap();
    let mut refused = [0, 0];
    for (asked, refused) in [asked, large].into_iter().zip(&mut refused) {
        for asked in asked {
            match asked.await.unwrap() {
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error, Error::Busy);
                    *refused += 1;
                }
            }
        }
    }
    assert_eq!(refused[0], 10);
    assert!((8..=10).contains(&refused[1]), "32 MiB wait: {refused:?}");
    assert!(first.await.unwrap().is_ok() && other.await.unwrap().is_ok());
}

/// A whole store, to show that the backend is not involved: the writer is blocked, and nothing waits for it.
#[tokio::test]
async fn an_empty_batch_is_answered_without_the_backend() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        kind: Of::Embedded(dir.path().to_owned()),
        prefix: Prefix::default(),
        timeout: TIME,
        share_rates: false,
        tenant_users: None,
        tls: crate::store::Tls::default(),
    };
    let store = Arc::new(Store::open(&settings, Arc::default()).unwrap());
    let scoped = store.scoped(&TenantId::parse("a").unwrap(), &StoreName::parse("s").unwrap(), None, None);
    let Backend::Embedded(embedded) = &*store.home else { panic!("it is the embedded one") };
    let held = embedded.database.whole().begin_write().unwrap();
    scoped.set_many(Vec::new()).await.unwrap();
    scoped.delete_many(Vec::new()).await.unwrap();
    assert_eq!(scoped.get_many(&[]).await.unwrap(), Vec::<Option<Value>>::new());
    held.abort().unwrap();
}

#[tokio::test]
async fn a_file_of_an_earlier_version_is_converted() {
    let house = House::new();
    let (House { store, metrics, dir }, a) = (house, whose("a"));
    drop(store);
    let other = dir.path().join("older");
    std::fs::create_dir_all(&other).unwrap();
    let raw = a.space.as_bucket();
    let lasting = a.bucket.clone().lasting(Some(Duration::from_secs(3600)));
    {
        let database = redb::Database::create(other.join("tollgate.redb")).unwrap();
        let write = database.begin_write().unwrap();
        {
            let mut values = write.open_table(migrate::VALUES).unwrap();
            let mut names = write.open_table(migrate::NAMES).unwrap();
            let mut expiries = write.open_table(migrate::EXPIRIES).unwrap();
            let mut put = |bucket: &Bucket, key: &[u8], value: &[u8]| {
                values.insert((bucket.as_bytes(), key), value).unwrap();
                names.insert((bucket.as_bytes(), key), ()).unwrap();
            };
            put(&a.bucket, b"small", b"1");
            put(&a.bucket, b"large", &vec![b'l'; MIB]);
            put(&a.bucket, b"over", b"gone");
            put(&raw, b"text", b"stext");
            put(&raw, b"set", b"S\x01\0\0\0a\x02\0\0\0bc");
            expiries.insert((a.bucket.as_bytes(), b"over".as_slice()), 1).unwrap();
        }
        write.commit().unwrap();
    }
    let store = Arc::new(Embedded::open(&other, &metrics).unwrap());
    let house = House { store, metrics, dir };
    assert_eq!(house.get(&a, b"small").await, Some(b"1".to_vec()));
    assert_eq!(house.get(&a, b"large").await, Some(vec![b'l'; MIB]));
    assert!(!house.store.exists(&lasting, b"over").unwrap(), "its time came with it");
    assert_eq!(
        house.store.list(&a.bucket, None).await.unwrap().keys,
        [b"large".to_vec(), b"over".into(), b"small".into()]
    );
    assert_eq!(house.say(&a, &[b"GET", b"text"]).await.unwrap(), [Reply::Bytes(b"text".to_vec())]);
    assert_eq!(house.say(&a, &[b"SCARD", b"set"]).await.unwrap(), [Reply::Int(2)]);
    assert_eq!(house.say(&a, &[b"SADD", b"set", b"b"]).await.unwrap(), [Reply::Int(1)]);
    let kept = [("small", 1), ("large", MIB), ("over", 4), ("text", 5), ("set", 1 + 3 * 4 + 4)];
    let bytes = kept.iter().map(|(key, value)| (key.len() + value) as u64).sum();
    assert_eq!(house.store.usage(&a.account).unwrap(), Usage { bytes, keys: 5 });
}
