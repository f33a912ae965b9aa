//! An order system on sqlx: the order and its capture in one transaction, and the feed that says what became of it.
//!
//! `DATABASE_URL=… cargo run --example rust_sqlx`, with a login that has the role `capture_producer`.

use std::time::{Duration, Instant};

use anyhow::Context;
use capture::client::{CaptureRef, EnqueueError, Enqueued, Intent, OrderId, PaymentId, Provider};
use capture::intent::{Currency, Money};
use sqlx::{PgConnection, PgPool};

/// Writes the order and asks for its capture, in the caller's transaction. The same order again changes nothing.
async fn place_order(
    transaction: &mut PgConnection,
    order: &str,
    payment: &str,
    total: Money,
) -> Result<Enqueued, EnqueueError> {
    sqlx::query("insert into shop_orders (id, total_minor, currency) values ($1, $2, $3) on conflict (id) do nothing")
        .bind(order)
        .bind(total.minor)
        .bind(total.currency.code())
        .execute(&mut *transaction)
        .await?;
    Intent::new(
        Provider::new("afterpay"),
        OrderId::new(order),
        PaymentId::new(payment),
        CaptureRef::new(format!("{order}-1")),
        total,
    )
    .enqueue(transaction)
    .await
}

/// Handles the next events and moves the cursor in the same transaction: each event is handled once.
async fn follow_feed(pool: &PgPool) -> Result<Vec<(String, String)>, sqlx::Error> {
    let mut tx = pool.begin().await?;
    sqlx::query("insert into shop_feed values ('orders', '') on conflict do nothing")
        .execute(&mut *tx)
        .await?;
    // Locked: of two readers one waits.
    let cursor: String = sqlx::query_scalar("select cursor from shop_feed where reader = 'orders' for update")
        .fetch_one(&mut *tx)
        .await?;
    let events: Vec<(String, String, String)> =
        sqlx::query_as("select cursor, order_id, type from capture.events_after($1, 100)")
            .bind(&cursor)
            .fetch_all(&mut *tx)
            .await?;
    for (cursor, order, kind) in &events {
        if kind == "capture.captured" {
            sqlx::query("update shop_orders set state = 'paid' where id = $1")
                .bind(order)
                .execute(&mut *tx)
                .await?;
        }
        sqlx::query("update shop_feed set cursor = $1 where reader = 'orders'")
            .bind(cursor)
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    Ok(events
        .into_iter()
        .map(|(_, order, kind)| (order, kind.replace("capture.", "")))
        .collect())
}

/// What a log should have of a refusal: the constraint is its name, the hint says what to do.
fn refused(order: &str, error: EnqueueError) -> anyhow::Result<()> {
    match error {
        EnqueueError::Refused {
            sqlstate,
            constraint,
            column,
            message,
            hint,
        } => {
            println!(
                "{order} refused: {sqlstate} {constraint} ({})",
                column.unwrap_or_default()
            );
            println!("  {message}\n  hint: {hint}");
            Ok(())
        }
        other @ (EnqueueError::RunAgain(_) | EnqueueError::Database(_)) => Err(other.into()),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let pool = PgPool::connect(&std::env::var("DATABASE_URL").context("DATABASE_URL is not set")?).await?;
    sqlx::raw_sql(include_str!("python-psycopg/schema.sql"))
        .execute(&pool)
        .await?;
    let usd = Currency::from_code("USD").context("there is no USD")?;
    let total = Money::new(4990, usd);

    let mut tx = pool.begin().await?;
    let placed = place_order(&mut tx, "o-1001", "100101234567", total).await?;
    tx.commit().await?;
    println!("o-1001 placed: capture {} is asked for", placed.id);
    let mut tx = pool.begin().await?;
    let again = place_order(&mut tx, "o-1001", "100101234567", total).await?;
    tx.commit().await?;
    println!(
        "o-1001 placed again: capture {} is {}",
        again.id,
        if again.created { "another" } else { "the same" }
    );

    let mut tx = pool.begin().await?;
    place_order(&mut tx, "o-1002", "100101234568", Money::new(1500, usd)).await?;
    tx.rollback().await?; // out of stock
    let (orders, captures): (i64, i64) = sqlx::query_as(
        "select (select count(*) from shop_orders where id = 'o-1002'),
                (select count(*) from capture.status where order_id = 'o-1002')",
    )
    .fetch_one(&pool)
    .await?;
    println!("o-1002 rolled back: {orders} orders, {captures} captures asked for");

    // `Money` holds whole minor units only. Whoever writes SQL past it is refused by the table.
    let past_the_types = sqlx::query(
        "insert into capture.intents (provider, order_id, payment_id, capture_ref, amount_minor, currency)
         values ('afterpay', 'o-1003', '100101234569', 'o-1003-1', 19.99, 'USD')",
    );
    if let Err(error) = past_the_types.execute(&pool).await {
        refused("o-1003", error.into())?;
    }
    let mut tx = pool.begin().await?;
    if let Err(error) = place_order(&mut tx, "o-1001", "100101234567", Money::new(5990, usd)).await {
        refused("o-1001", error)?;
    }
    tx.rollback().await?;

    let began = Instant::now();
    let paid = "select exists (select from shop_orders where id = 'o-1001' and state = 'paid')";
    while !sqlx::query_scalar::<_, bool>(paid).fetch_one(&pool).await? {
        for (order, what) in follow_feed(&pool).await? {
            println!("feed: {order} {what}");
        }
        anyhow::ensure!(
            began.elapsed() < Duration::from_secs(20),
            "o-1001 is not captured after 20 s: does a worker run?"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let more = follow_feed(&pool).await?;
    println!(
        "feed: {}",
        if more.is_empty() {
            "nothing new"
        } else {
            "there is more"
        }
    );

    let (state, captured_minor, currency): (String, String, String) =
        sqlx::query_as("select state, captured_minor::text, currency from capture.status where order_id = 'o-1001'")
            .fetch_one(&pool)
            .await?;
    println!("o-1001 is {state}: {captured_minor} {currency}");
    Ok(())
}
