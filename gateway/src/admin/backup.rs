//! A backup of the embedded store, sent while it is served: `POST /v1/backup`, for `tollgate backup`.
//!
//! Security: a backup contains every tenant's data, so it needs the token with full rights. It is noted in the audit log
//! like a change.
//!
//! Limit: one at a time. One piece waits in memory while another is sent. If nobody takes it for [`SILENCE`], the backup
//! ends, because the file keeps overwritten data while it is read.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use bytes::Bytes;
use http::{StatusCode, header};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::Admin;
use super::refusal::{ProblemDetails, Refusal};
use crate::store::Backup;

/// How long the store may take for a piece, and how long the client may take to accept it.
const SILENCE: Duration = Duration::from_secs(30);

const NOT_HERE: &str = "tenants' data is on Redis: back it up there (BGSAVE copies it into a file, replication keeps a second server), or \
                        export each tenant with `tollgate kv export`";
const ANOTHER: &str = "another backup is being taken: ask again when it is done";

type Piece = Result<Bytes, std::io::Error>;

/// The whole embedded store as it is at this moment, as `tollgate backup` keeps it.
#[utoipa::path(post, path = "/v1/backup", tag = "gateway", responses(
    (status = 200, content((String = "application/octet-stream"))),
    (status = 401, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 403, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 409, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 503, body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn backup(State(admin): State<Arc<Admin>>) -> Result<impl IntoResponse, Refusal> {
    let busy = |_none| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, ANOTHER);
    let place = Arc::clone(&admin.desk.backups).try_acquire_owned().map_err(busy)?;
    let unreadable = |error: crate::store::Error| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string());
    let backup = admin.store.backup().map_err(unreadable)?;
    let backup = backup.ok_or_else(|| Refusal::new(StatusCode::CONFLICT, NOT_HERE))?;
    let (to, pieces) = mpsc::channel(1);
    admin.road.tasks.spawn(send(Arc::clone(&admin), backup, to, place));
    let pieces = futures_util::stream::unfold(pieces, async |mut pieces| Some((pieces.recv().await?, pieces)));
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], Body::from_stream(pieces)))
}

/// Sends every piece, unless the client leaves or stops reading, or the gateway drains.
async fn send(admin: Arc<Admin>, mut backup: Backup, to: mpsc::Sender<Piece>, _place: OwnedSemaphorePermit) {
    let broken = |text: &str| Err(std::io::Error::other(text.to_owned()));
    loop {
        let piece = match tokio::time::timeout(SILENCE, backup.next()).await {
            _ if admin.road.tasks.is_draining() => broken("the gateway drains"),
            Ok(Ok(Some(piece))) => Ok(Bytes::from(piece)),
            Ok(Ok(None)) => return,
            Ok(Err(error)) => broken(&error.to_string()),
            Err(_late) => broken("the store did not answer"),
        };
        let is_over = piece.is_err();
        match tokio::time::timeout(SILENCE, to.send(piece)).await {
            Ok(Ok(())) if !is_over => {}
            Ok(Ok(()) | Err(_)) => return,
            Err(_late) => {
                tracing::warn!(target: "admin", "nobody takes the backup that was asked for: it is not gone on with");
                return;
            }
        }
    }
}
