//! What needs a person, and the money that is near its end: for `status --check` and for the gauge of money at risk.
//!
//! Each looks where few are: the small tables of what is open, and partial indexes of dead letters that nobody has closed
//! (`migrations/0009_views.sql`), so that millions of ended captures cost nothing.

use serde::Serialize;

use super::{Outbox, OutboxError};
use crate::intent::Lane;

/// Something that somebody should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// One of [`Check::NAMES`].
    pub name: &'static str,
    /// In words.
    pub says: String,
    /// How many intents; of `shipment_unmatched` how many shipments, which have none.
    pub intents: i64,
}

impl Check {
    /// Every name; each is explained by `capture dead explain NAME`.
    pub const NAMES: [&'static str; 9] = [
        "lane_unserved",
        "lane_paused",
        "breaker_open",
        "outcome_unknown",
        "deadline_near",
        "dead_letters",
        "undecided",
        "late_receipt",
        "shipment_unmatched",
    ];
}

/// Money that is not captured and whose authorisation ends soon, by lane and currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtRisk {
    /// Provider and account.
    pub lane: Lane,
    /// ISO 4217.
    pub currency: String,
    /// Within 24 hours, in minor units.
    pub day_minor: i64,
    /// Within 48 hours, those of the first day included.
    pub two_days_minor: i64,
}

impl Outbox {
    /// Money at risk within two days, dead letters that nobody has closed included. Reads only authorisations that end by then.
    pub async fn at_risk(&self) -> Result<Vec<AtRisk>, OutboxError> {
        let rows = sqlx::query!(
            r#"select i.provider, i.account, i.currency,
                      coalesce(sum(i.amount_minor) filter (where d.expires_at < clock_now() + interval '24 hours'), 0)::bigint as "day_minor!",
                      sum(i.amount_minor)::bigint as "two_days_minor!"
               from (
                   select d.intent, d.expires_at from deadlines d
                   where d.expires_at < (select clock_now()) + interval '48 hours'
                     -- Over by assumption is told, and nothing follows from it: it is near no more.
                     and not (d.source <> 'producer' and d.warned = 3) and (d.source = 'producer' or d.expires_at > (select clock_now()))
                   union all
                   select o.intent, o.expires_at from outcomes o
                   where o.state = 'dead' and o.last_code is distinct from 'resolved_not_captured' and o.warned < 3
                     and o.expires_at > (select clock_now()) and o.expires_at < (select clock_now()) + interval '48 hours'
               ) d
               cross join lateral (select i.* from intents i where i.id = d.intent limit 1) i
               group by i.provider, i.account, i.currency"#
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| AtRisk {
                lane: Lane {
                    provider: row.provider,
                    account: row.account,
                },
                currency: row.currency,
                day_minor: row.day_minor,
                two_days_minor: row.two_days_minor,
            })
            .collect())
    }

    /// What `status --check` trips over: lanes that stand still with rows in them, outcomes unknown for over an hour,
    /// authorisations that end within a day, dead letters that cannot wait, and goods that left uncaptured.
    pub async fn checks(&self) -> Result<Vec<Check>, OutboxError> {
        let mut checks = self.lane_checks().await?;
        let unknown = sqlx::query_scalar!(
            r#"select count(*) as "n!" from progress p
               where p.unknown_since < clock_now() - interval '1 hour' and not exists (select from outcomes o where o.intent = p.intent)"#
        )
        .fetch_one(&self.pool)
        .await?;
        // A receipt for a dead letter stays until a person has closed that. One for a cancelled capture nobody can close here
        // (it is refunded at the provider), so it is told for a week, and by `doctor` for ever.
        let letters = sqlx::query!(
            r#"with now as materialized (select clock_now() as at)
               select (select count(*) from deadlines d
                       where d.expires_at < (select at from now) + interval '24 hours'
                         and not (d.source <> 'producer' and d.warned = 3) and (d.source = 'producer' or d.expires_at > (select at from now))) as "open_near!",
                      (select count(*) from outcomes o
                       where o.state = 'dead' and o.last_code is distinct from 'resolved_not_captured' and o.warned < 3
                         and o.expires_at > (select at from now) and o.expires_at < (select at from now) + interval '24 hours') as "dead_near!",
                      (select count(*) from outcomes o where o.dead_reason = 'undecided') as "undecided!",
                      (select count(distinct t.intent) from late_results t
                       cross join lateral (select o.state, o.last_code from outcomes o where o.intent = t.intent limit 1) o
                       where t.proof in ('answer', 'reference')
                         and (o.state = 'dead' and o.last_code is distinct from 'resolved_not_captured'
                              or o.state = 'cancelled' and t.recorded_at > (select at from now) - interval '7 days')) as "late!""#
        )
        .fetch_one(&self.pool)
        .await?;
        let unmatched = self.unmatched_shipments().await?;
        let near = letters.open_near + letters.dead_near;
        let of_them = match letters.dead_near {
            0 => String::new(),
            dead => format!(" ({dead} of them of dead letters)"),
        };
        let found = [
            (
                "outcome_unknown",
                unknown,
                "outcomes unknown for over an hour; `capture list --state verifying` shows them".to_owned(),
            ),
            (
                "deadline_near",
                near,
                format!("authorisations end within 24 h{of_them}; `capture list --expires-within 24h` shows them"),
            ),
            (
                "dead_letters",
                letters.dead_near,
                "dead letters whose authorisation ends within 24 h: what is not replayed by then is lost; `capture dead list \
                 --expires-within 24h` shows them"
                    .to_owned(),
            ),
            (
                "undecided",
                letters.undecided,
                "dead letters of which nobody knows whether money moved; look at the provider, then `capture resolve`"
                    .to_owned(),
            ),
            (
                "late_receipt",
                letters.late,
                "receipts that came after their capture had been ended without one: real money; `capture doctor`".to_owned(),
            ),
            (
                "shipment_unmatched",
                unmatched.shipments,
                "goods left, and no capture of theirs is held; `capture shipment list --unmatched` shows them".to_owned(),
            ),
        ];
        checks.extend(
            found
                .into_iter()
                .filter(|(_, intents, _)| *intents > 0)
                .map(|(name, intents, says)| Check { name, says, intents }),
        );
        Ok(checks)
    }

    /// Lanes in which rows wait and nothing moves.
    async fn lane_checks(&self) -> Result<Vec<Check>, OutboxError> {
        let lanes = sqlx::query!(
            r#"select l.provider, l.account, l.paused_at is not null as "paused!", l.pause_reason,
                      l.open_until is not null and coalesce(l.open_since < clock_now() - interval '10 minutes', false) as "long_open!",
                      (select count(*) from ready r where r.lane = l.id) + (select count(*) from waiting w where w.lane = l.id) as "rows!",
                      exists (select from workers k where l.id = any (k.lanes) and k.heartbeat_at > clock_now() - interval '60 seconds') as "served!"
               from lanes l order by l.provider, l.account"#
        )
        .fetch_all(&self.pool)
        .await?;
        let mut checks = Vec::new();
        for lane in lanes.into_iter().filter(|lane| lane.rows > 0) {
            let name = format!("{}/{}", lane.provider, lane.account);
            let mut found = |check, says| {
                checks.push(Check {
                    name: check,
                    says,
                    intents: lane.rows,
                });
            };
            if !lane.served {
                found(
                    "lane_unserved",
                    format!("{name}: no worker serves it; add the account to capture.toml and start `capture work`"),
                );
            }
            if lane.paused {
                let why = lane.pause_reason.unwrap_or_default();
                found(
                    "lane_paused",
                    format!("{name}: paused ({why}); `capture lane resume` when it is mended"),
                );
            }
            if lane.long_open {
                found(
                    "breaker_open",
                    format!("{name}: the provider has not answered for over ten minutes; `capture lane list` shows it"),
                );
            }
        }
        Ok(checks)
    }
}
