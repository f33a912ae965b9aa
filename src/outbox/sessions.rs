//! Sessions of the console. Each belongs to a key: it opens what the key opens, and nothing once the key is over.

use std::time::Duration;

use super::{Outbox, OutboxError, interval};
use crate::api_key::{KeyDigest, Scope, Scopes};

/// A session whose key is live.
#[derive(Debug, Clone)]
pub struct FoundSession {
    /// The key's prefix.
    pub key: String,
    /// The key's name.
    pub name: String,
    /// What the key allows.
    pub scopes: Scopes,
    /// Was its use last noted more than a minute ago?
    pub use_is_old: bool,
}

impl Outbox {
    /// Begins a session with a key that has just been shown.
    pub async fn begin_session(&self, digest: &KeyDigest, key: &str, lifetime: Duration) -> Result<(), OutboxError> {
        sqlx::query!(
            "select begin_console_session($1, $2, $3)",
            &digest.0[..],
            key,
            interval(lifetime)
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The session of that digest, if neither it nor its key is over and it was used within `idle`.
    pub async fn live_session(&self, digest: &KeyDigest, idle: Duration) -> Result<Option<FoundSession>, OutboxError> {
        let row = sqlx::query!(
            r#"select k.prefix, k.name, k.scopes, s.used_at < clock_now() - interval '1 minute' as "use_is_old!"
               from console_sessions s join api_keys k on k.prefix = s.key
               where s.digest = $1 and s.expires_at > clock_now() and s.used_at > clock_now() - $2::interval
                 and k.revoked_at is null and (k.expires_at is null or k.expires_at > clock_now())"#,
            &digest.0[..],
            interval(idle)
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| FoundSession {
            key: row.prefix,
            name: row.name,
            scopes: row.scopes.iter().filter_map(|name| Scope::from_name(name)).collect(),
            use_is_old: row.use_is_old,
        }))
    }

    /// Notes that a person is there, at most once a minute.
    pub async fn use_session(&self, digest: &KeyDigest) -> Result<(), OutboxError> {
        sqlx::query!("select use_console_session($1)", &digest.0[..])
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Ends a session.
    pub async fn end_session(&self, digest: &KeyDigest) -> Result<(), OutboxError> {
        sqlx::query!("select end_console_session($1)", &digest.0[..])
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}
