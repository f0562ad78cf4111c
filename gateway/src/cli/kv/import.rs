//! `tollgate kv import`: imports the lines of an export into a tenant. Existing keys of the same name are replaced, so it
//! may be run again.
//!
//! Limit: memory for the pairs of one call.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::Data;
use super::lines::{CALL_BYTES, Kind, Line, PART, Part, printable};
use super::progress::Progress;
use crate::store::Text;

/// Bytes of one command, unless it has one element: members may have 512 KiB together.
const COMMAND_BYTES: usize = 400 << 10;

impl Data {
    pub(super) async fn import(&mut self, file: Option<&Path>, skip: u64) -> anyhow::Result<()> {
        let from: Box<dyn BufRead> = match file {
            Some(path) => {
                Box::new(BufReader::new(File::open(path).with_context(|| format!("cannot read {}", path.display()))?))
            }
            None => Box::new(BufReader::new(std::io::stdin())),
        };
        let mut import = Import { progress: Progress::new("imported"), ..Import::default() };
        let done = self.import_lines(from, skip, &mut import).await;
        done.with_context(|| {
            let line = import.done;
            format!("the import was interrupted; the imported data stays, and --skip {line} continues from there")
        })?;
        import.progress.done();
        Ok(())
    }

    async fn import_lines(&mut self, mut from: impl BufRead, skip: u64, import: &mut Import) -> anyhow::Result<()> {
        let (mut text, mut number) = (Vec::new(), 0u64);
        let mut is_whole = false;
        loop {
            text.clear();
            if from.read_until(b'\n', &mut text)? == 0 {
                break;
            }
            number += 1;
            let line: Line = serde_json::from_slice(&text).with_context(|| {
                let start = printable(text.get(..text.len().min(60)).unwrap_or_default());
                format!("line {number} is not a line of an export: {start}")
            })?;
            import.seen(&line);
            match line {
                Line::Head { tollgate: 1, .. } if number == 1 => {}
                Line::Head { tollgate, .. } => {
                    bail!("line {number}: format {tollgate} is unknown, or not in the first line")
                }
                _ if number == 1 => bail!("the first line is not the first line of an export"),
                Line::End { pairs, raw } => {
                    self.flush(import, number).await?;
                    if (pairs, raw) != (import.pairs, import.raw) {
                        let (has, keys) = (import.pairs, import.raw);
                        bail!("the file should have {pairs} pairs and {raw} raw keys, but has {has} and {keys}");
                    }
                    is_whole = true;
                }
                _ if number <= skip => import.done = number,
                Line::Mark(_) => {}
                Line::Pair { store, key, value } => {
                    if import.store != store || import.waiting.len() >= PART || import.bytes >= CALL_BYTES {
                        self.flush(import, number - 1).await?;
                        import.store = store;
                    }
                    import.bytes += key.0.len() + value.0.len();
                    import.waiting.push((key, value));
                }
                Line::Raw(part) => {
                    self.flush(import, number - 1).await?;
                    self.import_part(part).await.with_context(|| format!("line {number}"))?;
                    import.done = number;
                }
                Line::Expiry { raw, expires_at_ms } => {
                    let at = expires_at_ms.to_string();
                    let set = self.command(&[b"PEXPIREAT", &raw.0, at.as_bytes()]).await;
                    set.with_context(|| format!("line {number}"))?;
                    import.done = number;
                }
            }
        }
        if !is_whole {
            self.flush(import, number).await?;
            bail!("the file ends early, after line {number}: the export is incomplete");
        }
        Ok(())
    }

    async fn flush(&mut self, import: &mut Import, line: u64) -> anyhow::Result<()> {
        if !import.waiting.is_empty() {
            let count = import.waiting.len() as u64;
            let pairs = std::mem::take(&mut import.waiting);
            self.ask::<Value>("set", json!({ "store": import.store, "pairs": pairs })).await?;
            import.progress.add(count, import.bytes as u64);
            import.bytes = 0;
        }
        import.done = line;
        Ok(())
    }

    async fn import_part(&mut self, part: Part) -> anyhow::Result<()> {
        if part.starts {
            self.command(&[b"DEL", &part.raw.0]).await?;
        }
        let mut elements = part.elements;
        if part.kind == Kind::SortedSet {
            // There, a score precedes its member.
            elements.chunks_exact_mut(2).for_each(|pair| pair.swap(0, 1));
        }
        for some in commands(part.kind, &elements) {
            let words = [part.kind.adds(), part.raw.0.as_slice()];
            let words: Vec<&[u8]> = words.into_iter().chain(some.iter().map(|element| element.0.as_slice())).collect();
            self.command(&words).await?;
        }
        Ok(())
    }
}

/// The elements of a line, in groups that one command may carry.
fn commands(kind: Kind, elements: &[Text]) -> Vec<&[Text]> {
    let each = match kind {
        Kind::String | Kind::StreamEntry => return vec![elements],
        Kind::Hash | Kind::SortedSet => 2,
        Kind::Set | Kind::List => 1,
    };
    let (mut all, mut from, mut bytes) = (Vec::new(), 0, 0);
    for (at, some) in elements.chunks(each).enumerate() {
        let more: usize = some.iter().map(|element| element.0.len()).sum();
        if bytes > 0 && bytes + more > COMMAND_BYTES {
            all.extend(elements.get(from..at * each));
            (from, bytes) = (at * each, 0);
        }
        bytes += more;
    }
    all.extend(elements.get(from..));
    all
}

/// The progress of an import.
#[derive(Default)]
struct Import {
    /// Pairs that wait to be sent together, all of one store.
    waiting: Vec<(Text, Text)>,
    store: String,
    bytes: usize,
    /// Lines that are imported.
    done: u64,
    pairs: u64,
    raw: u64,
    progress: Progress,
}

impl Import {
    fn seen(&mut self, line: &Line) {
        match line {
            Line::Pair { .. } => self.pairs += 1,
            Line::Raw(part) => self.raw += u64::from(part.starts || part.kind == Kind::String),
            Line::Head { .. } | Line::Expiry { .. } | Line::Mark(_) | Line::End { .. } => {}
        }
    }
}
