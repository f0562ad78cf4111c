//! The format of a backup: a line of JSON that describes it, records, and at the end the number of records and the SHA-256
//! of everything before.
//!
//! ```text
//! {"tollgate_backup":1,"version":"0.1.0","taken_ms":1764594000000}\n
//! record    table (1 byte), parts (1 byte), and for each part its length (4 bytes) and its bytes
//! end       0 (1 byte), count of records (8 bytes), SHA-256 (32 bytes)
//! ```
//!
//! Numbers are little-endian.
//!
//! Limit: a line of [`HEAD_MAX`], and parts of [`PART_MAX`]. A file with longer ones is not a backup.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::time::SystemTime;

use anyhow::{Context as _, bail, ensure};
use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::super::left::tenant;
use crate::ids::TenantId;
use crate::telemetry::unix_ms;

/// The version of the format that is written and read.
const FORM: u32 = 1;
const HEAD_MAX: usize = 4 << 10;
const PART_MAX: usize = 4 << 20;
const END: u8 = 0;
const DIGEST_BYTES: usize = 32;

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Head {
    tollgate_backup: u32,
    /// The version of the gateway that made the backup.
    version: String,
    taken_ms: u64,
}

/// The table of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    /// Bucket, key, entry.
    Entries,
    /// Number, bytes.
    Chunks,
    /// Name, bytes and keys.
    Usage,
    /// Owner, first chunk, the chunk after the last.
    Waste,
    /// Name, shards.
    Layouts,
    /// Bucket, milliseconds, key.
    Due,
}

impl Table {
    const ALL: [(u8, Self, usize); 6] = [
        (1, Self::Entries, 3),
        (2, Self::Chunks, 2),
        (3, Self::Usage, 3),
        (4, Self::Waste, 3),
        (5, Self::Layouts, 2),
        (6, Self::Due, 3),
    ];

    fn byte(self) -> u8 {
        Self::ALL.iter().find(|(_, table, _)| *table == self).map_or(END, |(byte, ..)| *byte)
    }
}

/// A row of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) table: Table,
    pub(super) parts: Vec<Vec<u8>>,
}

impl Record {
    pub(super) fn of(table: Table, parts: &[&[u8]]) -> Self {
        Self { table, parts: parts.iter().map(|part| part.to_vec()).collect() }
    }

    /// The part at this index.
    pub(super) fn bytes(&self, at: usize) -> &[u8] {
        self.parts.get(at).map(Vec::as_slice).unwrap_or_default()
    }

    /// The number at this index.
    pub(super) fn number(&self, at: usize) -> anyhow::Result<u64> {
        let bytes = <[u8; 8]>::try_from(self.bytes(at)).context("a number in the backup has not 8 bytes")?;
        Ok(u64::from_le_bytes(bytes))
    }
}

/// A summary of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    /// When it was made, in milliseconds since 1970.
    pub(crate) taken_ms: u64,
    pub(crate) keys: u64,
    pub(crate) tenants: usize,
    /// The size of the backup itself.
    pub(crate) bytes: u64,
    digest: Vec<u8>,
}

/// Writes a backup.
pub(super) struct BackupWriter {
    hash: Context,
    records: u64,
}

impl BackupWriter {
    /// Starts with the first line.
    pub(super) fn begin(into: &mut Vec<u8>) -> Self {
        let taken_ms = unix_ms(SystemTime::now());
        let head = Head { tollgate_backup: FORM, version: env!("CARGO_PKG_VERSION").to_owned(), taken_ms };
        into.extend(serde_json::to_vec(&head).unwrap_or_default());
        into.push(b'\n');
        Self { hash: Context::new(&SHA256), records: 0 }
    }

    pub(super) fn record(&mut self, record: &Record, into: &mut Vec<u8>) {
        into.extend([record.table.byte(), u8::try_from(record.parts.len()).unwrap_or(u8::MAX)]);
        for part in &record.parts {
            into.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
            into.extend(part);
        }
        self.records += 1;
    }

    /// Counts a piece that is sent.
    pub(super) fn sent(&mut self, piece: &[u8]) {
        self.hash.update(piece);
    }

    /// Appends the end to the last piece.
    pub(super) fn end(mut self, piece: &mut Vec<u8>) {
        piece.push(END);
        piece.extend(self.records.to_le_bytes());
        self.hash.update(piece);
        piece.extend(self.hash.finish().as_ref());
    }
}

/// Reads a backup.
pub(super) struct BackupReader<R> {
    from: R,
    head: Head,
    hash: Context,
    records: u64,
    keys: u64,
    tenants: BTreeSet<TenantId>,
    bytes: u64,
}

impl<R: Read> BackupReader<R> {
    /// # Errors
    /// It is not a backup, or its format is unknown to this version.
    pub(super) fn open(mut from: R) -> anyhow::Result<Self> {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let mut byte = [0];
            if line.len() == HEAD_MAX || from.read(&mut byte).context("cannot read it")? == 0 {
                bail!("it is no backup of the embedded store: its first line is not one of `tollgate backup`");
            }
            line.extend(byte);
        }
        let head: Head = serde_json::from_slice(&line).map_err(|_other| {
            anyhow::anyhow!("it is no backup of the embedded store: its first line is not one of `tollgate backup`")
        })?;
        ensure!(
            head.tollgate_backup == FORM,
            "it has form {}, made by Tollgate {}; this version reads form {FORM}",
            head.tollgate_backup,
            head.version
        );
        let mut hash = Context::new(&SHA256);
        hash.update(&line);
        let (tenants, bytes) = (BTreeSet::new(), line.len() as u64);
        Ok(Self { from, head, hash, records: 0, keys: 0, tenants, bytes })
    }

    fn take(&mut self, bytes: &mut [u8]) -> anyhow::Result<()> {
        let records = self.records;
        self.from.read_exact(bytes).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                return anyhow::anyhow!("it is cut: it ends after {records} records, without an end");
            }
            anyhow::Error::from(error).context("cannot read it")
        })?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn number<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.take(&mut bytes)?;
        self.hash.update(&bytes);
        Ok(bytes)
    }

    /// The next record. Nothing at the end, which is compared with what came before.
    ///
    /// # Errors
    /// The backup is truncated or was altered.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Record>> {
        let altered = |records: u64| format!("it was altered: what follows record {records} is no record");
        let [byte] = self.number()?;
        if byte == END {
            self.end()?;
            return Ok(None);
        }
        let (_, table, wanted) =
            *Table::ALL.iter().find(|(known, ..)| *known == byte).with_context(|| altered(self.records))?;
        let [parts] = self.number()?;
        ensure!(usize::from(parts) == wanted, altered(self.records));
        let mut record = Record { table, parts: Vec::with_capacity(wanted) };
        for _ in 0..wanted {
            let length = u32::from_le_bytes(self.number()?) as usize;
            ensure!(length <= PART_MAX, altered(self.records));
            let mut part = vec![0; length];
            self.take(&mut part)?;
            self.hash.update(&part);
            record.parts.push(part);
        }
        self.records += 1;
        self.keys += u64::from(table == Table::Entries);
        if table == Table::Usage && record.number(2)? > 0 {
            self.tenants.extend(tenant(record.bytes(0)));
        }
        Ok(Some(record))
    }

    fn end(&mut self) -> anyhow::Result<()> {
        let records = u64::from_le_bytes(self.number()?);
        let mut digest = [0; DIGEST_BYTES];
        self.take(&mut digest)?;
        let is_whole = records == self.records && self.hash.clone().finish().as_ref() == digest;
        ensure!(is_whole, "it was altered: its checksum is not that of its {} records", self.records);
        ensure!(self.from.read(&mut [0]).context("cannot read it")? == 0, "it was altered: something follows its end");
        Ok(())
    }

    /// The summary of a backup that was read to its end.
    pub(super) fn summary(self) -> Summary {
        Summary {
            taken_ms: self.head.taken_ms,
            keys: self.keys,
            tenants: self.tenants.len(),
            bytes: self.bytes,
            digest: self.hash.finish().as_ref().to_vec(),
        }
    }
}

/// Reads a backup to its end.
///
/// # Errors
/// It is not a backup, is truncated, or was altered.
pub(super) fn verify(from: impl Read) -> anyhow::Result<Summary> {
    let mut read = BackupReader::open(from)?;
    while read.next()?.is_some() {}
    Ok(read.summary())
}
