//! Destinations for the access log, if it is separate from the other log lines: standard output, a file that is rotated by
//! size, or a file for each tenant. The format is JSON, or the operator's own.
//!
//! Limit: the queue of lines is bounded; further lines are dropped and counted. Security: text from strangers is escaped,
//! so that nobody can forge a line or control a terminal.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Serialize, Serializer};

use super::lines::{Lines, LinesToTheEnd, Sink, Trouble};
use super::rotating_file::RotatingFile;
use super::tenant_files::TenantFiles;
use super::unix_ms;
use crate::fault::Blame;
use crate::ids::{RequestId, TenantId};

/// Where the lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Stdout,
    File {
        path: PathBuf,
        /// The size at which the file is rotated, and how many rotated files are kept.
        bytes_max: u64,
        kept_max: u32,
    },
    /// One file for each tenant, in this folder.
    Tenants(PathBuf),
}

/// What the operator chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) to: To,
    /// JSON if nothing is set.
    pub(crate) format: Option<Format>,
}

/// The fields of one request. Times are in microseconds.
#[derive(Serialize)]
pub(super) struct Fields<'f> {
    #[serde(serialize_with = "as_text")]
    pub(super) request_id: RequestId,
    pub(super) tenant: &'f str,
    pub(super) component: &'f str,
    pub(super) route: &'f str,
    pub(super) method: &'f str,
    pub(super) host: &'f str,
    pub(super) path: &'f str,
    #[serde(serialize_with = "as_debug")]
    pub(super) protocol: http::Version,
    pub(super) status: u16,
    pub(super) fault: &'static str,
    pub(super) error_code: &'f str,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) duration_us: u64,
    pub(super) queue_us: u64,
    pub(super) load_us: u64,
    pub(super) instance_us: u64,
    pub(super) guest_us: u64,
    pub(super) fuel: u64,
    pub(super) memory_peak: u64,
    pub(super) storage_ops: u64,
    pub(super) outbound: u64,
    pub(super) log_lines: u64,
    pub(super) generation: u64,
    pub(super) trace_id: Option<&'f str>,
    /// Both are present only if the operator asks for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client: Option<&'f str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user_agent: Option<&'f str>,
}

fn as_text<S: Serializer>(id: &RequestId, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(id)
}

fn as_debug<S: Serializer>(version: &http::Version, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{version:?}"))
}

impl Fields<'_> {
    /// Logs among the other lines, at the level of whoever is to blame.
    pub(super) fn log(&self, blame: Option<Blame>) {
        macro_rules! line {
            ($level:ident, $($field:ident)*) => {
                tracing::$level!(
                    target: "access",
                    request_id = %self.request_id,
                    $($field = self.$field,)*
                    protocol = ?self.protocol,
                )
            };
            ($level:ident) => {
                line!($level, tenant component route method host path status fault error_code bytes_in bytes_out duration_us queue_us load_us
                    instance_us guest_us fuel memory_peak storage_ops outbound log_lines generation trace_id client user_agent)
            };
        }
        match blame {
            Some(Blame::Gateway) => line!(error),
            Some(Blame::Tenant) => line!(warn),
            Some(Blame::Client) | None => line!(info),
        }
    }
}

/// Enough for most lines.
const LINE_BYTES: usize = 768;

/// A JSON line, with the time at which it is written.
#[derive(Serialize)]
struct Timed<'f> {
    unix_ms: u64,
    #[serde(flatten)]
    fields: &'f Fields<'f>,
}

impl<'f> Timed<'f> {
    fn now(fields: &'f Fields<'f>) -> Self {
        Self { unix_ms: unix_ms(SystemTime::now()), fields }
    }
}

/// The names that may be in braces in a format.
pub(crate) const NAMES: [&str; 28] = [
    "unix_ms",
    "request_id",
    "tenant",
    "component",
    "route",
    "method",
    "host",
    "path",
    "protocol",
    "status",
    "fault",
    "error_code",
    "bytes_in",
    "bytes_out",
    "duration_us",
    "queue_us",
    "load_us",
    "instance_us",
    "guest_us",
    "fuel",
    "memory_peak",
    "storage_ops",
    "outbound",
    "log_lines",
    "generation",
    "trace_id",
    CLIENT,
    USER_AGENT,
];
const CLIENT: &str = "client";
const USER_AGENT: &str = "user_agent";

/// Text with names of fields in braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Format(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// An index into [`NAMES`].
    Field(usize),
}

/// What the log shows about the client: nothing unless the operator asks for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shows {
    pub(crate) client: bool,
    pub(crate) user_agent: bool,
}

impl Shows {
    /// Also shows what a format names.
    pub(crate) fn and_of(self, format: Option<&Format>) -> Self {
        let names = |name: &str| {
            let is_it = |part: &Part| match part {
                Part::Field(index) => NAMES.get(*index) == Some(&name),
                Part::Text(_) => false,
            };
            format.is_some_and(|format| format.0.iter().any(is_it))
        };
        Self { client: self.client || names(CLIENT), user_agent: self.user_agent || names(USER_AGENT) }
    }
}

impl Format {
    /// Returns nothing if a brace is not closed, or contains no known name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, named)) = rest.split_once('{') {
            let (name, after) = named.split_once('}')?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Field(NAMES.iter().position(|known| *known == name)?));
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        (!text.contains('\n')).then_some(Self(parts))
    }

    fn line(&self, fields: &Fields<'_>) -> String {
        let values = serde_json::to_value(Timed::now(fields)).unwrap_or_default();
        let mut line = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => line.push_str(text),
                Part::Field(index) => match NAMES.get(*index).and_then(|name| values.get(name)) {
                    Some(serde_json::Value::String(text)) => escape(&mut line, text),
                    Some(serde_json::Value::Null) | None => line.push('-'),
                    // Writing to a String cannot fail.
                    Some(number) => drop(write!(line, "{number}")),
                },
            }
        }
        line.push('\n');
        line
    }
}

/// Escapes as JSON does, without the surrounding quotes. An empty text becomes `-`.
fn escape(line: &mut String, text: &str) {
    if text.is_empty() {
        line.push('-');
    }
    for letter in text.chars() {
        match letter {
            '"' | '\\' => line.extend(['\\', letter]),
            _ if letter.is_control() => drop(write!(line, "\\u{:04x}", u32::from(letter))),
            _ => line.push(letter),
        }
    }
}

/// Accepts lines without ever blocking.
pub(crate) struct AccessLog {
    format: Option<Format>,
    lines: Lines,
    /// Whether each line begins with its tenant.
    is_by_tenant: bool,
}

impl std::fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessLog").field("format", &self.format).finish_non_exhaustive()
    }
}

impl AccessLog {
    /// Starts the writer. Dropping the other half of the result writes the last lines. `dropped` receives the number of
    /// lines that did not fit into the queue.
    ///
    /// # Errors
    /// The file or the folder cannot be used, or the thread cannot start.
    pub(crate) fn start(
        settings: &Settings,
        dropped: impl Fn(u64) + Send + 'static,
    ) -> io::Result<(Self, LinesToTheEnd)> {
        let trouble = move |trouble: Trouble<'_>| match trouble {
            Trouble::Dropped(count, _) => dropped(count),
            Trouble::Failed(error) => tracing::error!(target: "telemetry", %error, "the access log cannot be written"),
        };
        let (lines, to_the_end) = match &settings.to {
            To::Stdout => Lines::start(io::stdout(), trouble)?,
            To::File { path, bytes_max, kept_max } => {
                Lines::start(RotatingFile::open(path, *bytes_max, *kept_max)?, trouble)?
            }
            To::Tenants(dir) => {
                std::fs::create_dir_all(dir)?;
                Lines::start(ByTenant(TenantFiles::new(dir.clone())), trouble)?
            }
        };
        let is_by_tenant = matches!(settings.to, To::Tenants(_));
        Ok((Self { format: settings.format.clone(), lines, is_by_tenant }, to_the_end))
    }

    /// Reopens the files, if there are any.
    pub(crate) fn reopen(&self) {
        self.lines.reopen();
    }

    pub(super) fn write(&self, fields: &Fields<'_>) {
        let mut line = Vec::with_capacity(LINE_BYTES);
        if self.is_by_tenant {
            line.extend_from_slice(fields.tenant.as_bytes());
            line.push(b'\t');
        }
        match &self.format {
            Some(format) => line.extend_from_slice(format.line(fields).as_bytes()),
            None => {
                // Neither these fields nor a Vec can make it fail.
                let _infallible = serde_json::to_writer(&mut line, &Timed::now(fields));
                line.push(b'\n');
            }
        }
        // The line goes into a buffer, which counts it if it does not fit.
        let _infallible = self.lines.clone().write_all(&line);
    }
}

/// Splits lines that begin with a tenant and a tab into the tenants' files. A line without a tenant is discarded, because
/// no tenant may read it.
struct ByTenant(TenantFiles);

impl Sink for ByTenant {
    fn reopen(&mut self) -> io::Result<()> {
        self.0.reopen();
        Ok(())
    }
}

impl Write for ByTenant {
    /// Receives whole lines from its one writer.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(lines);
        for line in text.split_inclusive('\n') {
            if let Some((tenant, line)) = line.split_once('\t')
                && let Some(tenant) = TenantId::parse(tenant)
            {
                self.0.write(&tenant, line);
            }
        }
        self.0.flush();
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_accepts_only_known_names_and_nobody_can_forge_a_line() {
        for bad in ["{nothing}", "{path", "{}", "a\nb"] {
            assert_eq!(Format::parse(bad), None, "{bad}");
        }
        let mut line = String::new();
        escape(&mut line, "/a\nGET \"/b\u{1b}[31m");
        assert_eq!(line, "/a\\u000aGET \\\"/b\\u001b[31m");
    }
}
