//! The layout of the file. Each key has one small entry with the kind of its value, its length and its number of members,
//! so that no value is read to find them out. A value of up to [`NEAR_MAX`] bytes is in the entry; a larger one is in
//! chunks elsewhere.
//!
//! A chunk fills one page (64 KiB). Chunks have increasing numbers, and a number is never reused. So a leaf of the tree has
//! one chunk, a new chunk is added at its end, and changing one key never copies the data of another.

use redb::{ReadOnlyTable, ReadableTable, TableDefinition};

use super::{Result, internal};
use crate::store::Error;
use crate::store::layout::Bucket;

/// A bucket, and a key in it.
pub(super) type Place = (&'static [u8], &'static [u8]);

pub(super) const ENTRIES: TableDefinition<'static, Place, &[u8]> = TableDefinition::new("kv-entries");
pub(super) const CHUNKS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("kv-chunks");

/// The longest value that is stored in its entry.
pub(super) const NEAR_MAX: usize = 256;
/// What a page of 64 KiB holds beside redb's own data.
pub(super) const CHUNK: usize = (64 << 10) - 64;
/// The price of a look at one key, in bytes.
pub(super) const KEY_PRICE: usize = 1 << 10;

/// The kind of a value; for a raw key, its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A value in a store.
    Plain,
    Text,
    Set,
}

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Self::Plain => 0,
            Self::Text => b's',
            Self::Set => b'S',
        }
    }

    const fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Plain,
            b's' => Self::Text,
            b'S' => Self::Set,
            _ => return None,
        })
    }
}

/// An entry without a value in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: Kind,
    /// The number of members of a set.
    pub(super) members: u32,
    /// The length of the value.
    pub(super) length: u32,
    /// When the key expires, in milliseconds since 1970; 0 if it does not.
    pub(super) goes: u64,
}

const HEAD_BYTES: usize = 1 + 4 + 4 + 8;

impl Head {
    pub(super) const fn bytes(self) -> usize {
        self.length as usize
    }

    pub(super) const fn is_near(self) -> bool {
        self.bytes() <= NEAR_MAX
    }

    fn written(self, rest: &[u8]) -> Vec<u8> {
        let Self { kind, members, length, goes } = self;
        let mut bytes = Vec::with_capacity(HEAD_BYTES + rest.len());
        bytes.push(kind.byte());
        bytes.extend(members.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes.extend(goes.to_le_bytes());
        bytes.extend(rest);
        bytes
    }

    /// Encodes an entry with its value.
    pub(super) fn near(self, value: &[u8]) -> Vec<u8> {
        self.written(value)
    }

    /// Encodes an entry with the number of its first chunk.
    pub(super) fn far(self, first: u64) -> Vec<u8> {
        self.written(&first.to_le_bytes())
    }

    fn read(entry: &[u8]) -> Option<(Self, &[u8])> {
        let (kind, rest) = entry.split_first()?;
        let (members, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (goes, rest) = rest.split_first_chunk()?;
        let [members, length] = [members, length].map(|bytes| u32::from_le_bytes(*bytes));
        Some((Self { kind: Kind::of(*kind)?, members, length, goes: u64::from_le_bytes(*goes) }, rest))
    }
}

/// An entry: what is known about the value, and where it is.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) head: Head,
    at: At,
}

#[derive(Clone, Debug)]
enum At {
    Here(Vec<u8>),
    /// In chunks, from this one on.
    Far(u64),
}

/// The number of chunks of a value.
pub(super) const fn chunks(length: usize) -> u64 {
    length.div_ceil(CHUNK) as u64
}

impl Entry {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let (head, rest) = Head::read(bytes).ok_or(Error::Internal)?;
        let at = if head.is_near() {
            At::Here(rest.to_vec())
        } else {
            At::Far(u64::from_le_bytes(rest.try_into().map_err(internal)?))
        };
        Ok(Self { head, at })
    }

    /// The numbers of its chunks, if it has any.
    pub(super) fn far(&self) -> Option<std::ops::Range<u64>> {
        match self.at {
            At::Here(_) => None,
            At::Far(first) => Some(first..first + chunks(self.head.bytes())),
        }
    }

    /// The value, if it is in the entry.
    #[cfg(test)]
    pub(super) fn here(&self) -> &[u8] {
        match &self.at {
            At::Here(value) => value,
            At::Far(_) => &[],
        }
    }

    /// The value without this many of its first bytes.
    pub(super) fn value(&self, from: &impl ReadableTable<u64, &'static [u8]>, skip: usize) -> Result<Vec<u8>> {
        let range = match &self.at {
            At::Here(value) => return Ok(value.get(skip..).unwrap_or_default().to_vec()),
            At::Far(_) => self.far().unwrap_or_default(),
        };
        let mut value = Vec::with_capacity(self.head.bytes().saturating_sub(skip));
        for (at, number) in range.enumerate() {
            let chunk = from.get(number).map_err(internal)?.ok_or(Error::Internal)?;
            value.extend(chunk.value().get(if at == 0 { skip } else { 0 }..).unwrap_or_default());
        }
        Ok(value)
    }
}

/// The entry at a key. An expired key does not exist.
pub(super) fn look(
    entries: &impl ReadableTable<Place, &'static [u8]>,
    bucket: &Bucket,
    key: &[u8],
) -> Result<Option<Entry>> {
    let Some(entry) = entries.get((bucket.as_bytes(), key)).map_err(internal)? else { return Ok(None) };
    let entry = Entry::parse(entry.value())?;
    Ok((!is_over(bucket, entry.head)).then_some(entry))
}

pub(super) fn is_over(bucket: &Bucket, head: Head) -> bool {
    head.goes != 0 && bucket.ttl().is_some() && head.goes <= super::expiry::now()
}

/// The state of the last commit, and the price of what was read from it.
pub(super) struct View {
    pub(super) entries: ReadOnlyTable<Place, &'static [u8]>,
    pub(super) chunks: ReadOnlyTable<u64, &'static [u8]>,
    pub(super) price: usize,
}

impl View {
    pub(super) fn open(database: &redb::Database) -> Result<Self> {
        use redb::ReadableDatabase as _;
        let read = database.begin_read().map_err(internal)?;
        let entries = read.open_table(ENTRIES).map_err(internal)?;
        Ok(Self { entries, chunks: read.open_table(CHUNKS).map_err(internal)?, price: 0 })
    }

    pub(super) fn look(&mut self, bucket: &Bucket, key: &[u8]) -> Result<Option<Entry>> {
        self.price += KEY_PRICE;
        look(&self.entries, bucket, key)
    }

    pub(super) fn value(&mut self, entry: &Entry, skip: usize) -> Result<Vec<u8>> {
        self.price += entry.head.bytes();
        entry.value(&self.chunks, skip)
    }
}
