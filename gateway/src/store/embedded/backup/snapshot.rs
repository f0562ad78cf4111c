//! Reads one commit of the store from its first record to its last. The pages of that commit stay in the file until this is
//! dropped, so the file grows by what is written meanwhile.

use redb::ReadableDatabase;

use super::super::entries::{CHUNKS, ENTRIES};
use super::super::expiry::DUE;
use super::super::layout::LAYOUTS;
use super::super::tables::{File, USAGE, WASTE};
use super::format::BackupWriter;
use super::{Record, Table};

/// The least bytes of a piece, except for the last one.
const PIECE_BYTES: usize = 256 << 10;

type Records = Box<dyn Iterator<Item = File<Record>> + Send>;

/// See the top of this file.
pub(super) struct Snapshot {
    records: Records,
    /// Nothing once everything was read.
    out: Option<BackupWriter>,
    /// The beginning of the next piece.
    begun: Vec<u8>,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}

impl Snapshot {
    pub(super) fn of(database: &impl ReadableDatabase) -> File<Self> {
        let records = records(database)?;
        let mut begun = Vec::new();
        let out = Some(BackupWriter::begin(&mut begun));
        Ok(Self { records, out, begun })
    }

    /// The next piece of the backup. Nothing after the last.
    pub(super) fn next(&mut self) -> File<Option<Vec<u8>>> {
        let Some(mut out) = self.out.take() else { return Ok(None) };
        let mut piece = std::mem::take(&mut self.begun);
        while piece.len() < PIECE_BYTES {
            let Some(record) = self.records.next() else {
                out.end(&mut piece);
                return Ok(Some(piece));
            };
            out.record(&record?, &mut piece);
        }
        out.sent(&piece);
        self.out = Some(out);
        Ok(Some(piece))
    }
}

/// Every row of every table.
fn records(database: &impl ReadableDatabase) -> File<Records> {
    let read = database.begin_read()?;
    let usage = read.open_table(USAGE)?.range::<&[u8]>(..)?.map(|row| {
        let (name, sum) = row?;
        let (bytes, keys) = sum.value();
        File::Ok(Record::of(Table::Usage, &[name.value(), &bytes.to_le_bytes(), &keys.to_le_bytes()]))
    });
    let layouts = read.open_table(LAYOUTS)?.range::<&[u8]>(..)?.map(|row| {
        let (name, shards) = row?;
        File::Ok(Record::of(Table::Layouts, &[name.value(), &u64::from(shards.value()).to_le_bytes()]))
    });
    let waste = read.open_table(WASTE)?.range::<(&[u8], u64)>(..)?.map(|row| {
        let (place, end) = row?;
        let (owner, first) = place.value();
        File::Ok(Record::of(Table::Waste, &[owner, &first.to_le_bytes(), &end.value().to_le_bytes()]))
    });
    let due = read.open_table(DUE)?.range::<(&[u8], u64, &[u8])>(..)?.map(|row| {
        let (place, _) = row?;
        let (bucket, goes, key) = place.value();
        File::Ok(Record::of(Table::Due, &[bucket, &goes.to_le_bytes(), key]))
    });
    let entries = read.open_table(ENTRIES)?.range::<(&[u8], &[u8])>(..)?.map(|row| {
        let (place, entry) = row?;
        let (bucket, key) = place.value();
        File::Ok(Record::of(Table::Entries, &[bucket, key, entry.value()]))
    });
    let chunks = read.open_table(CHUNKS)?.range::<u64>(..)?.map(|row| {
        let (number, chunk) = row?;
        File::Ok(Record::of(Table::Chunks, &[&number.value().to_le_bytes(), chunk.value()]))
    });
    Ok(Box::new(usage.chain(layouts).chain(waste).chain(due).chain(entries).chain(chunks)))
}
