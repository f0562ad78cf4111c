//! Ports that a grant names.

/// A range of ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
    /// From `first` to `end - 1`. Nothing if that is empty.
    pub(crate) fn range(first: u16, end: u16) -> Option<Self> {
        Some(Self { first, last: end.checked_sub(1).filter(|last| *last >= first)? })
    }

    pub(crate) const fn has(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    pub(crate) const fn is_one(self) -> bool {
        self.first == self.last
    }
}

impl From<u16> for Ports {
    fn from(port: u16) -> Self {
        Self { first: port, last: port }
    }
}
