//! Numbers for the cursors of listings that are texts, since one version of wasi:keyvalue has numbers only.

use std::collections::VecDeque;

use super::meter::{Held, Meter};

/// Listings of one instance that can be continued.
const CURSORS_MAX: usize = 64;
/// Above Redis's own cursors, which are indexes of a table.
const KEPT: u64 = 1 << 63;

/// Numbers for cursors that are texts: those of the embedded store are keys.
#[derive(Default)]
pub(super) struct Cursors {
    kept: VecDeque<String>,
    gone: u64,
    /// The memory that the texts count.
    held: Option<Held>,
}

impl Cursors {
    pub(super) fn number(&mut self, cursor: String) -> u64 {
        if let Some(own) = cursor.parse().ok().filter(|own| *own < KEPT) {
            return own;
        }
        if self.kept.len() == CURSORS_MAX {
            self.kept.pop_front();
            self.gone += 1;
        }
        self.kept.push_back(cursor);
        KEPT + self.gone + self.kept.len() as u64 - 1
    }

    /// A number that this instance did not get becomes an unknown cursor.
    pub(super) fn text(&self, number: u64) -> String {
        let Some(place) = number.checked_sub(KEPT) else { return number.to_string() };
        let kept = place.checked_sub(self.gone).and_then(|at| self.kept.get(usize::try_from(at).ok()?));
        kept.cloned().unwrap_or_else(|| "unknown".to_owned())
    }
}

impl Cursors {
    /// Counts the texts that are kept now. Returns whether there was room.
    pub(super) fn count(&mut self, meter: &Meter) -> bool {
        let bytes: usize = self.kept.iter().map(String::capacity).sum();
        if self.held.is_none() && bytes > 0 {
            self.held = meter.hold(0);
        }
        self.held.as_mut().is_none_or(|held| held.set(bytes as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cursor_is_replaced_by_a_number() {
        let mut cursors = Cursors::default();
        assert_eq!(cursors.number("42".to_owned()), 42, "Redis's own");
        assert_eq!(cursors.text(42), "42");
        let numbers: Vec<u64> = (0..100).map(|n| cursors.number(format!("key{n}"))).collect();
        assert_eq!(cursors.text(numbers[99]), "key99");
        assert_eq!(cursors.text(numbers[36]), "key36", "the oldest that is kept");
        assert_eq!(cursors.text(numbers[35]), "unknown");
        assert_eq!(cursors.text(u64::MAX), "unknown");
    }
}
