//! What a tenant's guests printed: the last lines of its file, and new lines while a client follows.
//!
//! Security: the file's name is made from a tenant's id, and the lines were escaped when they were written. They are the
//! tenant's data, so the token that may only read does not see them.

use std::io::SeekFrom;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::Stream;
use http::{StatusCode, header};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use utoipa::IntoParams;

use super::Admin;
use super::access::Who;
use super::refusal::{Path, ProblemDetails, Query, Refusal};

/// How far back the search for lines goes.
const BACK_BYTES: u64 = 1 << 20;
/// Bytes of new lines at a time.
const PIECE_BYTES: u64 = 64 << 10;
const LINES_DEFAULT: u32 = 100;
const LINES_MAX: u32 = 10_000;
/// How often the file is checked.
const REST: Duration = Duration::from_millis(250);

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    #[param(minimum = 1, maximum = 10000)]
    lines: Option<u32>,
    /// Whether to continue with new lines.
    #[serde(default)]
    follow: bool,
}

/// Returns the latest log lines of a tenant's components, one JSON object a line.
#[utoipa::path(get, path = "/v1/tenants/{id}/logs", tag = "tenants", params(("id" = String, Path), Asked), responses(
    (status = 200, content((String = "application/x-ndjson"))),
    (status = 400, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 401, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 403, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 404, body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn tail(
    State(admin): State<Arc<Admin>>,
    Extension(who): Extension<Who>,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<impl IntoResponse, Refusal> {
    who.may_see_data()?;
    let lines = asked.lines.unwrap_or(LINES_DEFAULT);
    if !(1..=LINES_MAX).contains(&lines) {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, format!("lines: 1 to {LINES_MAX}")));
    }
    let path = admin.logs.join(format!("{}.log", admin.known(&id)?));
    let (last, at) = last_lines(&path, usize::try_from(lines).unwrap_or(usize::MAX)).await.unwrap_or_default();
    let body = if asked.follow { Body::from_stream(followed(last, path, at)) } else { Body::from(last) };
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body))
}

/// The last lines, and the length of the file. Without a file there are no lines: nothing was printed yet.
async fn last_lines(path: &FilePath, count: usize) -> std::io::Result<(Bytes, u64)> {
    let mut file = tokio::fs::File::open(path).await?;
    let length = file.metadata().await?.len();
    let from = length.saturating_sub(BACK_BYTES);
    file.seek(SeekFrom::Start(from)).await?;
    let mut bytes = Vec::new();
    file.take(length - from).read_to_end(&mut bytes).await?;
    // A line that is being written now is read completely the next time.
    let end = memchr::memrchr(b'\n', &bytes).map_or(0, |at| at + 1);
    bytes.truncate(end);
    let mut starts = memchr::memrchr_iter(b'\n', bytes.get(..end.saturating_sub(1)).unwrap_or_default());
    let start = match starts.nth(count - 1) {
        Some(newline) => newline + 1,
        // The first line may begin further back.
        None if from > 0 => memchr::memchr(b'\n', &bytes).map_or(0, |at| at + 1),
        None => 0,
    };
    Ok((Bytes::from(bytes.split_off(start)), from + end as u64))
}

/// These lines, and then each new one. A rotated file is read from its start.
fn followed(last: Bytes, path: PathBuf, at: u64) -> impl Stream<Item = std::io::Result<Bytes>> {
    futures_util::stream::unfold((Some(last), path, at), async |(first, path, mut at)| {
        if let Some(first) = first.filter(|first| !first.is_empty()) {
            return Some((Ok(first), (None, path, at)));
        }
        loop {
            tokio::time::sleep(REST).await;
            let Ok(piece) = piece(&path, &mut at).await else { continue };
            if !piece.is_empty() {
                return Some((Ok(piece), (None, path, at)));
            }
        }
    })
}

/// Whole lines from `at` on. Moves `at` behind them.
async fn piece(path: &FilePath, at: &mut u64) -> std::io::Result<Bytes> {
    let mut file = tokio::fs::File::open(path).await?;
    if file.metadata().await?.len() < *at {
        *at = 0;
    }
    file.seek(SeekFrom::Start(*at)).await?;
    let mut bytes = Vec::new();
    file.take(PIECE_BYTES).read_to_end(&mut bytes).await?;
    let end = memchr::memrchr(b'\n', &bytes).map_or(0, |end| end + 1);
    bytes.truncate(end);
    *at += end as u64;
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_lines_and_new_lines_are_complete() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("acme.log");
        std::fs::write(&path, "one\ntwo\nthree\nhal")?;
        let (last, mut at) = last_lines(&path, 2).await?;
        assert_eq!(last, "two\nthree\n");
        assert_eq!(last_lines(&path, 9).await?.0, "one\ntwo\nthree\n");
        assert_eq!(piece(&path, &mut at).await?, "");
        std::fs::write(&path, "one\ntwo\nthree\nhalf\n")?;
        assert_eq!(piece(&path, &mut at).await?, "half\n");
        std::fs::write(&path, "new\n")?;
        assert_eq!(piece(&path, &mut at).await?, "new\n", "a file that was set aside is begun anew");
        assert!(last_lines(&dir.path().join("none.log"), 2).await.is_err());
        Ok(())
    }
}
