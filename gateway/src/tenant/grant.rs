//! An origin to which a tenant may send requests.

use super::ports::Ports;

/// One origin to which a tenant may send requests (`[egress] allow`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) https: bool,
    pub(crate) host: GrantedHost,
    /// Any port if absent.
    pub(crate) port: Option<Ports>,
}

impl Grant {
    /// Whether it leads to a component of the same tenant, by Spin's name for that.
    pub(crate) fn is_for_neighbours(&self) -> bool {
        let is_inner = |name: &str| name == "spin.internal" || name.ends_with(".spin.internal");
        match &self.host {
            GrantedHost::Any => true,
            GrantedHost::Name(name) => is_inner(&name.to_string()),
            GrantedHost::Plain(name) => is_inner(name),
            GrantedHost::Below(name) => is_inner(name.as_str()),
            GrantedHost::Itself | GrantedHost::Address(_) | GrantedHost::Network(_) | GrantedHost::ThisMachine(_) => {
                false
            }
        }
    }
}

/// The host of a [`Grant`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GrantedHost {
    /// Every name, and the tenant itself. An address inside the network still needs a grant of its own.
    Any,
    /// The tenant's own paths, with any scheme and port.
    Itself,
    /// A name, or `*.` and a name for one more label.
    Name(crate::domain::Pattern),
    /// `localhost` or a name below it, which leads to a developer's own machine.
    ThisMachine(String),
    /// A name that is no public domain, in lower case.
    Plain(Box<str>),
    /// All names below a name, at any depth.
    Below(crate::domain::Domain),
    /// An address. It is reachable even if no name may lead to it.
    Address(std::net::IpAddr),
    /// All addresses of a network. Internal ones are reachable if the whole network is internal.
    Network(ipnet::IpNet),
}
