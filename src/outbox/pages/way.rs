//! Where the captures of a filter are looked for.

use sqlx::{Postgres, QueryBuilder};

use super::arms::{push_ended, push_failure, push_lane};
use crate::filter::{Filter, State};
use crate::outbox::{Outbox, OutboxError};

/// Sets larger than this are not read whole to find the newest of them.
const SMALL: i64 = 150_000;

/// Of sets larger than this the newest are first looked for along the order: where so many match, they are soon found.
const FEW: i64 = 20_000;

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// By the order's or the payment's index.
    Key,
    /// Among the known deadlines of what is open, and the dead.
    Deadlines,
    /// Among what is open, and what ended in these states.
    Sets {
        /// Open states that are wanted.
        open: Vec<State>,
        /// Ended states that are wanted.
        ended: Vec<State>,
        /// Are they many, so that a look along the order goes first?
        many: bool,
    },
    /// All of a lane that has few.
    Lane,
    /// Along the order.
    Walk {
        /// Does every capture of the span match? Then nothing is looked at in vain.
        plain: bool,
    },
}

impl Way {
    /// The way that looks at the fewest.
    pub async fn of(outbox: &Outbox, filter: &Filter) -> Result<Way, OutboxError> {
        if filter.order_id.is_some() || filter.payment_id.is_some() {
            return Ok(Way::Key);
        }
        if filter.expires_within.is_some() {
            return Ok(Way::Deadlines);
        }
        let failed = filter.class.is_some() || filter.code.is_some();
        if failed || (!filter.states.is_empty() && !filter.states.contains(&State::Captured)) {
            let wanted = |state: &State| filter.states.is_empty() || filter.states.contains(state);
            let (ended, open): (Vec<State>, Vec<State>) =
                State::ALL.into_iter().filter(wanted).partition(|s| s.is_end());
            // The dead are found in their order, however many: they count for nothing.
            let counted: Vec<State> = ended.iter().copied().filter(|state| *state != State::Dead).collect();
            let mut sql = QueryBuilder::new("select 0::bigint");
            if failed && !counted.is_empty() {
                // Of whatever state: the index alone tells.
                sql.push(" + ");
                push_count(&mut sql, |sql| {
                    sql.push("from outcomes o where o.state <> 'dead'");
                    push_failure(sql, filter, "o");
                });
            } else {
                for state in &counted {
                    sql.push(" + ");
                    push_count(&mut sql, |sql| push_ended(sql, *state));
                }
            }
            if !open.is_empty() {
                sql.push(" + ");
                push_count(&mut sql, |sql| {
                    sql.push("from ready");
                });
                sql.push(" + ");
                push_count(&mut sql, |sql| {
                    sql.push("from waiting");
                });
            }
            let found = count(outbox, sql).await?;
            if found <= SMALL {
                let many = found > FEW;
                return Ok(Way::Sets { open, ended, many });
            }
        }
        if filter.provider.is_some() || filter.account.is_some() {
            let mut sql = QueryBuilder::new("select 0::bigint + ");
            push_count(&mut sql, |sql| {
                sql.push("from intents i where ");
                push_lane(sql, filter);
            });
            if count(outbox, sql).await? <= SMALL {
                return Ok(Way::Lane);
            }
        }
        let chosen = Filter {
            since: None,
            until: None,
            limit: None,
            ..filter.clone()
        };
        Ok(Way::Walk {
            plain: chosen == Filter::default(),
        })
    }

    /// How many steps are looked for along the order, and is it all there is to look at?
    pub fn steps(&self) -> (usize, bool) {
        match self {
            Way::Walk { plain: false } => (3, true),
            Way::Sets { many: true, .. } => (2, false),
            Way::Walk { plain: true } | Way::Key | Way::Deadlines | Way::Sets { many: false, .. } | Way::Lane => {
                (0, false)
            }
        }
    }
}

/// Counts, and stops when there are too many.
fn push_count(sql: &mut QueryBuilder<Postgres>, of: impl FnOnce(&mut QueryBuilder<Postgres>)) {
    sql.push("(select count(*) from (select 1 ");
    of(sql);
    sql.push(format!(" limit {}) few)", SMALL + 1));
}

async fn count(outbox: &Outbox, mut sql: QueryBuilder<Postgres>) -> Result<i64, OutboxError> {
    Ok(sql
        .build_query_scalar()
        .persistent(false)
        .fetch_one(&outbox.pool)
        .await?)
}
