//! I: how many commits a second producers get who enqueue one capture in each, beside the same row in a bare table, and beside
//! a bare table whose trigger writes nothing but the two rows without which there is no outbox.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::figures::{number, percentile, ratio};
use crate::report::Chapter;
use crate::scenario::Scenario;
use crate::server::{Database, Server, Spent};
use crate::stage::Stage;

/// Inserts of each session before it counts: behind the fifth, plans are kept.
const WARM_UP: u32 = 8;

/// The row as it is, its defaults, its primary and unique key; no trigger, no check, no other index.
const BARE: &str = "create schema bare;
    create table bare.intents (like capture.intents including defaults);
    alter table bare.intents add primary key (id), add unique (provider, account, payment_id, capture_ref)";

/// The same, with the row that a worker claims and the event that a reader sees, and their indexes: the least that a trigger
/// must do. Nothing is checked, nothing is looked up, nobody is woken.
const LEAST: &str = "create schema least;
    create table least.intents (like capture.intents including defaults);
    alter table least.intents add primary key (id), add unique (provider, account, payment_id, capture_ref);
    create table least.ready (like capture.ready including defaults including identity including indexes);
    create table least.events (like capture.events including defaults including identity including indexes);
    create function least.placed() returns trigger language plpgsql as $$
    begin
        insert into least.ready (lane, purpose, urgency, intent, fence, epoch, since)
            select 1, 0, 0, n.id, 0, 1, now() from inserted n;
        insert into least.events (type, intent_id, provider, account, order_id, payment_id, capture_ref, amount_minor, currency, data)
            select 'capture.enqueued', n.id, n.provider, n.account, n.order_id, n.payment_id, n.capture_ref, n.amount_minor, n.currency, '{}'
            from inserted n;
        return null;
    end $$;
    create trigger placed after insert on least.intents referencing new table as inserted
        for each statement execute function least.placed()";

/// The outbox, and no look whether a worker sleeps.
const QUIET: &str = "do $$ declare
        whole text := pg_get_functiondef('capture.intents_placed'::regproc);
        without text := replace(whole, 'if exists (select from waiters) then', 'if false then');
    begin
        if without = whole then raise 'intents_placed looks for sleepers in another way'; end if;
        execute without;
    end $$";

pub async fn run(stage: &Stage) -> anyhow::Result<Chapter> {
    let lasts = Duration::from_millis(stage.size(5_000, 300));
    let clients: &[u32] = if stage.quick { &[1, 4] } else { &[1, 2, 4, 8, 16, 32] };
    let mut chapter = Chapter::new(
        Scenario::I,
        format!(
            "producers that insert one capture per commit for {} ms, no worker",
            lasts.as_millis()
        ),
    );
    let mut server = Server::start(&[]).await?;
    for _ in stage.rounds("I") {
        // Anew for each round: what has piled up must not make the next one another.
        let mut database = server.database().await?;
        database.run(BARE).await?;
        database.run(LEAST).await?;
        let mut quiet = server.database().await?;
        quiet.run(QUIET).await?;
        for clients in clients {
            let mut rates = [0.0; 4];
            for (table, rate) in Table::ALL.into_iter().zip(&mut rates) {
                let database = if table == Table::Quiet { &quiet } else { &database };
                let from = stage.fresh_payments();
                *rate = measure(&mut server, &mut chapter, database, table, *clients, lasts, from).await?;
            }
            let [bare, least, quiet, outbox] = rates;
            chapter.add(
                &Table::Least.case(*clients),
                "of the bare table",
                "",
                ratio(least, bare),
            );
            let case = Table::Outbox.case(*clients);
            chapter.add(&case, "of the bare table", "", ratio(outbox, bare));
            chapter.add(&case, "of two rows", "", ratio(outbox, least));
            chapter.add(&case, "of no wake-up", "", ratio(outbox, quiet));
        }
        server.drop(database).await?;
        server.drop(quiet).await?;
    }
    chapter.note("two rows: the bare table, and a trigger that writes the row for the workers and the event, and does nothing else");
    chapter.note("no wake-up: the outbox, and nobody looks whether a worker sleeps");
    server.stop().await?;
    Ok(chapter)
}

/// What the row is inserted into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    Bare,
    Least,
    Quiet,
    Outbox,
}

impl Table {
    const ALL: [Table; 4] = [Table::Bare, Table::Least, Table::Quiet, Table::Outbox];

    fn schema(self) -> &'static str {
        match self {
            Table::Bare => "bare",
            Table::Least => "least",
            Table::Quiet | Table::Outbox => "capture",
        }
    }

    fn case(self, clients: u32) -> String {
        let table = match self {
            Table::Bare => "bare table",
            Table::Least => "two rows",
            Table::Quiet => "no wake-up",
            Table::Outbox => "outbox",
        };
        format!("{table}, {clients} clients")
    }
}

/// Commits a second.
async fn measure(
    server: &mut Server,
    chapter: &mut Chapter,
    database: &Database,
    table: Table,
    clients: u32,
    lasts: Duration,
    from: u64,
) -> anyhow::Result<f64> {
    let case = table.case(clients);
    let insert = format!(
        "insert into {}.intents (provider, order_id, payment_id, capture_ref, amount_minor, currency)
         values ('afterpay', $1, $2, 'capture-0', 1000, 'USD')",
        table.schema()
    );
    let (over, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(from)));
    let mut sessions = Vec::new();
    for _ in 0..clients {
        let mut session = PgConnection::connect(&database.url).await?;
        // What a session does once is no part of a rate: statements, triggers and checks are read and planned here.
        for _ in 0..WARM_UP {
            enqueue(&mut session, &insert, next.fetch_add(1, Ordering::Relaxed)).await?;
        }
        sessions.push(session);
    }
    server.checkpoint().await?;
    let before = server.mark(database, &[]).await?;
    let began = Instant::now();
    let mut producers = tokio::task::JoinSet::new();
    for mut session in sessions {
        let (over, next, insert) = (Arc::clone(&over), Arc::clone(&next), insert.clone());
        producers.spawn(async move {
            let mut took = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let n = next.fetch_add(1, Ordering::Relaxed);
                let sent = Instant::now();
                enqueue(&mut session, &insert, n).await?;
                took.push(i64::try_from(sent.elapsed().as_micros()).unwrap_or(i64::MAX));
            }
            anyhow::Ok((session, took))
        });
    }
    tokio::time::sleep(lasts).await;
    over.store(true, Ordering::Relaxed);
    // Open until they are looked at: of a backend that has just ended the time is told neither as its own nor as the postmaster's.
    let (mut open, mut took) = (Vec::new(), Vec::new());
    while let Some(producer) = producers.join_next().await {
        let (session, times) = producer??;
        open.push(session);
        took.extend(times);
    }
    let seconds = began.elapsed().as_secs_f64();
    let after = server.mark(database, &[]).await?;
    drop(open);
    took.sort_unstable();
    let commits = number(i64::try_from(took.len())?);
    let rate = ratio(commits, seconds);
    chapter.add(&case, "inserts", "1/s", rate);
    chapter.add(&case, "insert, p50", "ms", crate::latency::ms(&took, 500));
    chapter.add(&case, "insert, p99", "ms", crate::latency::ms(&took, 990));
    Spent::between(&before, &after).tell(chapter, &case, commits);
    anyhow::ensure!(percentile(&took, 500).is_some(), "{case}: nothing was inserted");
    Ok(rate)
}

async fn enqueue(session: &mut PgConnection, insert: &str, n: u64) -> anyhow::Result<()> {
    let payment = n.to_string();
    let insert = sqlx::query(AssertSqlSafe(insert.to_owned()))
        .bind(format!("order-{n}"))
        .bind(payment);
    insert.execute(session).await?;
    Ok(())
}
