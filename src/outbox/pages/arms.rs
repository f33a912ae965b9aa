//! The statements behind a page: one arm for each place where captures are looked for, each in the order and cut to the
//! page, put together by `union`.
//!
//! Values are bound, never written into the text. What is looked up for a row is a lateral subquery with a limit, which
//! leaves the planner no way but the index.

use sqlx::{Postgres, QueryBuilder};

use super::{Cursor, Way};
use crate::filter::{Filter, State};
use crate::outbox::interval;

type Sql = QueryBuilder<Postgres>;

/// A part of the order.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// It begins behind this one; `None`: at the newest.
    pub after: Option<Cursor>,
    /// It ends with this one; `None`: with the oldest.
    pub end: Option<Cursor>,
}

impl Span {
    /// All that comes behind.
    pub fn behind(after: Option<Cursor>) -> Span {
        Span { after, end: None }
    }

    /// The conditions on `i`, with those of the filter that are about the same.
    pub fn push(&self, sql: &mut Sql, filter: &Filter) {
        for (sign, cursor) in [("<", self.after), (">=", self.end)] {
            if let Some(cursor) = cursor {
                sql.push(format!(" and (i.created_at, i.id) {sign} ("))
                    .push_bind(cursor.created_at);
                sql.push(", ").push_bind(cursor.id).push(")");
            }
        }
        if let Some(since) = filter.since {
            sql.push(" and i.created_at >= ").push_bind(since);
        }
        if let Some(until) = filter.until {
            sql.push(" and i.created_at < ").push_bind(until);
        }
    }
}

/// All arms of a way: selects of id and created_at.
pub fn push_arms(sql: &mut Sql, way: &Way, filter: &Filter, span: &Span, limit: u32) {
    let judged = |sql: &mut Sql, from: &dyn Fn(&mut Sql)| {
        sql.push("(select i.id, i.created_at from ");
        from(sql);
        push_places(sql, filter);
        sql.push(" where true");
        push_asked(sql, filter);
        push_judgement(sql, filter);
        push_end(sql, filter, span, limit);
    };
    match way {
        Way::Key | Way::Lane | Way::Walk { .. } => judged(sql, &|sql| {
            sql.push("intents i");
        }),
        Way::Deadlines => {
            judged(sql, &|sql| {
                sql.push("(select d.intent from deadlines d where not (d.source = 'assumed' and d.warned = 3)");
                sql.push(" and d.expires_at > (select clock_now())");
                sql.push(" and d.expires_at <= (select clock_now()) + ");
                sql.push_bind(filter.expires_within.map(interval));
                sql.push(") n cross join lateral (select i.* from intents i where i.id = n.intent limit 1) i");
            });
            if filter.states.is_empty() || filter.states.contains(&State::Dead) {
                sql.push(" union ");
                push_dead_arm(sql, filter, span, limit);
            }
        }
        Way::Sets { open, ended, .. } => {
            let mut between = "";
            if !open.is_empty() {
                push_open_arm(sql, open, filter, span, limit);
                between = " union ";
            }
            for state in ended {
                sql.push(between);
                match state {
                    State::Dead => push_dead_arm(sql, filter, span, limit),
                    State::Captured
                    | State::Cancelled
                    | State::Held
                    | State::Scheduled
                    | State::Ready
                    | State::Leased
                    | State::Verifying => push_ended_arm(sql, *state, filter, span, limit),
                }
                between = " union ";
            }
        }
    }
}

/// What is in these open states, out of the tables where it is.
fn push_open_arm(sql: &mut Sql, states: &[State], filter: &Filter, span: &Span, limit: u32) {
    sql.push("(select i.id, i.created_at from (");
    let mut between = "";
    for state in states {
        let Some(place) = place_of(*state) else { continue };
        sql.push(between).push(place);
        between = " union all ";
    }
    sql.push(") n cross join lateral (select i.* from intents i where i.id = n.intent limit 1) i");
    if filter.class.is_some() || filter.code.is_some() {
        sql.push(
            " left join lateral (select p.last_class, p.last_code from progress p where p.intent = n.intent limit 1) p on true",
        );
    }
    sql.push(" where true");
    push_lane_number(sql, filter, "n");
    push_asked(sql, filter);
    push_failure(sql, filter, "p");
    push_end(sql, filter, span, limit);
}

/// Where the intents of an open state are.
fn place_of(state: State) -> Option<&'static str> {
    match state {
        State::Ready => Some("select r.intent, r.lane from ready r where r.purpose < 2"),
        State::Held => Some("select w.intent, w.lane from waiting w where w.purpose < 2 and w.cause = 'held'"),
        State::Scheduled => Some("select w.intent, w.lane from waiting w where w.purpose < 2 and w.cause <> 'held'"),
        State::Verifying => Some(
            "select r.intent, r.lane from ready r where r.purpose = 2
             union all select w.intent, w.lane from waiting w where w.purpose = 2",
        ),
        State::Leased => Some(
            "select s.intent, s.lane from leases x, unnest(x.intents, x.lanes) with ordinality as s(intent, lane, place)
             where get_bit(x.settled, s.place::integer - 1) = 0",
        ),
        State::Captured | State::Dead | State::Cancelled => None,
    }
}

fn push_ended_arm(sql: &mut Sql, state: State, filter: &Filter, span: &Span, limit: u32) {
    sql.push("(select i.id, i.created_at from (select o.intent, o.lane ");
    push_ended(sql, state);
    push_lane_number(sql, filter, "o");
    push_failure(sql, filter, "o");
    sql.push(") n cross join lateral (select i.* from intents i where i.id = n.intent limit 1) i where true");
    push_asked(sql, filter);
    push_end(sql, filter, span, limit);
}

/// What is dead, in its own order and out of its own index: no other row is read. Orders and payments are found by their keys.
fn push_dead_arm(sql: &mut Sql, filter: &Filter, span: &Span, limit: u32) {
    sql.push(
        "(select i.id, i.created_at from (
             select o.intent as id, o.created_at, o.lane, o.last_class, o.last_code, o.amount_minor, o.currency,
                    o.expires_at
             from outcomes o where o.state = 'dead'
         ) i where true",
    );
    push_lane_number(sql, filter, "i");
    push_failure(sql, filter, "i");
    push_money(sql, filter, "i.expires_at");
    push_end(sql, filter, span, limit);
}

/// The outcomes of that state. Its name stands in the text, so that the planner knows which partial index holds them.
pub fn push_ended(sql: &mut Sql, state: State) {
    sql.push(format!("from outcomes o where o.state = '{}'", state.name()));
}

/// Class and code, as the alias has them.
pub fn push_failure(sql: &mut Sql, filter: &Filter, alias: &str) {
    if let Some(class) = filter.class {
        sql.push(format!(" and {alias}.last_class = ")).push_bind(class.name());
    }
    if let Some(code) = &filter.code {
        sql.push(format!(" and {alias}.last_code = ")).push_bind(code.clone());
    }
}

fn push_lane_number(sql: &mut Sql, filter: &Filter, alias: &str) {
    if filter.provider.is_none() && filter.account.is_none() {
        return;
    }
    sql.push(format!(
        " and {alias}.lane = any (array(select l.id from lanes l where true"
    ));
    if let Some(provider) = &filter.provider {
        sql.push(" and l.provider = ").push_bind(provider.clone());
    }
    if let Some(account) = &filter.account {
        sql.push(" and l.account = ").push_bind(account.clone());
    }
    sql.push("))");
}

/// Provider and account of `i`, such that the index that begins with both can be used.
pub fn push_lane(sql: &mut Sql, filter: &Filter) {
    match &filter.provider {
        Some(provider) => sql.push("i.provider = ").push_bind(provider.clone()),
        None => sql.push("i.provider = any (array(select distinct l.provider from lanes l))"),
    };
    match &filter.account {
        Some(account) => sql.push(" and i.account = ").push_bind(account.clone()),
        None => sql.push(" and i.account = any (array(select distinct l.account from lanes l))"),
    };
}

/// What was asked for, on `i`.
fn push_asked(sql: &mut Sql, filter: &Filter) {
    if filter.provider.is_some() || filter.account.is_some() || filter.payment_id.is_some() {
        sql.push(" and ");
        push_lane(sql, filter);
    }
    if let Some(payment) = &filter.payment_id {
        sql.push(" and i.payment_id = ").push_bind(payment.clone());
    }
    if let Some(order) = &filter.order_id {
        sql.push(" and i.order_id = ").push_bind(order.clone());
    }
    push_money(sql, filter, ENDS);
}

/// The end that counts of an intent `i`: of what is open, or dead; and of the rest what its producer said.
const ENDS: &str = "coalesce((select d.expires_at from deadlines d where d.intent = i.id), \
                    (select x.expires_at from outcomes x where x.intent = i.id), i.authorization_expires_at)";

/// Amount and deadline, on `i`; `ends`: where its deadline is.
fn push_money(sql: &mut Sql, filter: &Filter, ends: &str) {
    if let Some((comparison, money)) = filter.amount {
        sql.push(" and i.currency = ").push_bind(money.currency.code());
        sql.push(format!(" and i.amount_minor {} ", comparison.sign()))
            .push_bind(money.minor);
    }
    if let Some(within) = filter.expires_within {
        sql.push(format!(
            " and {ends} > (select clock_now()) and {ends} <= (select clock_now()) + "
        ));
        sql.push_bind(interval(within));
    }
}

fn push_end(sql: &mut Sql, filter: &Filter, span: &Span, limit: u32) {
    span.push(sql, filter);
    sql.push(format!(" order by i.created_at desc, i.id desc limit {limit})"));
}

/// Where `i` is and how it failed, as far as the filter asks.
fn push_places(sql: &mut Sql, filter: &Filter) {
    if !is_judged(filter) {
        return;
    }
    sql.push(
        " left join lateral (select o.state, o.last_class, o.last_code from outcomes o where o.intent = i.id limit 1) o on true",
    );
    if filter.states.iter().any(|state| !state.is_end()) {
        sql.push(
            " left join lateral (select r.purpose from ready r where o.state is null and r.intent = i.id limit 1) r on true
              left join lateral (select w.purpose, w.cause from waiting w where o.state is null and w.intent = i.id limit 1) w on true",
        );
    }
    if filter.class.is_some() || filter.code.is_some() {
        sql.push(
            " left join lateral (select p.last_class, p.last_code from progress p where p.intent = i.id limit 1) p on true",
        );
    }
}

fn is_judged(filter: &Filter) -> bool {
    !filter.states.is_empty() || filter.class.is_some() || filter.code.is_some() || filter.expires_within.is_some()
}

/// The same words as the view `status`.
fn push_judgement(sql: &mut Sql, filter: &Filter) {
    if !filter.states.is_empty() {
        let names: Vec<&str> = filter.states.iter().map(|state| state.name()).collect();
        sql.push(match filter.states.iter().any(|state| !state.is_end()) {
            true => {
                " and case when o.state is not null then o.state when r.purpose = 2 or w.purpose = 2 then 'verifying'
                        when r.purpose is not null then 'ready' when w.cause = 'held' then 'held'
                        when w.purpose is not null then 'scheduled' else 'leased' end = any ("
            }
            false => " and o.state = any (",
        });
        sql.push_bind(names).push(")");
    }
    if let Some(class) = filter.class {
        sql.push(" and coalesce(o.last_class, p.last_class) = ")
            .push_bind(class.name());
    }
    if let Some(code) = &filter.code {
        sql.push(" and coalesce(o.last_code, p.last_code) = ")
            .push_bind(code.clone());
    }
    // Money that was captured, or will not be, has no deadline any more.
    if filter.expires_within.is_some() {
        sql.push(" and (o.state is null or o.state = 'dead')");
    }
}
