//! `tollgate backup` and `tollgate restore`, with the real binary: the contents of a backup, the restored store, and what
//! is refused.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tests::{Gateway, Protocol, Redis, Site, Tenant, run, tollgate, until};

const KEYS: usize = 10;
const LIMITS: &str = "[limits]\nstorage_ops = 5000\nfuel = \"20G\"\nrequest_body = \"8MiB\"\nmemory = \"128MiB\"";
const MIB: usize = 1 << 20;

fn site() -> Site {
    let quota = format!("{LIMITS}\n[quota]\nstorage = {{ bytes = \"1MiB\", keys = {KEYS} }}");
    let kv = |host: &str, limits: &str| Tenant::new(host, "kv").stores(&["default"]).with(limits);
    Site::new()
        .tenant("pairs", &kv("pairs.localhost", LIMITS))
        .tenant("full", &kv("full.localhost", &quota))
        .gateway("[storage]\ntimeout = \"30s\"")
}

async fn call(gateway: &Gateway, tenant: &str, path: &str, body: impl Into<String>) -> String {
    gateway.client(Protocol::H2).call("POST", &format!("{tenant}.localhost"), path, body.into()).await.text()
}

fn good(site: &Site, words: &[&str]) -> String {
    let (is_good, said) = run(site, words);
    assert!(is_good, "{words:?}: {said}");
    said
}

fn refused(site: &Site, words: &[&str]) -> String {
    let (is_good, said) = run(site, words);
    assert!(!is_good, "{words:?}: {said}");
    said
}

fn ended(gateway: Gateway) {
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), Some(0));
}

/// Names in a folder with this beginning.
fn named(dir: &Path, begin: &str) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(begin)).collect();
    names.sort();
    names
}

/// Clients that repeatedly write the same number to both keys of a pair, in one call.
struct Writers {
    written: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Writers {
    fn begin(gateway: &Arc<Gateway>) -> Self {
        let (written, ends) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let tasks = (0..3).map(|pair| {
            let (gateway, written, ends) = (Arc::clone(gateway), Arc::clone(&written), Arc::clone(&ends));
            tokio::spawn(async move {
                for n in 0.. {
                    if ends.load(Ordering::SeqCst) {
                        return;
                    }
                    let both = format!("left-{pair}={n}\nright-{pair}={n}");
                    assert_eq!(call(&gateway, "pairs", "/-/set-many/x", both).await, "set 2");
                    written.fetch_add(1, Ordering::SeqCst);
                }
            })
        });
        let tasks = tasks.collect();
        Self { written, ends, tasks }
    }

    async fn more(&self, than: usize) -> usize {
        until("writes", async || Some(self.written.load(Ordering::SeqCst)).filter(|written| *written > than)).await
    }

    async fn end(self) {
        self.ends.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

/// The values of the pairs, each of which must be equal.
async fn pairs(gateway: &Gateway) -> Vec<usize> {
    let mut found = Vec::new();
    for pair in 0..3 {
        let said = call(gateway, "pairs", "/-/get-many/x", format!("left-{pair}\nright-{pair}")).await;
        let numbers: Vec<usize> =
            said.split(' ').map(|text| text.split('=').nth(1).unwrap().parse().unwrap()).collect();
        assert_eq!(numbers[0], numbers[1], "{said}");
        found.push(numbers[0]);
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_writes_is_one_moment_and_can_be_restored() {
    let site = site();
    let gateway = Arc::new(Gateway::start(&site));
    for key in 0..KEYS {
        assert_eq!(call(&gateway, "full", &format!("/-/set/k{key}"), "value").await, "set");
    }
    // Large enough to be read in many pieces while the pairs change.
    for key in 0..12 {
        assert_eq!(call(&gateway, "pairs", &format!("/-/set/large-{key}"), "x".repeat(MIB)).await, "set");
    }
    let writers = Writers::begin(&gateway);
    let before = writers.more(6).await;
    let said = tokio::task::block_in_place(|| good(&site, &["backup", "--to", "store.backup"]));
    assert!(said.starts_with("backed up ") && said.contains(" keys of 2 tenants ("), "{said}");
    let after = writers.more(before).await;
    writers.end().await;
    assert_eq!(call(&gateway, "pairs", "/-/set/later", "x").await, "set");
    assert_eq!(call(&gateway, "full", "/-/delete/k0", "").await, "deleted");
    let last = pairs(&gateway).await;
    assert!(last.iter().sum::<usize>() + 3 >= after);
    assert_eq!(named(site.dir(), "store.backup"), ["store.backup"], "nothing else is left");
    let mode = std::fs::metadata(site.path("store.backup")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it has every tenant's data");
    let noted = gateway.admin("/v1/changes").await;
    assert!(noted.contains("/v1/backup"), "{noted}");
    // While a gateway serves, nothing can be restored.
    let said = refused(&site, &["restore", "--from", "store.backup", "--replace"]);
    assert!(said.contains("a gateway (process ") && said.contains("tollgate drain"), "{said}");
    ended(Arc::into_inner(gateway).unwrap());
    let said = refused(&site, &["restore", "--from", "store.backup"]);
    assert!(said.contains("is there already: --replace puts the backup in its place"), "{said}");
    let said = good(&site, &["restore", "--from", "store.backup", "--replace"]);
    assert!(said.starts_with("restored ") && said.contains("of 2 tenants"), "{said}");
    assert_eq!(named(&site.path("state/store"), ""), ["tollgate.redb"]);
    let gateway = Gateway::start(&site);
    let found = pairs(&gateway).await;
    assert!(found.iter().zip(&last).all(|(found, last)| found <= last), "{found:?} {last:?}");
    assert_eq!(call(&gateway, "pairs", "/-/get/later", "").await, "(none)");
    for key in 0..12 {
        assert_eq!(call(&gateway, "pairs", &format!("/-/get/large-{key}"), "").await.len(), MIB);
    }
    // The tracked usage is the real one, so the quota still applies.
    for (tenant, keys) in [("full", KEYS), ("pairs", 12 + 6)] {
        let (code, said) = gateway.tell(&site, &["tenant", "count", tenant]);
        assert!(code == Some(0) && said.contains(&format!(" in {keys} keys")), "{said}");
    }
    assert_ne!(call(&gateway, "full", "/-/set/one-more", "x").await, "set");
    assert_eq!(call(&gateway, "full", "/-/delete/k0", "").await, "deleted");
    assert_eq!(call(&gateway, "full", "/-/set/one-more", "x").await, "set");
    // Every deleted key is subtracted from the sum: after all are deleted, it is zero.
    for tenant in ["full", "pairs"] {
        good(&site, &["kv", "purge", "--tenant", tenant, "--yes"]);
        assert_eq!(
            gateway.tell(&site, &["tenant", "count", tenant]).1.trim(),
            format!("{tenant} uses 0 bytes in 0 keys")
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_not_served_can_be_backed_up_and_restored() {
    let site = site();
    let said = refused(&site, &["backup", "--to", "store.backup"]);
    assert!(said.contains("there is no embedded store in "), "{said}");
    assert!(named(site.dir(), "store.backup").is_empty());
    let gateway = Gateway::start(&site);
    assert_eq!(call(&gateway, "pairs", "/-/set/k", "first").await, "set");
    ended(gateway);
    good(&site, &["backup", "--to", "stopped.backup"]);
    // Killed: the file about itself is still there, and so is its store.
    let gateway = Gateway::start(&site);
    assert_eq!(call(&gateway, "pairs", "/-/set/k", "second").await, "set");
    gateway.kill_9();
    assert!(site.path("state/running.json").exists());
    good(&site, &["backup", "--to", "killed.backup"]);
    for (backup, value) in [("stopped.backup", "first"), ("killed.backup", "second")] {
        good(&site, &["restore", "--from", backup, "--replace"]);
        let gateway = Gateway::start(&site);
        assert_eq!(call(&gateway, "pairs", "/-/get/k", "").await, value);
        ended(gateway);
    }
    // Into a folder that never had a store.
    std::fs::remove_dir_all(site.path("state/store")).unwrap();
    good(&site, &["restore", "--from", "stopped.backup"]);
    let gateway = Gateway::start(&site);
    assert_eq!(call(&gateway, "pairs", "/-/get/k", "").await, "first");
}

#[tokio::test]
async fn a_truncated_or_altered_backup_is_refused_and_the_store_stays() {
    let site = site();
    let gateway = Gateway::start(&site);
    assert_eq!(call(&gateway, "pairs", "/-/set/k", "value").await, "set");
    ended(gateway);
    good(&site, &["backup", "--to", "store.backup"]);
    let whole = std::fs::read(site.path("store.backup")).unwrap();
    let before = std::fs::read(site.path("state/store/tollgate.redb")).unwrap();
    let mut altered = whole.clone();
    let at = altered.len() / 2;
    altered[at] ^= 0x40;
    for (bytes, words) in [
        (&whole[..whole.len() - 9], "it is cut"),
        (&altered, "it was altered"),
        (b"{\"tollgate\":1,\"tenant\":\"pairs\"}\n".as_slice(), "it is no backup of the embedded store"),
        (b"", "it is no backup of the embedded store"),
    ] {
        site.write("wrong.backup", bytes);
        let said = refused(&site, &["restore", "--from", "wrong.backup", "--replace"]);
        assert!(said.contains("wrong.backup: ") && said.contains(words), "{words}: {said}");
    }
    let said = refused(&site, &["restore", "--from", "none.backup", "--replace"]);
    assert!(said.contains("none.backup: cannot read it: No such file"), "{said}");
    assert!(std::fs::read(site.path("state/store/tollgate.redb")).unwrap() == before);
    assert_eq!(named(&site.path("state/store"), ""), ["tollgate.redb"]);
}

/// Runs a command with a limit on the size of files, as on a full disk.
fn without_room(site: &Site, kib: usize, words: &str) -> String {
    let script = format!("trap '' XFSZ; ulimit -f {kib}; exec {} {words}", tollgate().display());
    let output = Command::new("bash").args(["-c", &script]).current_dir(site.dir()).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_write_leaves_nothing_behind_and_the_error_names_the_file() {
    let site = site();
    let gateway = Gateway::start(&site);
    for key in 0..3 {
        assert_eq!(call(&gateway, "pairs", &format!("/-/set/large-{key}"), "x".repeat(MIB)).await, "set");
    }
    site.write("store.backup", "the one of yesterday");
    let said = without_room(&site, 1024, "backup --to store.backup");
    assert!(said.contains("cannot write store.backup.part: File too large"), "{said}");
    assert_eq!(std::fs::read(site.path("store.backup")).unwrap(), b"the one of yesterday");
    assert_eq!(named(site.dir(), "store.backup"), ["store.backup"]);
    for (to, words) in
        [("none/store.backup", "No such file or directory"), ("config/gateway.toml/b", "Not a directory")]
    {
        let said = refused(&site, &["backup", "--to", to]);
        assert!(said.contains(&format!("cannot write {to}.part: {words}")), "{said}");
    }
    good(&site, &["backup", "--to", "store.backup"]);
    ended(gateway);
    let before = std::fs::read(site.path("state/store/tollgate.redb")).unwrap();
    let said = without_room(&site, 1024, "restore --from store.backup --replace");
    assert!(said.contains("tollgate.redb.restored: ") && said.contains("File too large"), "{said}");
    assert!(std::fs::read(site.path("state/store/tollgate.redb")).unwrap() == before);
    assert_eq!(named(&site.path("state/store"), ""), ["tollgate.redb"]);
    // A disk that is really full, if this process may create one.
    let disk = site.path("disk");
    std::fs::create_dir(&disk).unwrap();
    let script = "mount -t tmpfs -o size=1m none disk && exec \"$0\" backup --to disk/store.backup";
    let output =
        Command::new("unshare").args(["-rm", "sh", "-c", script]).arg(tollgate()).current_dir(site.dir()).output();
    let said = output.map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).unwrap_or_default();
    if said.starts_with("tollgate: ") {
        assert!(said.contains("cannot write disk/store.backup.part: No space left on device"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unread_backup_delays_no_write_and_a_second_one_is_refused() {
    let site = site();
    let gateway = Gateway::start(&site);
    for key in 0..24 {
        assert_eq!(call(&gateway, "pairs", &format!("/-/set/large-{key}"), "x".repeat(MIB)).await, "set");
    }
    let mut asked = TcpStream::connect(gateway.admin).unwrap();
    let head = format!(
        "POST /v1/backup HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-length: 0\r\n\r\n",
        gateway.token
    );
    asked.write_all(head.as_bytes()).unwrap();
    asked.read_exact(&mut [0; 1024]).unwrap();
    for n in 0..20 {
        assert_eq!(call(&gateway, "pairs", "/-/set-many/x", format!("left={n}\nright={n}")).await, "set 2");
        assert_eq!(call(&gateway, "full", "/-/set/k", "value").await, "set");
    }
    let said = refused(&site, &["backup", "--to", "store.backup"]);
    assert!(said.contains("another backup is being taken"), "{said}");
    assert!(named(site.dir(), "store.backup").is_empty());
    drop(asked);
    until("its place", async || run(&site, &["backup", "--to", "store.backup"]).0.then_some(())).await;
}

/// Whoever has another name for the file could read the backup by it.
#[tokio::test]
async fn a_backup_is_not_written_into_somebody_elses_file() {
    let site = site();
    let _gateway = Gateway::start(&site);
    let part = site.path("store.backup.part");
    std::fs::write(&part, "").unwrap();
    std::fs::hard_link(&part, site.path("mine")).unwrap();
    let said = refused(&site, &["backup", "--to", "store.backup"]);
    assert!(said.contains("store.backup.part belongs to another user, or has another name"), "{said}");
    assert_eq!(std::fs::metadata(site.path("mine")).unwrap().len(), 0);
    std::fs::remove_file(part).unwrap();
    assert!(good(&site, &["backup", "--to", "store.backup"]).starts_with("backed up "));
}

#[tokio::test]
async fn an_interrupted_backup_leaves_no_file() {
    let site = site();
    let gateway = Gateway::start(&site);
    assert_eq!(call(&gateway, "pairs", "/-/set/k", "value").await, "set");
    good(&site, &["backup", "--to", "store.backup"]);
    let whole = std::fs::read(site.path("store.backup")).unwrap();
    // In the gateway's place, a server sends a truncated backup: once shorter than its announced length, and once without
    // one.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    for (said_length, words) in [(whole.len() - 20, "it is cut"), (whole.len(), "the gateway broke off")] {
        let (listener, cut) = (listener.try_clone().unwrap(), whole[..whole.len() - 20].to_vec());
        let sends = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _asked = stream.read(&mut [0; 4096]).unwrap();
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {said_length}\r\n\r\n").unwrap();
            stream.write_all(&cut).unwrap();
        });
        let said = refused(&site, &["backup", "--to", "cut.backup", "--admin", &address]);
        assert!(said.contains(words), "{said}");
        assert!(named(site.dir(), "cut.backup").is_empty());
        sends.join().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_redis_both_commands_say_what_to_do_instead() {
    let (redis, site) = (Redis::start(), site());
    let url = redis.url();
    let gateway = Gateway::start_with(&site, &["--storage", &url]);
    gateway.storage().await;
    for words in [["backup", "--to", "b"], ["restore", "--from", "b"]] {
        let said = refused(&site, &[words.as_slice(), &["--storage", &url]].concat());
        assert!(said.contains("BGSAVE") && said.contains("kv export"), "{said}");
    }
    // Also if only the gateway knows.
    let said = refused(&site, &["backup", "--to", "b"]);
    assert!(said.contains("409") && said.contains("BGSAVE") && said.contains("kv export"), "{said}");
    let said = refused(&site, &["restore", "--from", "b"]);
    assert!(said.contains("a gateway (process "), "{said}");
    assert!(named(site.dir(), "b").is_empty());
}
