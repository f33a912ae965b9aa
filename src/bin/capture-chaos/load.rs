//! The order system: inserts orders, repeats a transaction whose end it did not hear of, releases and cancels, and after a
//! fail-over inserts again what is gone.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::cluster::{Who, options};
use super::orders::{Book, Order, Plan, Wanted, order};
use super::stage::{Stage, locked};

/// A statement that waits for a standby that never comes is given up after this, and repeated.
const PATIENCE: Duration = Duration::from_secs(8);
const PAUSE: Duration = Duration::from_millis(100);

/// What is to be done later.
#[derive(Debug, Clone)]
struct Later {
    due: Instant,
    wanted: Wanted,
    act: Act,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Release,
    Cancel,
}

pub struct Load {
    stage: Arc<Stage>,
    pub book: Book,
    seed: u64,
    later: Mutex<Vec<Later>>,
    /// Releases and cancels that were acknowledged: a history that is lost takes them along.
    acted: Mutex<Vec<(Wanted, Act)>>,
    /// The number of the history: rises with each fail-over that may lose commits.
    history: AtomicU64,
    pub lost_with_history: AtomicU64,
    /// Committed under synchronous replication and gone all the same, which must not be.
    pub lost_in_sync: Mutex<BTreeSet<Uuid>>,
    pub inserted: AtomicU64,
    over: AtomicBool,
}

/// How a transaction ended.
enum Ended {
    Committed,
    /// Nobody knows.
    Unheard,
}

impl Load {
    pub fn new(stage: Arc<Stage>, seed: u64) -> Arc<Load> {
        Arc::new(Load {
            stage,
            book: Book::default(),
            seed,
            later: Mutex::default(),
            acted: Mutex::default(),
            history: AtomicU64::new(0),
            lost_with_history: AtomicU64::new(0),
            lost_in_sync: Mutex::default(),
            inserted: AtomicU64::new(0),
            over: AtomicBool::new(false),
        })
    }

    /// Inserts orders `from, from + step, …` below `count`, each when it is due; ends when all are in.
    pub async fn produce(self: Arc<Load>, from: u64, step: u64, count: u64, within: Duration) {
        let began = Instant::now();
        let mut connection = None;
        let mut n = from;
        while n < count {
            let due = share(within, n, count);
            tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
            let order = order(self.seed, n);
            self.insert(&order, &mut connection).await;
            self.inserted.fetch_add(1, Ordering::Relaxed);
            n += step;
        }
    }

    async fn insert(&self, order: &Order, connection: &mut Option<PgConnection>) {
        for wanted in &order.wanted {
            self.book.open(wanted, order.plan);
        }
        loop {
            let attempt = self.attempt(order, connection);
            match tokio::time::timeout(PATIENCE, attempt).await {
                Ok(Ended::Committed) => break,
                Ok(Ended::Unheard) | Err(_) => {
                    *connection = None;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        let act = match order.plan {
            Plan::Held => Act::Release,
            Plan::HeldThenCancelled | Plan::Cancelled => Act::Cancel,
            Plan::Plain | Plan::RolledBack | Plan::Pair | Plan::Greedy => return,
        };
        let due = Instant::now() + Duration::from_millis(order.later_ms);
        let later = order.wanted.iter().map(|wanted| Later {
            due,
            wanted: wanted.clone(),
            act,
        });
        locked(&self.later).extend(later);
    }

    async fn attempt(&self, order: &Order, connection: &mut Option<PgConnection>) -> Ended {
        if order.plan == Plan::Greedy {
            return self.side_by_side(order).await;
        }
        if connection.is_none() {
            *connection = self.connect(Who::Shop).await;
        }
        let Some(connection) = connection else {
            return Ended::Unheard;
        };
        let Ok(mut transaction) = connection.begin().await else {
            return Ended::Unheard;
        };
        for wanted in &order.wanted {
            if enqueue(&mut transaction, wanted).await.is_err() {
                return Ended::Unheard;
            }
        }
        if order.plan == Plan::RolledBack {
            let _either_way = transaction.rollback().await;
            return Ended::Committed;
        }
        match transaction.commit().await {
            Ok(()) => {
                for wanted in &order.wanted {
                    self.book.believe(wanted.id, |belief| belief.committed = true);
                }
                Ended::Committed
            }
            Err(_) => Ended::Unheard,
        }
    }

    /// Each intent in a transaction of its own, none of which sees the other's.
    async fn side_by_side(&self, order: &Order) -> Ended {
        let mut sessions = Vec::new();
        for wanted in &order.wanted {
            let Some(mut session) = self.connect(Who::Shop).await else {
                return Ended::Unheard;
            };
            if sqlx::raw_sql("begin").execute(&mut session).await.is_err() {
                return Ended::Unheard;
            }
            match enqueue(&mut session, wanted).await {
                Ok(()) => sessions.push((wanted.id, session)),
                // The repeat of a transaction of which only one half was committed.
                Err(error) if refused(&error) => self.book.believe(wanted.id, |belief| belief.refused = true),
                Err(_) => return Ended::Unheard,
            }
        }
        for (id, mut session) in sessions {
            if sqlx::raw_sql("commit").execute(&mut session).await.is_err() {
                return Ended::Unheard;
            }
            self.book.believe(id, |belief| {
                belief.committed = true;
                belief.refused = false;
            });
        }
        Ended::Committed
    }

    async fn connect(&self, who: Who) -> Option<PgConnection> {
        let socket = self.stage.primary.borrow().socket.clone()?;
        PgConnection::connect_with(&options(&socket, who)).await.ok()
    }

    /// Releases and cancels what is due, until told to end; then all of it.
    pub async fn follow_up(self: Arc<Load>) {
        // By whom: the shop cancels, the warehouse releases.
        let (mut shop, mut warehouse) = (None, None);
        loop {
            let over = self.over.load(Ordering::SeqCst);
            let next = {
                let mut later = locked(&self.later);
                let now = Instant::now();
                let place = later.iter().position(|later| over || later.due <= now);
                place.map(|place| later.swap_remove(place))
            };
            let Some(next) = next else {
                if over {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let connection = match next.act {
                Act::Release => &mut warehouse,
                Act::Cancel => &mut shop,
            };
            let done = tokio::time::timeout(PATIENCE, self.act(&next, connection)).await;
            if !done.unwrap_or(false) {
                *connection = None;
                locked(&self.later).push(next);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// No order is inserted any more: what was to be done later is done now.
    pub fn finish(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    async fn act(&self, later: &Later, connection: &mut Option<PgConnection>) -> bool {
        // An answer of a history that was lost meanwhile would be noted under the new one: it counts as unheard.
        let history = self.history.load(Ordering::SeqCst);
        let who = match later.act {
            Act::Release => Who::Warehouse,
            Act::Cancel => Who::Shop,
        };
        if connection.is_none() {
            *connection = self.connect(who).await;
        }
        let Some(connection) = connection else { return false };
        match later.act {
            Act::Release => {
                let done = release(connection, &later.wanted).await.is_ok();
                if done {
                    locked(&self.acted).push((later.wanted.clone(), later.act));
                }
                done
            }
            Act::Cancel => {
                let answer: Result<String, sqlx::Error> = sqlx::query_scalar(
                    "select capture.cancel(intent_id => $1, reason => 'the customer changed their mind')",
                )
                .bind(later.wanted.id)
                .fetch_one(connection)
                .await;
                match answer {
                    Ok(answer) => {
                        locked(&self.acted).push((later.wanted.clone(), later.act));
                        if answer == "cancelled" {
                            self.book
                                .believe(later.wanted.id, |belief| belief.cancelled_in = Some(history));
                        }
                        true
                    }
                    // Unheard; or gone with a history, and inserted again first.
                    Err(_) => false,
                }
            }
        }
    }

    /// After a fail-over: looks what is gone, and asks for it again, under the same ids. `lossy`: commits may be gone.
    pub async fn reconcile(&self, lossy: bool) {
        if lossy {
            self.history.fetch_add(1, Ordering::SeqCst);
        }
        let believed: Vec<(Wanted, Plan)> = {
            let all = self.book.all().into_iter();
            all.filter(|(_, _, belief)| belief.committed)
                .map(|(wanted, plan, _)| (wanted, plan))
                .collect()
        };
        // What was released or cancelled is so again: the same acts, due now. They change nothing that is still there.
        let again = match lossy {
            true => std::mem::take(&mut *locked(&self.acted)),
            false => Vec::new(),
        };
        loop {
            let tried = tokio::time::timeout(Duration::from_secs(30), self.reinsert(&believed, lossy)).await;
            if matches!(tried, Ok(Some(()))) {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        let due = Instant::now();
        locked(&self.later).extend(again.into_iter().map(|(wanted, act)| Later { due, wanted, act }));
    }

    async fn reinsert(&self, believed: &[(Wanted, Plan)], lossy: bool) -> Option<()> {
        let mut connection = self.connect(Who::Shop).await?;
        let there: Vec<Uuid> = sqlx::query_scalar("select id from capture.intents")
            .fetch_all(&mut connection)
            .await
            .ok()?;
        let there: BTreeSet<Uuid> = there.into_iter().collect();
        for (wanted, plan) in believed.iter().filter(|(wanted, _)| !there.contains(&wanted.id)) {
            if !lossy {
                locked(&self.lost_in_sync).insert(wanted.id);
            }
            match enqueue(&mut connection, wanted).await {
                Ok(()) => {
                    self.lost_with_history.fetch_add(1, Ordering::Relaxed);
                    self.book.believe(wanted.id, |belief| belief.lost_with_history = true);
                }
                // The other one of two that were one too many is there now.
                Err(error) if *plan == Plan::Greedy && refused(&error) => {
                    self.book.believe(wanted.id, |belief| {
                        belief.committed = false;
                        belief.refused = true;
                    });
                }
                Err(_) => return None,
            }
        }
        Some(())
    }

    pub fn history(&self) -> u64 {
        self.history.load(Ordering::SeqCst)
    }
}

/// When order `n` of `count` is due.
fn share(within: Duration, n: u64, count: u64) -> Duration {
    let ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(ms.saturating_mul(n) / count.max(1))
}

async fn enqueue(connection: &mut PgConnection, wanted: &Wanted) -> Result<(), sqlx::Error> {
    sqlx::query(
        "select created from capture.enqueue(provider => $1, account => $2, order_id => $3, payment_id => $4, capture_ref => $5, \
         amount_minor => $6, currency => 'USD', authorized_minor => $7, hold => $8, id => $9)",
    )
    .bind(wanted.provider)
    .bind(wanted.account)
    .bind(&wanted.order_id)
    .bind(&wanted.payment_id)
    .bind(&wanted.capture_ref)
    .bind(wanted.amount_minor)
    .bind(wanted.authorized_minor)
    .bind(wanted.held.then_some("shipment"))
    .bind(wanted.id)
    .execute(connection)
    .await
    .map(|_| ())
}

async fn release(connection: &mut PgConnection, wanted: &Wanted) -> Result<(), sqlx::Error> {
    sqlx::query("select release_id from capture.release(provider => $1, account => $2, payment_id => $3, shipment_ref => 'parcel')")
        .bind(wanted.provider)
        .bind(wanted.account)
        .bind(&wanted.payment_id)
        .execute(connection)
        .await
        .map(|_| ())
}

/// Refused by a rule of the table, for good.
fn refused(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| matches!(error.code().as_deref(), Some("23514" | "23505")))
}
