//! Exchanges that wait for their clients, and which of them is cut when another request needs a place.
//!
//! A guest that waits for its client's window, or for more of an upload, holds a place of its tenant and an instance for as
//! long as the client likes. As long as there are free places, nothing is cut. If there is none, and more than a share of
//! the places waits for clients, then the address that holds most of these loses the exchange that has waited longest.
//!
//! Limit: the list has as many entries as there are instances and large unfinished responses.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::exchange::{BACKLOG_PER_ADDRESS, Exchange};
use crate::deadline::Moment;
use crate::networks;

/// How long an exchange must have waited for its client in all before it counts as slow: a few round trips.
const SLOW: Duration = Duration::from_millis(250);

/// See the top of this file.
#[derive(Debug, Default)]
pub(crate) struct Slow(Mutex<Lists>);

#[derive(Debug, Default)]
struct Lists {
    /// By tenant, and by address in memory, which is unique until the entry is removed.
    exchanges: HashMap<u64, HashMap<usize, Weak<Exchange>>>,
    count: usize,
    /// Bytes that ended guests have left for an address.
    left: HashMap<IpAddr, u64>,
}

fn place(exchange: &Exchange) -> usize {
    std::ptr::from_ref(exchange) as usize
}

impl Slow {
    fn lists(&self) -> std::sync::MutexGuard<'_, Lists> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn list(&self, serial: u64, exchange: &Arc<Exchange>) {
        let mut lists = self.lists();
        lists.exchanges.entry(serial).or_default().insert(place(exchange), Arc::downgrade(exchange));
        lists.count += 1;
    }

    pub(super) fn forget(&self, serial: u64, exchange: &Exchange) {
        let mut lists = self.lists();
        lists.count -= 1;
        if let Some(own) = lists.exchanges.get_mut(&serial) {
            own.remove(&place(exchange));
            if own.is_empty() {
                lists.exchanges.remove(&serial);
            }
        }
    }

    /// The exchanges of a tenant, or all. None if there are at most `share`.
    fn those(&self, of: Option<u64>, share: usize) -> Vec<Arc<Exchange>> {
        let lists = self.lists();
        match of {
            Some(serial) => {
                let own = lists.exchanges.get(&serial).filter(|own| own.len() > share);
                own.iter().flat_map(|own| own.values()).filter_map(Weak::upgrade).collect()
            }
            None if lists.count <= share => Vec::new(),
            None => lists.exchanges.values().flat_map(HashMap::values).filter_map(Weak::upgrade).collect(),
        }
    }

    /// Whether this many more bytes may be left for this address. If so, they are counted.
    pub(super) fn leave(&self, address: IpAddr, bytes: u64) -> bool {
        let mut lists = self.lists();
        let left = lists.left.entry(networks::of_client(address)).or_default();
        let fits = left.checked_add(bytes).filter(|sum| *sum <= BACKLOG_PER_ADDRESS);
        if let Some(sum) = fits {
            *left = sum;
        }
        fits.is_some()
    }

    pub(super) fn take_back(&self, address: IpAddr, bytes: u64) {
        let (mut lists, address) = (self.lists(), networks::of_client(address));
        if let Some(left) = lists.left.get_mut(&address) {
            *left = left.saturating_sub(bytes);
            if *left == 0 {
                lists.left.remove(&address);
            }
        }
    }

    /// Cuts an exchange of a tenant, or of all tenants, if more than `share` of them wait for their clients. Returns
    /// whether it did.
    pub(crate) fn make_room(&self, of: Option<u64>, share: usize) -> bool {
        // They are dropped outside of the lock: dropping the last reference removes the entry from the list.
        let all = self.those(of, share);
        // One moment for all: an exchange that is inspected later has not waited longer.
        let (now, mut slow) = (Moment::now(), Vec::new());
        let mut by_address = HashMap::<IpAddr, usize>::new();
        for exchange in &all {
            // An exchange that was cut is about to end.
            let is_here = !exchange.cancelled().is_cancelled();
            let Some(waited) = exchange.waited(now).filter(|waited| is_here && *waited >= SLOW) else { continue };
            let (Some(_permits), Some(client)) = (exchange.permits(), &exchange.client) else { continue };
            let address = networks::of_client(client.address.ip());
            *by_address.entry(address).or_default() += 1;
            slow.push((exchange, address, waited));
        }
        if slow.len() <= share {
            return false;
        }
        let held = |address: &IpAddr| by_address.get(address).copied().unwrap_or_default();
        let worst = slow.iter().max_by_key(|(_, address, waited)| (held(address), *waited));
        worst.inspect(|(exchange, ..)| exchange.evict()).is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::super::exchange::{Connection, Permits};
    use super::*;

    #[derive(Default)]
    struct Place(AtomicBool);

    impl Permits for Place {
        fn serial(&self) -> u64 {
            7
        }

        fn evict(&self) {
            self.0.store(true, Ordering::Relaxed);
        }

        fn response_sent(&self) {}
    }

    fn waiting(slow: &Arc<Slow>, address: &str) -> (Arc<Exchange>, Arc<Place>) {
        let client = Connection::new(address.parse().unwrap(), Arc::clone(slow));
        let exchange = Exchange::new(Some(client));
        let place = Arc::<Place>::default();
        let permits: Arc<dyn Permits> = place.clone();
        exchange.admitted(Arc::downgrade(&permits));
        exchange.start_waiting();
        (exchange, place)
    }

    #[test]
    fn the_address_with_most_slow_exchanges_loses_the_longest_once_the_share_is_exceeded() {
        let slow = Arc::<Slow>::default();
        let first = waiting(&slow, "192.0.2.9:1");
        let greedy: Vec<_> = (0..3).map(|_| waiting(&slow, "192.0.2.1:1")).collect();
        let began = std::time::Instant::now();
        let new = Arc::<Slow>::default();
        let _just_now = waiting(&new, "192.0.2.2:1");
        let is_cut = new.make_room(Some(7), 0);
        assert!(!is_cut || began.elapsed() >= SLOW, "it has not waited for long");
        std::thread::sleep(SLOW);
        assert!(!slow.make_room(Some(7), 4), "so many may");
        assert!(!slow.make_room(Some(8), 0), "another tenant's");
        assert!(slow.make_room(Some(7), 3));
        assert!(greedy[0].1.0.load(Ordering::Relaxed) && greedy[0].0.cancelled().is_cancelled());
        assert!(!first.0.cancelled().is_cancelled(), "it is one of one");
        assert!(!slow.make_room(None, 3), "what was cut waits no more");
        greedy[1].0.stop_waiting();
        assert!(slow.make_room(None, 1) && slow.make_room(None, 0) && !slow.make_room(None, 0));
        drop((first, greedy));
        assert!(slow.lists().exchanges.is_empty());
    }

    #[test]
    fn bytes_left_for_clients_are_bounded_by_connection_and_by_address() {
        let slow = Arc::<Slow>::default();
        let connection =
            |address: &str| Exchange::new(Some(Connection::new(address.parse().unwrap(), Arc::clone(&slow))));
        let one = connection("[2001:db8::1]:1");
        let whole = one.reserve_backlog(1 << 20).unwrap();
        assert!(one.reserve_backlog(1).is_none());
        let more: Vec<_> = (1..16).map(|_| connection("[2001:db8::2]:1").reserve_backlog(1 << 20).unwrap()).collect();
        assert!(connection("[2001:db8::3]:1").reserve_backlog(1).is_none(), "of the same network");
        let other = connection("192.0.2.1:1").reserve_backlog(1 << 20);
        assert!(other.is_some());
        drop(whole);
        assert!(one.reserve_backlog(1 << 20).is_some());
        drop((more, other));
        assert!(slow.lists().left.is_empty());
    }
}
