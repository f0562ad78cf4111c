//! Every signal that would end a process, and what it means here. None ends the gateway without a drain but SIGKILL, and what
//! the kernel sends for a fault of our own.
//!
//! - SIGTERM, SIGINT, SIGQUIT, and what a machine sends that runs out of power or of this process's time: drain.
//! - SIGHUP: the tenants' files are loaded anew, and log files opened anew.
//! - SIGUSR1: the gateway reopens its log files.
//! - All others: a line in the log.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Gateway;
use crate::telemetry::AccessLog;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    Drain,
    Reload,
    Reopen,
    /// Nothing that is known.
    Nothing,
}

/// The signals, each with what it asks for.
const ALL: [(i32, Asks); 14] = [
    (libc::SIGTERM, Asks::Drain),
    (libc::SIGINT, Asks::Drain),
    (libc::SIGQUIT, Asks::Drain),
    (libc::SIGPWR, Asks::Drain),
    (libc::SIGXCPU, Asks::Drain),
    (libc::SIGHUP, Asks::Reload),
    (libc::SIGUSR1, Asks::Reopen),
    (libc::SIGUSR2, Asks::Nothing),
    (libc::SIGALRM, Asks::Nothing),
    (libc::SIGVTALRM, Asks::Nothing),
    (libc::SIGPROF, Asks::Nothing),
    (libc::SIGIO, Asks::Nothing),
    (libc::SIGSTKFLT, Asks::Nothing),
    // A file that may grow no further is an error of its writer.
    (libc::SIGXFSZ, Asks::Nothing),
];

/// Heard from when this is made.
#[derive(Debug)]
pub(crate) struct Signals(Vec<(Signal, i32, Asks)>);

impl Signals {
    /// Those that ask for something else than the end, which may come from the first moment on: until the gateway serves, there is
    /// nothing to drain.
    ///
    /// # Errors
    /// They cannot be listened to.
    pub(crate) fn listen() -> io::Result<Self> {
        let real_time = (libc::SIGRTMIN()..=libc::SIGRTMAX()).map(|number| (number, Asks::Nothing));
        let all = ALL.into_iter().chain(real_time).filter(|(_, asks)| *asks != Asks::Drain);
        Ok(Self(all.map(heard).collect::<io::Result<_>>()?))
    }

    /// The others too.
    ///
    /// # Errors
    /// They cannot be listened to.
    pub(super) fn listen_for_the_end(&mut self) -> io::Result<()> {
        let of_the_end = ALL.into_iter().filter(|(_, asks)| *asks == Asks::Drain);
        self.0.extend(of_the_end.map(heard).collect::<io::Result<Vec<_>>>()?);
        Ok(())
    }

    /// The next one that asks for anything. Cancel safety: what came stays until it is taken.
    pub(super) async fn next(&mut self) -> Asks {
        loop {
            let (number, asks) = std::future::poll_fn(|context| {
                let came = self.0.iter_mut().find_map(|(signal, number, asks)| {
                    signal.poll_recv(context).is_ready().then_some((*number, *asks))
                });
                came.map_or(std::task::Poll::Pending, std::task::Poll::Ready)
            })
            .await;
            if asks != Asks::Nothing {
                return asks;
            }
            tracing::warn!(target: "gateway", signal = number, "a signal without a meaning was ignored");
        }
    }

    /// The next one that asks for the end. What else comes meanwhile is taken later.
    pub(super) async fn end(&mut self) {
        std::future::poll_fn(|context| {
            let is_end = |(signal, _, asks): &mut (Signal, i32, Asks)| {
                *asks == Asks::Drain && signal.poll_recv(context).is_ready()
            };
            if self.0.iter_mut().any(is_end) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }
}

fn heard((number, asks): (i32, Asks)) -> io::Result<(Signal, i32, Asks)> {
    Ok((signal(SignalKind::from_raw(number))?, number, asks))
}

impl Gateway {
    /// Has what rotates log files find new ones in their places.
    pub(super) fn reopen_logs(&self) {
        self.logs.reopen();
        self.road.metrics.access_log().into_iter().for_each(AccessLog::reopen);
        tracing::info!(target: "telemetry", "the gateway reopens its log files");
    }

    /// Tells load balancers to go elsewhere, and goes on serving until they have, or until somebody asks for the end again.
    pub(super) async fn leave(&self, signals: &mut Signals) {
        let time = self.boot.listen.unhealthy;
        if time.is_zero() {
            return;
        }
        self.tasks.leave();
        tracing::info!(target: "gateway", time_ms = time.as_millis(), "health checks fail from now on; the drain \
            begins afterwards");
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = signals.end() => {}
        }
    }
}
