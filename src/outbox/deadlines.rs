//! When authorisations end, where the producer did not say. The statements and their reasons are in
//! `migrations/0013_deadlines.sql`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::{Outbox, OutboxError, interval, repeating};
use crate::intent::{IntentId, Lane};

/// What a provider's answer told of an authorisation, beside what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ToldDeadline {
    /// The capture whose payment was looked at.
    pub intent: IntentId,
    /// When its authorisation ends.
    pub expires_at: DateTime<Utc>,
}

impl Outbox {
    /// Writes how long authorisations of an account live from the first intent of their payment; `None`: nothing is assumed.
    pub async fn set_authorization_lifetime(&self, lane: &Lane, lifetime: Option<Duration>) -> Result<(), OutboxError> {
        sqlx::query!(
            "insert into lanes (provider, account, authorization_lifetime) values ($1, $2, $3)
             on conflict (provider, account) do update set authorization_lifetime = excluded.authorization_lifetime
                 where lanes.authorization_lifetime is distinct from excluded.authorization_lifetime",
            lane.provider,
            lane.account,
            lifetime.map(interval)
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Writes what providers told, for every capture of the payment; returns how many deadlines that changed.
    pub async fn tell_deadlines(&self, told: &[ToldDeadline]) -> Result<i32, OutboxError> {
        let told = serde_json::to_value(told).unwrap_or_default();
        Ok(
            repeating(|| sqlx::query_scalar!(r#"select tell_deadlines($1) as "changed!""#, told).fetch_one(&self.pool))
                .await?,
        )
    }

    /// Gives the next so many captures that have no deadline the one that their account's lifetime assumes. Returns where to
    /// go on; `None`: at the beginning.
    pub async fn assume_deadlines(&self, after: Option<Uuid>, limit: i32) -> Result<Option<Uuid>, OutboxError> {
        Ok(
            repeating(|| sqlx::query_scalar!("select assume_deadlines($1, $2)", after, limit).fetch_one(&self.pool))
                .await?,
        )
    }
}
