//! Every job of the embedded store at its documented maximum, by the time that its slices hold a reader or the writer. A
//! call of another tenant may have to wait for that long.

use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::Context as _;

use super::Plan;
use crate::load;
use crate::report::{Section, figures};
use crate::servers::{Server, Site};

/// How long a slice may take, in milliseconds.
const SLICE_MS: f64 = 5.0;
/// The share of slices that may take longer, because the machine itself pauses now and then.
const LATE: f64 = 0.05;
const ROUNDS: usize = 8;
const MIB: usize = 1 << 20;

/// The calls before each measured one, and the measured one: tenant, path, body.
struct Job {
    name: &'static str,
    before: Vec<Call>,
    call: Call,
}

type Call = (&'static str, String, String);

fn kv(call: &str, body: String) -> Call {
    ("kv", format!("/-/{call}/k"), body)
}

fn lines(keys: usize, value: usize) -> String {
    let value = "x".repeat(value);
    (0..keys).map(|n| format!("key-{n}={value}\n")).collect()
}

fn names(keys: usize) -> String {
    (0..keys).map(|n| format!("key-{n}\n")).collect()
}

/// A Redis command in the form that the guest takes: one word per line, in hex.
fn redis<W: AsRef<[u8]>>(words: impl IntoIterator<Item = W>) -> Call {
    let mut body = String::new();
    for word in words {
        body.push('x');
        for byte in word.as_ref() {
            // Writing to a string cannot fail.
            let _written = write!(body, "{byte:02x}");
        }
        body.push('\n');
    }
    ("raw", "/redis2/execute/granted".to_owned(), body)
}

fn words(name: &str, rest: impl Iterator<Item = String>) -> Call {
    redis(std::iter::once(name.to_owned()).chain(rest))
}

fn member(n: usize) -> String {
    format!("{n:06}")
}

/// A set with this many members of six bytes. The largest has 100,000 members, which the store keeps in nearly a MiB.
fn set_of(name: &str, members: usize) -> Vec<Call> {
    let all: Vec<String> = (0..members).map(member).collect();
    let add = |part: &[String]| words("SADD", std::iter::once(name.to_owned()).chain(part.iter().cloned()));
    std::iter::once(words("DEL", std::iter::once(name.to_owned()))).chain(all.chunks(999).map(add)).collect()
}

/// Keys of 8 KiB each: together as large as the largest answer, in as many commands as that takes.
fn pairs_of_8_kib() -> Vec<Call> {
    let pair = |n: &usize| [format!("p-{n}"), "v".repeat(8 * 1024)];
    let all: Vec<usize> = (0..499).collect();
    all.chunks(120).map(|part| words("MSET", part.iter().flat_map(pair))).collect()
}

fn of_stores() -> Vec<Job> {
    let (mib, eight_kib) = (MIB, 8 * 1024);
    let job = |name, before, call| Job { name, before, call };
    vec![
        job("set, 1 MiB", vec![], kv("set", "x".repeat(mib))),
        job("get, 1 MiB", vec![kv("set", "x".repeat(mib))], kv("get", String::new())),
        job("exists, of 1 MiB", vec![kv("set", "x".repeat(mib))], kv("exists", String::new())),
        job("set-many, 7 of 1 MiB", vec![], kv("set-many", lines(7, mib))),
        job("get-many, 7 of 1 MiB", vec![kv("set-many", lines(7, mib))], kv("get-many", names(7))),
        job("set-many, 1000 of 8 KiB", vec![], kv("set-many", lines(1000, eight_kib))),
        job("get-many, 1000 of 8 KiB", vec![kv("set-many", lines(1000, eight_kib))], kv("get-many", names(1000))),
        job("delete-many, 1000 of 8 KiB", vec![kv("set-many", lines(1000, eight_kib))], kv("delete-many", names(1000))),
        job("set-many, 1000 of 1 KiB", vec![], kv("set-many", lines(1000, 1024))),
        job("set-many, 1000 of 10 bytes", vec![], kv("set-many", lines(1000, 10))),
        job("delete-many, 1000 of 10 bytes", vec![kv("set-many", lines(1000, 10))], kv("delete-many", names(1000))),
        job("list, 1000 keys", vec![kv("set-many", lines(999, 1024))], kv("list", String::new())),
        job("increment", vec![kv("delete", String::new())], kv("increment", String::new())),
        job("swap, beaten by 1 MiB", vec![], kv("cas-beaten", String::new())),
    ]
}

fn of_commands() -> Vec<Job> {
    let job = |name, before, call| Job { name, before, call };
    let value = || redis([b"SET".to_vec(), b"value".to_vec(), vec![b'v'; MIB]]);
    let set = |times: usize| std::iter::repeat_n("set".to_owned(), times);
    let some = |from: usize| std::iter::once("set".to_owned()).chain((from..from + 999).map(member));
    let pairs = |bytes: usize| (0..499).flat_map(move |n| [format!("p-{n}"), "v".repeat(bytes)]);
    let keys = || (0..499).map(|n| format!("p-{n}"));
    vec![
        job("GETSET, 1 MiB", vec![value()], redis([b"GETSET".to_vec(), b"value".to_vec(), vec![b'v'; MIB]])),
        job(
            "APPEND to 1 MiB",
            vec![redis([b"SET".to_vec(), b"value".to_vec(), vec![b'v'; MIB - 10]])],
            redis(["APPEND", "value", "v"]),
        ),
        job("STRLEN", vec![value()], redis(["STRLEN", "value"])),
        job("MGET, one of 1 MiB three times", vec![value()], words("MGET", std::iter::repeat_n("value".to_owned(), 3))),
        job("MSET, 499 of 2 KiB", vec![], words("MSET", pairs(2 * 1024))),
        job("MGET, 499 of 8 KiB", pairs_of_8_kib(), words("MGET", keys())),
        job("DEL, 499 of 8 KiB", pairs_of_8_kib(), words("DEL", keys())),
        job("SADD, one to 99,000", set_of("set", 99_000), words("SADD", ["set", "one"].map(str::to_owned).into_iter())),
        job("SADD, 999 to 99,000", vec![], words("SADD", some(98_001))),
        job("SISMEMBER, of 99,000", vec![], words("SISMEMBER", ["set", "zzz"].map(str::to_owned).into_iter())),
        job("SCARD, of 99,000", vec![], words("SCARD", set(1))),
        job("EXISTS, one of 99,000 998 times", vec![], words("EXISTS", set(998))),
        job("SREM, 999 of 99,000", vec![], words("SREM", some(50_000))),
        job("DEL, one of 99,000 500 times", vec![], words("DEL", set(500))),
        job("SMEMBERS, of 10,000", set_of("whole", 10_000), words("SMEMBERS", std::iter::once("whole".to_owned()))),
    ]
}

/// Slices of the readers and of the writer so far.
#[derive(Clone, Copy, Default)]
struct Slices {
    count: f64,
    seconds: f64,
    /// The slices that kept within the limit.
    in_time: f64,
}

impl Slices {
    fn read(site: &Site, admin: SocketAddr) -> anyhow::Result<Self> {
        let text = site.operators(admin, "/metrics")?;
        let sum = |part: &str, label: &str| -> f64 {
            let lines = text.lines().filter(|line| line.starts_with(part) && line.contains(label));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        let name = "tollgate_store_slice_seconds";
        Ok(Self {
            count: sum(&format!("{name}_count"), ""),
            seconds: sum(&format!("{name}_sum"), ""),
            in_time: sum(&format!("{name}_bucket"), "le=\"0.005\""),
        })
    }

    fn add(&mut self, before: Self, after: Self) {
        self.count += after.count - before.count;
        self.seconds += after.seconds - before.seconds;
        self.in_time += after.in_time - before.in_time;
    }
}

async fn ask(server: &Server, (tenant, path, body): &Call) -> anyhow::Result<()> {
    let target = server.target.at(&format!("{tenant}.localhost"), path);
    load::post(&target, body).await.with_context(|| format!("{tenant} {path}"))
}

pub(super) async fn run(plan: &Plan) -> anyhow::Result<Vec<Section>> {
    let site = plan.site("embedded", "[storage]\ntimeout = \"60s\"")?;
    let limits = "[limits]\nfuel = \"100G\"\ntime = \"60s\"\nmemory = \"256MiB\"\nrequest_body = \"32MiB\"\nstorage_ops = 1_000_000";
    site.tenant("kv", &plan.guest("kv")?, limits)?;
    let granted = format!("{limits}\n[quota]\nin_flight = 4");
    let raw = site.dir.join("tenants/raw/tenant.toml");
    site.tenant("raw", &plan.guest("spin")?, &granted)?;
    let text = std::fs::read_to_string(&raw)?;
    std::fs::write(&raw, text.replace("stores = [", "redis = [\"redis://granted:6379\"]\nstores = ["))?;
    let (server, admin) = site.serve("kv.localhost")?;
    let (mut rows, mut bars, mut worse) = (Vec::new(), Vec::new(), Vec::new());
    for job in of_stores().into_iter().chain(of_commands()) {
        let mut slices = Slices::default();
        for _ in 0..ROUNDS {
            for call in &job.before {
                ask(&server, call).await.with_context(|| format!("before {}", job.name))?;
            }
            let before = Slices::read(&site, admin)?;
            ask(&server, &job.call).await.with_context(|| job.name)?;
            slices.add(before, Slices::read(&site, admin)?);
        }
        let mean = if slices.count > 0.0 { slices.seconds / slices.count * 1000.0 } else { 0.0 };
        let late = slices.count - slices.in_time;
        let a_call = slices.count / load::to_f64(ROUNDS as u64);
        let name = job.name.to_owned();
        rows.push(vec![name.clone(), format!("{a_call:.1}"), format!("{mean:.2}"), figures(late)]);
        bars.push((name, mean));
        if late > slices.count * LATE || mean > SLICE_MS {
            worse.push(format!(
                "{}: {late} of {} slices took over {SLICE_MS} ms, {mean:.2} in the mean",
                job.name, slices.count
            ));
        }
    }
    Ok(vec![Section {
        name: "embedded",
        title: "Jobs of the embedded store at their maximum".to_owned(),
        how: format!(
            "Each call is made {ROUNDS} times by a guest, with as much data as a call may carry or find, and the gateway's own \
             tollgate_store_slice_seconds is read around it: how often the call held a reader or the writer (what is answered in \
             place holds neither), for how long in the mean, and how many times for more than {SLICE_MS} ms. Another tenant's call \
             waits for one slice at most."
        ),
        columns: vec!["job", "slices a call", "ms a slice", "over 5 ms"],
        rows,
        plot: ("ms a slice", bars),
        worse,
    }])
}
