//! Resolves names of origins, on threads of its own, which tenants share fairly.
//!
//! The system's resolver blocks, for half a minute or more if a name server does not answer, and cannot be interrupted. So
//! it runs on threads that nothing else needs, and a lookup occupies its thread until it has ended, even if its caller has
//! left.
//!
//! Limit: [`THREADS`] concurrent lookups of all tenants, [`BOUNDS`]`.at_once` of one, with the last free thread for a
//! tenant that has none. [`BOUNDS`]`.waiting` more of a tenant wait, each for its request's own `connect` time. Further
//! ones are refused.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::sync::oneshot;

use crate::ids::TenantId;
use crate::shares::{Bounds, Shares};

const THREADS: usize = 32;
/// The longest name (RFC 1035 §2.3.4, without the final dot).
const NAME_MAX: usize = 253;
const BOUNDS: Bounds = Bounds { threads: THREADS, at_once: 4, waiting: 256, bytes: 256 << 10 };

/// The lookup function. Tests replace it.
type LookUp = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

struct Asked {
    host: String,
    port: u16,
    done: oneshot::Sender<io::Result<Vec<SocketAddr>>>,
}

/// See the top of this file. Its threads start with the first lookup, and end with it.
pub(super) struct Resolver {
    shares: Arc<Shares<Asked>>,
    look_up: LookUp,
    started: OnceLock<()>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// The tenant has as many lookups as it may.
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

    /// All addresses of a name. Cancel safety: if it is dropped, a running lookup continues on its own, and a waiting one
    /// does not start.
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
                        // The caller may have left.
                        let _gone = asked.done.send(look_up(&asked.host, asked.port));
                    }
                    // The price of a lookup is its duration.
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

    /// A name server that answers `slow` only when it is allowed to.
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
    async fn hanging_lookups_occupy_only_their_own_tenants_places() {
        let resolver = Arc::new(Resolver::by(look_up));
        let a = tenant("a");
        let asked = (0..BOUNDS.waiting + BOUNDS.at_once).map(|_| {
            let (resolver, a) = (Arc::clone(&resolver), a.clone());
            tokio::spawn(async move { resolver.resolve(&a, "slow", 80).await })
        });
        let asked: Vec<_> = asked.collect();
        until(|| BEGUN.load(Ordering::SeqCst) == BOUNDS.at_once).await;
        tokio::task::yield_now().await;
        // All callers leave. The running lookups continue, and no other lookup starts in their place.
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
        // Other tenants are served meanwhile.
        for name in ["b", "c", "d"] {
            let found = resolver.resolve(&tenant(name), "quick", 443).await.unwrap();
            assert_eq!(found, [SocketAddr::from(([192, 0, 2, 1], 443))]);
        }
        MAY_END.store(true, Ordering::SeqCst);
        let found = resolver.resolve(&tenant("e"), "quick", 1).await;
        assert!(found.is_ok());
        // A lookup that nobody waits for is skipped, and its tenant is served again.
        until(|| resolver.shares.is_empty()).await;
        assert_eq!(BEGUN.load(Ordering::SeqCst), BOUNDS.at_once);
        assert!(resolver.resolve(&a, "quick", 80).await.is_ok());
    }
}
