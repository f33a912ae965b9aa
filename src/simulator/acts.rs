//! What tests and people do to the providers from outside their API.

use std::{io, sync::Arc, time::Duration};

use super::{
    capture::foreign_movement,
    ledger::{Ledger, LedgerEntry},
    ledger_file::{Line, NotWritten},
    model::ProviderName,
    payment::{Authorization, PaymentKey},
    record::{Counts, RequestRecord},
    simulation::Simulation,
};

/// Why an act was not possible.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// Nothing is authorised under this id.
    #[error("no payment {0:?} is authorised")]
    NoPayment(String),
    /// More than one provider or account has a payment of this id.
    #[error("payment {0:?} is not the only one of its name; name the provider")]
    Ambiguous(String),
    /// Not that much is left.
    #[error("{asked} is not above 0 and at most the {left} that are left")]
    Amount {
        /// Minor units.
        asked: i64,
        /// Minor units.
        left: i64,
    },
    /// The ledger cannot be written, so it did not happen.
    #[error(transparent)]
    NotWritten(#[from] NotWritten),
    /// A port cannot be opened again.
    #[error("the port cannot be opened")]
    Port(#[from] io::Error),
}

impl Simulation {
    pub(super) fn ledger(&self) -> Ledger {
        Ledger {
            captures: self.books().captures.clone(),
        }
    }

    /// Those that are wanted, oldest first.
    pub(super) fn requests(&self, wanted: impl Fn(&RequestRecord) -> bool) -> Vec<RequestRecord> {
        let books = self.books();
        books.requests.iter().filter(|record| wanted(record)).cloned().collect()
    }

    pub(super) fn counts(&self) -> Counts {
        self.books().counts.clone()
    }

    /// Authorises many at once, synced before it returns. What exists is left as it is.
    pub(super) async fn authorize(&self, many: Vec<Authorization>) -> Result<(), ActError> {
        let now = self.clock.now();
        let lines: Vec<Line> = many
            .into_iter()
            .map(|mut authorization| {
                authorization.created_at.get_or_insert(now);
                Line::Authorization(authorization)
            })
            .collect();
        let lines: Vec<&Line> = lines.iter().collect();
        Ok(self.commit(&lines).await?)
    }

    /// Captures as a dashboard would.
    pub(super) async fn foreign_capture(
        &self,
        provider: Option<ProviderName>,
        payment_id: &str,
        amount_minor: i64,
    ) -> Result<LedgerEntry, ActError> {
        let missing = || ActError::NoPayment(payment_id.to_owned());
        let key = self.only_payment(provider, payment_id)?;
        let turn = self.turn(&key).ok_or_else(missing)?;
        let _held = turn.lock().await;
        let now = self.clock.now();
        let movement = {
            let books = self.books();
            let payment = books.payment(&key).ok_or_else(missing)?;
            let left = payment.remaining_minor();
            if amount_minor <= 0 || amount_minor > left {
                return Err(ActError::Amount {
                    asked: amount_minor,
                    left,
                });
            }
            foreign_movement(payment, amount_minor, now)
        };
        let entry = LedgerEntry::of(&movement);
        self.commit(&[&Line::Capture(movement)]).await?;
        Ok(entry)
    }

    /// Gives back what is not captured: voided, cancelled.
    pub(super) async fn void(&self, provider: Option<ProviderName>, payment_id: &str) -> Result<(), ActError> {
        let key = self.only_payment(provider, payment_id)?;
        let turn = self.turn(&key);
        let turn = turn.ok_or_else(|| ActError::NoPayment(payment_id.to_owned()))?;
        let _held = turn.lock().await;
        let (provider, payment_account, payment_id) = key;
        let line = Line::Voided {
            provider,
            payment_account,
            payment_id,
            at: self.clock.now(),
        };
        Ok(self.commit(&[&line]).await?)
    }

    /// Moves the clock and waits for all that happens by it.
    pub(super) async fn set_offset_ms(&self, offset_ms: i64) -> Result<(), ActError> {
        let line = Line::Clock { offset_ms };
        self.commit(&[&line]).await?;
        self.clock.set_offset_ms(offset_ms);
        self.clock.settled().await;
        self.changed();
        Ok(())
    }

    pub(super) async fn advance(&self, by: Duration) -> Result<(), ActError> {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.set_offset_ms(self.clock.offset_ms().saturating_add(by)).await
    }

    /// Whatever is late, slow or pending happens now; the clock stays.
    pub(super) async fn hurry(&self) {
        self.clock.hurry();
        self.clock.settled().await;
        self.changed();
    }

    /// Tokens minted until now are void.
    pub(super) fn expire_tokens(&self) {
        let now = self.clock.now();
        self.books().tokens_from = now;
    }

    pub(super) fn set_down(self: &Arc<Self>, provider: ProviderName, down: bool) -> Result<(), ActError> {
        self.ports.set_down(provider, down)?;
        self.changed();
        Ok(())
    }

    pub(super) fn down_for(self: &Arc<Self>, provider: ProviderName, time: Duration) -> Result<(), ActError> {
        self.set_down(provider, true)?;
        let host = Arc::clone(self);
        self.spawn(async move {
            tokio::time::sleep(time).await;
            if let Err(error) = host.set_down(provider, false) {
                tracing::error!(%error, %provider, "a provider could not come back");
            }
        });
        Ok(())
    }

    fn only_payment(&self, provider: Option<ProviderName>, payment_id: &str) -> Result<PaymentKey, ActError> {
        let mut found = self.books().named(provider, payment_id);
        match (found.pop(), found.is_empty()) {
            (Some(key), true) => Ok(key),
            (Some(_), false) => Err(ActError::Ambiguous(payment_id.to_owned())),
            (None, _) => Err(ActError::NoPayment(payment_id.to_owned())),
        }
    }
}
