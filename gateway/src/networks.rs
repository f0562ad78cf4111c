//! Networks of addresses, by which proxies are configured.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

/// Whose an address is, for what one client may take: a client of IPv6 has its /64.
pub(crate) fn of_client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

/// Some networks; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Networks(Arc<[IpNet]>);

impl FromIterator<IpNet> for Networks {
    fn from_iter<T: IntoIterator<Item = IpNet>>(networks: T) -> Self {
        Self(networks.into_iter().collect())
    }
}

impl Networks {
    /// Whether an address is in one of them; an IPv4 address that came as one of IPv6 is what it is.
    pub(crate) fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}
