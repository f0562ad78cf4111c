//! Ports for servers that must be told theirs.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below those that the system gives to connections, and to servers that ask for any: between a look at such a port and its
/// use, somebody else would have it now and then.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// Of each process its own part: the runner starts one a test.
static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| {
    let part = std::process::id().wrapping_mul(97) % u32::from(COUNT);
    AtomicU16::new(u16::try_from(part).unwrap())
});

/// A port of 127.0.0.1 that nobody has, and that this process is not given again soon.
#[must_use]
pub fn free_port() -> u16 {
    let port = || FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
    let is_free = |&port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    std::iter::repeat_with(port).take(usize::from(COUNT)).find(is_free).expect("a port is free")
}

/// The same, as an address.
#[must_use]
pub fn free_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}
