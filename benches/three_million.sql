-- Three million captures, as they would lie after years of work: 2.85 million captured, 100,000 dead, and some of every
-- other state. To measure what people look at, and to look at a full console.
--
--   createdb crowd && DATABASE_URL=postgres:///crowd capture migrate up
--   psql -X postgres:///crowd -v captures=3000000 -f benches/three_million.sql
--
-- Needs a superuser, who may insert behind the triggers' back, and an empty schema called `capture`. The rows agree with
-- one another as those of real work do: `capture doctor` finds nothing misplaced.
\set ON_ERROR_STOP on
\set QUIET on
\if :{?captures} \else \set captures 3000000 \endif
set search_path to capture, pg_temp;
set maintenance_work_mem = '512MB';
set work_mem = '256MB';
set session_replication_role = replica;
begin;

insert into lanes (provider, account) values
    ('afterpay', 'default'), ('afterpay', 'outlet'), ('optty', 'default'), ('resolve', 'charges'), ('resolve', 'orders')
    on conflict do nothing;

-- What each one is. One in thirty is dead, in runs as an outage makes them; one in a hundred has not ended and is young.
create temp table crowd as
select n, id, created_at,
       case when n > :captures * 0.99 then (array['held', 'scheduled', 'ready', 'verifying', 'leased', 'backoff'])[(1 + n * 7919 % 100 / 17)::integer]
            when n % 3000 < 101 then 'dead'
            when n % 2000 = 1999 then 'cancelled'
            else 'captured' end as place,
       case when n % 1000 = 7 then 2 else 1 + (n * 31 % 5)::integer end as lane_place,
       500 + (n * 2654435761 % 200000)::bigint as amount
from (
    select n, now() - (:captures - n) * interval '20 seconds' as created_at,
           (overlay(lpad(to_hex(floor(extract(epoch from now() - (:captures - n) * interval '20 seconds') * 4096000)::bigint), 15, '0')
                    placing '7' from 13 for 0) || '-8000-' || lpad(to_hex(n), 12, '0'))::uuid as id
    from generate_series(1::bigint, :captures) n
) made;
alter table crowd add primary key (n);
analyze crowd;
create temp table crowd_lanes as
select row_number() over (order by provider, account)::integer as place, id as lane, provider, account from lanes;

-- Made anew afterwards: an index is built faster than it grows.
alter table intents drop constraint intents_capture_ref_unique;
alter table intents drop constraint intents_pkey;
alter table outcomes drop constraint outcomes_pkey;

insert into intents (id, provider, account, order_id, payment_id, capture_ref, amount_minor, currency, authorized_minor,
                     authorization_expires_at, hold, not_before, created_at)
select c.id, l.provider, l.account, (c.n / 2)::text, (400000000 + c.n / 2)::text, 'c' || c.n, c.amount,
       case when l.provider = 'resolve' or c.n % 3 > 0 then 'USD' else 'EUR' end, c.amount * 2,
       case when c.n % 4 > 0 then c.created_at + interval '13 days' end,
       case when c.place = 'held' then 'shipment' end, case when c.place = 'scheduled' then now() + (c.n % 72) * interval '1 hour' + interval '1 minute' end,
       c.created_at
from crowd c join crowd_lanes l on l.place = c.lane_place;

insert into outcomes (intent, lane, state, fence, attempts, ended_at, captured_minor, provider_capture_id, captured_at, proof,
                      expires_at, warned, dead_reason, last_class, last_code, created_at, amount_minor, currency,
                      lease, worker, purpose, generation, request_format, sent, attempt_outcome, http_status, began_at, duration_ms, host)
select c.id, l.lane, c.place, case when c.place = 'captured' and c.n % 40 = 0 then 2 else 1 end, case when c.place = 'cancelled' then 0 else 1 end, c.created_at + interval '15 seconds',
       case when c.place = 'captured' then c.amount end, case when c.place = 'captured' then 'p-' || c.n end,
       case when c.place = 'captured' then c.created_at + interval '15 seconds' end, case when c.place = 'captured' then 'answer' end,
       case when c.place = 'dead' and c.n % 4 > 0 then c.created_at + interval '13 days' end,
       case when c.place = 'dead' and c.n % 4 > 0 then case when c.created_at + interval '13 days' <= now() then 3 else 0 end end,
       case when c.place = 'dead' then (array['rejected', 'rejected', 'rejected', 'exhausted', 'expired', 'undecided', 'captured_elsewhere'])[1 + (c.n / 3000 % 7)::integer] end,
       case when c.place = 'dead' then (array['rejected', 'rejected', 'rejected', 'transient', 'transient', 'ambiguous', 'maybe_done'])[1 + (c.n / 3000 % 7)::integer]
            when c.place = 'captured' and c.n % 40 = 0 then 'transient' end,
       case when c.place = 'dead' then (array['declined', 'payment_voided', 'unclassified', 'http_503', 'connect', 'timeout', 'fully_captured'])[1 + (c.n / 3000 % 7)::integer]
            when c.place = 'captured' and c.n % 40 = 0 then 'http_503' end,
       case when c.place = 'dead' then i.created_at end, case when c.place = 'dead' then i.amount_minor::bigint end,
       case when c.place = 'dead' then i.currency end,
       a.id, a.id, a.nought, a.nought, a.one, a.sent, a.outcome, a.status, a.began_at, a.ms, a.host
from crowd c join intents i on i.id = c.id join crowd_lanes l on l.place = c.lane_place
left join lateral (
    select c.id, 0 as nought, 1 as one, true as sent, 'captured' as outcome, 201 as status, c.created_at + interval '14 seconds' as began_at, 1000 as ms,
           case l.provider when 'afterpay' then 'global-api.afterpay.com' when 'optty' then 'api.optty.com' else 'app.paywithresolve.com' end as host
    where c.place = 'captured'
) a on true
where c.place in ('captured', 'dead', 'cancelled');

insert into ready (lane, purpose, urgency, intent, fence, epoch, since)
select l.lane, case when c.place = 'verifying' then 2 else 0 end, 0, c.id, 0, 1, c.created_at
from crowd c join crowd_lanes l on l.place = c.lane_place where c.place = 'ready' or c.place = 'verifying' and c.n % 2 = 0;
insert into waiting (intent, lane, purpose, urgency, fence, epoch, cause, due_at, since)
select c.id, l.lane, case c.place when 'verifying' then 2 when 'backoff' then 1 else 0 end, 0, 0, 1,
       case c.place when 'verifying' then 'verify' else c.place end,
       case when c.place <> 'held' then now() + (c.n % 72) * interval '1 hour' + interval '1 minute' end, c.created_at
from crowd c join crowd_lanes l on l.place = c.lane_place
where c.place in ('held', 'scheduled', 'backoff') or c.place = 'verifying' and c.n % 2 = 1;
insert into leases (id, worker, epoch, claimed_at, until, request_format, intents, lanes, fences, generations, purposes, epochs, settled)
select gen_random_uuid(), gen_random_uuid(), 1, now(), now() + interval '1 day', 1, array_agg(c.id), array_agg(l.lane), array_agg(1),
       array_agg(0::smallint), array_agg(0::smallint), array_agg(1), repeat('0', count(*)::integer)::bit varying
from crowd c join crowd_lanes l on l.place = c.lane_place where c.place = 'leased' group by c.n / 10000;
insert into progress (intent, attempts, first_sent_at, unknown_since, last_class, last_code)
select c.id, 1, c.created_at, case when c.place = 'verifying' then c.created_at end,
       case c.place when 'verifying' then 'ambiguous' when 'backoff' then 'transient' else o.last_class end,
       case c.place when 'verifying' then 'timeout' when 'backoff' then 'http_503' else o.last_code end
from crowd c left join outcomes o on o.intent = c.id where c.place in ('verifying', 'backoff', 'dead');
insert into deadlines (intent, expires_at)
select i.id, i.authorization_expires_at from intents i join crowd c on c.id = i.id
where i.authorization_expires_at is not null and c.place not in ('captured', 'dead', 'cancelled');
insert into attempts_apart (intent, fence, lease, worker, purpose, generation, request_format, sent, outcome, class, code, http_status,
                            began_at, ended_at, duration_ms, host)
select c.id, 1, c.id, c.id, 0, 0, 1, true, 'failed',
       coalesce(o.last_class, case c.place when 'backoff' then 'transient' when 'verifying' then 'ambiguous' end),
       coalesce(o.last_code, case c.place when 'backoff' then 'http_503' when 'verifying' then 'timeout' end),
       402, c.created_at + interval '14 seconds', c.created_at + interval '15 seconds', 1000,
       case l.provider when 'afterpay' then 'global-api.afterpay.com' when 'optty' then 'api.optty.com' else 'app.paywithresolve.com' end
from crowd c join crowd_lanes l on l.place = c.lane_place left join outcomes o on o.intent = c.id
where c.place not in ('held', 'scheduled', 'ready', 'leased', 'cancelled')
  and (c.place <> 'captured' or o.last_code is not null);
insert into events (type, intent_id, provider, account, order_id, payment_id, capture_ref, amount_minor, currency, occurred_at)
select case c.place when 'captured' then 'capture.captured' when 'dead' then 'capture.dead_lettered' else 'capture.enqueued' end,
       i.id, i.provider, i.account, i.order_id, i.payment_id, i.capture_ref, i.amount_minor, i.currency, i.created_at + interval '15 seconds'
from crowd c join intents i on i.id = c.id;

alter table intents add constraint intents_pkey primary key (id);
alter table intents add constraint intents_capture_ref_unique unique (provider, account, payment_id, capture_ref);
alter table outcomes add constraint outcomes_pkey primary key (intent);
commit;
set session_replication_role = default;
vacuum analyze;
select place, count(*) from crowd group by place order by 2 desc;
