//! Names of origins → addresses, on threads of their own, which tenants share by turns.
//!
//! The system's resolver blocks, for half a minute and more where a name server does not answer, and nothing ends that. So it
//! runs on no thread that anything else needs, and a look-up has its thread until it has ended, whatever became of who asked.
//!
//! Limit: [`THREADS`] look-ups of all tenants, [`BOUNDS`]`.at_once` of one, with the last free thread for a tenant that has none;
//! [`BOUNDS`]`.waiting` more of a tenant wait, each as long as its request's own `connect` time. What is over is refused.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::sync::oneshot;

use crate::ids::TenantId;
use crate::shares::{Bounds, Shares};

const THREADS: usize = 32;
/// Of a name (RFC 1035 §2.3.4, without the last dot).
const NAME_MAX: usize = 253;
const BOUNDS: Bounds = Bounds { threads: THREADS, at_once: 4, waiting: 256, bytes: 256 << 10 };

/// How a name is looked up; tests have their own.
type LookUp = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

struct Asked {
    host: String,
    port: u16,
    done: oneshot::Sender<io::Result<Vec<SocketAddr>>>,
}

/// See the top of this file. Its threads begin with the first look-up, and end with it.
pub(super) struct Resolver {
    shares: Arc<Shares<Asked>>,
    look_up: LookUp,
    started: OnceLock<()>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// The tenant has as many look-ups as it may.
    Busy,
    System(io::Error),
}

impl Default for Resolver {
    fn default() -> Self {
        Self::by(|host, port| Ok((host, port).to_socket_addrs()?.collect()))
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.shares.close();
    }
}

impl Resolver {
    fn by(look_up: LookUp) -> Self {
        Self { shares: Arc::new(Shares::new(BOUNDS)), look_up, started: OnceLock::new() }
    }

    /// All addresses of a name. Cancel safety: dropped, it leaves a look-up that has begun to itself, and one that has not is
    /// not begun.
    pub(super) async fn resolve(&self, tenant: &TenantId, host: &str, port: u16) -> Result<Vec<SocketAddr>, Failed> {
        if host.len() > NAME_MAX {
            return Err(Failed::System(io::ErrorKind::InvalidInput.into()));
        }
        self.started.get_or_init(|| self.start());
        let (done, answer) = oneshot::channel();
        let asked = Asked { host: host.to_owned(), port, done };
        self.shares.put(tenant.as_str().as_bytes(), host.len(), asked).map_err(|_full| Failed::Busy)?;
        let answered = answer.await.map_err(|_ended| Failed::System(io::ErrorKind::Interrupted.into()))?;
        answered.map_err(Failed::System)
    }

    fn start(&self) {
        for number in 0..THREADS {
            let (shares, look_up) = (Arc::clone(&self.shares), self.look_up);
            let started = std::thread::Builder::new().name(format!("resolver-{number}")).spawn(move || {
                while let Some((turn, asked)) = shares.next() {
                    let began = Instant::now();
                    if !asked.done.is_closed() {
                        // Whoever asked may have stopped waiting.
                        let _gone = asked.done.send(look_up(&asked.host, asked.port));
                    }
                    // The price of a look-up is how long it took.
                    shares.done(turn, usize::try_from(began.elapsed().as_micros()).unwrap_or(usize::MAX));
                }
            });
            if let Err(error) = started {
                tracing::error!(target: "host", %error, number, "cannot start a thread that looks names up");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::deadline::Deadline;

    static BEGUN: AtomicUsize = AtomicUsize::new(0);
    static MAY_END: AtomicBool = AtomicBool::new(false);

    /// A name server that answers `slow` when it is let.
    fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if host == "slow" {
            BEGUN.fetch_add(1, Ordering::SeqCst);
            while !MAY_END.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(vec![SocketAddr::from(([192, 0, 2, 1], port))])
    }

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).unwrap()
    }

    async fn until(what: impl Fn() -> bool) {
        while !what() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn look_ups_that_hang_keep_their_tenants_places_and_nobody_elses() {
        let resolver = Arc::new(Resolver::by(look_up));
        let a = tenant("a");
        let asked = (0..BOUNDS.waiting + BOUNDS.at_once).map(|_| {
            let (resolver, a) = (Arc::clone(&resolver), a.clone());
            tokio::spawn(async move { resolver.resolve(&a, "slow", 80).await })
        });
        let asked: Vec<_> = asked.collect();
        until(|| BEGUN.load(Ordering::SeqCst) == BOUNDS.at_once).await;
        tokio::task::yield_now().await;
        // All of its callers leave; those look-ups that have begun go on, and no other begins in their place.
        asked.iter().for_each(tokio::task::JoinHandle::abort);
        let mut more = Vec::new();
        let refused = loop {
            let ask = Deadline::after(Duration::from_millis(1)).run(resolver.resolve(&a, "slow", 80)).await;
            match ask {
                Ok(Err(Failed::Busy)) => break true,
                Ok(_) => break false,
                Err(_elapsed) => more.push(()),
            }
            if more.len() > BOUNDS.waiting {
                break false;
            }
        };
        assert!(refused, "it has no end of look-ups");
        assert_eq!(BEGUN.load(Ordering::SeqCst), BOUNDS.at_once, "places went back before their work had ended");
        // Everybody else is served meanwhile.
        for name in ["b", "c", "d"] {
            let found = resolver.resolve(&tenant(name), "quick", 443).await.unwrap();
            assert_eq!(found, [SocketAddr::from(([192, 0, 2, 1], 443))]);
        }
        MAY_END.store(true, Ordering::SeqCst);
        let found = resolver.resolve(&tenant("e"), "quick", 1).await;
        assert!(found.is_ok());
        // What nobody waits for is not looked up, and its tenant is served again.
        until(|| resolver.shares.is_empty()).await;
        assert_eq!(BEGUN.load(Ordering::SeqCst), BOUNDS.at_once);
        assert!(resolver.resolve(&a, "quick", 80).await.is_ok());
    }
}
