//! The ledger on disk: one JSON document a line, synced before anybody sees its effect.
//!
//! One thread owns the file. Whatever arrives while it syncs goes into its next write (group commit),
//! so the rate is not that of the disk.

use std::{
    fs::{File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    path::Path,
    sync::mpsc,
    thread,
};

use chrono::{DateTime, Utc};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{
    ledger::{LedgerReadError, Writer, read_lines},
    model::{Model, ProviderName},
    payment::{Authorization, ToldParcel},
};

/// One thing that happened, enough to make it happen again in an empty memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Line {
    Authorization(Authorization),
    /// Money moved.
    Capture(Movement),
    /// Accepted, not yet decided.
    Pending(Movement),
    /// A capture that the provider declined, and remembers.
    Declined(Movement),
    /// A pending capture was decided.
    Settled {
        provider: ProviderName,
        payment_account: Option<String>,
        payment_id: String,
        capture_id: String,
        captured: bool,
        at: DateTime<Utc>,
    },
    /// A refusal that is replayed for its key.
    Refused {
        provider: ProviderName,
        account: String,
        payment_id: String,
        key: String,
        status: u16,
        code: String,
        message: String,
        at: DateTime<Utc>,
        body_sha256: String,
    },
    Voided {
        provider: ProviderName,
        payment_account: Option<String>,
        payment_id: String,
        at: DateTime<Utc>,
    },
    Marked {
        provider: ProviderName,
        payment_account: Option<String>,
        payment_id: String,
        metadata: serde_json::Map<String, serde_json::Value>,
    },
    /// Goods were told of. Where `replaces`, the payment has one parcel, the last one told.
    Shipped {
        provider: ProviderName,
        payment_account: Option<String>,
        payment_id: String,
        parcel: ToldParcel,
        replaces: bool,
    },
    Clock {
        offset_ms: i64,
    },
}

/// A capture of any standing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Movement {
    pub(super) provider: ProviderName,
    pub(super) model: Option<Model>,
    /// Whose payment it is, if the authorisation said so.
    pub(super) payment_account: Option<String>,
    /// Who called.
    pub(super) account: Option<String>,
    pub(super) payment_id: String,
    pub(super) capture_id: String,
    pub(super) reference: Option<String>,
    pub(super) key: Option<String>,
    pub(super) amount_minor: i64,
    pub(super) currency: String,
    pub(super) at: DateTime<Utc>,
    pub(super) writer: Writer,
    pub(super) standing: Standing,
    pub(super) merchant_reference: Option<String>,
    pub(super) order_number: Option<String>,
    pub(super) po_number: Option<String>,
    pub(super) body_sha256: Option<String>,
}

/// What became of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Standing {
    Captured,
    Pending { until: DateTime<Utc>, succeeds: bool },
    Failed,
    Declined,
    DeclinedWith402,
}

impl Standing {
    /// Whether the amount is taken, or may yet be.
    pub(super) fn holds_money(self) -> bool {
        matches!(self, Standing::Captured | Standing::Pending { .. })
    }
}

struct Append {
    text: Vec<u8>,
    done: oneshot::Sender<Result<(), String>>,
}

/// The way to the thread; without a file everything is at once done.
#[derive(Debug)]
pub(super) struct LedgerFile {
    thread: Option<(mpsc::Sender<Append>, thread::JoinHandle<()>)>,
}

impl std::fmt::Debug for Append {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Append").finish_non_exhaustive()
    }
}

/// The line is not on disk, so what it says did not happen.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the ledger cannot be written: {0}")]
pub struct NotWritten(String);

impl LedgerFile {
    pub(super) fn in_memory() -> Self {
        Self { thread: None }
    }

    /// Opens or creates the file, cuts a torn last line off, and returns what it tells. The lock
    /// keeps a second simulator off it and ends with the process, however that ends.
    pub(super) fn open(path: &Path) -> Result<(Self, Vec<Line>), LedgerReadError> {
        let mut file = OpenOptions::new().create(true).write(true).truncate(false).open(path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(io::Error::from)?;
        let (lines, whole) = read_lines(path)?;
        file.set_len(whole)?;
        file.seek(SeekFrom::End(0))?;
        file.sync_all()?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            File::open(folder)?.sync_all()?;
        }
        let (sender, receiver) = mpsc::channel();
        let handle = thread::Builder::new()
            .name("simulator-ledger".to_owned())
            .spawn(move || write_batches(file, whole, &receiver))?;
        let ledger = Self {
            thread: Some((sender, handle)),
        };
        Ok((ledger, lines))
    }

    /// Queues lines; they stay together and in order. The answer comes when they are synced.
    pub(super) fn append(&self, lines: &[&Line]) -> Synced {
        let Some((sender, _)) = &self.thread else {
            return Synced(None);
        };
        let (done, synced) = oneshot::channel();
        let mut text = Vec::new();
        let encoded: Result<(), _> = lines.iter().try_for_each(|line| {
            serde_json::to_writer(&mut text, line)?;
            text.push(b'\n');
            Ok::<(), serde_json::Error>(())
        });
        match encoded {
            Ok(()) => {
                // If the thread is gone, `done` is dropped with the message and the wait fails.
                let _ = sender.send(Append { text, done });
            }
            Err(error) => {
                let _ = done.send(Err(error.to_string()));
            }
        }
        Synced(Some(synced))
    }
}

/// Ends the thread once everything queued is written.
impl Drop for LedgerFile {
    fn drop(&mut self) {
        if let Some((sender, handle)) = self.thread.take() {
            drop(sender);
            let _ = handle.join();
        }
    }
}

/// Queued lines on their way to the disk.
#[must_use = "money has moved only once the line is synced"]
pub(super) struct Synced(Option<oneshot::Receiver<Result<(), String>>>);

impl Synced {
    pub(super) async fn wait(self) -> Result<(), NotWritten> {
        match self.0 {
            None => Ok(()),
            Some(synced) => match synced.await {
                Ok(result) => result.map_err(NotWritten),
                Err(_) => Err(NotWritten("its thread has ended".to_owned())),
            },
        }
    }

    /// For what no captured money depends on.
    pub(super) fn without_waiting(self) {}
}

fn write_batches(mut file: File, mut length: u64, queue: &mpsc::Receiver<Append>) {
    const BATCH: usize = 4096;
    while let Ok(first) = queue.recv() {
        let mut batch = vec![first];
        batch.extend(queue.try_iter().take(BATCH));
        let text: Vec<u8> = batch.iter().flat_map(|append| append.text.iter().copied()).collect();
        let result = write_synced(&mut file, &text).map_err(|error| error.to_string());
        match &result {
            Ok(()) => length += text.len() as u64,
            Err(error) => {
                tracing::error!(error, "simulator ledger could not be written");
                let _ = file.set_len(length);
                let _ = file.seek(SeekFrom::Start(length));
            }
        }
        for append in batch {
            let _ = append.done.send(result.clone());
        }
    }
}

fn write_synced(file: &mut File, text: &[u8]) -> io::Result<()> {
    file.write_all(text)?;
    file.sync_data()
}
