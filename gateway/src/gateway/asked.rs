//! Operators who asked for a reload, and wait to hear how it went; and the end of the first load, which load balancers wait for.
//!
//! Limit: [`ASKERS_MAX`] wait, each for [`PATIENCE`]: no answer waits for the slowest tenant.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Gateway;
use crate::admin::{Asker, Words};

/// How long a reload waits for tenants whose components are being compiled before it is said to be done.
const PATIENCE: Duration = Duration::from_secs(60);
const ASKERS_MAX: usize = 64;

/// Who waits.
pub(super) struct Asked {
    reloads: Option<mpsc::Receiver<Asker>>,
    /// Whose reload was not read yet, if there is one.
    new: Option<Asker>,
    /// Whose reload was read, and until when it waits for the rest.
    waiting: Vec<(Asker, Instant)>,
    started: CancellationToken,
}

impl Gateway {
    /// Who will ask, and what is heard at any time. The first load is over after the time that one component has at the latest.
    pub(super) fn asked(&mut self) -> (Asked, CancellationToken) {
        let (reloads, drain) = match self.words.take() {
            Some(Words { reloads, drain }) => (Some(reloads), drain),
            None => (None, CancellationToken::new()),
        };
        let started = self.started.clone();
        let (over, after) = (started.clone(), self.boot.sandbox.compile_time);
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            over.cancel();
        });
        (Asked { reloads, new: None, waiting: Vec::new(), started }, drain)
    }
}

impl Asked {
    /// Waits for the next one; never where nobody can ask. Whoever waited for as long as one may is answered meanwhile.
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

    /// Notes that what was asked for was read, or could not be.
    pub(super) fn done(&mut self, is_done: bool) {
        let Some(asker) = self.new.take() else { return };
        if is_done && self.waiting.len() < ASKERS_MAX {
            self.waiting.push((asker, Instant::now() + PATIENCE));
        } else {
            // Whoever asked may be gone.
            let _told = asker.send(is_done);
        }
    }

    /// Answers everybody where nothing is compiled any more, and else whoever waited long enough.
    pub(super) fn answer(&mut self, is_under_way: bool) {
        if !is_under_way {
            self.started.cancel();
        }
        let now = Instant::now();
        let (still, over) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(_, until)| is_under_way && *until > now);
        self.waiting = still;
        let over: Vec<(Asker, Instant)> = over;
        for (asker, _) in over {
            let _told = asker.send(true);
        }
    }
}
