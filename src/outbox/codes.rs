//! The providers' codes: which were never seen before, and which this version has no class for.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Outbox, OutboxError};

/// The code of an answer whose own code no adapter knows. It is taken for a refusal; what the provider said is in the
/// evidence of the attempt.
pub const UNCLASSIFIED: &str = "unclassified";

/// So many attempts are counted of a code; one more means "more".
const MOST: i64 = 10_000;

/// A code of a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ProviderCode)]
pub struct CodeRow {
    /// The provider of its newest attempt.
    pub provider: String,
    /// Who said it.
    pub host: String,
    /// The code.
    pub code: String,
    /// Its class in its newest attempt.
    pub class: Option<String>,
    /// Was it never seen before the span? (As far back as attempts are kept.)
    pub new: bool,
    /// Does this version not know what it means?
    pub unclassified: bool,
    /// When it was first seen.
    pub first_seen_at: DateTime<Utc>,
    /// And last.
    pub last_seen_at: DateTime<Utc>,
    /// Attempts within the span; 10,001 means more than 10,000.
    pub attempts: i64,
    /// The capture of its newest attempt, to look at.
    pub example: Uuid,
}

impl Outbox {
    /// Codes that were first seen since then, and those without a class that were seen since then; the newest first.
    pub async fn new_codes(&self, since: DateTime<Utc>) -> Result<Vec<CodeRow>, OutboxError> {
        // Hops from code to code in the index, and looks at both ends of each. (What passed at once has no code.)
        Ok(sqlx::query_as!(
            CodeRow,
            r#"with recursive each as (
                   (select a.host, a.code from attempts_apart a where a.host is not null and a.code is not null order by a.host, a.code limit 1)
                   union all
                   select n.host, n.code from each e
                   cross join lateral (
                       select a.host, a.code from attempts_apart a
                       where a.host is not null and a.code is not null and (a.host, a.code) > (e.host, e.code)
                       order by a.host, a.code limit 1
                   ) n
               )
               select i.provider as "provider!", e.host as "host!", e.code as "code!", l.class, f.ended_at >= $1 as "new!",
                      e.code = $2 as "unclassified!", f.ended_at as "first_seen_at!", l.ended_at as "last_seen_at!",
                      n.attempts as "attempts!", l.intent as "example!"
               from each e
               cross join lateral (
                   select a.ended_at from attempts_apart a where a.host = e.host and a.code = e.code order by a.ended_at limit 1
               ) f
               cross join lateral (
                   select a.ended_at, a.class, a.intent from attempts_apart a where a.host = e.host and a.code = e.code order by a.ended_at desc limit 1
               ) l
               cross join lateral (select i.provider from intents i where i.id = l.intent limit 1) i
               cross join lateral (
                   select count(*) as attempts from (
                       select from attempts_apart a where a.host = e.host and a.code = e.code and a.ended_at >= $1 limit $3
                   ) few
               ) n
               where f.ended_at >= $1 or (e.code = $2 and l.ended_at >= $1)
               order by f.ended_at desc, e.host, e.code"#,
            since,
            UNCLASSIFIED,
            MOST + 1
        )
        .fetch_all(&self.pool)
        .await?)
    }
}
