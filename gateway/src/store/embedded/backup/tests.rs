use std::path::PathBuf;
use std::sync::Arc;

use super::super::tests::{House, MIB, pair, whose};
use super::super::{Embedded, Work};
use super::format::verify;
use super::*;
use crate::store::{Usage, Write};

/// All pieces of a snapshot, joined.
fn whole(mut snapshot: Snapshot) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(piece) = snapshot.next().unwrap() {
        bytes.extend(piece);
    }
    bytes
}

fn snapshot(house: &House) -> Snapshot {
    house.store.database.with(|database| Snapshot::of(database).map_err(internal)).unwrap()
}

fn written(house: &House, bytes: &[u8]) -> PathBuf {
    let path = house.dir.path().join("backup");
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Everything in a backup except its time.
fn records(bytes: &[u8]) -> &[u8] {
    let head = bytes.iter().position(|byte| *byte == b'\n').unwrap();
    &bytes[head..bytes.len() - 32]
}

#[tokio::test]
async fn a_backup_that_is_truncated_or_altered_anywhere_is_refused() {
    let (house, a) = (House::new(), whose("a"));
    for (key, bytes) in [("small", 5), ("empty", 0), ("large", 2000)] {
        house.set(&a, vec![pair(key, bytes)]).await.unwrap();
    }
    let good = whole(snapshot(&house));
    let summary = verify(good.as_slice()).unwrap();
    assert_eq!((summary.keys, summary.tenants, summary.bytes), (3, 1, good.len() as u64));
    for length in 0..good.len() {
        let error = format!("{:#}", verify(&good[..length]).unwrap_err());
        assert!(error.contains("it is cut") || error.contains("it is no backup"), "{length}: {error}");
    }
    for at in 0..good.len() {
        let mut altered = good.clone();
        altered[at] ^= 1;
        assert!(verify(altered.as_slice()).is_err(), "byte {at}");
    }
    let longer = [good.as_slice(), b"x"].concat();
    assert!(verify(longer.as_slice()).unwrap_err().to_string().contains("follows its end"));
    let newer =
        String::from_utf8_lossy(&good[..good.len() - 40]).replace("\"tollgate_backup\":1", "\"tollgate_backup\":2");
    assert!(verify(newer.as_bytes()).unwrap_err().to_string().contains("reads form 1"));
    // A refused backup changes nothing and leaves nothing behind.
    let (other, cut) = (house.dir.path().join("other"), written(&house, &good[..good.len() - 1]));
    let error = format!("{:#}", restore(&cut, &other, Existing::Replaced).unwrap_err());
    assert!(error.contains("it is cut") && error.contains("backup"), "{error}");
    assert!(!other.exists());
}

#[tokio::test]
async fn a_restored_store_equals_the_original_row_for_row_and_accepts_writes() {
    let (house, a, b) = (House::new(), whose("a"), whose("b"));
    house.set(&a, vec![pair("small", 5), pair("large", MIB), pair("gone", MIB)]).await.unwrap();
    house.say(&b, &[b"SET", b"raw", b"text"]).await.unwrap();
    house.say(&b, &[b"SADD", b"set", b"one", b"two"]).await.unwrap();
    house.store.write(&a.account, &a.bucket, Write::Delete(vec![b"gone".to_vec()])).await.unwrap();
    house.store.work(a.account.clone(), a.bucket.clone(), Work::Layout(Some(4))).await.unwrap();
    let sums = [&a, &b].map(|whose| house.store.usage(&whose.account).unwrap());
    let bytes = whole(snapshot(&house));
    let (path, other) = (written(&house, &bytes), house.dir.path().join("other"));
    // The existing store is open: nothing replaces it.
    let error = restore(&path, house.dir.path(), Existing::Replaced).unwrap_err().to_string();
    assert!(error.contains("a gateway serves"), "{error}");
    let summary = restore(&path, &other, Existing::Kept).unwrap();
    assert_eq!((summary.keys, summary.tenants), (4, 2));
    let mut again = Vec::new();
    let mut folder = Folder::open(&other).unwrap().unwrap();
    while let Some(piece) = folder.next().unwrap() {
        again.extend(piece);
    }
    drop(folder);
    assert!(records(&again) == records(&bytes), "every table has the same rows");
    let error = restore(&path, &other, Existing::Kept).unwrap_err().to_string();
    assert!(error.contains("--replace"), "{error}");
    let store = Arc::new(Embedded::open(&other, &house.metrics).unwrap());
    let restored = House { store, metrics: Arc::clone(&house.metrics), dir: tempfile::tempdir().unwrap() };
    assert_eq!(restored.get(&a, b"large").await, Some(vec![b'x'; MIB]));
    assert_eq!([&a, &b].map(|whose| restored.store.usage(&whose.account).unwrap()), sums);
    // Numbers of chunks are not reused.
    restored.set(&a, vec![pair("new", MIB)]).await.unwrap();
    restored.store.write(&a.account, &a.bucket, Write::Delete(vec![b"large".to_vec()])).await.unwrap();
    assert_eq!(restored.get(&a, b"new").await, Some(vec![b'x'; MIB]));
    let Usage { bytes, keys } = restored.store.usage(&a.account).unwrap();
    assert_eq!((bytes, keys), ((5 + 5 + 3 + MIB) as u64, 2));
}

#[tokio::test]
async fn writes_during_a_backup_wait_for_nothing_and_are_not_in_it() {
    let (house, a) = (House::new(), whose("a"));
    house.set(&a, vec![pair("large", MIB), pair("small", 1)]).await.unwrap();
    let mut snapshot = snapshot(&house);
    let mut bytes = snapshot.next().unwrap().unwrap();
    let before = records(&whole(self::snapshot(&house))).to_vec();
    // As much data again, and all of it deleted.
    for _ in 0..3 {
        house.set(&a, vec![pair("large", MIB - 1), pair("more", MIB)]).await.unwrap();
    }
    house.store.write(&a.account, &a.bucket, Write::Delete(vec![b"large".to_vec(), b"small".to_vec()])).await.unwrap();
    house.store.settled(&a.account, &a.bucket).await.unwrap();
    bytes.extend(whole(snapshot));
    assert_eq!(verify(bytes.as_slice()).unwrap().keys, 2);
    assert!(records(&bytes) == before, "it is the commit of its beginning");
}

#[tokio::test]
async fn a_store_that_was_not_closed_is_repaired_before_a_backup() {
    let (house, a) = (House::new(), whose("a"));
    house.set(&a, vec![pair("k", 3)]).await.unwrap();
    // The state after a process is killed: the file says that it is open.
    let other = house.dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::copy(house.dir.path().join(super::super::FILE), other.join(super::super::FILE)).unwrap();
    let mut folder = Folder::open(&other).unwrap().unwrap();
    let piece = folder.next().unwrap().unwrap();
    assert_eq!(verify(piece.as_slice()).unwrap().keys, 1);
    assert!(Folder::open(&house.dir.path().join("none")).unwrap().is_none());
    let error = Folder::open(house.dir.path()).err().unwrap().to_string();
    assert!(error.contains("another process has"), "{error}");
}

#[tokio::test]
async fn a_closed_store_is_opened_again_without_repair() {
    let (house, a) = (House::new(), whose("a"));
    house.set(&a, vec![pair("k", 3)]).await.unwrap();
    house.store.close().await;
    let closed = crate::store::Error::Unavailable;
    assert_eq!(house.set(&a, vec![pair("late", 3)]).await, Err(closed.clone()));
    assert_eq!(house.store.get_many(&a.bucket, &[b"k"]).await, Err(closed));
    assert!(redb::ReadOnlyDatabase::open(house.dir.path().join(super::super::FILE)).is_ok());
    let store = Embedded::open(house.dir.path(), &house.metrics).unwrap();
    assert_eq!(store.get_many(&a.bucket, &[b"k"]).await.unwrap(), [Some(b"xxx".to_vec())]);
}

#[tokio::test]
async fn a_backup_ends_when_the_stores_file_grew_by_too_much() {
    let (house, a) = (House::new(), whose("a"));
    house.set(&a, vec![pair("small", 5)]).await.unwrap();
    let snapshots = [snapshot(&house), snapshot(&house)];
    let bytes = house.store.file_bytes();
    assert!(bytes > 0);
    let of = Arc::new(Backend::Embedded(Arc::into_inner(house.store).unwrap()));
    let [mut full, mut grown] = snapshots.map(|snapshot| {
        let snapshot = Some(snapshot);
        Backup { of: Arc::clone(&of), file_bytes_max: bytes, snapshot }
    });
    grown.file_bytes_max -= 1;
    assert!(full.next().await.unwrap().is_some());
    assert!(matches!(grown.next().await, Err(Error::TooLarge(GREW))));
}
