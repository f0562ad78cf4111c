//! Refusals by the store's servers, by Redis's own code: in the log, in a metric, and in the gateway's status.
//!
//! Security: a code is from a closed list, whatever a server sends. Limit: one log line a second for each code.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_redis::redis::RedisError;
use tokio::time::Instant;

use crate::telemetry::Metrics;

/// The shortest time between two log lines about one code.
const PAUSE: Duration = Duration::from_secs(1);
/// How long the last refusal is reported.
const RECENT: Duration = Duration::from_secs(60);

/// Codes in which a server reports about itself or about the gateway's user, and not about one command.
const CODES: [&str; 12] = [
    "WRONGPASS",
    "NOAUTH",
    "NOPERM",
    "OOM",
    "NOREPLICAS",
    "MISCONF",
    "READONLY",
    "LOADING",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "BUSY",
    "DENIED",
];
/// For a refused password without a known code.
pub(super) const UNNAMED: &str = "AUTH";

/// The [`CODES`] that pass by themselves, so that a guest may wait.
const PASSING: [&str; 4] = ["OOM", "NOREPLICAS", "MISCONF", "BUSY"];

/// The code of an error, if it is one of those.
pub(super) fn code_of(error: &RedisError) -> Option<&'static str> {
    let code = error.code()?;
    // For a call within a script, Redis 6 puts the code after its own text. In other errors, a guest's words may follow.
    let within =
        error.detail().filter(|detail| code == "ERR" && detail.starts_with("Error running script (call to f_"));
    CODES
        .into_iter()
        .find(|known| *known == code || within.is_some_and(|detail| detail.contains(&format!(": -{known} "))))
}

pub(super) fn passes_by_itself(error: &RedisError) -> bool {
    code_of(error).is_some_and(|code| PASSING.contains(&code))
}

/// For all backends of a gateway.
#[derive(Debug)]
pub(in crate::store) struct Refusals {
    metrics: Arc<Metrics>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    last: Option<(&'static str, Instant)>,
    /// By code: when it was last logged, and how often it occurred since.
    told: HashMap<&'static str, (Instant, u64)>,
}

impl Refusals {
    pub(in crate::store) fn new(metrics: &Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { metrics: Arc::clone(metrics), seen: Mutex::default() })
    }

    /// The code of the last refusal, if it is recent.
    pub(in crate::store) fn recent(&self) -> Option<&'static str> {
        let last = self.seen.lock().unwrap_or_else(PoisonError::into_inner).last;
        last.filter(|(_, at)| at.elapsed() < RECENT).map(|(code, _)| code)
    }

    pub(super) fn note(&self, code: &'static str) {
        self.metrics.store_refused(code);
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.last = Some((code, now));
        let count = match seen.told.get_mut(code) {
            Some((at, untold)) if now.duration_since(*at) < PAUSE => {
                *untold += 1;
                return;
            }
            Some((_, untold)) => *untold + 1,
            None => 1,
        };
        seen.told.insert(code, (now, 0));
        drop(seen);
        tracing::warn!(target: "store", code, count, "Redis refuses calls of the gateway: {}", meaning(code));
    }
}

/// The meaning of a code, for readers of the log.
fn meaning(code: &str) -> &'static str {
    match code {
        "WRONGPASS" | "NOAUTH" | "AUTH" => "the user or the password of storage.url is wrong",
        "NOPERM" => "its user has no permission for this; `tollgate redis acl` prints the required permissions",
        "OOM" => "it has reached maxmemory and accepts no writes",
        "NOREPLICAS" => "it has fewer replicas than min-replicas-to-write and accepts no writes",
        "MISCONF" => "it cannot save to its disk and accepts no writes",
        "READONLY" => "it is a replica and accepts no writes",
        _ => "it serves no calls at the moment",
    }
}

#[cfg(test)]
mod tests {
    use deadpool_redis::redis;

    use super::*;

    fn error(code: &str, detail: &str) -> RedisError {
        let line = format!("-{code} {detail}\r\n");
        redis::parse_redis_value(line.as_bytes()).and_then(redis::Value::extract_error).unwrap_err()
    }

    #[test]
    fn a_code_is_recognised_from_the_server_and_from_within_a_script() {
        let of = |code, detail| code_of(&error(code, detail));
        assert_eq!(of("OOM", "command not allowed when used memory > 'maxmemory'."), Some("OOM"));
        assert_eq!(of("WRONGPASS", "invalid username-password pair"), Some("WRONGPASS"));
        let within =
            "Error running script (call to f_1): @user_script:7: -NOREPLICAS Not enough good replicas to write.";
        assert_eq!(of("ERR", within), Some("NOREPLICAS"));
        assert_eq!(of("ERR", "value is not an integer"), None);
        assert_eq!(of("WRONGTYPE", "-OOM in a guest's own words"), None);
        assert_eq!(of("ERR", "unknown subcommand 'x: -OOM y'"), None);
        assert!(passes_by_itself(&error("OOM", "x")) && !passes_by_itself(&error("NOPERM", "x")));
    }
}
