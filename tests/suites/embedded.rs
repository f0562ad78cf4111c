//! The embedded store under a tenant that uses as much as it may: it delays itself and nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tests::{Answer, Gateway, Protocol, Site, Tenant};

/// How many of a tenant's requests are in flight at once.
const AT_ONCE: usize = 24;
const QUIET_CALLS: usize = 15;

const LIMITS: &str = "[limits]\nstorage_ops = 1_000_000\nfuel = \"100G\"\ntime = \"60s\"\nrequest_body = \"16MiB\"\nmemory = \"128MiB\"\n\
                      [quota]\nin_flight = 200";

fn site(gateway: &str) -> Site {
    let raw = Tenant::new("noisy.localhost", "spin").stores(&["default"]).redis(&["redis://granted:6379"]).with(LIMITS);
    let kv = Tenant::new("batches.localhost", "kv").stores(&["default"]).with(LIMITS);
    let quiet = Tenant::new("quiet.localhost", "kv").stores(&["default"]);
    Site::new().gateway(gateway).tenant("noisy", &raw).tenant("batches", &kv).tenant("quiet", &quiet)
}

async fn execute(gateway: &Gateway, words: &[&[u8]]) -> Answer {
    let body = tests::spin_words(words);
    gateway.client(Protocol::H2).call("POST", "noisy.localhost", "/redis2/execute/granted", body).await
}

async fn call(gateway: &Gateway, tenant: &str, path: &str, body: String) -> String {
    gateway.client(Protocol::H2).call("POST", &format!("{tenant}.localhost"), path, body).await.text()
}

/// A raw set of nearly a MiB, and a value of one MiB.
async fn fill(gateway: &Gateway) {
    // In as few parts as may be added at once.
    let members: Vec<Vec<u8>> = (0..254).map(|n| format!("{n:4096}").into_bytes()).collect();
    for part in members.chunks(127) {
        let part = part.iter().map(Vec::as_slice);
        let words: Vec<&[u8]> = [b"SADD".as_slice(), b"set"].into_iter().chain(part).collect();
        assert_eq!(execute(gateway, &words).await.text(), "int 127");
    }
    let value = vec![b'v'; 1 << 20];
    assert_eq!(execute(gateway, &[b"SET", b"value", &value]).await.text(), "status OK");
}

/// Repeated requests of one kind, and the number of answers.
struct Noise {
    answered: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Noise {
    fn begin(at_once: usize, ask: &impl Ask) -> Self {
        let (answered, ends) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let tasks = (0..at_once).map(|n| {
            let (ask, answered, ends) = (ask.clone(), Arc::clone(&answered), Arc::clone(&ends));
            tokio::spawn(async move {
                while !ends.load(Ordering::SeqCst) {
                    ask.ask(n).await;
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            })
        });
        let tasks = tasks.collect();
        Self { answered, ends, tasks }
    }

    fn count(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    async fn end(self) {
        self.ends.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

/// A request to repeat.
trait Ask: Clone + Send + 'static {
    fn ask(&self, n: usize) -> impl Future<Output = ()> + Send;
}

#[derive(Clone)]
struct Command(Arc<Gateway>, Arc<Vec<Vec<u8>>>, &'static str);

impl Ask for Command {
    async fn ask(&self, n: usize) {
        let own = format!("{n}").into_bytes();
        let words = self.1.iter().map(|word| if word.is_empty() { own.as_slice() } else { word.as_slice() });
        let answer = execute(&self.0, &words.collect::<Vec<_>>()).await.text();
        assert!(answer.starts_with(self.2), "{}", answer.get(..200).unwrap_or(&answer));
    }
}

#[derive(Clone)]
struct Batch(Arc<Gateway>, String);

impl Ask for Batch {
    async fn ask(&self, _n: usize) {
        assert_eq!(call(&self.0, "batches", "/-/set-many/x", self.1.clone()).await, "set 3");
    }
}

/// While a tenant has as many of its most expensive calls in progress as it may, another tenant's call waits for few of
/// them. In order of arrival it would wait for all.
async fn quiet_passes(gateway: &Gateway, what: &str, noise: Noise) {
    tests::until("noise", async || (noise.count() >= noise.tasks.len()).then_some(())).await;
    let at_once = noise.tasks.len();
    let mut least = usize::MAX;
    for n in 0..QUIET_CALLS {
        let before = noise.count();
        assert_eq!(call(gateway, "quiet", "/-/set/k", format!("{n}")).await, "set");
        // Other calls finish while this call is on its way to the store and back, so the attempt that met the fewest
        // counts.
        least = least.min(noise.count() - before);
        assert_eq!(call(gateway, "quiet", "/-/get-many/x", "k\nk".to_owned()).await, format!("k={n} k={n}"));
    }
    noise.end().await;
    assert!(least < at_once / 2, "{what}: {least} of {at_once} at once were answered during each write of another's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_tenants_pass_a_tenant_that_keeps_the_writer_busy() {
    let gateway = Arc::new(Gateway::start(&site("[storage]\ntimeout = \"60s\"")));
    fill(&gateway).await;
    let append = [b"SADD".as_slice(), b"set", b""].map(<[u8]>::to_vec).to_vec();
    quiet_passes(&gateway, "SADD", Noise::begin(AT_ONCE, &Command(Arc::clone(&gateway), Arc::new(append), "int ")))
        .await;
    let line = |n: usize| format!("k{n}={}", "x".repeat(1 << 20));
    let lines: Vec<String> = (0..3).map(line).collect();
    // Of 3 MiB each: more than 32 MiB would be refused.
    quiet_passes(&gateway, "set-many", Noise::begin(8, &Batch(Arc::clone(&gateway), lines.join("\n")))).await;
}

/// A tenant that reads a value of a MiB, a hundred times in each request.
#[derive(Clone)]
struct Reads(Arc<Gateway>);

impl Ask for Reads {
    async fn ask(&self, _n: usize) {
        assert_eq!(call(&self.0, "batches", "/-/get-100/k0", String::new()).await, "got 100");
    }
}

/// Which tenant gets which reader is decided in `shares.rs`, whose tests count; here nobody is refused and nobody is late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_tenants_pass_a_tenant_that_keeps_the_readers_busy() {
    let gateway = Arc::new(Gateway::start(&site("[storage]\ntimeout = \"60s\"")));
    let value = format!("k0={}", "x".repeat(1 << 20));
    assert_eq!(call(&gateway, "batches", "/-/set-many/x", value).await, "set 1");
    quiet_passes(&gateway, "get", Noise::begin(8, &Reads(Arc::clone(&gateway)))).await;
}

/// Reading the largest set for each of a thousand mentions would take minutes of everybody's time.
#[tokio::test]
async fn a_set_that_is_named_a_thousand_times_is_looked_up_once() {
    let gateway = Gateway::start(&site("[storage]\ntimeout = \"5s\""));
    fill(&gateway).await;
    let named = |name: &'static [u8], times| -> Vec<&[u8]> {
        std::iter::once(name).chain(std::iter::repeat_n(b"set".as_slice(), times)).collect()
    };
    assert_eq!(execute(&gateway, &named(b"EXISTS", 998)).await.text(), "int 998");
    assert_eq!(execute(&gateway, &named(b"DEL", 500)).await.text(), "int 1");
    assert_eq!(execute(&gateway, &named(b"EXISTS", 998)).await.text(), "int 0");
    let mget: Vec<&[u8]> = std::iter::once(b"MGET".as_slice()).chain([b"value".as_slice(); 998]).collect();
    assert!(execute(&gateway, &mget).await.text().contains("too-large: a batch may return at most 8 MiB"));
}

/// Calls whose deadline passes before their turn are not executed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_nobody_waits_for_is_not_executed() {
    let site = site("[storage]\ntimeout = \"60s\"");
    let gateway = Arc::new(Gateway::start(&site));
    fill(&gateway).await;
    drop(gateway);
    let site = site.gateway("[storage]\ntimeout = \"15ms\"");
    let gateway = Arc::new(Gateway::start(&site));
    let metric = "tollgate_store_jobs_dropped_total";
    let dropped = tests::until("calls that were left", async || {
        let asked = (0..AT_ONCE).map(|n| {
            let gateway = Arc::clone(&gateway);
            tokio::spawn(async move {
                let own = format!("{n}").into_bytes();
                execute(&gateway, &[b"SADD", b"set", &own]).await.text()
            })
        });
        for asked in asked.collect::<Vec<_>>() {
            let answer = asked.await.unwrap();
            assert!(answer.starts_with("int ") || answer.contains("timeout: "), "{answer}");
        }
        let dropped = gateway.metric(metric).await;
        (dropped > 0.0).then_some(dropped)
    })
    .await;
    println!("{dropped} calls were dropped");
}

#[tokio::test]
async fn an_empty_batch_is_one_operation_and_writes_nothing() {
    let gateway = Gateway::start(&site(""));
    assert_eq!(call(&gateway, "quiet", "/-/set/k", "v".to_owned()).await, "set");
    let slices = "tollgate_store_slice_seconds_count{by=\"writer\"}";
    let before = gateway.metric(slices).await;
    for (path, answer) in [("set-many", "set 0"), ("delete-many", "deleted"), ("get-many", "")] {
        let path = format!("/-/{path}/x");
        let answered = gateway.client(Protocol::H2).call("POST", "quiet.localhost", &path, "").await;
        assert_eq!(answered.text(), answer);
        assert_eq!(gateway.record(&answered).await["storage_ops"], 1, "{path}");
    }
    assert_eq!(gateway.metric(slices).await, before, "nothing was for the writer");
}
