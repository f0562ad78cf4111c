//! The open database, and how it is closed. redb notes in the file that it was closed; a file without that note must be
//! read completely before it can be used.
//!
//! Invariant: after [`Embedded::close`] every call returns [`Error::Unavailable`], and everything that was answered before
//! is in the file. A killed process loses nothing either; only the note is missing.
//!
//! Limit: [`CLOSE_WITHIN`]. Waste is left for the next start.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redb::{Database, ReadTransaction, ReadableDatabase as _};
use tokio::sync::oneshot;

use super::entries::View;
use super::{Embedded, Result, internal};
use crate::store::Error;

/// How long the threads have to finish the jobs that wait.
const CLOSE_WITHIN: Duration = Duration::from_secs(20);

/// The database until it is closed. The threads also hold it, each until its end.
pub(super) struct OpenDatabase(ArcSwapOption<Database>);

impl OpenDatabase {
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self(ArcSwapOption::from(Some(database)))
    }

    /// # Errors
    /// The database is closed, or `work` fails.
    pub(super) fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T>) -> Result<T> {
        match &*self.0.load() {
            Some(database) => work(database),
            None => Err(Error::Unavailable),
        }
    }

    pub(super) fn begin_read(&self) -> Result<ReadTransaction> {
        self.with(|database| database.begin_read().map_err(internal))
    }

    pub(super) fn view(&self) -> Result<View> {
        self.with(View::open)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.load().is_none()
    }

    #[cfg(test)]
    pub(super) fn whole(&self) -> Arc<Database> {
        self.0.load_full().unwrap()
    }
}

impl Embedded {
    /// Ends the threads after the jobs that wait, and closes the file.
    pub(in crate::store) async fn close(&self) {
        let Some(database) = self.database.0.swap(None) else { return };
        self.writes.close();
        let threads = self.writer.lock().map(|mut writer| writer.take()).unwrap_or_default();
        let threads: Vec<JoinHandle<()>> = threads.into_iter().chain(self.readers.close()).collect();
        let (done, closed) = oneshot::channel();
        // On a thread of its own, so that nobody waits for it if the disk does not answer.
        let closes = std::thread::Builder::new().name("store-closing".to_owned()).spawn(move || {
            for thread in threads {
                // A thread that panicked has ended too.
                let _ended = thread.join();
            }
            // A call that still reads closes the file when it is done.
            let closed = Arc::into_inner(database).map_or(Ok(()), Database::close);
            let _gone = done.send(closed.map_err(|error| error.to_string()));
        });
        let ended = match closes {
            Err(error) => Err(error.to_string()),
            Ok(_closing) => match tokio::time::timeout(CLOSE_WITHIN, closed).await {
                Ok(closed) => closed.unwrap_or_else(|gone| Err(gone.to_string())),
                Err(late) => Err(late.to_string()),
            },
        };
        match ended {
            Ok(()) => tracing::debug!(target: "store", "the embedded store is closed"),
            Err(error) => tracing::warn!(
                target: "store", %error, "the embedded store is not closed properly; the next start repairs it, and nothing is lost"
            ),
        }
    }
}
