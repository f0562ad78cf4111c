//! What a unit of fuel costs the gateway's processor, for every function of every interface that the gateway serves.
//!
//! Each WIT world has a component, which calls the function that a request's path names until its fuel is gone: with small
//! arguments, with a long text, and with long lists. The table shows processor time per unit of fuel beside that of a guest
//! that computes, in the same run. Above [`TIMES_MAX`] times that, the scenario fails. Waiting is not work: the processor's
//! time counts and the clock's does not.
//!
//! A function in the WIT that no component drives is an exception with its reason in `worlds.rs`, or fails a test.

mod module;
mod shape;
mod worlds;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use self::module::{MOST, driver};
use self::worlds::{ELSEWHERE, WORLDS, World};
use super::Plan;
use crate::load::{Connection, Protocol, connector, to_f64};
use crate::report::{Section, figures};
use crate::servers::{self, Server};

/// Upper limit for the time of a unit, as a multiple of a computing guest's.
const TIMES_MAX: f64 = 20.0;
/// What a request may burn, and burns.
const FUEL: u64 = 40_000_000;
/// Measuring time for each function and each size of its arguments.
const ENOUGH: Duration = Duration::from_millis(60);
const REQUESTS_MAX: usize = 400;
/// Sizes of arguments: the length of a text, and the number of elements of a list.
const SIZES: [(&str, u32, u32); 3] = [("small", 4, 1), ("a long text", MOST.0, 1), ("long lists", 4, MOST.1)];
/// The store that guests may open; its name is spelt with the letters that their texts consist of.
const STORE: &str = "aaaa";
/// Nothing listens there, and nothing is sent.
const ADDRESS: &str = "redis://127.0.0.1:6379";

/// The component of a world, as a tenant of a gateway.
struct Tenant {
    world: &'static World,
    id: String,
    functions: Vec<module::Driven>,
}

/// What some requests took: processor time in nanoseconds, and fuel.
#[derive(Clone, Copy, Debug, Default)]
struct Took {
    processor: f64,
    fuel: f64,
    requests: f64,
}

impl Took {
    /// Nanoseconds for each unit, less what the same number of requests take that call nothing.
    fn each(self, nothing: Self) -> Option<f64> {
        let part = self.requests / nothing.requests;
        let fuel = self.fuel - nothing.fuel * part;
        (fuel > 0.0).then(|| (self.processor - nothing.processor * part).max(0.0) / fuel)
    }
}

pub(super) async fn run(plan: &Plan) -> anyhow::Result<Vec<Section>> {
    let redis = servers::redis(plan.dir.path()).ok();
    let url = redis.as_ref().map(|redis| format!("redis://{}", redis.target.address));
    let mut found = Vec::new();
    let mut not_driven = Vec::new();
    let mut worse = Vec::new();
    let storages = [("embedded", String::new()), ("Redis", url.clone().unwrap_or_default())];
    for (storage, url) in storages {
        if storage == "Redis" && url.is_empty() {
            eprintln!("Redis is not measured: there is no redis-server");
            continue;
        }
        let gateway = Gateway::start(plan, storage, &url)?;
        let computing = gateway.computing().await?;
        for tenant in &gateway.tenants {
            let nothing = gateway.nothing(tenant).await?;
            for (place, function) in tenant.functions.iter().enumerate() {
                if let Some(why) = &function.not {
                    not_driven.push(format!("{}: {why}", function.name));
                    continue;
                }
                let mut times = Vec::new();
                for (size, length, elements) in SIZES {
                    let took = match gateway.drive(tenant, (place, length, elements)).await {
                        Ok(took) => took,
                        Err(error) => {
                            worse.push(format!("{} ({storage}, {size}): {error:#}", function.name));
                            eprintln!("{error:#}");
                            continue;
                        }
                    };
                    let Some(each) = took.each(nothing) else { continue };
                    let ratio = each / computing;
                    if ratio > TIMES_MAX {
                        worse
                            .push(format!("{} ({storage}, {size}): {ratio:.0} times a computing guest", function.name));
                    }
                    times.push(ratio);
                }
                eprintln!(
                    "{storage} {} {}",
                    function.name,
                    times.iter().map(|t| figures(*t)).collect::<Vec<_>>().join(" ")
                );
                found.push((format!("{} ({storage})", function.name), times));
            }
        }
    }
    Ok(vec![section(found, &not_driven, worse)])
}

/// A gateway with one tenant for each world.
struct Gateway {
    server: Server,
    log: PathBuf,
    tenants: Vec<Tenant>,
}

impl Gateway {
    /// On the embedded store it has all worlds, and on Redis only those with storage.
    fn start(plan: &Plan, storage: &str, url: &str) -> anyhow::Result<Self> {
        let is_redis = storage == "Redis";
        let file = if is_redis { format!("[storage]\nbackend = \"redis\"\nurl = \"{url}\"\n") } else { String::new() };
        let site = plan.site(&format!("prices-{}", storage.to_lowercase()), &file)?;
        let mut tenants = Vec::new();
        for world in WORLDS.iter().filter(|world| world.is_of_storage() || !is_redis) {
            let made = driver(world, ADDRESS)?;
            for with_files in [false, true] {
                if with_files && !world.has_files() {
                    continue;
                }
                let id = format!("{}{}", world.id(), if with_files { "-files" } else { "" });
                let dir = site.dir.join("tenants").join(&id);
                fs::create_dir_all(&dir)?;
                fs::write(dir.join("driver.wasm"), &made.component)?;
                site.tenant(&id, Path::new("driver.wasm"), "")?;
                fill(&dir, with_files)?;
                let functions = made.functions.iter().map(|function| {
                    let is_here =
                        function.name.starts_with("wasi:filesystem/") == with_files && world.is_own(&function.name);
                    let not = if is_here { function.not.clone() } else { Some(ELSEWHERE.to_owned()) };
                    module::Driven { name: function.name.clone(), not }
                });
                tenants.push(Tenant { world, id, functions: functions.collect() });
            }
        }
        let (server, _admin) = site.serve("nobody.localhost")?;
        Ok(Self { server, log: site.dir.join("access.log"), tenants })
    }

    /// Nanoseconds for each unit of a guest that computes.
    async fn computing(&self) -> anyhow::Result<f64> {
        let tenant = self.tenants.first().context("no world")?;
        let took = self.asks(tenant, (tenant.functions.len(), 4, 1), u32::MAX, Duration::from_secs(1)).await?;
        let nothing = self.nothing(tenant).await?;
        took.each(nothing).context("a computing guest burned nothing")
    }

    /// What requests take that call nothing.
    async fn nothing(&self, tenant: &Tenant) -> anyhow::Result<Took> {
        self.asks(tenant, (tenant.functions.len(), 4, 1), 0, Duration::from_millis(300)).await
    }

    async fn drive(&self, tenant: &Tenant, call: (usize, u32, u32)) -> anyhow::Result<Took> {
        let name = &tenant.functions[call.0].name;
        let calls_max = tenant.world.calls_max(name);
        let took = self.asks(tenant, call, calls_max.unwrap_or(u32::MAX), ENOUGH).await?;
        // A long text or list may end a guest, which has paid for it. With small arguments, the call must have been made.
        let is_small = (call.1, call.2) == (4, 1);
        if is_small && calls_max.is_none() && took.fuel < took.requests * to_f64(FUEL) {
            anyhow::bail!("{name} ended its guest, which burned {} in {} requests", took.fuel, took.requests);
        }
        Ok(took)
    }

    /// Sends requests one after the other for `time`.
    async fn asks(
        &self,
        tenant: &Tenant,
        (place, length, elements): (usize, u32, u32),
        calls: u32,
        time: Duration,
    ) -> anyhow::Result<Took> {
        let path = format!("/{place}/{length}/{elements}/{calls}");
        let target = self.server.target.at(&format!("{}.localhost", tenant.id), &path);
        let mut connection = Connection::open(&target, &connector(Protocol::Http1, false)?).await?;
        // The first request loads the code.
        connection.ask().await?;
        let mut fuel = Records::open(&self.log, 1).await?;
        let (before, began) = (processor(self.server.pid())?, Instant::now());
        let mut requests = 0;
        while requests == 0 || (began.elapsed() < time && requests < REQUESTS_MAX) {
            connection.ask().await?;
            requests += 1;
        }
        let processor = processor(self.server.pid())? - before;
        let fuel = fuel.sum(requests).await?;
        Ok(Took { processor, fuel: to_f64(fuel), requests: to_f64(requests as u64) })
    }
}

/// Writes what a tenant's file and folder need beyond those of every tenant here.
fn fill(dir: &Path, with_files: bool) -> anyhow::Result<()> {
    let file = dir.join("tenant.toml");
    let files = if with_files { "files = [\"aaaa\"]\n" } else { "" };
    fs::write(dir.join("aaaa"), "a file")?;
    let text = fs::read_to_string(&file)?
        .replace("stores = [\"default\"]", &format!("stores = [\"{STORE}\"]\nredis = [\"{ADDRESS}\"]\n{files}"))
        .replace(
            "[[component]]",
            &format!(
                "[variables]\n{STORE} = \"a value\"\n[limits]\nfuel = \"{}M\"\nstorage_ops = 1_000_000_000\ntime = \"60s\"\n\
                 [quota]\nlog_bytes = {{ rate = \"1GiB\", per = \"1s\", burst = \"1GiB\" }}\n[[component]]",
                FUEL / 1_000_000
            ),
        );
    Ok(fs::write(file, text)?)
}

/// Processor time of a process, in nanoseconds (proc(5), schedstat of each of its threads).
fn processor(pid: u32) -> anyhow::Result<f64> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread that has ended meanwhile used little.
        let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        sum += text.split_whitespace().next().context("an empty schedstat")?.parse::<u64>()?;
    }
    Ok(to_f64(sum))
}

/// The access log from a position on.
struct Records {
    path: PathBuf,
    from: usize,
}

impl Records {
    /// Starts at the end of the log, once records of earlier requests have stopped coming.
    async fn open(path: &Path, _asked: usize) -> anyhow::Result<Self> {
        let mut from = usize::MAX;
        loop {
            let length = usize::try_from(fs::metadata(path)?.len())?;
            if length == from {
                return Ok(Self { path: path.to_owned(), from });
            }
            from = length;
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// The fuel of this many requests.
    async fn sum(&mut self, requests: usize) -> anyhow::Result<u64> {
        let began = Instant::now();
        loop {
            let mut text = String::new();
            let mut file = fs::File::open(&self.path)?;
            std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(self.from as u64))?;
            std::io::Read::read_to_string(&mut file, &mut text)?;
            let records: Vec<serde_json::Value> =
                text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            if records.len() >= requests {
                return Ok(records.iter().filter_map(|record| record["fuel"].as_u64()).sum());
            }
            anyhow::ensure!(
                began.elapsed() < Duration::from_secs(5),
                "{} of {requests} records are there",
                records.len()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn section(mut found: Vec<(String, Vec<f64>)>, not_driven: &[String], worse: Vec<String>) -> Section {
    let most = |times: &[f64]| times.iter().copied().fold(0.0, f64::max);
    found.sort_by(|(_, one), (_, other)| most(other).total_cmp(&most(one)));
    let rows = found
        .iter()
        .map(|(name, times)| std::iter::once(name.clone()).chain(times.iter().map(|ratio| figures(*ratio))).collect());
    let mut reasons: Vec<&String> = not_driven.iter().filter(|why| !why.ends_with(ELSEWHERE)).collect();
    reasons.dedup();
    Section {
        name: "prices",
        title: "What a unit of fuel costs the processor".to_owned(),
        how: format!(
            "Each function is called until {FUEL} units are gone, with small arguments, with texts of 1 MiB, and with lists of {} \
             elements; the gateway's processor time for a unit, in times of a guest that computes. Over {TIMES_MAX:.0} is an error. \
             Not driven: {}.",
            MOST.1,
            reasons.iter().map(|why| why.as_str()).collect::<Vec<_>>().join("; ")
        ),
        columns: vec!["function", "small", "a long text", "long lists"],
        rows: rows.collect(),
        plot: (
            "times a computing guest",
            found.iter().take(30).map(|(name, times)| (name.clone(), most(times))).collect(),
        ),
        worse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_served_function_is_driven_or_excepted_with_a_reason() {
        let known = worlds::reasons();
        let mut unknown = Vec::new();
        for world in &WORLDS {
            let driver = driver(world, ADDRESS).unwrap_or_else(|error| panic!("{}: {error:#}", world.name()));
            for function in &driver.functions {
                if let Some(why) = function.not.as_ref().filter(|why| !known.contains(&why.as_str())) {
                    unknown.push(format!("{} is not driven: {why}", function.name));
                }
            }
            let count = driver.functions.iter().filter(|function| function.not.is_none()).count();
            assert!(count * 2 > driver.functions.len() || count > 60, "{}: {count} are driven", world.name());
        }
        assert!(unknown.is_empty(), "{unknown:#?}");
    }

    #[test]
    fn every_interface_of_the_reference_is_driven() {
        let reference = include_str!("../../../../gateway/docs/hosts.md");
        let (_, table) = reference.split_once("|---|---|\n").unwrap();
        let rows = table.lines().take_while(|line| line.starts_with('|'));
        let interfaces: Vec<&str> = rows.map(|row| row.split('`').nth(1).unwrap()).collect();
        assert!(interfaces.len() > 20, "{interfaces:?}");
        let driven: Vec<String> =
            WORLDS.iter().flat_map(|world| driver(world, ADDRESS).unwrap().functions).map(|f| f.name).collect();
        // An interface with types only has no function.
        let empty =
            ["fermyon:spin/http-types", "fermyon:spin/redis-types", "fermyon:spin-cron/cron-types", "wasi:otel/types"];
        for interface in interfaces {
            let is_of = |name: &String| {
                name.starts_with(&format!("{interface}@"))
                    || name.starts_with(&format!("{interface}/"))
                    || name.starts_with(&format!("{interface}#"))
            };
            assert!(empty.contains(&interface) || driven.iter().any(is_of), "{interface} is served and not driven");
        }
    }
}
