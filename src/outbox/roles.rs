//! The roles: who may look into the schema, and which of them were never made or granted.

use sqlx::Row;

use super::{Outbox, OutboxError, SchemaFault};

/// The roles of the schema. The migration that creates and grants them has the same list.
const ROLES: [&str; 6] = [
    "capture_producer",
    "capture_fulfilment",
    "capture_worker",
    "capture_readonly",
    "capture_operator",
    "capture_metrics",
];

/// The roles that cannot be used yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnusableRoles {
    /// These do not exist.
    pub absent: Vec<String>,
    /// These exist, and were granted nothing in this schema.
    pub without_grants: Vec<String>,
}

impl Outbox {
    /// Which roles cannot be used: a migration creates them only where its login may, and grants only those there are.
    pub async fn unusable_roles(&self) -> Result<UnusableRoles, OutboxError> {
        let rows = sqlx::query(
            "select name, r.oid is null from unnest($2::text[]) with ordinality as t(name, place)
             left join pg_roles r on r.rolname = name
             where r.oid is null or not has_schema_privilege(r.oid, to_regnamespace(quote_ident($1)), 'usage')
             order by place",
        )
        .bind(&self.schema)
        .bind(ROLES.as_slice())
        .fetch_all(&self.pool)
        .await?;
        let mut unusable = UnusableRoles::default();
        for row in rows {
            match row.get(1) {
                true => unusable.absent.push(row.get(0)),
                false => unusable.without_grants.push(row.get(0)),
            }
        }
        Ok(unusable)
    }

    /// Refuses a role that has no right to the schema: to it, all that is there would look as if it were missing.
    pub async fn check_access(&self) -> Result<(), OutboxError> {
        let row = sqlx::query(
            "select current_user::text, coalesce(has_schema_privilege(to_regnamespace(quote_ident($1)), 'usage'), true)",
        )
        .bind(&self.schema)
        .fetch_one(&self.pool)
        .await?;
        match row.get(1) {
            true => Ok(()),
            false => Err(self.not_granted(row.get(0))),
        }
    }

    pub(super) fn not_granted(&self, role: String) -> OutboxError {
        let schema = self.schema.clone();
        SchemaFault::NotGranted { schema, role }.into()
    }
}
