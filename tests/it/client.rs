//! The client of order systems in Rust: what it asks for, and what it tells of a refusal.

use capture::client::{Account, CaptureRef, EnqueueError, Enqueued, Intent, OrderId, PaymentId, Provider};
use capture::intent::{Currency, Details, Money};
use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};

use crate::database::{Session, log_in, migrated_database};

fn usd(minor: i64) -> Money {
    Money::new(minor, Currency::from_code("USD").unwrap())
}

fn intent(minor: i64) -> Intent {
    Intent::new(
        Provider::new("afterpay"),
        OrderId::new("o-1"),
        PaymentId::new("100200300"),
        CaptureRef::new("o-1-1"),
        usd(minor),
    )
}

/// A connection that may do what a producer may.
async fn producer(url: &str) -> PgConnection {
    PgConnection::connect(&log_in(url, "capture_producer").await)
        .await
        .unwrap()
}

async fn asked(connection: &mut PgConnection, intent: Intent) -> Result<Enqueued, EnqueueError> {
    let mut tx = connection.begin().await?;
    let asked = intent.enqueue(&mut tx).await?;
    tx.commit().await?;
    Ok(asked)
}

#[tokio::test]
async fn an_intent_lives_and_dies_with_the_callers_transaction() {
    let url = migrated_database().await;
    let (mut db, mut shop) = (Session::open(&url).await, producer(&url).await);

    let mut tx = shop.begin().await.unwrap();
    intent(4990).enqueue(&mut tx).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(db.scalar::<i64>("select count(*) from capture.intents").await, 0);

    let first = asked(&mut shop, intent(4990)).await.unwrap();
    let again = asked(&mut shop, intent(4990)).await.unwrap();
    assert!(first.created);
    assert_eq!(
        again,
        Enqueued {
            created: false,
            ..first
        }
    );
    assert_eq!(db.scalar::<i64>("select count(*) from capture.intents").await, 1);
}

#[tokio::test]
async fn everything_that_was_said_is_in_the_row() {
    let url = migrated_database().await;
    let (mut db, mut shop) = (Session::open(&url).await, producer(&url).await);
    let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
    let said = intent(4990)
        .account(Account::new("eu"))
        .authorized(9990, Some(at("2150-01-02T00:00:00Z")))
        .held_for_shipment()
        .not_before(at("2150-01-01T00:00:00Z"))
        .priority(-5)
        .details(Details {
            description: Some("two chairs".to_owned()),
            ..Details::default()
        })
        .traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    asked(&mut shop, said).await.unwrap();
    let row: String = db
        .scalar(
            "set time zone 'UTC'; select concat_ws(' ', provider, account, order_id, payment_id, capture_ref, amount_minor, currency, \
             authorized_minor, authorization_expires_at::date, hold, not_before::date, priority, details, traceparent) from capture.intents",
        )
        .await;
    assert_eq!(
        row,
        "afterpay eu o-1 100200300 o-1-1 4990 USD 9990 2150-01-02 shipment 2150-01-01 -5 {\"description\": \"two chairs\"} \
         00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    );
}

#[tokio::test]
async fn a_refusal_names_its_rule_and_says_what_to_do() {
    let url = migrated_database().await;
    let mut shop = producer(&url).await;

    let error = asked(&mut shop, intent(50)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "afterpay captures no less than 1.00 USD (intents_amount_of_provider): pass at least 100 minor units"
    );
    let EnqueueError::Refused { sqlstate, column, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!((sqlstate.as_str(), column.as_deref()), ("23514", Some("amount_minor")));

    asked(&mut shop, intent(4990)).await.unwrap();
    let error = asked(&mut shop, intent(5990)).await.unwrap_err();
    let EnqueueError::Refused {
        sqlstate, constraint, ..
    } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!(
        (sqlstate.as_str(), constraint.as_str()),
        ("23505", "intents_capture_ref_unique")
    );
}

#[tokio::test]
async fn a_repeat_that_crossed_another_transaction_is_to_be_run_again() {
    let url = migrated_database().await;
    let (mut shop, mut other) = (producer(&url).await, producer(&url).await);
    let mut tx = shop.begin().await.unwrap();
    sqlx::raw_sql("set transaction isolation level repeatable read; select 1")
        .execute(&mut *tx)
        .await
        .unwrap();
    asked(&mut other, intent(4990)).await.unwrap();
    let error = intent(4990).enqueue(&mut tx).await.unwrap_err();
    assert!(matches!(error, EnqueueError::RunAgain(_)), "{error:?}");
}

#[tokio::test]
async fn what_is_no_refusal_of_ours_stays_what_it_is() {
    let url = migrated_database().await;
    let mut db = Session::open(&url).await;
    db.run("create table shop_orders (id text constraint orders_named check (id <> ''))")
        .await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let theirs = sqlx::query("insert into shop_orders values ('')")
        .execute(&mut connection)
        .await
        .unwrap_err();
    assert!(matches!(EnqueueError::from(theirs), EnqueueError::Database(_)));
}

/// Quoted in docs/order-systems/rust.md.
#[tokio::test]
async fn sqlx_takes_amounts_for_neither_floats_nor_integers() {
    let url = migrated_database().await;
    let mut shop = producer(&url).await;
    asked(&mut shop, intent(4990)).await.unwrap();
    let read = sqlx::query_scalar::<_, i64>("select amount_minor from capture.status")
        .fetch_one(&mut shop)
        .await
        .unwrap_err();
    assert_eq!(
        read.to_string(),
        "error occurred while decoding column 0: mismatched types; Rust type `i64` (as SQL type `INT8`) is not compatible \
         with SQL type `NUMERIC`"
    );
    let float = sqlx::query(
        "select capture.enqueue(provider => 'afterpay', order_id => 'o-2', payment_id => '1', capture_ref => 'o-2', \
         amount_minor => $1, currency => 'USD')",
    )
    .bind(49.90)
    .execute(&mut shop)
    .await
    .unwrap_err();
    let said = float.to_string();
    assert!(
        said.contains("amount_minor => double precision, currency => unknown) does not exist"),
        "{said}"
    );
}
