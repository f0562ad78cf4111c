//! Matches requests with grants, and addresses with the grants that allow them.

use std::net::IpAddr;

use super::{SELF, Target, is_inside};
use crate::domain::{Domain, Pattern};
use crate::tenant::{Grant, GrantedHost};

impl Target {
    /// Whether the grant allows the request's target.
    pub(super) fn is_of(&self, grant: &Grant) -> bool {
        if self.host == SELF {
            // Nothing is connected, so the scheme and the port do not matter.
            let by_name = |name: &Pattern| matches!(name, Pattern::Exact(name) if name.as_str() == SELF);
            return match &grant.host {
                GrantedHost::Any | GrantedHost::Itself => true,
                GrantedHost::Name(name) => by_name(name),
                GrantedHost::Plain(_)
                | GrantedHost::Below(_)
                | GrantedHost::Address(_)
                | GrantedHost::Network(_)
                | GrantedHost::ThisMachine(_) => false,
            };
        }
        self.has_scheme_and_port_of(grant)
            && match &grant.host {
                GrantedHost::Any => true,
                GrantedHost::Itself => false,
                GrantedHost::Address(address) => self.host.parse() == Ok(*address),
                GrantedHost::Network(network) => {
                    self.host.parse::<IpAddr>().is_ok_and(|address| network.contains(&address))
                }
                GrantedHost::Name(pattern) => Domain::parse(&self.host).is_some_and(|name| matches(pattern, &name)),
                GrantedHost::Plain(name) => **name == *self.host,
                GrantedHost::ThisMachine(name) => *name == self.host,
                GrantedHost::Below(parent) => is_below(&self.host, parent),
            }
    }

    fn has_scheme_and_port_of(&self, grant: &Grant) -> bool {
        grant.https == self.https && grant.port.is_none_or(|port| port.has(self.port))
    }
}

fn matches(pattern: &Pattern, name: &Domain) -> bool {
    match pattern {
        Pattern::Exact(exact) => exact == name,
        Pattern::Wildcard(parent) => {
            name.as_str().split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == parent.as_str())
        }
    }
}

/// Whether a host is below a name, at any depth. It need not be a possible public domain.
fn is_below(host: &str, parent: &Domain) -> bool {
    let below = |host: &str| {
        let labels = host.strip_suffix(parent.as_str()).and_then(|labels| labels.strip_suffix('.'));
        labels.is_some_and(|labels| labels.split('.').all(|label| !label.is_empty()))
    };
    // Normalised, if possible.
    Domain::parse(host).map_or_else(|| below(host), |name| below(name.as_str()))
}

/// Whether exactly this address is granted, for this scheme and port.
pub(super) fn is_granted(grants: &[Grant], target: &Target, address: IpAddr) -> bool {
    let of = |grant: &&Grant| target.has_scheme_and_port_of(grant);
    let address = address.to_canonical();
    let is_near = |grant: &Grant| match &grant.host {
        GrantedHost::Address(granted) => *granted == address,
        GrantedHost::ThisMachine(name) => *name == target.host && address.is_loopback(),
        GrantedHost::Any
        | GrantedHost::Itself
        | GrantedHost::Name(_)
        | GrantedHost::Plain(_)
        | GrantedHost::Below(_)
        | GrantedHost::Network(_) => false,
    };
    grants.iter().filter(of).any(is_near)
}

/// Whether an address is internal and in no granted network that is itself internal. A grant of `0.0.0.0/0` opens nothing
/// behind the gateway.
pub(super) fn is_closed(grants: &[Grant], target: &Target, address: IpAddr) -> bool {
    let address = address.to_canonical();
    let opens = |grant: &Grant| match &grant.host {
        GrantedHost::Network(network) => {
            // No block of these sizes contains both internal and other addresses.
            let is_small = network.prefix_len() >= if network.addr().is_ipv4() { 8 } else { 7 };
            let is_whole = is_inside(network.network()) && is_inside(network.broadcast());
            is_small && is_whole && network.contains(&address)
        }
        GrantedHost::Any
        | GrantedHost::Itself
        | GrantedHost::Name(_)
        | GrantedHost::Plain(_)
        | GrantedHost::Below(_)
        | GrantedHost::ThisMachine(_)
        | GrantedHost::Address(_) => false,
    };
    is_inside(address) && !grants.iter().filter(|grant| target.has_scheme_and_port_of(grant)).any(opens)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::Ports;

    fn grant(host: GrantedHost, port: Option<Ports>) -> Grant {
        Grant { https: false, host, port }
    }

    fn is_target(uri: &str, grants: &[Grant]) -> bool {
        Target::of(&uri.parse().unwrap(), grants).is_ok()
    }

    #[test]
    fn a_wildcard_in_a_manifest_matches_at_any_depth() {
        let below = [grant(GrantedHost::Below(Domain::parse("example.com").unwrap()), Some(80.into()))];
        for good in ["http://a.example.com/", "http://A.b.Example.com./", "http://a_b.example.com/"] {
            assert!(is_target(good, &below), "{good}");
        }
        for bad in
            ["http://example.com/", "http://aexample.com/", "http://a.example.com:81/", "http://a.example.com.evil/"]
        {
            assert!(!is_target(bad, &below), "{bad}");
        }
    }

    #[test]
    fn ports_must_be_in_the_range() {
        let ranged = [grant(GrantedHost::Plain("my_service".into()), Ports::range(8000, 9000))];
        for (port, is_good) in [(7999, false), (8000, true), (8999, true), (9000, false)] {
            assert_eq!(is_target(&format!("http://my_service:{port}/"), &ranged), is_good, "{port}");
        }
        assert_eq!((Ports::range(9, 9), Ports::range(9, 8)), (None, None));
        assert!(is_target("http://My_Service:8000/", &ranged) && !is_target("http://my-service:8000/", &ranged));
    }

    #[test]
    fn a_network_opens_internal_addresses_only_if_it_is_internal_itself() {
        let network = |text: &str| [grant(GrantedHost::Network(text.parse().unwrap()), None)];
        assert!(is_target("http://10.1.2.3:81/", &network("10.0.0.0/8")));
        assert!(is_target("http://[fd00::1]/", &network("fc00::/7")));
        for bad in ["http://11.0.0.1/", "http://ten.example/", "http://10/"] {
            assert!(!is_target(bad, &network("10.0.0.0/8")), "{bad}");
        }
        let opens = |text: &str, address: &str| {
            let target = Target { https: false, host: address.to_owned(), port: 80, component: None };
            !is_closed(&network(text), &target, address.parse().unwrap())
        };
        for (text, address, is_open) in [
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "192.168.0.1", false),
            ("127.0.0.0/8", "127.0.0.1", true),
            ("192.168.0.0/16", "::ffff:192.168.0.1", true),
            ("fc00::/7", "fd00::1", true),
            ("0.0.0.0/0", "127.0.0.1", false),
            ("0.0.0.0/1", "10.0.0.1", false),
            ("::/0", "::1", false),
            ("::/1", "::1", false),
            ("192.0.0.0/8", "192.168.0.1", false),
            ("0.0.0.0/0", "1.1.1.1", true),
        ] {
            assert_eq!(opens(text, address), is_open, "{text} {address}");
        }
    }

    #[test]
    fn a_relative_url_is_the_tenants_own_whatever_authority_replaces_the_missing_one() {
        for grants in [[grant(GrantedHost::Itself, None)], [grant(GrantedHost::Any, Some(1.into()))]] {
            for uri in ["/path", "http://self.alt/path", "https://self.alt/", "http://:80/path", "https://:443/path"] {
                let target = Target::of(&uri.parse().unwrap(), &grants).ok().and_then(|target| target.own());
                assert_eq!(target, Some(super::super::Callee::Path), "{uri}");
            }
        }
        assert!(!is_target("/path", &[grant(GrantedHost::Plain("self".into()), None)]));
        assert!(!is_target("http://example.com/", &[grant(GrantedHost::Itself, None)]));
    }

    #[test]
    fn a_component_is_called_by_the_name_that_the_guest_writes() {
        let grants = [grant(GrantedHost::Plain("a_b.spin.internal".into()), Some(80.into()))];
        let whom = |uri: &str| Target::of(&uri.parse().unwrap(), &grants).ok().and_then(|target| target.own());
        assert_eq!(whom("http://A_b.spin.internal/"), Some(super::super::Callee::Component("A_b".to_owned())));
        assert_eq!(whom("http://a-b.spin.internal/"), None);
    }
}
