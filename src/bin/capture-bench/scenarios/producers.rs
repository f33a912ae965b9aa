//! I: how many commits a second producers get who enqueue one capture in each, beside the same row in a bare table.

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
    let mut database = server.database().await?;
    database.run(BARE).await?;
    for _ in stage.rounds("I") {
        for clients in clients {
            let bare = measure(
                &mut server,
                &mut chapter,
                &database,
                "bare",
                *clients,
                lasts,
                stage.fresh_payments(),
            )
            .await?;
            let outbox = measure(
                &mut server,
                &mut chapter,
                &database,
                "capture",
                *clients,
                lasts,
                stage.fresh_payments(),
            )
            .await?;
            chapter.add(&name("capture", *clients), "of the bare table", "", ratio(outbox, bare));
        }
        // What has piled up must not make the next round another one.
        let fresh = server.database().await?;
        server.drop(std::mem::replace(&mut database, fresh)).await?;
        database.run(BARE).await?;
    }
    server.stop().await?;
    Ok(chapter)
}

fn name(schema: &str, clients: u32) -> String {
    let table = if schema == "bare" { "bare table" } else { "outbox" };
    format!("{table}, {clients} clients")
}

/// Commits a second.
async fn measure(
    server: &mut Server,
    chapter: &mut Chapter,
    database: &Database,
    schema: &'static str,
    clients: u32,
    lasts: Duration,
    from: u64,
) -> anyhow::Result<f64> {
    let case = name(schema, clients);
    let insert = format!(
        "insert into {schema}.intents (provider, order_id, payment_id, capture_ref, amount_minor, currency)
         values ('afterpay', $1, $2, 'capture-0', 1000, 'USD')"
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
            anyhow::Ok(took)
        });
    }
    tokio::time::sleep(lasts).await;
    over.store(true, Ordering::Relaxed);
    let mut took = Vec::new();
    while let Some(producer) = producers.join_next().await {
        took.extend(producer??);
    }
    let seconds = began.elapsed().as_secs_f64();
    let after = server.mark(database, &[]).await?;
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
