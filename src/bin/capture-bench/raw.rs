//! The raw ceiling: the product's own `claim` and `settle`, driven by a bare loop. One connection claims, another settles
//! what was claimed, as captured; nothing is decoded that is not needed for that. No errands, no slots, no decisions.

use anyhow::Context;
use sqlx::{Connection, PgConnection, Row};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::child::{Done, Given, micros, ready};
use super::noop::EVIDENCE;

/// What the worker claims and settles at once, at most.
pub const BATCH: i32 = 500;
const LEASE_MS: i64 = 120_000;

pub async fn play(given: Given) -> anyhow::Result<Done> {
    let mut claiming = open(&given.url).await?;
    let mut settling = open(&given.url).await?;
    let lane = lane(&mut claiming).await?;
    ready().await?;

    let started = micros();
    let (claimed, mut to_settle) = mpsc::channel::<Claimed>(1);
    let jobs = given.jobs;
    let claims = tokio::spawn(async move {
        let mut count = 0;
        while count < jobs {
            let batch = claim(&mut claiming, lane, BATCH).await?;
            let rows = batch.intent.len();
            if rows == 0 {
                anyhow::bail!("nothing is left to claim after {count} of {jobs}");
            }
            count += u64::try_from(rows).unwrap_or(0);
            if claimed.send(batch).await.is_err() {
                break;
            }
        }
        anyhow::Ok(count)
    });
    while let Some(batch) = to_settle.recv().await {
        settle(&mut settling, &batch, lane).await?;
    }
    let finished = micros();
    Ok(Done {
        started,
        finished,
        jobs: claims.await??,
    })
}

/// The only lane; it is there before anything is inserted.
pub async fn lane(session: &mut PgConnection) -> anyhow::Result<i32> {
    super::server::run(
        session,
        "insert into lanes (provider, account) values ('afterpay', 'default') on conflict do nothing",
    )
    .await?;
    Ok(
        sqlx::query_scalar("select id from lanes where provider = 'afterpay' and account = 'default'")
            .fetch_one(session)
            .await?,
    )
}

pub async fn open(url: &str) -> anyhow::Result<PgConnection> {
    let mut session = PgConnection::connect(url).await.context("cannot connect")?;
    super::server::run(&mut session, "set search_path = capture, pg_temp; set jit = off").await?;
    Ok(session)
}

/// What `settle` is to be told of captures that were claimed; one place in each is one of them.
#[derive(Default)]
pub struct Claimed {
    pub lease: Vec<Uuid>,
    pub slot: Vec<i32>,
    pub intent: Vec<Uuid>,
    pub fence: Vec<i32>,
}

/// So many, if there are.
pub async fn claim(session: &mut PgConnection, lane: i32, many: i32) -> anyhow::Result<Claimed> {
    let lease = Uuid::new_v4();
    let lanes = format!(
        "[{{\"lane\":{lane},\"free\":{many},\"sending\":0,\"retrying\":0,\"verifying\":0,\"favour\":0,\"send_calls\":1,\"read_calls\":1}}]"
    );
    let rows = sqlx::query("select slot, id, fence from claim($1, $2, $3, 1::smallint, $4, false, $5::text::jsonb)")
        .bind(lease)
        .bind(Uuid::nil())
        .bind(LEASE_MS)
        .bind(many)
        .bind(lanes)
        .fetch_all(session)
        .await?;
    Ok(Claimed {
        lease: vec![lease; rows.len()],
        slot: rows.iter().map(|row| row.get(0)).collect(),
        intent: rows.iter().map(|row| row.get(1)).collect(),
        fence: rows.iter().map(|row| row.get(2)).collect(),
    })
}

/// All of it as captured, in the columns that the worker sends.
pub async fn settle(session: &mut PgConnection, claimed: &Claimed, lane: i32) -> anyhow::Result<()> {
    let many = claimed.intent.len();
    let places: Vec<i32> = (0..).take(many).collect();
    let capture_ids: Vec<String> = places.iter().map(|n| format!("c-{n}")).collect();
    let settled = sqlx::query(
        "select n, settled from settle($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, \
         '[]', '[]', $20)",
    )
    .bind(Uuid::nil())
    .bind(places)
    .bind(&claimed.lease)
    .bind(&claimed.slot)
    .bind(&claimed.intent)
    .bind(&claimed.fence)
    .bind(vec![1i16; many])
    .bind(vec![0i16; many])
    .bind(vec![true; many])
    .bind(vec!["captured"; many])
    .bind(vec![None::<i16>; many])
    .bind(vec![0i64; many])
    .bind(vec![0i32; many])
    .bind(vec!["in-process"; many])
    .bind(vec![1000i64; many])
    .bind(capture_ids)
    .bind(vec![None::<&str>; many])
    .bind(vec!["answer"; many])
    .bind(vec![EVIDENCE.as_bytes(); many])
    .bind([lane])
    .fetch_all(session)
    .await?;
    if settled.len() != many || settled.iter().any(|row| row.get::<&str, _>("settled") != "recorded") {
        anyhow::bail!("a result was not recorded");
    }
    Ok(())
}
