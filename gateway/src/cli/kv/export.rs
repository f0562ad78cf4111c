//! `tollgate kv export`: writes all data of a tenant as lines of JSON.
//!
//! Limit: memory for a page of keys and its values. Consumer groups of streams are not exported. If a Redis server is
//! restarted or replaced meanwhile, its cursors become invalid, and so does the export, even if it is resumed.

use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Seek as _, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use http::StatusCode;
use serde_json::json;

use super::lines::{At, CALL_BYTES, Kind, Line, Mark, PART, Part, Replies, Reply, bytes, printable};
use super::progress::Progress;
use super::{Data, Keys, Names};
use crate::store::Text;

/// Elements of a list that are read at once if they are large.
const FEW: usize = 4;

/// The output, and how far the export is.
struct Out<W> {
    to: W,
    mark: Mark,
    progress: Progress,
}

impl<W: Write> Out<W> {
    fn line(&mut self, line: &Line) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.to.write_all(&text).context("cannot write the export")?;
        // Counted as an import counts them.
        let (pairs, raw) = match line {
            Line::Pair { .. } => (1, 0),
            Line::Raw(part) => (0, u64::from(part.starts || part.kind == Kind::String)),
            Line::Head { .. } | Line::Expiry { .. } | Line::Mark(_) | Line::End { .. } => (0, 0),
        };
        self.mark.pairs += pairs;
        self.mark.raw += raw;
        self.progress.add(pairs + raw, text.len() as u64);
        Ok(())
    }

    fn mark(&mut self, at: At) -> anyhow::Result<()> {
        self.mark.at = at;
        self.line(&Line::Mark(self.mark.clone()))?;
        self.to.flush().context("cannot write the export")
    }
}

impl Data {
    /// Writes to `FILE.part` first, from which an interrupted export is resumed.
    pub(super) async fn export(&mut self, to: Option<&Path>, resume: bool) -> anyhow::Result<()> {
        let Some(path) = to else {
            ensure!(!resume, "--resume requires --to, with the file to resume");
            return self.export_to(BufWriter::new(std::io::stdout()), None).await;
        };
        let part = path.with_added_extension("part");
        let cannot = || format!("cannot write {}", part.display());
        let (file, mark) = if resume {
            let mut file = File::options().read(true).write(true).open(&part).with_context(cannot)?;
            let (mark, length) = last_mark(&file, &self.tenant).with_context(|| part.display().to_string())?;
            file.set_len(length)?;
            file.seek(SeekFrom::End(0))?;
            (file, Some(mark))
        } else {
            let new = File::options().write(true).create_new(true).mode(0o600).open(&part);
            let there = "an interrupted export exists: use --resume to continue it, or delete it";
            (
                new.with_context(cannot).context(if part.exists() { there } else { "there is no file to write to" })?,
                None,
            )
        };
        let written = self.export_to(BufWriter::new(&file), mark).await;
        written
            .with_context(|| format!("the exported data is in {}; --resume continues from there", part.display()))?;
        file.sync_all()?;
        std::fs::rename(&part, path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(())
    }

    async fn export_to(&mut self, to: impl Write, from: Option<Mark>) -> anyhow::Result<()> {
        let mut out = Out { to, mark: Mark::default(), progress: Progress::new("exported") };
        match from {
            Some(mark) => {
                out.progress.add(mark.pairs + mark.raw, 0);
                out.mark = mark;
            }
            None => out.line(&Line::Head { tollgate: 1, tenant: self.tenant.clone() })?,
        }
        if let At::Names { cursor } = &out.mark.at {
            let cursor = cursor.clone();
            self.export_names(cursor, &mut out).await?;
        }
        let mut begun = match &out.mark.at {
            At::Store { store, cursor } => Some((store.clone(), cursor.clone())),
            At::Names { .. } => None,
        };
        while let Some((store, cursor)) = begun.take().or_else(|| Some((out.mark.stores.first()?.clone(), None))) {
            self.export_store(&store, cursor, &mut out).await?;
            out.mark.stores.remove(&store);
        }
        let (pairs, raw) = (out.mark.pairs, out.mark.raw);
        out.line(&Line::End { pairs, raw })?;
        out.to.flush()?;
        out.progress.done();
        Ok(())
    }

    /// Exports the raw keys, and collects the names of the stores.
    async fn export_names(&mut self, mut cursor: Option<String>, out: &mut Out<impl Write>) -> anyhow::Result<()> {
        loop {
            let page: Names = self.ask("names", json!({ "cursor": cursor })).await?;
            out.mark.stores.extend(page.stores);
            for key in page.raw {
                self.export_raw(key, out).await?;
            }
            cursor = page.cursor;
            if cursor.is_none() {
                return Ok(());
            }
            out.mark(At::Names { cursor: cursor.clone() })?;
        }
    }

    async fn export_store(
        &mut self,
        store: &str,
        mut cursor: Option<String>,
        out: &mut Out<impl Write>,
    ) -> anyhow::Result<()> {
        loop {
            out.mark(At::Store { store: store.to_owned(), cursor: cursor.clone() })?;
            let page: Keys = self.ask("keys", json!({ "store": store, "cursor": cursor })).await?;
            let values = self.values(store, &page.keys).await?;
            for (key, value) in page.keys.into_iter().zip(values) {
                // A key that was deleted meanwhile has no value.
                let Some(value) = value else { continue };
                out.line(&Line::Pair { store: store.to_owned(), key, value })?;
            }
            cursor = page.cursor;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    pub(super) async fn command(&mut self, words: &[&[u8]]) -> anyhow::Result<Vec<Reply>> {
        let words: Vec<Text> = words.iter().map(|word| Text(word.to_vec())).collect();
        Ok(self.ask::<Replies>("command", json!({ "command": words })).await?.replies)
    }

    async fn export_raw(&mut self, key: Text, out: &mut Out<impl Write>) -> anyhow::Result<()> {
        let kind = match self.command(&[b"TYPE", &key.0]).await?.pop() {
            Some(Reply::Status(kind)) => kind,
            _ => bail!("unexpected answer to TYPE"),
        };
        match kind.as_str() {
            // The key was deleted meanwhile.
            "none" => return Ok(()),
            "string" => {
                let Some(Reply::Bytes(value)) = self.command(&[b"GET", &key.0]).await?.pop() else { return Ok(()) };
                out.line(&Line::Raw(Part {
                    raw: key.clone(),
                    kind: Kind::String,
                    elements: vec![value],
                    starts: false,
                }))?;
            }
            "set" => self.export_scanned(&key, Kind::Set, b"SSCAN", out).await?,
            "hash" => self.export_scanned(&key, Kind::Hash, b"HSCAN", out).await?,
            "zset" => self.export_scanned(&key, Kind::SortedSet, b"ZSCAN", out).await?,
            "list" => self.export_list(&key, out).await?,
            "stream" => self.export_stream(&key, out).await?,
            other => bail!("the raw key {} has the type {other}, which cannot be exported", printable(&key.0)),
        }
        let at = self.client_expiry(&key).await?;
        if let Some(expires_at_ms) = at {
            out.line(&Line::Expiry { raw: key, expires_at_ms })?;
        }
        Ok(())
    }

    /// When a key expires, in milliseconds since 1970. Nothing on the embedded store, which has no such expiry.
    async fn client_expiry(&mut self, key: &Text) -> anyhow::Result<Option<i64>> {
        let words = [Text(b"PEXPIRETIME".to_vec()), key.clone()];
        let (status, answer) = self.try_ask("command", json!({ "command": words })).await?;
        if status == StatusCode::UNPROCESSABLE_ENTITY {
            return Ok(None);
        }
        let replies = serde_json::from_slice::<Replies>(&answer)?.replies;
        Ok(replies.into_iter().find_map(|reply| match reply {
            Reply::Int(at) if at > 0 => Some(at),
            Reply::Int(_) | Reply::Nil | Reply::Status(_) | Reply::Bytes(_) => None,
        }))
    }

    async fn export_scanned(
        &mut self,
        key: &Text,
        kind: Kind,
        scan: &[u8],
        out: &mut Out<impl Write>,
    ) -> anyhow::Result<()> {
        if kind == Kind::Set {
            // Small sets are read at once: the embedded store has no other way.
            let body = json!({ "command": [Text(b"SMEMBERS".to_vec()), key.clone()] });
            if let (StatusCode::OK, answer) = self.try_ask("command", body).await? {
                let members = bytes(serde_json::from_slice::<Replies>(&answer)?.replies);
                parts(key, kind, members, true, out)?;
                return Ok(());
            }
        }
        let (mut cursor, mut starts) = (b"0".to_vec(), true);
        loop {
            let mut replies = bytes(self.command(&[scan, &key.0, &cursor, b"COUNT", b"100"]).await?).into_iter();
            let Some(next) = replies.next() else { bail!("unexpected answer to SCAN") };
            // A page may be empty. The first page with elements starts the key.
            starts = !parts(key, kind, replies.collect(), starts, out)? && starts;
            cursor = next.0;
            if cursor == b"0" {
                return Ok(());
            }
        }
    }

    async fn export_list(&mut self, key: &Text, out: &mut Out<impl Write>) -> anyhow::Result<()> {
        let (mut at, mut step) = (0, PART);
        loop {
            let (from, to) = (at.to_string(), (at + step - 1).to_string());
            let words = [b"LRANGE", key.0.as_slice(), from.as_bytes(), to.as_bytes()].map(|word| Text(word.to_vec()));
            let elements = match self.try_ask("command", json!({ "command": words })).await? {
                (StatusCode::OK, answer) => bytes(serde_json::from_slice::<Replies>(&answer)?.replies),
                // A list of large elements is read a few at a time, which is always allowed.
                (StatusCode::PAYLOAD_TOO_LARGE, _) if step > FEW => {
                    step = FEW;
                    continue;
                }
                (status, text) => bail!("the gateway answers {status}: {}", String::from_utf8_lossy(&text).trim_end()),
            };
            let count = elements.len();
            parts(key, Kind::List, elements, at == 0, out)?;
            at += count;
            if count < step {
                return Ok(());
            }
        }
    }

    async fn export_stream(&mut self, key: &Text, out: &mut Out<impl Write>) -> anyhow::Result<()> {
        let (mut from, mut starts) = (b"-".to_vec(), true);
        loop {
            // One at a time: an answer is flat, and an entry may have any number of fields.
            let entry = bytes(self.command(&[b"XRANGE", &key.0, &from, b"+", b"COUNT", b"1"]).await?);
            let Some(id) = entry.first() else { return Ok(()) };
            from = [b"(".as_slice(), &id.0].concat();
            out.line(&Line::Raw(Part { raw: key.clone(), kind: Kind::StreamEntry, elements: entry, starts }))?;
            starts = false;
        }
    }
}

/// The last mark of an interrupted export, and where it ends. What follows is written again.
fn last_mark(file: &File, tenant: &str) -> anyhow::Result<(Mark, u64)> {
    let (mut from, mut text) = (BufReader::new(file), Vec::new());
    let (mut at, mut found) = (0, None);
    while from.read_until(b'\n', &mut text)? > 0 {
        let is_whole = text.ends_with(b"\n");
        at += text.len() as u64;
        if found.is_none() {
            let Ok(Line::Head { tollgate: 1, tenant: of }) = serde_json::from_slice(&text) else {
                bail!("this is not an export of tollgate");
            };
            ensure!(of == tenant, "this is an export of {of}, not of {tenant}");
            found = Some((Mark::default(), at));
        } else if is_whole
            && text.starts_with(MARK)
            && let Line::Mark(mark) = serde_json::from_slice(&text)?
        {
            found = Some((mark, at));
        }
        text.clear();
    }
    found.context("it is empty")
}

/// The beginning of marks, and of no other line.
const MARK: &[u8] = b"{\"at\":";

/// Writes elements on as many lines as they need, never splitting a pair. Returns whether there were any.
fn parts(
    key: &Text,
    kind: Kind,
    elements: Vec<Text>,
    mut starts: bool,
    out: &mut Out<impl Write>,
) -> anyhow::Result<bool> {
    let any = !elements.is_empty();
    let (mut part, mut bytes) = (Vec::new(), 0);
    let mut elements = elements.into_iter().peekable();
    while let Some(element) = elements.next() {
        bytes += element.0.len();
        part.push(element);
        let is_full = part.len().is_multiple_of(2) && (part.len() >= PART || bytes >= CALL_BYTES);
        if is_full || elements.peek().is_none() {
            let elements = std::mem::take(&mut part);
            out.line(&Line::Raw(Part { raw: key.clone(), kind, elements, starts }))?;
            (bytes, starts) = (0, false);
        }
    }
    Ok(any)
}
