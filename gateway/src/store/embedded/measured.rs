//! Measures the embedded store against plain redb.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::CACHE_BYTES;
use super::tests::{House, TIME, whose};

const WRITERS: usize = 64;
const RAW: redb::TableDefinition<'static, &[u8], &[u8]> = redb::TableDefinition::new("raw");

/// Durable writes of a hundred bytes by sixty-four writers, beside plain redb in the same run: one commit for each, and
/// groups of as many as there are writers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, fifteen seconds: cargo nextest run -p gateway --run-ignored only --no-capture durable_writes"]
async fn durable_writes_beside_plain_redb() {
    let house = Arc::new(House::new());
    let end = Instant::now() + TIME;
    let writers = (0..WRITERS).map(|writer| {
        let house = Arc::clone(&house);
        tokio::spawn(async move {
            let (mut written, a) = (0u64, whose("a"));
            while Instant::now() < end {
                let key = format!("{writer}-{written}").into_bytes();
                house.set(&a, vec![(key, vec![b'x'; 100])]).await.unwrap();
                written += 1;
            }
            written
        })
    });
    let mut ours = 0;
    for writer in writers.collect::<Vec<_>>() {
        ours += writer.await.unwrap();
    }
    let single = raw(&house.dir.path().join("single.redb"), WRITERS, 1);
    let grouped = raw(&house.dir.path().join("grouped.redb"), 1, WRITERS);
    let rate = |writes: u64| writes / TIME.as_secs();
    println!(
        "durable writes/s: store {}, redb with a commit each {}, redb in groups of {WRITERS} {}",
        rate(ours),
        rate(single),
        rate(grouped)
    );
}

fn raw(path: &Path, threads: usize, group: usize) -> u64 {
    let database = redb::Builder::new().set_cache_size(CACHE_BYTES).create(path).unwrap();
    let (written, end) = (AtomicU64::new(0), Instant::now() + TIME);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (database, written) = (&database, &written);
            scope.spawn(move || {
                let mut n = 0u64;
                while Instant::now() < end {
                    let write = database.begin_write().unwrap();
                    let mut table = write.open_table(RAW).unwrap();
                    for _ in 0..group {
                        table.insert(format!("{thread}-{n}").as_bytes(), [b'x'; 100].as_slice()).unwrap();
                        n += 1;
                    }
                    drop(table);
                    write.commit().unwrap();
                    written.fetch_add(group as u64, Ordering::Relaxed);
                }
            });
        }
    });
    written.into_inner()
}
