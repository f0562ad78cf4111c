//! Opens TCP and UDP sockets, for one address family or for both.
//!
//! On Linux a socket at `[::]` also accepts IPv4, so that `0.0.0.0` on the same port is in use. If an operator names both,
//! the socket at `[::]` is for IPv6 alone (`IPV6_V6ONLY`, ipv6(7)). If `[::]` stands alone, the machine's
//! `net.ipv6.bindv6only` decides.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use tokio::net::TcpListener;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Which address families a socket accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// Only the family of its address.
    Own,
    /// The machine's default: at `[::]` usually IPv4 too.
    Usual,
}

impl Family {
    /// The family for a socket at this address, beside the sockets at the addresses `all`.
    pub(super) fn of(address: SocketAddr, mut all: impl Iterator<Item = SocketAddr>) -> Self {
        let is_shared = address.is_ipv6() && all.any(|other| other.is_ipv4() && other.port() == address.port());
        if is_shared { Self::Own } else { Self::Usual }
    }
}

/// A listening TCP socket.
pub(super) fn tcp(address: SocketAddr, family: Family) -> io::Result<TcpListener> {
    let socket = socket(address, SocketType::STREAM, family)?;
    // As tokio does: connections of a process that has just ended do not prevent listening.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A UDP socket.
pub(super) fn udp(address: SocketAddr, family: Family) -> io::Result<std::net::UdpSocket> {
    let socket = socket(address, SocketType::DGRAM, family)?;
    rustix::net::bind(&socket, &address)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr, kind: SocketType, family: Family) -> io::Result<OwnedFd> {
    let of = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(of, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    if family == Family::Own && address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_ipv6_address_beside_an_ipv4_address_is_ipv6_only() {
        let all = ["0.0.0.0:443", "[::]:443", "[::]:80", "127.0.0.1:9443"].map(|text| text.parse().unwrap());
        let of = |text: &str| Family::of(text.parse().unwrap(), all.into_iter());
        assert_eq!(of("[::]:443"), Family::Own);
        assert_eq!(of("[::1]:9443"), Family::Own);
        assert_eq!((of("[::]:80"), of("0.0.0.0:443")), (Family::Usual, Family::Usual));
    }
}
