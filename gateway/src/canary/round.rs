//! One round: a secret is left, whoever left it finds it again, and the other half must not find it.
//!
//! That it is found again by whoever left it is what shows that there was something to find: a round without that has failed, and is
//! not taken for a clean one.

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

/// A host that nobody has (RFC 2606): both halves are asked for the same URL, so that only who they are keeps them apart.
const HOST: &str = "canary.invalid";
/// Where a response has the secret of whoever made it.
const SECRET: &str = "x-secret";

/// Until an instance has let go of what it did, or a line is written.
const SOON: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(2);
/// The end of a log that is looked at; a round writes one line.
const TAIL_BYTES: u64 = 64 << 10;

/// What a round came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Where the secret was found.
    pub(super) found: Vec<&'static str>,
    /// What could not be looked at, and why.
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

/// What a canary answered: what it found, and the secret that it had in its store.
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

    /// Where `plants` is set, a test wants the secret to be where it must not be.
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
        // While an instance of the other half rests; and with an instance of its own that rests.
        self.look(outcome).await?;
        self.look(outcome).await?;
        // Another one each round; both halves ask for the same.
        let page = format!("/k/{:x}", rand::rng().random::<u64>());
        let kept = [self.ask(leaves, &page).await?, self.ask(leaves, &page).await?];
        if *stores {
            let is_ours = |answer: &Answer| answer.secret.as_deref() == Some(&self.secret);
            outcome.needs(kept.iter().all(is_ours) && kept[1].was_kept, "a response was not kept");
        }
        // The other half's instance has ended by now, and its slot is the pool's.
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

    /// Asks one half, as a client's request would be answered: from what is kept, or by its component.
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
        // Its instance rests, or has ended, when nobody holds the record any more.
        let began = Instant::now();
        while Arc::strong_count(&record) > 1 && began.elapsed() < SOON {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(answer)
    }

    /// Whether its line comes into the log before long.
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

/// Whether a tenant's log has this text in its last lines.
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
