//! The raw ceiling: the product's own `claim` and `settle`, driven by a bare loop. One connection claims, another settles
//! what was claimed, as captured; nothing is decoded that is not needed for that. No errands, no slots, no decisions.

use std::fmt::Write;

use anyhow::Context;
use sqlx::{Connection, PgConnection, Row};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::child::{Done, Given, micros, ready};
use super::noop::EVIDENCE;

/// What the worker claims and settles at once, at most.
const BATCH: i32 = 500;
const LEASE_MS: i64 = 120_000;

pub async fn play(given: Given) -> anyhow::Result<Done> {
    let mut claiming = open(&given.url).await?;
    let mut settling = open(&given.url).await?;
    let lane: i32 = sqlx::query_scalar("select id from lanes where provider = 'afterpay' and account = 'default'")
        .fetch_one(&mut claiming)
        .await?;
    ready().await?;

    let started = micros();
    let (claimed, mut to_settle) = mpsc::channel::<String>(1);
    let jobs = given.jobs;
    let claims = tokio::spawn(async move {
        let mut count = 0;
        while count < jobs {
            let (results, rows) = claim(&mut claiming, lane).await?;
            if rows == 0 {
                anyhow::bail!("nothing is left to claim after {count} of {jobs}");
            }
            count += rows;
            if claimed.send(results).await.is_err() {
                break;
            }
        }
        anyhow::Ok(count)
    });
    let news = format!(
        "[{{\"lane\":{lane},\"answered\":true,\"unanswered\":0,\"failures\":20,\"open_ms\":5000,\"open_max_ms\":60000,\
         \"wait_ms\":null,\"pause_reason\":null}}]"
    );
    while let Some(results) = to_settle.recv().await {
        let settled = sqlx::query("select n, settled from settle($1::text::jsonb, $2::text::jsonb)")
            .bind(results)
            .bind(&news)
            .fetch_all(&mut settling)
            .await?;
        let lost = settled.iter().find(|row| row.get::<&str, _>("settled") != "recorded");
        if lost.is_some() {
            anyhow::bail!("a result was not recorded");
        }
    }
    let finished = micros();
    Ok(Done {
        started,
        finished,
        jobs: claims.await??,
    })
}

async fn open(url: &str) -> anyhow::Result<PgConnection> {
    let mut session = PgConnection::connect(url).await.context("cannot connect")?;
    super::server::run(&mut session, "set search_path = capture, pg_temp; set jit = off").await?;
    Ok(session)
}

/// One claim; what `settle` is to be told of it, as JSON, and how many it is.
async fn claim(session: &mut PgConnection, lane: i32) -> anyhow::Result<(String, u64)> {
    let (lease, worker) = (Uuid::new_v4(), Uuid::nil());
    let lanes = format!(
        "[{{\"lane\":{lane},\"free\":{BATCH},\"sending\":0,\"retrying\":0,\"verifying\":0,\"favour\":0,\"send_calls\":1,\"read_calls\":1}}]"
    );
    let rows = sqlx::query("select slot, id, fence from claim($1, $2, $3, 1::smallint, $4, false, $5::text::jsonb)")
        .bind(lease)
        .bind(worker)
        .bind(LEASE_MS)
        .bind(BATCH)
        .bind(lanes)
        .fetch_all(session)
        .await?;
    let evidence = hex(EVIDENCE.as_bytes());
    let mut results = String::from("[");
    for (n, row) in rows.iter().enumerate() {
        let (slot, id, fence): (i32, Uuid, i32) = (row.get(0), row.get(1), row.get(2));
        // The fields that the worker sends.
        let _ = write!(
            results,
            "{}{{\"n\":{n},\"lease\":\"{lease}\",\"slot\":{slot},\"intent\":\"{id}\",\"fence\":{fence},\"to\":\"captured\",\"purpose\":0,\
             \"cause\":null,\"delay_ms\":0,\"attempt\":{{\"worker\":\"{worker}\",\"sent\":true,\"outcome\":\"captured\",\"class\":null,\
             \"code\":null,\"http_status\":null,\"generation\":0,\"began_ms_ago\":0,\"duration_ms\":0,\"host\":\"in-process\",\
             \"evidence\":\"{evidence}\"}},\"progress\":{{\"attempts\":1}},\"receipt\":{{\"captured_minor\":1000,\
             \"provider_capture_id\":\"c-{n}\",\"captured_at\":null,\"proof\":\"answer\"}},\"dead_reason\":null,\
             \"events\":[{{\"type\":\"capture.captured\",\"data\":{{\"captured_minor\":1000,\"provider_capture_id\":\"c-{n}\",\
             \"captured_at\":null,\"proof\":\"answer\",\"attempts\":1}}}}]}}",
            if n == 0 { "" } else { "," }
        );
    }
    results.push(']');
    Ok((results, u64::try_from(rows.len()).unwrap_or(0)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
