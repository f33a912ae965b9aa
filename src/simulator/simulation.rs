//! What every connection shares: settings, clock, books, ledger, and the order in which they change.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64};

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    books::{Books, Pending},
    clock::Clock,
    ledger::LedgerReadError,
    ledger_file::{LedgerFile, Line, NotWritten},
    payment::{Authorization, PaymentKey},
    ports::Ports,
    settings::Settings,
};

pub(super) struct Simulation {
    pub(super) settings: Settings,
    pub(super) clock: Arc<Clock>,
    books: Mutex<Books>,
    ledger: LedgerFile,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
    /// Counts changes, for those who wait for one.
    pub(super) changes: watch::Sender<u64>,
    pub(super) connections: AtomicU64,
    pub(super) ports: Ports,
}

impl Simulation {
    /// Opens the ledger and makes everything in it true again.
    pub(super) fn open(settings: Settings, ports: Ports) -> Result<Arc<Self>, LedgerReadError> {
        let (ledger, lines) = match &settings.ledger {
            Some(path) => LedgerFile::open(path)?,
            None => (LedgerFile::in_memory(), Vec::new()),
        };
        let remembered_offset = lines.iter().rev().find_map(|line| match line {
            Line::Clock { offset_ms } => Some(*offset_ms),
            _ => None,
        });
        let clock = Clock::new(remembered_offset.unwrap_or(settings.time_offset_ms));
        let mut books = Books {
            plan: settings.faults.clone(),
            seed: settings.seed,
            limits: settings.limits,
            pace: settings.pace,
            requests_kept: settings.requests_kept,
            ..Books::default()
        };
        let now = clock.now();
        for line in &lines {
            books.apply(line, now);
        }
        let simulation = Arc::new(Self {
            settings,
            clock,
            books: Mutex::new(books),
            ledger,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            changes: watch::Sender::new(0),
            connections: AtomicU64::new(0),
            ports,
        });
        let pending = simulation.books().pending();
        for one in pending {
            simulation.settle_later(one, None);
        }
        Ok(simulation)
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Writes and syncs the lines, and only then makes them true.
    pub(super) async fn commit(&self, lines: &[&Line]) -> Result<(), NotWritten> {
        self.ledger.append(lines).wait().await?;
        let now = self.clock.now();
        let mut books = self.books();
        for line in lines {
            books.apply(line, now);
        }
        drop(books);
        self.changed();
        Ok(())
    }

    /// For set-up by a test in this process: true at once, on disk before anything that follows.
    pub(super) fn authorize_at_once(&self, mut authorization: Authorization) {
        let now = self.clock.now();
        authorization.created_at.get_or_insert(now);
        let line = Line::Authorization(authorization);
        self.ledger.append(&[&line]).without_waiting();
        self.books().apply(&line, now);
        self.changed();
    }

    /// Whose turn it is on a payment: held from the decision about its money to the ledger.
    pub(super) fn turn(&self, key: &PaymentKey) -> Option<Arc<tokio::sync::Mutex<()>>> {
        self.books().payment(key).map(|payment| Arc::clone(&payment.turn))
    }

    /// Decides a pending capture when its time has come; `seq` is the request that asked for it.
    pub(super) fn settle_later(self: &Arc<Self>, pending: Pending, seq: Option<u64>) {
        let Pending {
            payment,
            capture_id,
            until,
            succeeds: captured,
        } = pending;
        let due = self.clock.announce(until);
        let simulation = Arc::clone(self);
        self.spawn(async move {
            due.arrives().await;
            let Some(turn) = simulation.turn(&payment) else { return };
            let _held = turn.lock().await;
            let (provider, payment_account, payment_id) = payment;
            let line = Line::Settled {
                provider,
                payment_account,
                payment_id,
                capture_id,
                captured,
                at: simulation.clock.now(),
            };
            if let Err(error) = simulation.commit(&[&line]).await {
                tracing::error!(%error, "a pending capture could not be settled");
            } else if let Some(seq) = seq.filter(|_| captured) {
                simulation.books().amend(seq, |record| record.money_moved = true);
            }
        });
    }

    /// Runs something until it ends or the simulator stops.
    pub(super) fn spawn(self: &Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = work => {}
                () = stop.cancelled() => {}
            }
        });
    }
}
