//! Years of work in a minute: what lies about in the tables when a claim looks for its rows. Put there behind the product's
//! back, with triggers off, in the form in which the product leaves it.

use super::server::Database;

/// How much of each.
#[derive(Debug, Clone, Copy)]
pub struct Crowd {
    pub ready: u64,
    pub scheduled: u64,
    pub held: u64,
    pub finished: u64,
}

/// Rows in one statement.
const AT_ONCE: u64 = 500_000;

impl Crowd {
    pub async fn fill(self, database: &mut Database) -> anyhow::Result<()> {
        database
            .run(
                "insert into capture.lanes (provider, account) values ('afterpay', 'default') on conflict do nothing;
                 set session_replication_role = replica;
                 create function pg_temp.id(n bigint) returns uuid language sql immutable
                     as $$ select ('01890000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid $$;
                 create view pg_temp.lane as select l.id from capture.lanes l where l.provider = 'afterpay' and l.account = 'default'",
            )
            .await?;
        // Finished first, as time goes.
        let (scheduled, held) = (self.finished, self.finished + self.scheduled);
        let ready = held + self.held;
        Crowd::each(database, 0, self.finished, "null", |from, until| {
            format!(
                "insert into capture.outcomes (intent, lane, state, fence, attempts, ended_at, captured_minor, provider_capture_id, captured_at, proof)
                 select pg_temp.id(n), l.id, 'captured', 1, 1, now(), 1000, n::text, now(), 'answer'
                 from pg_temp.lane l, generate_series({from}, {until}) n;
                 insert into capture.attempts (intent, fence, lease, worker, purpose, generation, request_format, sent, outcome, ended_at, host)
                 select pg_temp.id(n), 1, pg_temp.id(n), pg_temp.id(1), 0, 0, 1, true, 'captured', now(), 'in-process'
                 from generate_series({from}, {until}) n"
            )
        })
        .await?;
        Crowd::each(database, scheduled, held, "null", |from, until| {
            format!(
                "insert into capture.waiting (intent, lane, purpose, urgency, fence, epoch, cause, due_at, since)
                 select pg_temp.id(n), l.id, 0, 0, 0, 1, 'scheduled', now() + interval '1 day' + n * interval '1 second', now()
                 from pg_temp.lane l, generate_series({from}, {until}) n"
            )
        })
        .await?;
        Crowd::each(database, held, ready, "'shipment'", |from, until| {
            format!(
                "insert into capture.waiting (intent, lane, purpose, urgency, fence, epoch, cause, due_at, since)
                 select pg_temp.id(n), l.id, 0, 0, 0, 1, 'held', null, now() from pg_temp.lane l, generate_series({from}, {until}) n"
            )
        })
        .await?;
        Crowd::each(database, ready, ready + self.ready, "null", |from, until| {
            format!(
                "insert into capture.ready (lane, purpose, urgency, intent, fence, epoch, since)
                 select l.id, 0, 0, pg_temp.id(n), 0, 1, now() from pg_temp.lane l, generate_series({from}, {until}) n"
            )
        })
        .await?;
        database.run("set session_replication_role = default").await?;
        database.run("vacuum (analyze)").await
    }

    /// The intents numbered from `from` to below `until`, and what is written for each.
    async fn each(
        database: &mut Database,
        from: u64,
        until: u64,
        hold: &str,
        more: impl Fn(u64, u64) -> String,
    ) -> anyhow::Result<()> {
        let mut first = from;
        while first < until {
            let last = (first + AT_ONCE).min(until) - 1;
            database
                .run(&format!(
                    "insert into capture.intents (id, provider, order_id, payment_id, capture_ref, amount_minor, currency, hold, created_at)
                     select pg_temp.id(n), 'afterpay', 'old-' || n, (900000000000 + n)::text, 'capture-0', 1000, 'USD', {hold}, now()
                     from generate_series({first}, {last}) n;
                     {}",
                    more(first, last)
                ))
                .await?;
            first = last + 1;
        }
        Ok(())
    }
}
