//! What guests have for their connections, passed on in batches.
//!
//! A connection's thread that is woken takes the processor from the runner that woke it, and a switch costs more than many
//! turns. So a runner collects messages until no job waits, or until it yields to the kernel anyway.
//!
//! Limit: as many messages as there are turns within `YIELD_AFTER`, and at most [`LETTERS_MAX`].

use std::cell::RefCell;

type Letter = Box<dyn FnOnce()>;

const LETTERS_MAX: usize = 32;

thread_local! {
    /// Only runners have one.
    static OUTBOX: RefCell<Option<Vec<Letter>>> = const { RefCell::new(None) };
}

/// Gives this thread an outbox. The thread must [`flush`] it whenever it rests.
pub(super) fn open() {
    OUTBOX.set(Some(Vec::new()));
}

/// Runs this when the runner has time, or at once if the thread is not a runner.
pub(in crate::sandbox) fn post(letter: impl FnOnce() + 'static) {
    let (now, is_full) = OUTBOX.with_borrow_mut(|outbox| match outbox {
        Some(letters) => {
            letters.push(Box::new(letter));
            (None, letters.len() >= LETTERS_MAX)
        }
        None => (Some(letter), false),
    });
    if let Some(letter) = now {
        letter();
    }
    if is_full {
        flush();
    }
}

/// Passes everything on. Returns whether there was anything.
pub(super) fn flush() -> bool {
    let letters = OUTBOX.with_borrow_mut(|outbox| outbox.as_mut().map(std::mem::take)).unwrap_or_default();
    let were_any = !letters.is_empty();
    letters.into_iter().for_each(|letter| letter());
    were_any
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    #[test]
    fn messages_wait_on_runners_only_and_in_bounded_number() {
        let seen = Rc::new(Cell::new(0));
        let post_one = || {
            let seen = Rc::clone(&seen);
            post(move || seen.set(seen.get() + 1));
        };
        post_one();
        assert_eq!(seen.take(), 1, "no runner");
        open();
        for sent in 1..LETTERS_MAX {
            post_one();
            assert_eq!(seen.get(), 0, "after {sent}");
        }
        post_one();
        assert_eq!(seen.take(), LETTERS_MAX, "the outbox was full");
        post_one();
        assert!(flush());
        assert_eq!(seen.take(), 1);
        assert!(!flush());
    }
}
