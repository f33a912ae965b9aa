//! The endpoints of webhooks, and what people do with them. Each act leaves who and why.

use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretSlice};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{AuditStamp, Outbox, OutboxError, interval};

/// An endpoint, and how it stands. Its secrets are nowhere in it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct WebhookEndpoint {
    /// Its id.
    pub id: Uuid,
    /// Where events are sent.
    pub url: String,
    /// Which types of events; empty: all.
    pub types: Vec<String>,
    /// For people.
    pub description: String,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// Since when nothing is sent; null: it is enabled.
    pub disabled_at: Option<DateTime<Utc>>,
    /// Who disabled it: a person, or `capture`.
    pub disabled_by: Option<String>,
    /// Why.
    pub disabled_reason: Option<String>,
    /// Attempts in a row that failed.
    pub failures: i32,
    /// Since when.
    pub failing_since: Option<DateTime<Utc>>,
    /// Nothing is sent before, because it fails or asked for it.
    pub wait_until: Option<DateTime<Utc>>,
    /// When it last took one, to the minute.
    pub last_success_at: Option<DateTime<Utc>>,
    /// Deliveries that are pending; counted up to 1,000.
    pub pending: i64,
    /// How long the oldest of them has been pending.
    pub behind_seconds: i64,
}

/// What may be changed about an endpoint; `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointChange {
    /// Where events are sent.
    pub url: Option<String>,
    /// Which types; empty: all.
    pub types: Option<Vec<String>>,
    /// For people.
    pub description: Option<String>,
}

/// What became of an act on an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointActed {
    /// It is as was asked for now.
    Changed,
    /// It was so before.
    Unchanged,
    /// There is no such endpoint.
    NotFound,
    /// Two secrets are live: the rotation before is not over.
    TwoSecretsLive,
}

impl EndpointActed {
    fn understood(said: String) -> Result<EndpointActed, OutboxError> {
        match said.as_str() {
            "changed" => Ok(EndpointActed::Changed),
            "unchanged" => Ok(EndpointActed::Unchanged),
            "not_found" => Ok(EndpointActed::NotFound),
            "two_live" => Ok(EndpointActed::TwoSecretsLive),
            _ => Err(OutboxError::NotUnderstood {
                what: format!("'{said}' of an endpoint"),
            }),
        }
    }
}

/// What an operator sees of webhooks at a glance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct WebhookTally {
    /// Endpoints that are told of events.
    pub enabled: i64,
    /// Endpoints that are not, by a person's will or by failing.
    pub disabled: i64,
    /// Of those: disabled by the sender itself.
    pub given_up: i64,
    /// Enabled ones whose last attempt failed.
    pub failing: i64,
    /// Enabled ones whose oldest delivery has been pending for more than five minutes.
    pub behind: i64,
    /// Deliveries that are pending at enabled endpoints; counted up to 1,000 for each.
    pub pending: i64,
    /// How long the oldest of them has been pending.
    pub oldest_s: i64,
}

impl Outbox {
    /// Makes an endpoint with its first secret.
    pub async fn create_webhook_endpoint(
        &self,
        url: &str,
        types: &[String],
        description: &str,
        secret: &SecretSlice<u8>,
        stamp: &AuditStamp,
    ) -> Result<Uuid, OutboxError> {
        Ok(sqlx::query_scalar!(
            r#"select create_webhook_endpoint($1, $2, $3, $4, $5, $6) as "id!""#,
            url,
            types,
            description,
            secret.expose_secret(),
            stamp.actor,
            stamp.reason
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// Every endpoint that was not removed, the oldest first.
    pub async fn webhook_endpoints(&self) -> Result<Vec<WebhookEndpoint>, OutboxError> {
        Ok(sqlx::query_as!(
            WebhookEndpoint,
            r#"select id as "id!", url as "url!", types as "types!", description as "description!", created_by as "created_by!",
                      created_at as "created_at!", disabled_at, disabled_by, disabled_reason, failures as "failures!", failing_since,
                      wait_until, last_success_at, pending as "pending!",
                      coalesce(extract(epoch from clock_now() - oldest_at), 0)::bigint as "behind_seconds!"
               from webhook_state order by id"#
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// One endpoint.
    pub async fn webhook_endpoint(&self, id: Uuid) -> Result<Option<WebhookEndpoint>, OutboxError> {
        Ok(sqlx::query_as!(
            WebhookEndpoint,
            r#"select id as "id!", url as "url!", types as "types!", description as "description!", created_by as "created_by!",
                      created_at as "created_at!", disabled_at, disabled_by, disabled_reason, failures as "failures!", failing_since,
                      wait_until, last_success_at, pending as "pending!",
                      coalesce(extract(epoch from clock_now() - oldest_at), 0)::bigint as "behind_seconds!"
               from webhook_state where id = $1"#,
            id
        )
        .fetch_optional(&self.pool)
        .await?)
    }

    /// Changes an endpoint.
    pub async fn change_webhook_endpoint(
        &self,
        id: Uuid,
        change: &EndpointChange,
        stamp: &AuditStamp,
    ) -> Result<EndpointActed, OutboxError> {
        let said = sqlx::query_scalar!(
            r#"select change_webhook_endpoint($1, $2, $3, $4, $5, $6) as "said!""#,
            id,
            change.url,
            change.types.as_deref(),
            change.description,
            stamp.actor,
            stamp.reason
        )
        .fetch_one(&self.pool)
        .await?;
        EndpointActed::understood(said)
    }

    /// Enables or disables an endpoint.
    pub async fn set_webhook_endpoint_state(
        &self,
        id: Uuid,
        enabled: bool,
        stamp: &AuditStamp,
    ) -> Result<EndpointActed, OutboxError> {
        let said = sqlx::query_scalar!(
            r#"select set_webhook_endpoint_state($1, $2, $3, $4) as "said!""#,
            id,
            enabled,
            stamp.actor,
            stamp.reason
        )
        .fetch_one(&self.pool)
        .await?;
        EndpointActed::understood(said)
    }

    /// Removes an endpoint: nothing is sent any more, its secrets are gone.
    pub async fn remove_webhook_endpoint(&self, id: Uuid, stamp: &AuditStamp) -> Result<EndpointActed, OutboxError> {
        let said = sqlx::query_scalar!(
            r#"select remove_webhook_endpoint($1, $2, $3) as "said!""#,
            id,
            stamp.actor,
            stamp.reason
        )
        .fetch_one(&self.pool)
        .await?;
        EndpointActed::understood(said)
    }

    /// Gives an endpoint a second secret; the first ends after the grace, and until then both sign. No grace: at once.
    pub async fn rotate_webhook_secret(
        &self,
        id: Uuid,
        secret: &SecretSlice<u8>,
        grace: Duration,
        stamp: &AuditStamp,
    ) -> Result<EndpointActed, OutboxError> {
        let said = sqlx::query_scalar!(
            r#"select rotate_webhook_secret($1, $2, $3, $4, $5) as "said!""#,
            id,
            secret.expose_secret(),
            interval(grace),
            stamp.actor,
            stamp.reason
        )
        .fetch_one(&self.pool)
        .await?;
        EndpointActed::understood(said)
    }

    /// Webhooks at a glance.
    pub async fn webhook_tally(&self) -> Result<WebhookTally, OutboxError> {
        Ok(sqlx::query_as!(
            WebhookTally,
            r#"select count(*) filter (where disabled_at is null) as "enabled!", count(*) filter (where disabled_at is not null) as "disabled!",
                      count(*) filter (where disabled_by = 'capture') as "given_up!",
                      count(*) filter (where disabled_at is null and failures > 0) as "failing!",
                      count(*) filter (where disabled_at is null and oldest_at < clock_now() - interval '5 minutes') as "behind!",
                      coalesce(sum(pending) filter (where disabled_at is null), 0)::bigint as "pending!",
                      coalesce(extract(epoch from clock_now() - min(oldest_at) filter (where disabled_at is null)), 0)::bigint as "oldest_s!"
               from webhook_state"#
        )
        .fetch_one(&self.pool)
        .await?)
    }
}
