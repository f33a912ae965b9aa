//! The SQL contract, as somebody else's programs use it: an order system and a warehouse, each with its own role.
//!
//! The one place outside `outbox` that speaks SQL, because it stands for programs that are not ours. It inserts an order
//! of the shop's own and the capture intents in one transaction.

use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgPool, PgPoolOptions};
use sqlx::{Connection, Executor, PgConnection, Row};
use uuid::Uuid;

use crate::cli::output::Error;
use crate::intent::Money;
use crate::outbox::is_connection_error;

use super::orders::Order;

/// How long a program goes on trying while the database is away.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

/// The connections of both programs.
pub(super) struct Contract {
    producer: PgPool,
    warehouse: PgPool,
}

/// What came of a transaction.
pub(super) struct Placed {
    /// The intents; none if it was rolled back.
    pub(super) intents: Vec<Uuid>,
    /// It had to be run again, because nobody knew how it had ended.
    pub(super) run_again: bool,
}

/// The shop's own table, in the same database.
pub(super) async fn set_up(url: &str) -> Result<(), Error> {
    let make = "create schema shop;
        create table shop.orders (order_id text primary key, placed_at timestamptz not null default now());
        grant usage on schema shop to capture_producer;
        grant select, insert on shop.orders to capture_producer;";
    let made = async {
        let mut connection = PgConnection::connect(url).await?;
        connection.execute(make).await?;
        connection.close().await
    };
    made.await
        .map_err(|error| Error::failed(format!("the shop's table: {error}")))
}

fn pool(url: &str, role: &str) -> Result<PgPool, Error> {
    let options: Result<PgConnectOptions, sqlx::Error> = url.parse();
    let options = options.map_err(|error| Error::failed(error.to_string()))?;
    Ok(PgPoolOptions::new()
        .max_connections(2)
        .acquire_timeout(Duration::from_secs(5))
        .connect_lazy_with(options.options([("role", role)])))
}

impl Contract {
    pub(super) fn open(url: &str) -> Result<Contract, Error> {
        Ok(Contract {
            producer: pool(url, "capture_producer")?,
            warehouse: pool(url, "capture_fulfilment")?,
        })
    }

    /// The order and its intents, in one transaction, which ends as the order's fate says.
    pub(super) async fn place(&self, order: &Order) -> Result<Placed, Error> {
        let began = Instant::now();
        let mut run_again = false;
        loop {
            match transaction(&self.producer, order, run_again).await {
                Ok(intents) => return Ok(Placed { intents, run_again }),
                // Was it committed? The same capture_ref makes the question idle: it is run again.
                Err(error) => self.pause(order, error, began).await?,
            }
            run_again = true;
        }
    }

    /// Asks for one capture of an order once more; the intent, and whether it was made now.
    pub(super) async fn enqueue_again(&self, order: &Order, index: usize) -> Result<Option<(Uuid, bool)>, Error> {
        let began = Instant::now();
        loop {
            let again = async {
                let mut connection = self.producer.acquire().await?;
                enqueue(&mut connection, order, index).await
            };
            match again.await {
                Ok(enqueued) => return Ok(enqueued),
                Err(error) => self.pause(order, error, began).await?,
            }
        }
    }

    /// The warehouse tells of goods that left.
    pub(super) async fn ship(&self, order: &Order, tracking: &str) -> Result<(), Error> {
        let began = Instant::now();
        let lane = order.way.lane();
        loop {
            let shipped = sqlx::query(
                "insert into capture.shipment_events
                     (source, event_id, provider, account, payment_id, kind, company, method, tracking_number)
                 values ('warehouse', $1, $2, $3, $4, 'shipped', 'Parcel Post', 'ground', $1)
                 on conflict do nothing",
            )
            .bind(tracking)
            .bind(&lane.provider)
            .bind(&lane.account)
            .bind(&order.payment_id)
            .execute(&self.warehouse);
            match shipped.await {
                Ok(_) => return Ok(()),
                Err(error) => self.pause(order, error, began).await?,
            }
        }
    }

    /// Cancels; what the database said: `cancelled`, `in_flight` or `ended`.
    pub(super) async fn cancel(&self, order: &Order, intent: Uuid) -> Result<String, Error> {
        let began = Instant::now();
        loop {
            let cancelled = async {
                sqlx::query("select capture.cancel(intent_id => $1, reason => 'the buyer changed their mind')")
                    .bind(intent)
                    .fetch_one(&self.producer)
                    .await?
                    .try_get::<String, _>(0)
            };
            match cancelled.await {
                Ok(said) => return Ok(said),
                Err(error) => self.pause(order, error, began).await?,
            }
        }
    }

    /// Inserts an amount in whole dollars and cents where whole cents belong. How the database refuses it; `None` if it
    /// could not be asked, or took it.
    pub(super) async fn insert_a_mistake(&self) -> Option<String> {
        let taken = sqlx::query(
            "insert into capture.intents (provider, order_id, payment_id, capture_ref, amount_minor, currency)
             values ('afterpay', 'A-mistake', '40019999', 'A-mistake', 12.34, 'USD')",
        )
        .execute(&self.producer)
        .await;
        let Err(sqlx::Error::Database(refusal)) = taken else {
            return None;
        };
        let hint = refusal
            .try_downcast_ref::<PgDatabaseError>()
            .and_then(PgDatabaseError::hint);
        Some(format!("{} ({})", refusal.message(), hint.unwrap_or_default()))
    }

    /// The orders in the shop's own table.
    pub(super) async fn orders(&self) -> Result<Vec<String>, Error> {
        let failed = |error: sqlx::Error| Error::failed(format!("the shop's orders: {error}"));
        let rows = self.producer.fetch_all("select order_id from shop.orders").await;
        rows.map_err(failed)?
            .iter()
            .map(|row| row.try_get(0).map_err(failed))
            .collect()
    }

    /// Waits a little if the database is only away; else fails.
    async fn pause(&self, order: &Order, error: sqlx::Error, began: Instant) -> Result<(), Error> {
        if is_connection_error(&error) && began.elapsed() < PATIENCE {
            tokio::time::sleep(PAUSE).await;
            return Ok(());
        }
        Err(Error::failed(format!("order {}: {error}", order.order_id)))
    }
}

async fn transaction(pool: &PgPool, order: &Order, again: bool) -> Result<Vec<Uuid>, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query("insert into shop.orders (order_id) values ($1) on conflict do nothing")
        .bind(&order.order_id)
        .execute(&mut *transaction)
        .await?;
    let mut intents = Vec::new();
    for index in 0..order.captures.len() {
        // An INSERT and the function do the same. Only the function may be called twice.
        let intent = if again || index > 0 {
            enqueue(&mut transaction, order, index).await?.map(|(id, _)| id)
        } else {
            insert(&mut transaction, order, index).await?
        };
        intents.extend(intent);
    }
    if order.is_rolled_back() {
        transaction.rollback().await?;
        return Ok(Vec::new());
    }
    transaction.commit().await?;
    Ok(intents)
}

async fn insert(connection: &mut PgConnection, order: &Order, index: usize) -> Result<Option<Uuid>, sqlx::Error> {
    let Some(amount) = order.captures.get(index) else {
        return Ok(None);
    };
    let row = bound(
        "insert into capture.intents
             (provider, account, order_id, payment_id, capture_ref, amount_minor, currency, authorized_minor, hold)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         returning id",
        order,
        index,
        *amount,
    );
    Ok(Some(row.fetch_one(connection).await?.try_get(0)?))
}

async fn enqueue(
    connection: &mut PgConnection,
    order: &Order,
    index: usize,
) -> Result<Option<(Uuid, bool)>, sqlx::Error> {
    let Some(amount) = order.captures.get(index) else {
        return Ok(None);
    };
    let row = bound(
        "select id, created from capture.enqueue(provider => $1, account => $2, order_id => $3, payment_id => $4,
             capture_ref => $5, amount_minor => $6, currency => $7, authorized_minor => $8, hold => $9)",
        order,
        index,
        *amount,
    );
    let row = row.fetch_one(connection).await?;
    Ok(Some((row.try_get(0)?, row.try_get(1)?)))
}

fn bound(
    sql: &'static str,
    order: &Order,
    index: usize,
    amount: Money,
) -> sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments> {
    let lane = order.way.lane();
    sqlx::query(sql)
        .bind(lane.provider)
        .bind(lane.account)
        .bind(order.order_id.clone())
        .bind(order.payment_id.clone())
        .bind(order.capture_ref(index))
        .bind(amount.minor)
        .bind(amount.currency.code())
        .bind(order.total_minor())
        .bind(order.is_held().then_some("shipment"))
}
