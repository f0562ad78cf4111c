//! Every signal that would end a process, and what it means here. Only SIGKILL, and what the kernel sends after a fault of
//! our own, end the gateway without a drain.
//!
//! - SIGTERM, SIGINT, SIGQUIT, and the signals for a loss of power or an exhausted time limit: drain.
//! - SIGHUP: the gateway reloads the tenants' files and reopens its log files.
//! - SIGUSR1: the gateway reopens its log files.
//! - All others: a line in the log.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Gateway;
use crate::telemetry::AccessLog;

/// What a signal requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignalAction {
    Drain,
    Reload,
    Reopen,
    /// Nothing that is known.
    Nothing,
}

/// The signals, each with what it requests.
const ALL: [(i32, SignalAction); 14] = [
    (libc::SIGTERM, SignalAction::Drain),
    (libc::SIGINT, SignalAction::Drain),
    (libc::SIGQUIT, SignalAction::Drain),
    (libc::SIGPWR, SignalAction::Drain),
    (libc::SIGXCPU, SignalAction::Drain),
    (libc::SIGHUP, SignalAction::Reload),
    (libc::SIGUSR1, SignalAction::Reopen),
    (libc::SIGUSR2, SignalAction::Nothing),
    (libc::SIGALRM, SignalAction::Nothing),
    (libc::SIGVTALRM, SignalAction::Nothing),
    (libc::SIGPROF, SignalAction::Nothing),
    (libc::SIGIO, SignalAction::Nothing),
    (libc::SIGSTKFLT, SignalAction::Nothing),
    // The writer of a file that has reached its size limit gets an error anyway.
    (libc::SIGXFSZ, SignalAction::Nothing),
];

/// Listens from its creation on.
#[derive(Debug)]
pub(crate) struct Signals(Vec<(Signal, i32, SignalAction)>);

impl Signals {
    /// Listens to signals that do not request the end, which may come from the first moment on. Until the gateway serves,
    /// there is nothing to drain.
    ///
    /// # Errors
    /// They cannot be listened to.
    pub(crate) fn listen() -> io::Result<Self> {
        let real_time = (libc::SIGRTMIN()..=libc::SIGRTMAX()).map(|number| (number, SignalAction::Nothing));
        let all = ALL.into_iter().chain(real_time).filter(|(_, asks)| *asks != SignalAction::Drain);
        Ok(Self(all.map(heard).collect::<io::Result<_>>()?))
    }

    /// Listens to the other ones too.
    ///
    /// # Errors
    /// They cannot be listened to.
    pub(super) fn listen_for_the_end(&mut self) -> io::Result<()> {
        let of_the_end = ALL.into_iter().filter(|(_, asks)| *asks == SignalAction::Drain);
        self.0.extend(of_the_end.map(heard).collect::<io::Result<Vec<_>>>()?);
        Ok(())
    }

    /// The next signal that requests something. Cancel safety: a signal stays until it is taken.
    pub(super) async fn next(&mut self) -> SignalAction {
        loop {
            let (number, asks) = std::future::poll_fn(|context| {
                let came = self.0.iter_mut().find_map(|(signal, number, asks)| {
                    signal.poll_recv(context).is_ready().then_some((*number, *asks))
                });
                came.map_or(std::task::Poll::Pending, std::task::Poll::Ready)
            })
            .await;
            if asks != SignalAction::Nothing {
                return asks;
            }
            tracing::warn!(target: "gateway", signal = number, "a signal without a meaning was ignored");
        }
    }

    /// The next signal that requests the end. Other signals are taken later.
    pub(super) async fn end(&mut self) {
        std::future::poll_fn(|context| {
            let is_end = |(signal, _, asks): &mut (Signal, i32, SignalAction)| {
                *asks == SignalAction::Drain && signal.poll_recv(context).is_ready()
            };
            if self.0.iter_mut().any(is_end) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }
}

fn heard((number, asks): (i32, SignalAction)) -> io::Result<(Signal, i32, SignalAction)> {
    Ok((signal(SignalKind::from_raw(number))?, number, asks))
}

impl Gateway {
    /// Reopens log files, so that a log rotation tool can replace them.
    pub(super) fn reopen_logs(&self) {
        self.logs.reopen();
        self.road.metrics.access_log().into_iter().for_each(AccessLog::reopen);
        tracing::info!(target: "telemetry", "the gateway reopens its log files");
    }

    /// Tells load balancers to use another gateway, and continues to serve until they do, or until the end is requested
    /// again.
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
