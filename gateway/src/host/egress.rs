//! Where guests may send requests: only to granted origins, and to no internal address.
//!
//! Security: a name is resolved once and every resulting address is checked. The connection goes to one of the addresses
//! that passed, so that a name server which changes its answer changes nothing. Loopback, private, link-local, shared
//! (CGNAT), multicast and reserved addresses and the gateway's own listeners need a grant of the address itself. Redirects
//! are the guest's concern: each is another request and is checked like the first.

mod body;
mod connection;
mod exchange;
mod grants;
mod neighbours;
mod pool;
mod resolver;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use wasmtime_wasi_http::Error;

use crate::deadline::Deadline;
use crate::ids::TenantId;
use crate::telemetry::{Metrics, Tasks};
use crate::tenant::Grant;
use grants::{is_closed, is_granted};

pub(crate) use connection::trusting;
pub(super) use exchange::Sender;
pub(crate) use neighbours::{Asked, Callee, Neighbours, Told};
pub(crate) use pool::Kept;
use pool::Pool;
use resolver::{Failed, Resolver};

/// What the operator chose.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Time to resolve, connect and perform the handshake.
    pub(crate) connect: Duration,
    /// Time between two pieces of a response, and until its head.
    pub(crate) idle: Duration,
    /// Most bytes of one response's body.
    pub(crate) response_bytes: u64,
    /// Idle connections that are kept.
    pub(crate) kept: Kept,
    /// Additional certificates to trust, in PEM.
    pub(crate) ca: Option<Vec<u8>>,
}

/// What all outbound requests share.
pub(crate) struct Egress {
    settings: Settings,
    pool: Pool,
    resolver: Resolver,
    metrics: Arc<Metrics>,
    tasks: Tasks,
    own: OnceLock<Vec<SocketAddr>>,
    neighbours: OnceLock<Box<dyn Neighbours>>,
}

/// Components of one tenant call each other by the component's name and this suffix.
const INNER: &str = ".spin.internal";
/// The host name by which a tenant calls itself, if it cannot omit the host.
pub(crate) const SELF: &str = "self.alt";

impl std::fmt::Debug for Egress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Egress").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 3;

/// The target of one request.
pub(super) struct Target {
    pub(super) https: bool,
    host: String,
    port: u16,
    /// The tenant's own component that is called, as the guest wrote its name.
    component: Option<String>,
}

/// How often kept connections are checked.
const SWEEP: Duration = Duration::from_secs(1);

impl Egress {
    /// # Errors
    /// In words for the operator: the certificates to trust are not PEM.
    pub(crate) fn new(settings: Settings, metrics: &Arc<Metrics>, tasks: Tasks) -> anyhow::Result<Arc<Self>> {
        let mut tls = trusting(settings.ca.as_deref())?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let pool = Pool::new(settings.kept, Arc::new(tls), Arc::clone(metrics));
        let (own, neighbours, resolver) = Default::default();
        let egress = Arc::new(Self { settings, pool, resolver, metrics: Arc::clone(metrics), tasks, own, neighbours });
        egress.maintain();
        Ok(egress)
    }

    /// Closes kept connections that are too old, until the gateway drains; then closes all.
    fn maintain(self: &Arc<Self>) {
        let egress = Arc::clone(self);
        let _sweeping = self.tasks.spawn(async move {
            while tokio::time::timeout(SWEEP, egress.tasks.draining()).await.is_err() {
                egress.pool.sweep();
            }
            egress.pool.close();
        });
    }

    /// Closes the kept connections of tenants that are gone.
    pub(crate) fn keep_only(&self, present: impl Fn(&TenantId) -> bool) {
        self.pool.keep_only(present);
    }

    /// Counts a request that waits for a place of its tenant.
    pub(super) fn waited(&self) {
        self.metrics.outbound_waits.inc();
    }

    /// Sets the addresses of the gateway's own listeners, once they are known.
    pub(crate) fn own_listeners(&self, addresses: Vec<SocketAddr>) {
        let _first = self.own.set(addresses);
    }

    /// Sets what starts the tenants' other components, once it is known.
    pub(crate) fn lead_to(&self, neighbours: Box<dyn Neighbours>) {
        let _first = self.neighbours.set(neighbours);
    }

    pub(super) async fn ask(&self, asked: Asked) -> Told {
        match self.neighbours.get() {
            Some(neighbours) => neighbours.send(asked).await,
            None => Err(Error::DestinationUnavailable),
        }
    }

    fn is_own(&self, address: SocketAddr) -> bool {
        let own = self.own.get().map_or(&[][..], Vec::as_slice);
        // To the kernel, `::ffff:127.0.0.1` is 127.0.0.1.
        let ip = address.ip().to_canonical();
        let here = |own: &SocketAddr| {
            own.port() == address.port() && (own.ip().to_canonical() == ip || own.ip().is_unspecified())
        };
        own.iter().any(here)
    }

    /// The allowed addresses of the target's name.
    async fn addresses(
        &self,
        tenant: &TenantId,
        target: &Target,
        grants: &[Grant],
        limit: Deadline,
    ) -> Result<Vec<SocketAddr>, Error> {
        let mut resolved = match limit.run(target.resolve(tenant, &self.resolver)).await {
            Ok(Ok(resolved)) => resolved,
            Ok(Err(Failed::Busy)) => return Err(Error::ConnectionLimitReached),
            Ok(Err(Failed::System(error))) => return Err(Error::Connect(error)),
            Err(_elapsed) => return Err(Error::DnsTimeout),
        };
        let is_good = |address: &SocketAddr| {
            is_granted(grants, target, address.ip())
                || !(is_closed(grants, target, address.ip()) || self.is_own(*address))
        };
        resolved.retain(is_good);
        if resolved.is_empty() { Err(Error::DestinationIpProhibited) } else { Ok(resolved) }
    }
}

impl Target {
    /// The target of a request, if an origin of its kind is granted.
    pub(super) fn of(uri: &http::Uri, grants: &[Grant]) -> Result<Self, Error> {
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return Err(Error::HttpRequestUriInvalid);
        }
        let https = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
        // Some SDKs give a relative URL an authority that consists only of a port.
        let written = uri.host().filter(|host| !host.is_empty()).unwrap_or(SELF).trim_matches(['[', ']']);
        let host = written.to_ascii_lowercase();
        let component = host.strip_suffix(INNER).and_then(|name| written.get(..name.len()));
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        let target = Self { https, component: component.map(str::to_owned), host, port };
        if target.grant(grants).is_some() { Ok(target) } else { Err(Error::HttpRequestDenied) }
    }

    /// The grant that allows the target.
    fn grant<'a>(&self, grants: &'a [Grant]) -> Option<&'a Grant> {
        grants.iter().find(|grant| self.is_of(grant))
    }

    fn host(&self) -> &str {
        &self.host
    }

    /// The tenant's own target, if it is one.
    pub(super) fn own(&self) -> Option<Callee> {
        if self.host == SELF {
            return Some(Callee::Path);
        }
        self.component.clone().map(Callee::Component)
    }

    /// All addresses of the host. `localhost` and names below it are this machine (RFC 6761 §6.3), whatever name servers
    /// say.
    async fn resolve(&self, tenant: &TenantId, resolver: &Resolver) -> Result<Vec<SocketAddr>, Failed> {
        if self.host == "localhost" || self.host.ends_with(".localhost") {
            let local: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            return Ok(local.map(|address| SocketAddr::new(address, self.port)).into());
        }
        // An address needs no lookup.
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        resolver.resolve(tenant, &self.host, self.port).await
    }
}

/// Whether an address belongs to this machine, to an internal network, or to nobody (IANA special-purpose registries).
fn is_inside(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_inside_4(address),
        IpAddr::V6(address) => is_inside_6(address),
    }
}

const fn is_inside_4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    matches!(
        (a, b, c),
        (0 | 10 | 127 | 224..=255, _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18..=19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    )
}

fn is_inside_6(address: Ipv6Addr) -> bool {
    let s = address.segments();
    let [_, _, _, _, _, _, high, low] = s;
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_inside_4(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        // NAT64 and 6to4 embed the IPv4 address to which they lead.
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        // Teredo, documentation, and everything else that is not global unicast.
        [0x2001, 0, ..] | [0x2001, 0xdb8, ..] => true,
        [first, ..] => first & 0xe000 != 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Pattern;
    use crate::tenant::GrantedHost;
    use proptest::prelude::*;

    fn grant(https: bool, host: &str, port: u16) -> Grant {
        let host = host.parse().map_or_else(|_| GrantedHost::Name(Pattern::parse(host).unwrap()), GrantedHost::Address);
        Grant { https, host, port: Some(port.into()) }
    }

    #[test]
    fn internal_addresses_are_recognised() {
        for inside in [
            "127.0.0.1",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "224.0.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "198.18.0.1",
            "192.0.2.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "::127.0.0.1",
            "fec0::1",
            "64:ff9b:1::1",
            "100::1",
        ] {
            assert!(is_inside(inside.parse().unwrap()), "{inside}");
        }
        for outside in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "192.0.1.1",
            "2606:4700::1111",
            "64:ff9b::808:808",
            "2002:808:808::",
        ] {
            assert!(!is_inside(outside.parse().unwrap()), "{outside}");
        }
    }

    #[test]
    fn only_a_granted_origin_is_a_target() {
        let grants =
            [grant(true, "api.example", 443), grant(true, "*.cdn.example", 443), grant(false, "127.0.0.1", 9000)];
        let target = |uri: &str| Target::of(&uri.parse().unwrap(), &grants).is_ok();
        for good in
            ["https://api.example/x", "https://API.example:443/", "https://a.cdn.example/", "http://127.0.0.1:9000/"]
        {
            assert!(target(good), "{good}");
        }
        for bad in [
            "http://api.example/",
            "https://api.example:8443/",
            "https://cdn.example/",
            "https://a.b.cdn.example/",
            "https://api.example.evil/",
            "http://127.0.0.1:9001/",
            "https://127.0.0.1:9000/",
            "https://user@api.example/",
            "http://2130706433:9000/",
            "http://0x7f.1:9000/",
            "http://[::ffff:127.0.0.1]:9000/",
            "http://localhost:9000/",
        ] {
            assert!(!target(bad), "{bad}");
        }
    }

    fn egress() -> Arc<Egress> {
        let time = Duration::from_secs(5);
        let kept = Kept { all: 1, of_tenant: 1, idle: time, life: time };
        let settings = Settings { connect: time, idle: time, response_bytes: 1, kept, ca: None };
        Egress::new(settings, &Arc::default(), Tasks::default()).unwrap()
    }

    #[tokio::test]
    async fn a_name_with_an_internal_address_needs_a_grant_of_the_address() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let uri = format!("http://localhost:{port}/").parse().unwrap();
        let by_name = vec![grant(false, "localhost", port)];
        let tenant = TenantId::parse("a").unwrap();
        let target = Target::of(&uri, &by_name).unwrap();
        let limit = Deadline::after(Duration::from_secs(5));
        let refused = egress().addresses(&tenant, &target, &by_name, limit).await;
        assert!(matches!(refused, Err(Error::DestinationIpProhibited)), "{refused:?}");
        let by_both = [by_name, vec![grant(false, "127.0.0.1", port)]].concat();
        let good = egress().addresses(&tenant, &target, &by_both, limit).await.unwrap();
        assert_eq!(good, [listener.local_addr().unwrap()]);
    }

    #[tokio::test]
    async fn the_gateways_own_listeners_are_refused() {
        let egress = egress();
        egress.own_listeners(vec!["0.0.0.0:8443".parse().unwrap(), "203.0.113.1:443".parse().unwrap()]);
        assert!(egress.is_own("1.1.1.1:8443".parse().unwrap()));
        assert!(egress.is_own("203.0.113.1:443".parse().unwrap()));
        assert!(egress.is_own("[::ffff:203.0.113.1]:443".parse().unwrap()), "in another spelling");
        assert!(!egress.is_own("203.0.113.2:443".parse().unwrap()));
    }

    proptest! {
        /// If an IPv4 address is internal, so is every IPv6 spelling of it.
        #[test]
        fn no_ipv6_spelling_hides_an_ipv4_address(bits in any::<u32>()) {
            let four = Ipv4Addr::from(bits);
            let [a, b, c, d] = four.octets().map(u16::from);
            let (high, low) = (a << 8 | b, c << 8 | d);
            for six in [
                four.to_ipv6_mapped(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 0),
            ] {
                prop_assert_eq!(is_inside(four.into()), is_inside(six.into()), "{}", six);
            }
        }
    }
}
