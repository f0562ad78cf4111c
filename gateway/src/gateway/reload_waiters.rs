//! Operators that requested a reload and wait for its result; and the end of the first load, for which load balancers wait.
//!
//! Limit: [`ASKERS_MAX`] wait, each for [`PATIENCE`], so that no answer waits for the slowest tenant.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Gateway;
use crate::admin::{OrderReceiver, ReloadReply};

/// How long a reload waits for tenants that are being compiled before it reports success.
const PATIENCE: Duration = Duration::from_secs(60);
const ASKERS_MAX: usize = 64;

/// The waiting callers.
pub(super) struct ReloadWaiters {
    reloads: Option<mpsc::Receiver<ReloadReply>>,
    /// The caller whose reload has not started, if there is one.
    new: Option<ReloadReply>,
    /// Callers whose reload was read, and how long each waits for the rest.
    waiting: Vec<(ReloadReply, Instant)>,
    started: CancellationToken,
}

impl Gateway {
    /// Takes over the callers, and the signal to drain. The first load counts as over at the latest after the time limit
    /// for one component.
    pub(super) fn asked(&mut self) -> (ReloadWaiters, CancellationToken) {
        let (reloads, drain) = match self.words.take() {
            Some(OrderReceiver { reloads, drain }) => (Some(reloads), drain),
            None => (None, CancellationToken::new()),
        };
        let started = self.started.clone();
        let (over, after) = (started.clone(), self.boot.sandbox.compile_time);
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            over.cancel();
        });
        (ReloadWaiters { reloads, new: None, waiting: Vec::new(), started }, drain)
    }
}

impl ReloadWaiters {
    /// Waits for the next request; for ever if nobody can send one. Meanwhile, callers that waited for the maximum time are
    /// answered.
    pub(super) async fn heard(&mut self) {
        loop {
            let first = self.waiting.iter().map(|(_, until)| *until).min();
            let over = async {
                match first {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            let next = async {
                match self.reloads.as_mut() {
                    Some(reloads) => reloads.recv().await,
                    None => None,
                }
            };
            tokio::select! {
                asker = next => match asker {
                    Some(asker) => {
                        self.new = Some(asker);
                        return;
                    }
                    None => std::future::pending().await,
                },
                () = over => self.answer(true),
            }
        }
    }

    /// Notes that the files for the last request were read, or could not be.
    pub(super) fn done(&mut self, is_done: bool) {
        let Some(asker) = self.new.take() else { return };
        if is_done && self.waiting.len() < ASKERS_MAX {
            self.waiting.push((asker, Instant::now() + PATIENCE));
        } else {
            // The caller may have left.
            let _told = asker.send(is_done);
        }
    }

    /// Answers all callers if nothing is being compiled, and otherwise those that waited long enough.
    pub(super) fn answer(&mut self, is_under_way: bool) {
        if !is_under_way {
            self.started.cancel();
        }
        let now = Instant::now();
        let (still, over) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(_, until)| is_under_way && *until > now);
        self.waiting = still;
        let over: Vec<(ReloadReply, Instant)> = over;
        for (asker, _) in over {
            let _told = asker.send(true);
        }
    }
}
