//! For order systems in Rust: asks for a capture inside of the caller's own `sqlx` transaction.
//!
//! The door is `capture.enqueue` in SQL, for everybody; this gives its parameters types that cannot be mixed up, and its
//! refusals a shape. The login needs the role `capture_producer` and nothing else.
//!
//! ```no_run
//! use capture::client::{CaptureRef, EnqueueError, Intent, OrderId, PaymentId, Provider};
//! use capture::intent::{Currency, Money};
//!
//! # async fn place(pool: sqlx::PgPool, usd: Currency) -> Result<(), EnqueueError> {
//! let mut tx = pool.begin().await?;
//! sqlx::query("insert into shop_orders (id) values ('o-1001')").execute(&mut *tx).await?;
//! let asked = Intent::new(
//!     Provider::new("afterpay"),
//!     OrderId::new("o-1001"),
//!     PaymentId::new("100101234567"),
//!     CaptureRef::new("o-1001-1"),
//!     Money::new(4990, usd),
//! )
//! .enqueue(&mut tx)
//! .await?;
//! tx.commit().await?;
//! println!("capture {} is asked for", asked.id);
//! # Ok(())
//! # }
//! ```

mod error;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::intent::{Details, IntentId, Money};

pub use error::EnqueueError;

/// A text of the caller's, with a type of its own so that no two of them change places.
macro_rules! text {
    ($(#[$about:meta] $name:ident),+) => {$(
        #[$about]
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub struct $name(String);

        impl $name {
            /// As it is; whether it will do is for the table to say.
            pub fn new(text: impl Into<String>) -> $name {
                $name(text.into())
            }
        }
    )+};
}

text! {
    /// Who authorised the payment: `afterpay`, `optty` or `resolve`.
    Provider,
    /// Which of the merchant's accounts at the provider: a name from the worker's configuration.
    Account,
    /// The merchant's own order number.
    OrderId,
    /// The authorised payment at the provider.
    PaymentId,
    /// The merchant's own reference of this capture, unique for ever within the payment: it makes a repeat harmless.
    CaptureRef
}

/// One capture to ask for.
#[derive(Debug, Clone)]
#[must_use = "nothing is asked for before `enqueue`"]
pub struct Intent {
    provider: Provider,
    account: Option<Account>,
    order_id: OrderId,
    payment_id: PaymentId,
    capture_ref: CaptureRef,
    amount: Money,
    authorized_minor: Option<i64>,
    authorization_expires_at: Option<DateTime<Utc>>,
    hold: Option<&'static str>,
    not_before: Option<DateTime<Utc>>,
    priority: i16,
    details: Details,
    traceparent: Option<String>,
}

/// The intent, and whether it is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enqueued {
    /// The intent.
    pub id: IntentId,
    /// False: it was there before, with the same content.
    pub created: bool,
}

impl Intent {
    /// A capture of `amount`, at once, from the account `default`.
    pub fn new(
        provider: Provider,
        order_id: OrderId,
        payment_id: PaymentId,
        capture_ref: CaptureRef,
        amount: Money,
    ) -> Intent {
        Intent {
            provider,
            account: None,
            order_id,
            payment_id,
            capture_ref,
            amount,
            authorized_minor: None,
            authorization_expires_at: None,
            hold: None,
            not_before: None,
            priority: 0,
            details: Details::default(),
            traceparent: None,
        }
    }

    /// From another account of the merchant.
    pub fn account(self, account: Account) -> Intent {
        Intent {
            account: Some(account),
            ..self
        }
    }

    /// What was authorised in all, in minor units of the amount's currency, and until when.
    pub fn authorized(self, minor: i64, until: Option<DateTime<Utc>>) -> Intent {
        Intent {
            authorized_minor: Some(minor),
            authorization_expires_at: until,
            ..self
        }
    }

    /// Waits for a release: the goods have not left.
    pub fn held_for_shipment(self) -> Intent {
        Intent {
            hold: Some("shipment"),
            ..self
        }
    }

    /// Not before this time.
    pub fn not_before(self, time: DateTime<Utc>) -> Intent {
        Intent {
            not_before: Some(time),
            ..self
        }
    }

    /// Smaller goes first; 0 if nothing is said.
    pub fn priority(self, priority: i16) -> Intent {
        Intent { priority, ..self }
    }

    /// What goes along with the capture.
    pub fn details(self, details: Details) -> Intent {
        Intent { details, ..self }
    }

    /// The W3C trace context of whoever asks.
    pub fn traceparent(self, traceparent: impl Into<String>) -> Intent {
        Intent {
            traceparent: Some(traceparent.into()),
            ..self
        }
    }

    /// Asks for it, in the caller's transaction: it is captured if that commits. The same again changes nothing.
    ///
    /// # Errors
    /// An [`EnqueueError`]; the transaction has then to be rolled back, or a savepoint in it.
    pub async fn enqueue(&self, transaction: &mut PgConnection) -> Result<Enqueued, EnqueueError> {
        let (id, created): (Uuid, bool) = sqlx::query_as(
            "select id, created from capture.enqueue(provider => $1, order_id => $2, payment_id => $3, capture_ref => $4, \
             amount_minor => $5, currency => $6, account => $7, authorized_minor => $8, authorization_expires_at => $9, \
             hold => $10, not_before => $11, priority => $12, details => $13, traceparent => $14)",
        )
        .bind(&self.provider.0)
        .bind(&self.order_id.0)
        .bind(&self.payment_id.0)
        .bind(&self.capture_ref.0)
        .bind(self.amount.minor)
        .bind(self.amount.currency.code())
        .bind(self.account.as_ref().map(|account| &account.0))
        .bind(self.authorized_minor)
        .bind(self.authorization_expires_at)
        .bind(self.hold)
        .bind(self.not_before)
        .bind(i64::from(self.priority))
        .bind(sqlx::types::Json(&self.details))
        .bind(&self.traceparent)
        .fetch_one(transaction)
        .await?;
        Ok(Enqueued {
            id: IntentId(id),
            created,
        })
    }
}
