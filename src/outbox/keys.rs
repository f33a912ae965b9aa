//! The keys of the HTTP API: made, found, ended. Each act on them leaves who and why.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{AuditStamp, Outbox, OutboxError, interval};
use crate::api_key::{FreshKey, KeyDigest, Scope, Scopes};

/// A key, without what opens anything.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KeyRow {
    /// By which it is found and revoked.
    pub prefix: String,
    /// Whose it is; acts are told by it.
    pub name: String,
    /// What it allows.
    pub scopes: Vec<String>,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// When it ends; `None`: never.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When it was used last, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// Does it open anything now?
    pub live: bool,
}

/// A live key that was found by its prefix.
#[derive(Debug, Clone)]
pub struct FoundKey {
    /// Whose it is.
    pub name: String,
    /// What it allows.
    pub scopes: Scopes,
    /// What its secret must give.
    pub digest: KeyDigest,
    /// Was its use last noted more than a minute ago?
    pub use_is_old: bool,
}

/// What a new key may do and how long it lives.
#[derive(Debug, Clone)]
pub enum NewKey {
    /// The first of its name.
    First(Scopes),
    /// Takes the place of the live one, which ends after this grace; the scopes stay.
    InPlaceOf(Duration),
}

/// What a new key got.
#[derive(Debug, Clone, PartialEq)]
pub struct MadeKey {
    /// What it allows.
    pub scopes: Vec<String>,
    /// When it ends.
    pub expires_at: Option<DateTime<Utc>>,
}

/// What became of a revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoked {
    /// It opens nothing any more.
    Revoked,
    /// It had ended before.
    Ended,
    /// There is no such key.
    NotFound,
}

impl Outbox {
    /// Keeps a new key of that name. `lifetime`: `None` lives until it is revoked.
    pub async fn create_key(
        &self,
        key: &FreshKey,
        name: &str,
        new: &NewKey,
        lifetime: Option<Duration>,
        stamp: &AuditStamp,
    ) -> Result<MadeKey, OutboxError> {
        let (scopes, grace) = match new {
            NewKey::First(scopes) => (scopes.names().into_iter().map(str::to_owned).collect(), None),
            NewKey::InPlaceOf(grace) => (Vec::<String>::new(), Some(interval(*grace))),
        };
        Ok(sqlx::query_as!(
            MadeKey,
            r#"select scopes as "scopes!", expires_at from create_api_key($1, $2, $3, $4, $5, $6, $7, $8)"#,
            key.prefix,
            name,
            &key.digest.0[..],
            &scopes,
            lifetime.map(interval),
            grace,
            stamp.actor,
            stamp.reason
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// Every key there was, the newest first.
    pub async fn keys(&self) -> Result<Vec<KeyRow>, OutboxError> {
        Ok(sqlx::query_as!(
            KeyRow,
            r#"select prefix, name, scopes, created_by, created_at, expires_at, revoked_at, last_used_at,
                      (revoked_at is null and (expires_at is null or expires_at > clock_now())) as "live!"
               from api_keys order by created_at desc, prefix"#
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Is there any key that opens something?
    pub async fn has_live_key(&self) -> Result<bool, OutboxError> {
        Ok(sqlx::query_scalar!(
            r#"select exists (select from api_keys where revoked_at is null and (expires_at is null or expires_at > clock_now())) as "live!""#
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// The live key of that prefix.
    pub async fn live_key(&self, prefix: &str) -> Result<Option<FoundKey>, OutboxError> {
        let row = sqlx::query!(
            r#"select name, scopes, digest,
                      (last_used_at is null or last_used_at < clock_now() - interval '1 minute') as "use_is_old!"
               from api_keys where prefix = $1 and revoked_at is null and (expires_at is null or expires_at > clock_now())"#,
            prefix
        )
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let digest = row.digest.try_into().map_err(|_| OutboxError::NotUnderstood {
            what: format!("a digest of key {prefix}"),
        })?;
        Ok(Some(FoundKey {
            name: row.name,
            scopes: row.scopes.iter().filter_map(|name| Scope::from_name(name)).collect(),
            digest: KeyDigest(digest),
            use_is_old: row.use_is_old,
        }))
    }

    /// Notes that a key was used, at most once a minute.
    pub async fn note_key_use(&self, prefix: &str) -> Result<(), OutboxError> {
        sqlx::query!("select note_api_key_use($1)", prefix)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Ends a key at once.
    pub async fn revoke_key(&self, prefix: &str, stamp: &AuditStamp) -> Result<Revoked, OutboxError> {
        let said = sqlx::query_scalar!(
            r#"select revoke_api_key($1, $2, $3) as "said!""#,
            prefix,
            stamp.actor,
            stamp.reason
        )
        .fetch_one(&self.pool)
        .await?;
        match said.as_str() {
            "revoked" => Ok(Revoked::Revoked),
            "ended" => Ok(Revoked::Ended),
            "not_found" => Ok(Revoked::NotFound),
            _ => Err(OutboxError::NotUnderstood { what: said }),
        }
    }
}
