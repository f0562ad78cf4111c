//! Ports for servers that cannot choose one themselves.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range from which the system assigns ports to connections and servers: otherwise somebody else would sometimes
/// take a port between the check and its use.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// Each process has its own part of the range: the runner starts one process for each test.
static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| {
    let part = std::process::id().wrapping_mul(97) % u32::from(COUNT);
    AtomicU16::new(u16::try_from(part).unwrap())
});

/// A free port of 127.0.0.1, which this process does not get again soon.
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
