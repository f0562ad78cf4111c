//! One round: one half leaves a secret and finds it again, and the other half must not find it.
//!
//! That the first half finds it again proves that there was something to find. A round without that proof has failed, and
//! does not count as clean.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::BodyExt as _;
use rand::RngExt as _;

use super::pair::{Kind, OF_INSTANCE, OF_STORE, Pair, SILENT, places};
use crate::cache;
use crate::http::{BodySource, Exchange, ResponseBody};
use crate::ids::TenantId;
use crate::request::Road;
use crate::telemetry::Record;

/// A host that nobody has (RFC 2606). Both halves are asked for the same URL, so that only their identity separates them.
const HOST: &str = "canary.invalid";
/// The response header with the secret.
const SECRET: &str = "x-secret";

/// Time for an instance to release its resources, or for a line to be written.
const SOON: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(2);
/// The end of a log that is searched. A round writes one line.
const TAIL_BYTES: u64 = 64 << 10;

/// The result of a round.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Where the secret was found.
    pub(super) found: Vec<&'static str>,
    /// What could not be checked, and why.
    pub(super) failed: Option<&'static str>,
}

impl Outcome {
    pub(super) fn failed(why: &'static str) -> Self {
        Self { found: Vec::new(), failed: Some(why) }
    }

    pub(super) fn result(&self) -> &'static str {
        match (self.found.is_empty(), self.failed) {
            (false, _) => "found",
            (true, Some(_)) => "failed",
            (true, None) => "clean",
        }
    }

    fn needs(&mut self, is_so: bool, otherwise: &'static str) {
        if !is_so {
            self.failed.get_or_insert(otherwise);
        }
    }
}

/// A canary's answer: what it found, and the secret in its store.
#[derive(Debug, Default)]
struct Answer {
    bits: u16,
    secret: Option<String>,
    was_kept: bool,
}

pub(super) struct Round<'r> {
    road: &'r Road,
    logs: &'r Path,
    pair: &'r Pair,
    secret: String,
}

impl<'r> Round<'r> {
    pub(super) fn new(road: &'r Road, logs: &'r Path, pair: &'r Pair) -> Self {
        let secret = format!("{:032x}", rand::rng().random::<u128>());
        Self { road, logs, pair, secret }
    }

    /// With `plants`, a test wants the secret to be in a wrong place.
    pub(super) async fn run(&self, plants: bool) -> Outcome {
        let mut outcome = Outcome::default();
        if let Err(why) = self.go(plants, &mut outcome).await {
            outcome.failed.get_or_insert(why);
        }
        for side in [&self.pair.leaves, &self.pair.looks] {
            let _forgotten = self.ask(side, "/d").await;
        }
        outcome
    }

    async fn go(&self, plants: bool, outcome: &mut Outcome) -> Result<(), &'static str> {
        let Pair { leaves, looks, kind, stores, .. } = self.pair;
        let leave = format!("/w{}", self.secret);
        self.ask(leaves, &leave).await?;
        let again = self.ask(leaves, "/v").await?.bits;
        let (of_store, silent) = if *stores { (OF_STORE, 0) } else { (0, SILENT) };
        let of_instance = if *kind == Kind::Concurrent { OF_INSTANCE } else { 0 };
        outcome.needs(again & SILENT == silent, "the store did not answer");
        outcome.needs(again & !SILENT == of_store | of_instance, "the data is missing for the tenant that wrote it");
        if plants {
            self.ask(looks, &leave).await?;
        }
        // First while an instance of the other half rests, then with its own resting instance.
        self.look(outcome).await?;
        self.look(outcome).await?;
        // A new URL in each round. Both halves request the same one.
        let page = format!("/k/{:x}", rand::rng().random::<u64>());
        let kept = [self.ask(leaves, &page).await?, self.ask(leaves, &page).await?];
        if *stores {
            let is_ours = |answer: &Answer| answer.secret.as_deref() == Some(&self.secret);
            outcome.needs(kept.iter().all(is_ours) && kept[1].was_kept, "a response was not kept");
        }
        // The other half's instance has ended by now, and its slot is back in the pool.
        self.look(outcome).await?;
        let kept = self.ask(looks, &page).await?;
        if kept.was_kept || kept.secret.is_some() {
            outcome.found.push("a kept response");
        }
        outcome.needs(self.is_logged(leaves).await, "its line is not in the log");
        if has(self.logs, looks, &self.secret).await {
            outcome.found.push("its log");
        }
        outcome.found.sort_unstable();
        outcome.found.dedup();
        Ok(())
    }

    async fn look(&self, outcome: &mut Outcome) -> Result<(), &'static str> {
        let bits = self.ask(&self.pair.looks, "/l").await?.bits;
        outcome.found.extend(places(bits));
        Ok(())
    }

    /// Sends a request to one half, answered like a client's: from the cache or by its component.
    async fn ask(&self, side: &TenantId, path: &str) -> Result<Answer, &'static str> {
        let routed = self.pair.routed(side, path).ok_or("it has no route")?;
        let uri = Uri::builder().scheme("https").authority(HOST).path_and_query(path).build();
        let uri = uri.map_err(|_no_uri| "it has no URL")?;
        let none = HeaderMap::new();
        let cache = self.road.caches.of(side);
        let found = cache.as_ref().map_or(cache::Found::Miss(None), |cache| cache.find(&Method::GET, &uri, &none));
        if let cache::Found::Hit(response) | cache::Found::Stale(response, _) = found {
            return Ok(Answer { was_kept: true, ..answer(&response) });
        }
        let asked = cache.map(|cache| cache.ask(&Method::GET, &uri, &none, true));
        let mut request = Request::new(BodySource::nothing());
        *request.uri_mut() = uri;
        let record = Record::of_nobody(&self.road.metrics);
        let response = self
            .road
            .run(routed, request, asked, (&record, &Exchange::new(None)))
            .await
            .map_err(|fault| fault.kind())?;
        let answer = answer(&response);
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame.map_err(|_torn| "a response was torn")?;
        }
        drop(body);
        // When nobody holds the record any more, its instance rests or has ended.
        let began = Instant::now();
        while Arc::strong_count(&record) > 1 && began.elapsed() < SOON {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(answer)
    }

    /// Whether its line appears in the log soon.
    async fn is_logged(&self, side: &TenantId) -> bool {
        let began = Instant::now();
        while !has(self.logs, side, &self.secret).await {
            if began.elapsed() > SOON {
                return false;
            }
            tokio::time::sleep(PAUSE).await;
        }
        true
    }
}

fn answer(response: &Response<ResponseBody>) -> Answer {
    let secret = response.headers().get(SECRET).and_then(|value| value.to_str().ok());
    let bits = response.status().as_u16().saturating_sub(200);
    Answer { bits, secret: secret.map(str::to_owned), was_kept: false }
}

/// Whether the last lines of a tenant's log contain this text.
async fn has(logs: &Path, tenant: &TenantId, text: &str) -> bool {
    let (path, text) = (logs.join(format!("{tenant}.log")), text.to_owned());
    let read = move || -> std::io::Result<bool> {
        use std::io::{Read as _, Seek as _, SeekFrom};
        let mut file = std::fs::File::open(path)?;
        let bytes = file.metadata()?.len();
        file.seek(SeekFrom::Start(bytes.saturating_sub(TAIL_BYTES)))?;
        let mut tail = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut tail)?;
        Ok(String::from_utf8_lossy(&tail).contains(&text))
    };
    // A tenant that never wrote a line has no file.
    tokio::task::spawn_blocking(read).await.is_ok_and(|read| read.unwrap_or(false))
}
