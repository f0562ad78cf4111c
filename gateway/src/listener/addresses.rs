//! How many connections each client address has open.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::networks;

/// Counts connections by address; IPv6 addresses count by their /64. The map never has more entries than there are
/// connections.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    open: Arc<Mutex<HashMap<IpAddr, u32>>>,
    max: u32,
}

/// One counted connection of an address. Dropping it releases the place.
#[derive(Debug)]
pub(crate) struct Held {
    addresses: Addresses,
    address: IpAddr,
}

impl Addresses {
    pub(crate) fn new(max: u32) -> Self {
        Self { open: Arc::default(), max }
    }

    /// Takes a place. Returns nothing if the address has as many connections as it may.
    pub(crate) fn enter(&self, address: IpAddr) -> Option<Held> {
        let address = networks::of_client(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address).or_insert(0);
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(Held { addresses: self.clone(), address })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut open = self.addresses.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_maximum_of_connections_and_releases_them() {
        let addresses = Addresses::new(2);
        let enter = |text: &str| addresses.enter(text.parse().unwrap());
        let held = [enter("192.0.2.1").unwrap(), enter("::ffff:192.0.2.1").unwrap()];
        assert!(enter("192.0.2.1").is_none());
        let others = [enter("192.0.2.2"), enter("2001:db8::1"), enter("2001:db8::2")];
        assert!(others.iter().all(Option::is_some));
        assert!(enter("2001:db8::3").is_none(), "of the same network");
        drop(held);
        assert!(enter("192.0.2.1").is_some());
        drop(others);
        assert!(addresses.open.lock().unwrap().is_empty());
    }
}
