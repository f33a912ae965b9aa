//! Producers: a backlog at once, or a steady stream.

use std::time::Duration;

use anyhow::Context;
use sqlx::{Connection, PgConnection};
use tokio::time::Instant;
use uuid::Uuid;

use super::child::micros;
use super::server::Database;

/// Intents in one statement of a backlog.
const AT_ONCE: u64 = 10_000;

/// Payments are numbered from here, for every database anew.
const FIRST_PAYMENT: u64 = 100_000_000;

/// How a backlog is made.
#[derive(Debug, Clone, Copy)]
pub struct Backlog {
    pub intents: u64,
    /// Captures of one payment.
    pub per_payment: u64,
    /// The first payment's number, so that a second backlog repeats none of the first.
    pub from: u64,
}

impl Backlog {
    pub fn of(intents: u64) -> Backlog {
        Backlog {
            intents,
            per_payment: 1,
            from: 0,
        }
    }
}

/// Inserts a backlog, by the front door.
pub async fn insert(database: &mut Database, account: &str, backlog: Backlog) -> anyhow::Result<()> {
    let mut done = 0;
    while done < backlog.intents {
        let until = (done + AT_ONCE).min(backlog.intents);
        let (first, per_payment) = (FIRST_PAYMENT + backlog.from, backlog.per_payment);
        database
            .run(&format!(
                "insert into capture.intents (provider, account, order_id, payment_id, capture_ref, amount_minor, currency)
                 select 'afterpay', '{account}', 'order-' || g, ({first} + g / {per_payment})::text, 'capture-' || g % {per_payment}, 1000, 'USD'
                 from generate_series({done}, {until} - 1) g"
            ))
            .await?;
        done = until;
    }
    database.run("analyze").await
}

/// One intent of a stream. Times are microseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub struct Inserted {
    pub id: Uuid,
    /// The INSERT was about to leave.
    pub sent: i64,
    /// Its commit was answered.
    pub committed: i64,
}

/// How a stream flows.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    pub rate: u64,
    pub lasts: Duration,
    /// The first payment's number.
    pub from: u64,
}

/// Inserts a steady stream, one row per commit, each at its time whatever became of the one before; in the order of `sent`.
pub async fn stream(url: &str, account: &'static str, stream: Stream) -> anyhow::Result<Vec<Inserted>> {
    // More sessions than are ever busy at once, so that no insert waits for another.
    let sessions = (stream.rate / 25).clamp(4, 40);
    let all = stream.rate * stream.lasts.as_secs().max(1);
    let mut open = Vec::new();
    for _ in 0..sessions {
        open.push(PgConnection::connect(url).await?);
    }
    let began = Instant::now() + Duration::from_millis(50);
    let mut producers = tokio::task::JoinSet::new();
    for (first, mut session) in (0..sessions).zip(open) {
        producers.spawn(async move {
            let mut inserted = Vec::new();
            let mut n = first;
            while n < all {
                tokio::time::sleep_until(began + Duration::from_micros(n * 1_000_000 / stream.rate)).await;
                let (id, sent) = (Uuid::now_v7(), micros());
                sqlx::query(
                    "insert into capture.intents (id, provider, account, order_id, payment_id, capture_ref, amount_minor, currency)
                     values ($1, 'afterpay', $2, $3, $4, 'capture-0', 1000, 'USD')",
                )
                .bind(id)
                .bind(account)
                .bind(format!("order-{n}"))
                .bind((FIRST_PAYMENT + stream.from + n).to_string())
                .execute(&mut session)
                .await
                .context("an insert was refused")?;
                let committed = micros();
                inserted.push(Inserted { id, sent, committed });
                n += sessions;
            }
            anyhow::Ok(inserted)
        });
    }
    let mut inserted = Vec::new();
    while let Some(producer) = producers.join_next().await {
        inserted.extend(producer??);
    }
    inserted.sort_unstable_by_key(|one| one.sent);
    Ok(inserted)
}
