//! The PROXY protocol, versions 1 and 2: the client's address, from a load balancer in front of the gateway.
//!
//! Source: <https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt>. The gateway takes a header from configured
//! addresses alone, and requires one from them: a header that anyone may send or omit proves nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::checksum;
use crate::deadline::Deadline;
use crate::networks::Networks;

/// The signature that begins version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Length of version 2 up to the addresses.
const HEAD_BYTES: usize = SIGNATURE.len() + 4;
/// The longest line of version 1, with its line end.
const LINE_MAX: usize = 107;
/// The most bytes after the fixed part of version 2: addresses and other fields of the balancer.
const REST_MAX: usize = 4096;

/// Why a connection has no valid header.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoHeader {
    #[error("the PROXY header did not arrive in time")]
    TimedOut,
    #[error(transparent)]
    Failed(#[from] std::io::Error),
    #[error("there is no PROXY header: {0}")]
    Malformed(&'static str),
}

/// Returns the client's address: from the header if `peer` is one of `proxies`, else the address of `peer`. For a
/// balancer's own connection (`LOCAL`, `UNKNOWN`) this is the balancer's address.
///
/// # Errors
/// A configured proxy sends no valid header.
pub(crate) async fn client<IO: AsyncRead + Unpin>(
    stream: &mut IO,
    peer: SocketAddr,
    proxies: &Networks,
    within: Duration,
) -> Result<SocketAddr, NoHeader> {
    if !proxies.contain(peer.ip()) {
        return Ok(peer);
    }
    let header = Deadline::after(within).run(read(stream)).await.map_err(|_elapsed| NoHeader::TimedOut)??;
    Ok(header.unwrap_or(peer))
}

pub(super) async fn read<IO: AsyncRead + Unpin>(stream: &mut IO) -> Result<Option<SocketAddr>, NoHeader> {
    // The shortest header is longer than this, and nothing after a header may be read.
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == SIGNATURE {
        let mut head = [0; 4];
        stream.read_exact(&mut head).await?;
        let [command, family, high, low] = head;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > REST_MAX {
            return Err(NoHeader::Malformed("it is too long"));
        }
        let mut header = [&start[..], &head].concat();
        let behind = header.len();
        header.resize(behind + length, 0);
        let (_, rest) = header.split_at_mut(behind);
        stream.read_exact(rest).await?;
        return two(&header, (command, family)).map_err(NoHeader::Malformed);
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() == LINE_MAX || !line.starts_with(b"PROXY ") {
            return Err(NoHeader::Malformed("it begins like neither version 1 nor version 2"));
        }
        line.push(stream.read_u8().await?);
    }
    one(&line).map_err(NoHeader::Malformed)
}

/// Parses a line of version 1.
fn one(line: &[u8]) -> Result<Option<SocketAddr>, &'static str> {
    const WANTED: &str = "wanted: PROXY TCP4|TCP6 source destination port port";
    let line = std::str::from_utf8(line).ok().and_then(|line| line.strip_suffix("\r\n")).ok_or(WANTED)?;
    let words: Vec<&str> = line.split(' ').collect();
    let ["PROXY", family, rest @ ..] = words.as_slice() else { return Err(WANTED) };
    if *family == "UNKNOWN" {
        return Ok(None);
    }
    let [source, destination, port, to] = rest else { return Err(WANTED) };
    let address = |text: &str| -> Option<IpAddr> {
        let address: IpAddr = text.parse().ok()?;
        (address.is_ipv4() == (*family == "TCP4")).then_some(address)
    };
    let number = |text: &str| text.parse::<u16>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    if !matches!(*family, "TCP4" | "TCP6") || address(destination).is_none() || number(to).is_none() {
        return Err(WANTED);
    }
    let source = address(source).zip(number(port)).ok_or(WANTED)?;
    Ok(Some(source.into()))
}

/// Parses version 2: the whole header, its byte of version and command, and its byte of family and transport.
fn two(header: &[u8], (command, family): (u8, u8)) -> Result<Option<SocketAddr>, &'static str> {
    match command {
        // LOCAL: the balancer's own connection, such as a health check.
        0x20 => return Ok(None),
        0x21 => {}
        _ => return Err("its version is not 2, or its command neither LOCAL nor PROXY"),
    }
    let short = "its addresses are truncated";
    let rest = header.get(HEAD_BYTES..).unwrap_or_default();
    let addresses = match family {
        0x11 => Some(12),
        0x21 => Some(36),
        // The format of the rest is not defined, and nothing of it is used.
        _ => None,
    };
    if let Some(addresses) = addresses {
        checksum::check(header, rest.get(addresses..).ok_or(short)?)?;
    }
    match family {
        0x11 => {
            let addresses: &[u8; 12] = rest.first_chunk().ok_or(short)?;
            let [a, b, c, d, _, _, _, _, high, low, ..] = *addresses;
            Ok(Some(SocketAddr::from((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])))))
        }
        0x21 => {
            let addresses: &[u8; 36] = rest.first_chunk().ok_or(short)?;
            let (source, ports) = addresses.split_first_chunk::<16>().ok_or(short)?;
            let [.., high, low, _, _] = *ports.last_chunk::<4>().ok_or(short)?;
            Ok(Some(SocketAddr::from((Ipv6Addr::from(*source), u16::from_be_bytes([high, low])))))
        }
        // UNSPEC, and transports that are not streams.
        0x00 => Ok(None),
        _ => Err("its family is neither TCP over IPv4 nor over IPv6"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn told(bytes: &[u8]) -> Result<(Option<SocketAddr>, Vec<u8>), String> {
        let mut stream = bytes;
        let header = read(&mut stream).await.map_err(|error| error.to_string())?;
        Ok((header, stream.to_vec()))
    }

    fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest, b"TLS"].concat()
    }

    #[tokio::test]
    async fn both_versions_name_the_client_and_leave_the_rest() {
        let four: SocketAddr = "192.0.2.7:56324".parse().unwrap();
        let six: SocketAddr = "[2001:db8::7]:56324".parse().unwrap();
        let rest = b"TLS".to_vec();
        let line = |text: &str| format!("{text}\r\nTLS").into_bytes();
        assert_eq!(told(&line("PROXY TCP4 192.0.2.7 192.0.2.1 56324 443")).await, Ok((Some(four), rest.clone())));
        assert_eq!(told(&line("PROXY TCP6 2001:db8::7 2001:db8::1 56324 443")).await, Ok((Some(six), rest.clone())));
        assert_eq!(told(&line("PROXY UNKNOWN")).await, Ok((None, rest.clone())));
        assert_eq!(told(&line("PROXY UNKNOWN ffff:f::f ff::f 65535 65535")).await, Ok((None, rest.clone())));
        let ports = [0xdc, 0x04, 0x01, 0xbb];
        let of_four = [&[192, 0, 2, 7, 192, 0, 2, 1], &ports[..], b"\x04\0\0"].concat();
        assert_eq!(told(&version_2(0x21, 0x11, &of_four)).await, Ok((Some(four), rest.clone())));
        let IpAddr::V6(address) = six.ip() else { unreachable!() };
        let of_six = [&address.octets()[..], &[0; 16], &ports].concat();
        assert_eq!(told(&version_2(0x21, 0x21, &of_six)).await, Ok((Some(six), rest.clone())));
        assert_eq!(told(&version_2(0x20, 0x11, &of_four)).await, Ok((None, rest.clone())));
        assert_eq!(told(&version_2(0x20, 0x00, b"")).await, Ok((None, rest)));
    }

    #[tokio::test]
    async fn a_checksum_must_match_its_header() {
        let addresses = [192, 0, 2, 7, 192, 0, 2, 1, 0xdc, 0x04, 0x01, 0xbb];
        let with = |fields: &[u8]| version_2(0x21, 0x11, &[&addresses[..], fields].concat());
        // A host name (PP2_TYPE_AUTHORITY), the checksum, and padding.
        let sent = |sum: [u8; 4]| with(&[b"\x02\0\x05a.lan\x03\0\x04", &sum[..], b"\x04\0\0"].concat());
        // Computed from the definition in RFC 3309, independently of this code.
        let good = 0xC63D_18AF_u32.to_be_bytes();
        assert_eq!(told(&sent(good)).await.map(|(client, _)| client), Ok(Some("192.0.2.7:56324".parse().unwrap())));
        let mut other = good;
        other[3] ^= 1;
        let twice = with(&[b"\x03\0\x04", &good[..], b"\x03\0\x04", &good].concat());
        let mut moved = sent(good);
        moved[16] ^= 1;
        for bad in [sent(other), sent([0; 4]), twice, moved, with(b"\x03\0\x01x"), with(b"\x02\0\x05a"), with(b"\x02")]
        {
            assert!(told(&bad).await.is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn an_invalid_header_is_refused() {
        for bad in [
            b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 192.0.2.1 56324\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::7 2001:db8::1 1 1\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 192.0.2.1 +1 1\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 192.0.2.1 65536 1\r\n".to_vec(),
            b"PROXY UDP4 192.0.2.7 192.0.2.1 1 1\r\n".to_vec(),
            b"PROXY TCP4  192.0.2.7 192.0.2.1 1 1\r\n".to_vec(),
            [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200], b"\r\n".to_vec()].concat(),
            version_2(0x11, 0x11, &[0; 12]),
            version_2(0x22, 0x11, &[0; 12]),
            version_2(0x21, 0x12, &[0; 12]),
            version_2(0x21, 0x11, &[0; 11]),
            version_2(0x21, 0x21, &[0; 35]),
            version_2(0x21, 0x11, &[0; REST_MAX + 1]),
            b"PROXY".to_vec(),
        ] {
            assert!(told(&bad).await.is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn only_configured_proxies_are_believed() {
        let proxies = Networks::from_iter(["10.0.0.0/8".parse().unwrap()]);
        let line = b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\n";
        let ask = async |peer: &str| {
            let mut stream = &line[..];
            client(&mut stream, peer.parse().unwrap(), &proxies, Duration::from_secs(1)).await.map(|of| of.to_string())
        };
        assert_eq!(ask("10.1.2.3:4").await.unwrap(), "192.0.2.7:56324");
        assert_eq!(ask("[::ffff:10.1.2.3]:4").await.unwrap(), "192.0.2.7:56324");
        assert_eq!(ask("11.1.2.3:4").await.unwrap(), "11.1.2.3:4");
    }
}
