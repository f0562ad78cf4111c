//! Checks that slots of the pools are clean when they are reused: with the serving engines, in one of their free slots.
//!
//! A small module of ours writes to its image, its memory, its heap and a table of a thousand elements, and ends; the next
//! instance of it must find nothing of that. The memory's address shows whether both had the same memory, and the table is
//! the one that the pool got back last. The module is compiled in this process and not in the child: it is our own code,
//! the same few bytes each time.

use anyhow::Context as _;
use wasmtime::{Engine, Instance, Module, Store};

use super::engine::{Calls, Each};

/// `wat/slot.wat`.
const CHECKER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/slot.wasm"));

/// The places that a check covers, by the bits of its result.
const PLACES: [&str; 4] = ["its image", "its memory", "its heap", "its table"];

/// How often to try to get the same slot again: another instance may take it in between.
const TRIES: u32 = 5;

/// More ticks than there are while it runs.
const TICKS: u64 = 1 << 40;

/// How the pools reset slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slots {
    /// The pages that the kernel reports as written (`pagemap_scan`).
    Scanned,
    /// Everything.
    Whole,
}

impl Slots {
    /// The stable name, in the file and in the log.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Scanned => "scanned",
            Self::Whole => "whole",
        }
    }
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotCheck {
    Clean,
    /// Which of [`PLACES`] contained data.
    Unclean(u32),
    /// Another instance took the slot each time.
    Missed,
}

impl SlotCheck {
    /// The places that contained data, in words.
    pub(crate) fn places(self) -> String {
        let Self::Unclean(bits) = self else { return String::new() };
        let of = PLACES.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1);
        of.map(|(_, place)| *place).collect::<Vec<_>>().join(", ")
    }
}

/// What happens to the slot between the two instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Between {
    PutBack,
    /// Nothing: the second instance sees what the first left. For tests of the check itself.
    LeftAsItIs,
}

/// Checks slots of one engine.
pub(super) struct SlotChecker {
    engine: Engine,
    module: Module,
    is_metered: bool,
}

impl SlotChecker {
    /// # Errors
    /// The module does not fit the engine. This is a build error.
    pub(super) fn new(engine: &Engine, is_metered: bool) -> anyhow::Result<Self> {
        let module = Module::new(engine, CHECKER).map_err(anyhow::Error::from).context("the look at slots")?;
        Ok(Self { engine: engine.clone(), module, is_metered })
    }

    /// # Errors
    /// No slot is free, or the machine fails.
    pub(super) fn look(&self, between: Between) -> anyhow::Result<SlotCheck> {
        for _try in 0..TRIES {
            let mut first = self.instance()?;
            first.call("write")?;
            let at = first.memory()?;
            let mut second = match between {
                Between::PutBack => {
                    drop(first);
                    self.instance()?
                }
                Between::LeftAsItIs => first,
            };
            let found = second.look()?;
            match (found, second.memory()? == at) {
                (0, true) => return Ok(SlotCheck::Clean),
                (0, false) => {}
                // Whatever its origin: the slot contains data.
                (found, _) => return Ok(SlotCheck::Unclean(found)),
            }
        }
        Ok(SlotCheck::Missed)
    }

    fn instance(&self) -> anyhow::Result<Looking> {
        let mut store = Store::new(&self.engine, ());
        store.set_epoch_deadline(TICKS);
        if self.is_metered {
            store.set_fuel(u64::MAX)?;
        }
        let instance = Instance::new(&mut store, &self.module, &[])?;
        Ok(Looking { store, instance })
    }
}

/// One instance.
struct Looking {
    store: Store<()>,
    instance: Instance,
}

impl Looking {
    fn call(&mut self, name: &str) -> anyhow::Result<()> {
        Ok(self.instance.get_typed_func::<(), ()>(&mut self.store, name)?.call(&mut self.store, ())?)
    }

    fn look(&mut self) -> anyhow::Result<u32> {
        Ok(self.instance.get_typed_func::<(), u32>(&mut self.store, "look")?.call(&mut self.store, ())?)
    }

    /// The address of its memory.
    fn memory(&mut self) -> anyhow::Result<usize> {
        let memory = self.instance.get_memory(&mut self.store, "memory").context("it has no memory")?;
        Ok(memory.data_ptr(&self.store).addr())
    }
}

/// Checks both engines, and returns the worse result.
///
/// # Errors
/// As for [`SlotChecker::look`].
pub(super) fn look(checkers: &Each<SlotChecker>, between: Between) -> anyhow::Result<SlotCheck> {
    let mut worst = SlotCheck::Clean;
    for calls in [Calls::Single, Calls::Concurrent] {
        match checkers.of(calls).look(between)? {
            SlotCheck::Clean => {}
            SlotCheck::Missed => worst = SlotCheck::Missed,
            unclean @ SlotCheck::Unclean(_) => return Ok(unclean),
        }
    }
    Ok(worst)
}

#[cfg(test)]
mod tests {
    use super::super::engine::pooling;
    use super::*;

    fn checkers(slots: Slots) -> Each<SlotChecker> {
        Each::try_from(|calls| SlotChecker::new(&pooling(calls, 4, true, slots)?, true)).unwrap()
    }

    #[test]
    fn a_slot_is_clean_for_the_next_instance_however_it_is_reset() {
        for slots in [Slots::Scanned, Slots::Whole] {
            let checkers = checkers(slots);
            for _again in 0..3 {
                assert_eq!(look(&checkers, Between::PutBack).unwrap(), SlotCheck::Clean, "{slots:?}");
            }
        }
    }

    #[test]
    fn a_slot_that_was_not_reset_is_found() {
        for slots in [Slots::Scanned, Slots::Whole] {
            let found = look(&checkers(slots), Between::LeftAsItIs).unwrap();
            assert_eq!(found, SlotCheck::Unclean(0b1111), "{slots:?}");
            assert_eq!(found.places(), "its image, its memory, its heap, its table");
        }
    }

    #[test]
    fn each_unclean_place_is_found_separately() {
        let places = [(2 << 16, "its heap"), (1 << 16, "its memory"), (4096, "its image"), (0, "its image")];
        let checkers = checkers(Slots::Scanned);
        for (at, place) in places {
            let mut one = checkers.single.instance().unwrap();
            // The module asks for its heap when it looks, so that the heap exists.
            assert_eq!(one.look().unwrap(), 0);
            let memory = one.instance.get_memory(&mut one.store, "memory").unwrap();
            memory.write(&mut one.store, at, b"x").unwrap();
            assert_eq!(SlotCheck::Unclean(one.look().unwrap()).places(), place);
        }
    }
}
