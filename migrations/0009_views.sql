-- What people look at, fast beside millions of ended captures: the indexes of their reads.
--
-- Each index on intents or outcomes is paid by every capture, so there are few, and those on ended rows hold only what did
-- not pass at the first try. What is open is found in the small tables (ready, waiting, leases, deadlines).

-- The order of every list, newest first, and the spans of --since and --until. By time and then by id, not by id alone: a
-- caller may give ids that are in no order. Paid by every insert, at its right edge.
create index intents_newest on intents (created_at, id);

-- --order, and the ledger of an order. (A payment is found in intents_capture_ref_unique, lane by lane.)
create index intents_order on intents (order_id);

-- --class and --code over what has ended otherwise than dead (outcomes_dead has those). A capture that passed at the first
-- try is not in it.
create index outcomes_failed on outcomes (last_class, last_code)
    where state <> 'dead' and (last_class is not null or last_code is not null);

-- --state cancelled.
create index outcomes_cancelled on outcomes (ended_at) where state = 'cancelled';

-- Codes by when they were first and last seen. Failed attempts only, and only those that a provider had a word in.
create index attempts_codes on attempts_apart (host, code, ended_at) where host is not null and code is not null;

-- What ended within the last hour, and how much of it was captured: the rate of a lane. Rows come in the order of their
-- end, so that a few bytes for many pages are enough, and an insert writes nothing to it.
create index outcomes_ended on outcomes using brin (ended_at) with (pages_per_range = 32, autosummarize = on);

-- Dead letters whose authorisation has not ended, by its end. What a person closed is not in it, nor what was told as over:
-- so it is as small as what somebody can still do something about.
create index outcomes_dead_expiring on outcomes (expires_at)
    where state = 'dead' and last_code is distinct from 'resolved_not_captured' and warned < 3;

-- Those that only a person can decide.
create index outcomes_undecided on outcomes (ended_at) where dead_reason = 'undecided';


-- Dead letters and their authorisations -----------------------------------------------------------------------------------

-- Tells of dead letters whose authorisation ends within 48 h and 24 h, and when it is over, as watch_deadlines() does of
-- what has not ended. It changes nothing else. Returns of how many it told.
create function watch_dead_letters(p_limit integer) returns integer
    language plpgsql volatile security definer set search_path from current
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
declare
    v_now timestamptz := clock_now();
    v_told integer;
begin
    with near as materialized (
        select o.intent, o.expires_at, coalesce(o.expiry_source, 'producer') as source, o.dead_reason, o.last_class, o.last_code,
               case when o.expires_at <= v_now then 3 when o.expires_at <= v_now + interval '24 hours' then 2 else 1 end::smallint as level
        from outcomes o
        where o.state = 'dead' and o.last_code is distinct from 'resolved_not_captured' and o.warned < 3
          and o.expires_at <= v_now + interval '48 hours'
          and o.warned < case when o.expires_at <= v_now then 3 when o.expires_at <= v_now + interval '24 hours' then 2 else 1 end
        order by o.expires_at limit p_limit
        -- A person may be at it: its turn comes again.
        for update skip locked
    ), noted as (
        update outcomes o set warned = n.level from near n where o.intent = n.intent
    ), told as (
        insert into events (type, intent_id, provider, account, order_id, payment_id, capture_ref, amount_minor, currency, data, occurred_at)
        select 'capture.auth_expiring', i.id, i.provider, i.account, i.order_id, i.payment_id, i.capture_ref, i.amount_minor, i.currency,
               jsonb_strip_nulls(jsonb_build_object(
                   'expires_at', n.expires_at, 'source', n.source, 'within_hours', case n.level when 1 then 48 when 2 then 24 else 0 end,
                   'state', 'dead', 'reason', n.dead_reason, 'class', n.last_class, 'code', n.last_code)), v_now
        from near n cross join lateral (select i.* from intents i where i.id = n.intent limit 1) i
        returning 1
    )
    select count(*) into v_told from told;
    return v_told;
end $$;


-- Lanes ---------------------------------------------------------------------------------------------------------------

-- Beside rate_per_minute, which every worker that starts writes from its settings: an operator's word holds until an
-- operator takes it back.
alter table lanes add column rate_override integer constraint lanes_rate_override_positive check (rate_override > 0);
comment on column lanes.rate_override is 'Calls a minute as an operator set them; null: rate_per_minute is in force.';

-- As every act of people, these take the head of the audit before the lane (0007): a claim, which locks its lane, never
-- waits for whoever holds the head, and no two of them wait for each other.
--
-- Sets the lane's rate, or with null gives it back to the settings; false if it already was so.
create function set_lane_rate(p_lane integer, p_rate integer, p_actor text, p_reason text) returns boolean
    language plpgsql volatile security definer set search_path from current as $$
declare
    v_before integer;
    v_settings integer;
begin
    perform from audit_head for update;
    select l.rate_override, l.rate_per_minute into v_before, v_settings from lanes l where l.id = p_lane for no key update;
    if not found or v_before is not distinct from p_rate then
        return false;
    end if;
    update lanes l set rate_override = p_rate where l.id = p_lane;
    insert into audit (at, actor, action, reason, lane, detail)
        values (clock_now(), p_actor, 'lane limit', p_reason, p_lane,
                jsonb_build_object('before', v_before, 'after', p_rate, 'settings', v_settings));
    perform wake_sleepers();
    return true;
end $$;

-- Lets the open breaker of a lane test the provider now and not when its time is over: the next claim lets one row through,
-- and its answer closes the breaker or opens it for twice as long. Nothing else about the lane is touched: what is paused
-- stays so, and a wait that the provider asked for is kept. Tells what was found: probing, paused, closed, due (the next
-- claim tests anyway), testing (a test is in flight).
create function test_lane(p_lane integer, p_actor text, p_reason text) returns text
    language plpgsql volatile security definer set search_path from current as $$
declare
    v_now timestamptz := clock_now();
    v_lane lanes;
begin
    perform from audit_head for update;
    select l.* into v_lane from lanes l where l.id = p_lane for no key update;
    if v_lane.paused_at is not null then
        return 'paused';
    elsif v_lane.open_until is null then
        return 'closed';
    elsif v_lane.open_until <= v_now then
        return 'due';
    elsif v_lane.testing then
        return 'testing';
    end if;
    update lanes l set open_until = v_now where l.id = p_lane;
    insert into audit (at, actor, action, reason, lane, detail)
        values (v_now, p_actor, 'lane probe', p_reason, p_lane, jsonb_build_object('open_until', v_lane.open_until, 'unanswered', v_lane.unanswered));
    perform wake_sleepers();
    return 'probing';
end $$;


-- Pruning -------------------------------------------------------------------------------------------------------------

-- A row here: this transaction prunes. Only prune_some() writes it, and it is gone before the transaction ends.
create table prunings (xid xid8 primary key);

create function refuse_change_but_prune() returns trigger
    language plpgsql security definer set search_path from current as $$
begin
    if tg_op = 'DELETE' and exists (select from prunings p where p.xid = pg_current_xact_id()) then
        return null;
    end if;
    raise exception '% is append-only: % is refused', tg_table_name, lower(tg_op)
        using errcode = '55000', table = tg_table_name, schema = tg_table_schema,
              hint = 'what happened stays; old attempts and events of ended captures go with: capture prune';
end $$;
drop trigger events_are_append_only on events;
create trigger events_are_append_only before update or delete or truncate on events
    for each statement execute function refuse_change_but_prune();
drop trigger attempts_are_append_only on attempts_apart;
create trigger attempts_are_append_only before update or delete or truncate on attempts_apart
    for each statement execute function refuse_change_but_prune();

-- Says who prunes, why, and what: the row of `audit` without which prune_some() does nothing. Returns its id.
create function begin_prune(p_older interval, p_forced boolean, p_actor text, p_reason text) returns bigint
    language plpgsql volatile security definer set search_path from current as $$
declare
    v_now timestamptz := clock_now();
    v_id bigint;
begin
    perform from audit_head for update;
    if p_older is null or v_now - p_older > v_now - interval '1 hour' or (v_now - p_older > v_now - interval '7 days' and not p_forced) then
        raise exception 'prune: % is too short a span', coalesce(p_older::text, 'null')
            using errcode = '23514', constraint = 'prune_keeps_a_week', schema = current_schema(),
                  hint = 'keep at least 7 days; with force at least an hour';
    end if;
    insert into audit (at, actor, action, reason, detail)
        values (v_now, p_actor, 'prune', p_reason, jsonb_build_object('before', v_now - p_older, 'forced', p_forced))
        returning id into v_id;
    update epoch set events_pruned_before = greatest(events_pruned_before, v_now - p_older);
    return v_id;
end $$;

-- Removes attempts and events of the next so many captures, the oldest first, as far as they are older than the audit row
-- says and belong to what ended before that: captured, cancelled, or resolved by a person. What has not ended and dead
-- letters that wait for a person keep everything; an intent, its outcome (with the attempt, where it passed at once), its late
-- results and the audit stay for ever.
-- Returns what it removed, and behind which capture to go on (null: that was all).
create function prune_some(p_audit bigint, p_after_at timestamptz, p_after_id uuid, p_batch integer,
                           out looked bigint, out attempts bigint, out events bigint, out next_at timestamptz, out next_id uuid)
    language plpgsql volatile security definer set search_path from current
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
    set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
    v_before timestamptz := (select (a.detail ->> 'before')::timestamptz from audit a where a.id = p_audit and a.action = 'prune');
    v_ended uuid[];
begin
    if v_before is null then
        raise exception 'prune: audit row % says nothing of a prune', p_audit
            using errcode = '22023', hint = 'call begin_prune first, and pass what it returns';
    end if;
    with next as materialized (
        select i.id, i.created_at from intents i
        where i.created_at < v_before
          and (i.created_at, i.id) > (coalesce(p_after_at, '-infinity'), coalesce(p_after_id, '00000000-0000-0000-0000-000000000000'))
        order by i.created_at, i.id limit least(greatest(p_batch, 1), 10000)
    ), ended as (
        select n.id from next n
        cross join lateral (select o.* from outcomes o where o.intent = n.id limit 1) o
        where o.ended_at < v_before and (o.state <> 'dead' or o.last_code = 'resolved_not_captured')
    ), last as (select n.created_at, n.id from next n order by n.created_at desc, n.id desc limit 1)
    select (select count(*) from next), array(select e.id from ended e), (select l.created_at from last l), (select l.id from last l)
        into looked, v_ended, next_at, next_id;
    if looked < least(greatest(p_batch, 1), 10000) then
        next_at := null;
        next_id := null;
    end if;
    insert into prunings values (pg_current_xact_id());
    with gone as (delete from attempts_apart a where a.intent = any (v_ended) and a.ended_at < v_before returning 1)
        select count(*) into attempts from gone;
    with gone as (delete from events e where e.intent_id = any (v_ended) and e.occurred_at < v_before returning 1)
        select count(*) into events from gone;
    delete from prunings p where p.xid = pg_current_xact_id();
end $$;
