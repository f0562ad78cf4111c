//! An instance's resources, and what the host keeps for each.
//!
//! Invariant: the charge of every resource is part of the instance's memory.
//! - A handle costs [`HANDLE_BYTES`], whoever created it: the places of the table are counted after each call.
//! - One of our own resources states what it retains ([`Retains`]) and is added only by [`Table::put`], which charges it.
//! - One of WASI's is added, changed and removed by Wasmtime's functions, which `kept` wraps: every resource of theirs that
//!   a call touched is weighed again ([`super::weight`]).
//!
//! A charge is released with its resource, and all of them with the instance.

use std::any::Any;
use std::sync::Arc;

use wasmtime::component::{Resource, ResourceTable};

use super::meter::{Account, Held};
use super::weight::weigh;

/// The most resources (streams, bodies, buckets …) at once. A language engine with garbage collection holds two for each
/// piece of a body that it read, until its next collection.
pub(super) const RESOURCES_MAX: usize = 20_000;
/// The cost of a handle: its place, the box of its value, and Wasmtime's own place for it.
pub(super) const HANDLE_BYTES: u64 = 512;
/// What Wasmtime keeps for a call in progress, or for an end of a stream or a future. A stream holds up to 8 KiB of a file;
/// with the future that reports its end it pays for six of these.
pub(super) const CONCURRENT_BYTES: u64 = 1536;
/// Files that an instance may have open at once: each is a descriptor of the gateway's.
pub(super) const FILES_OPEN_MAX: usize = 200;

/// An audit checks all of them, after each call.
#[cfg(debug_assertions)]
const AUDITED_MAX: u64 = 256;

/// One of our own resources.
pub(super) trait Retains: Send + 'static {
    /// Bytes that it keeps beside its handle.
    fn retained(&self) -> u64;
}

/// One of our own resources with its charge. Only [`Table::put`] creates it.
struct Kept<T> {
    of_ours: T,
    _held: Held,
}

/// The resource could not be added.
#[derive(Debug)]
pub(super) struct Full;

/// The last charge of a WASI resource.
#[derive(Clone, Copy, Default)]
struct Note {
    bytes: u64,
    is_file: bool,
}

/// All resources of an instance.
pub(crate) struct Table {
    inner: ResourceTable,
    account: Arc<Account>,
    /// Indexed by the resource's place in the table.
    notes: Vec<Note>,
    /// For all notes together.
    noted: Held,
    /// For all handles together, at their highest number so far.
    handles: Held,
    concurrent: Held,
    files: usize,
    /// Clones are files that are being opened.
    opening: Arc<()>,
}

/// Exists while a file is being opened.
pub(super) struct Opening(#[expect(dead_code, reason = "it is counted")] Arc<()>);

/// The error of a call for which there is no room.
fn no_room() -> wasmtime::Error {
    wasmtime::Error::msg("the gateway needs more memory for this request than limits.memory allows")
}

impl Table {
    pub(super) fn new(account: &Arc<Account>) -> Self {
        let mut inner = ResourceTable::new();
        inner.set_max_capacity(RESOURCES_MAX);
        let (noted, handles, concurrent) = (Held::nothing(account), Held::nothing(account), Held::nothing(account));
        let (account, notes, opening) = (Arc::clone(account), Vec::new(), Arc::new(()));
        Self { inner, account, notes, noted, handles, concurrent, files: 0, opening }
    }

    /// For what Wasmtime adds and removes itself. The caller must weigh what was touched afterwards.
    pub(crate) const fn of_wasi(&mut self) -> &mut ResourceTable {
        &mut self.inner
    }

    /// Adds one of our own resources with its charge.
    ///
    /// # Errors
    /// There is no room for it, or for another resource.
    pub(super) fn put<T: Retains>(&mut self, of_ours: T) -> Result<Resource<T>, Full> {
        let held = self.account.hold(of_ours.retained()).ok_or(Full)?;
        let place = self.inner.push(Kept { of_ours, _held: held }).map_err(|_no_place| Full)?;
        Ok(Resource::new_own(place.rep()))
    }

    /// # Errors
    /// It is not a resource of this kind.
    pub(super) fn get<T: Retains>(&self, resource: &Resource<T>) -> wasmtime::Result<&T> {
        Ok(&self.inner.get(&Resource::<Kept<T>>::new_borrow(resource.rep()))?.of_ours)
    }

    /// Removes one of our own resources, and releases its charge.
    ///
    /// # Errors
    /// It is not a resource of this kind.
    #[expect(clippy::needless_pass_by_value, reason = "it is gone")]
    pub(super) fn take<T: Retains>(&mut self, resource: Resource<T>) -> wasmtime::Result<T> {
        let place = Resource::<Kept<T>>::new_own(resource.rep());
        // A resource of another kind must stay: the number may be invented (Spin 1).
        self.inner.get(&place)?;
        Ok(self.inner.delete(place)?.of_ours)
    }

    /// Charges a WASI resource for what it retains now, after a call that may have changed that. A removed one releases its
    /// charge.
    ///
    /// # Errors
    /// There is no room for it.
    pub(crate) fn settle(&mut self, place: u32) -> wasmtime::Result<()> {
        let before = self.notes.get(place as usize).copied().unwrap_or_default();
        let now = self.inner.get_any_mut(place).map_or_else(|_gone| Some(Note::default()), |entry| note_of(entry));
        match now {
            Some(now) => self.note(place, before, now),
            None => Ok(()),
        }
    }

    /// Charges a resource whose weight cannot be determined from outside with the most that it may retain.
    ///
    /// # Errors
    /// There is no room for it.
    pub(crate) fn charge(&mut self, place: u32, bytes: u64) -> wasmtime::Result<()> {
        let before = self.notes.get(place as usize).copied().unwrap_or_default();
        self.note(place, before, Note { bytes, is_file: false })
    }

    /// The same for one that keeps a file open.
    ///
    /// # Errors
    /// There is no room for it.
    pub(super) fn charge_file(&mut self, place: u32, bytes: u64) -> wasmtime::Result<()> {
        let before = self.notes.get(place as usize).copied().unwrap_or_default();
        self.note(place, before, Note { bytes, is_file: true })
    }

    fn note(&mut self, place: u32, before: Note, now: Note) -> wasmtime::Result<()> {
        if !self.noted.set(self.noted.bytes() - before.bytes + now.bytes) {
            return Err(no_room());
        }
        self.files = self.files + usize::from(now.is_file) - usize::from(before.is_file);
        let place = place as usize;
        if place >= self.notes.len() {
            if now.bytes == 0 && !now.is_file {
                return Ok(());
            }
            self.notes.resize(place + 1, Note::default());
        }
        if let Some(note) = self.notes.get_mut(place) {
            *note = now;
        }
        Ok(())
    }

    /// Charges the handles beyond the highest number so far. `of_calls` is Wasmtime's own table of calls in progress.
    ///
    /// # Errors
    /// There is no room for them.
    pub(crate) fn count_handles(&mut self, of_calls: Option<Places>) -> wasmtime::Result<()> {
        let of_host = Places::of(&mut self.inner);
        let fits = of_host.are_charged(&mut self.handles, HANDLE_BYTES)
            && of_calls.is_none_or(|places| places.are_charged(&mut self.concurrent, CONCURRENT_BYTES));
        if fits { Ok(()) } else { Err(no_room()) }
    }

    /// Prepares for another request in the same instance: releases the charges of the last one's handles, except of those
    /// that still exist.
    pub(super) fn begin_again(&mut self) {
        let bytes = self.inner.iter_mut().count() as u64 * HANDLE_BYTES;
        let _less = self.handles.set(bytes.min(self.handles.bytes()));
        // Trailers that a guest of 0.3 handed over disappear without a call.
        for place in 0..self.notes.len() {
            let _less = u32::try_from(place).map(|place| self.settle(place));
        }
    }

    /// Marks that a file is being opened, until the result is dropped. Nothing if too many are open.
    pub(super) fn open_file(&self) -> Option<Opening> {
        let opening = Arc::strong_count(&self.opening) - 1;
        (self.files + opening < FILES_OPEN_MAX).then(|| Opening(Arc::clone(&self.opening)))
    }

    /// Whether every WASI resource has the right charge.
    #[cfg(debug_assertions)]
    pub(crate) fn audit(&mut self) -> Result<(), String> {
        let places = (Places::of(&mut self.inner).0 + 1).max(self.notes.len() as u64);
        if places > AUDITED_MAX {
            return Ok(());
        }
        let mut sum = 0;
        for place in 0..usize::try_from(places).unwrap_or_default() {
            let note = self.notes.get(place).copied().unwrap_or_default();
            sum += note.bytes;
            let Ok(entry) = self.inner.get_any_mut(u32::try_from(place).unwrap_or(u32::MAX)) else {
                if note.bytes > 0 {
                    return Err(format!("{} bytes of a resource that is gone, in place {place}", note.bytes));
                }
                continue;
            };
            if let Some(now) = weigh(entry).filter(|now| *now != note.bytes) {
                return Err(format!("the resource in place {place} has {now} bytes and was charged {}", note.bytes));
            }
        }
        if sum == self.noted.bytes() { Ok(()) } else { Err(format!("{sum} bytes and {}", self.noted.bytes())) }
    }
}

/// Returns nothing if it is charged in another way.
fn note_of(entry: &dyn Any) -> Option<Note> {
    Some(Note { bytes: weigh(entry)?, is_file: entry.is::<wasmtime_wasi::filesystem::Descriptor>() })
}

/// An upper bound for the used places of a table. The table does not tell their number; but a new entry gets a free place,
/// or a new one at the end if all are used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places(u64);

impl Places {
    pub(crate) fn of(table: &mut ResourceTable) -> Self {
        let Ok(next) = table.push(()) else { return Self(table.max_capacity() as u64) };
        let places = next.rep().into();
        let _gone = table.delete(next);
        Self(places)
    }

    fn are_charged(self, held: &mut Held, bytes: u64) -> bool {
        held.bytes() >= self.0 * bytes || held.set(self.0 * bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::meter::Meter;
    use crate::ids::TenantId;
    use crate::tenant::{Count, Quota, Registry};
    use wasmtime_wasi_http::FieldMap;

    fn meter(max: u64) -> (Meter, Arc<Count>) {
        let ledger = Registry::default().ledger(&TenantId::parse("acme").unwrap(), &Quota::unbounded(), true);
        let gateway = Arc::new(Count::of(u64::MAX));
        (Meter::new(max, ledger, Arc::clone(&gateway)), gateway)
    }

    struct Text(&'static str);

    impl Retains for Text {
        fn retained(&self) -> u64 {
            self.0.len() as u64
        }
    }

    #[test]
    fn one_of_our_resources_is_added_with_its_charge_or_not_at_all() {
        let (meter, all) = meter(10);
        let mut table = Table::new(meter.account());
        let seven = table.put(Text("seven77")).unwrap();
        assert!(table.put(Text("four")).is_err());
        assert_eq!((all.now(), table.get(&seven).unwrap().0), (7, "seven77"));
        assert_eq!(table.take(seven).unwrap().0, "seven77");
        assert_eq!(all.now(), 0);
        let other = table.of_wasi().push(7_u8).unwrap();
        assert!(table.take(Resource::<Text>::new_own(other.rep())).is_err(), "of another kind");
        assert_eq!(*table.of_wasi().get(&other).unwrap(), 7, "and it stays");
    }

    #[test]
    fn handles_are_charged_whoever_creates_them() {
        let (meter, all) = meter(100 * HANDLE_BYTES);
        let mut table = Table::new(meter.account());
        let made: Vec<_> = (0..100).map(|n: u32| table.of_wasi().push(n).unwrap()).collect();
        table.count_handles(None).unwrap();
        assert_eq!(all.now(), 100 * HANDLE_BYTES);
        for one in made {
            table.of_wasi().delete(one).unwrap();
        }
        let _again: Vec<_> = (0..100).map(|n: u32| table.of_wasi().push(n).unwrap()).collect();
        table.count_handles(None).unwrap();
        let _more = table.of_wasi().push(0_u32).unwrap();
        assert!(table.count_handles(None).is_err(), "one more than ever");
        drop(table);
        assert_eq!(all.now(), 0);
    }

    #[test]
    fn a_wasi_resource_is_charged_for_what_it_retains_and_released() {
        let (meter, all) = meter(1 << 20);
        let mut table = Table::new(meter.account());
        let fields = table.of_wasi().push(FieldMap::new_mutable(1 << 10)).unwrap();
        let place = fields.rep();
        table.settle(place).unwrap();
        let empty = all.now();
        let map = table.of_wasi().get_mut(&fields).unwrap();
        map.append_raw("name".parse().unwrap(), "value".repeat(100).parse().unwrap()).unwrap();
        assert!(table.audit().is_err(), "it is noticed where nobody weighed it");
        table.settle(place).unwrap();
        assert!(all.now() >= empty + 504, "{}", all.now());
        table.audit().unwrap();
        table.of_wasi().delete(fields).unwrap();
        assert!(table.audit().is_err());
        table.settle(place).unwrap();
        assert_eq!((all.now(), table.audit()), (0, Ok(())));
        table.charge(3, 1 << 20).unwrap();
        assert!(table.charge(4, 1).is_err());
    }
}
