-- What moves intents besides claim and settle: releases, deadlines, cancellation, operators. (Shipments: 0011_shipments.sql.)

-- Tells of authorisations that end within 48 h and 24 h, held captures included, and makes what is over due at once, so
-- that the worker gives it up aloud. An end that is only assumed (0013) is told of when it is over, and ends nothing.
-- Returns how many it told of.
create function watch_deadlines(p_margin_ms bigint, p_limit integer) returns integer
    language plpgsql volatile security definer set search_path from current
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
declare
    v_now timestamptz := clock_now();
    v_told integer;
begin
    with near as materialized (
        select d.ctid as row, d.intent, d.expires_at, d.source,
               case when d.expires_at <= v_now + case d.source when 'producer' then p_margin_ms else 0 end * interval '1 millisecond' then 3
                    when d.expires_at <= v_now + interval '24 hours' then 2 else 1 end::smallint as level
        from deadlines d
        where d.expires_at <= v_now + interval '48 hours' and not (d.source <> 'producer' and d.warned = 3)
          and d.warned < case when d.expires_at <= v_now + case d.source when 'producer' then p_margin_ms else 0 end * interval '1 millisecond' then 3
                              when d.expires_at <= v_now + interval '24 hours' then 2 else 1 end
        order by d.expires_at limit p_limit
        for update skip locked
    ),
    -- A row that a producer's open transaction holds (a cancel) is passed over: to wait for it with these deadlines in
    -- hand, which that cancel wants next, would be a deadlock.
    slow as materialized (
        select r.lane, r.purpose, r.urgency, r.seq from ready r
        where r.urgency > -32768 and r.intent = any (array(select n.intent from near n where n.level >= 2))
        for update skip locked
    ), hurried as (
        -- (a new place in line: claims keep in mind where each class begins)
        update ready r set urgency = -32768, seq = default from slow s
        where r.lane = s.lane and r.purpose = s.purpose and r.urgency = s.urgency and r.seq = s.seq
    ), stopped as materialized (
        select w.intent from waiting w
        where w.purpose < 2 and w.intent = any (array(select n.intent from near n where n.level = 3 and n.source = 'producer'))
        for update skip locked
    ),
    -- That cancel may be rolled back: what could not be stopped is looked at again.
    sure as materialized (
        select n.* from near n
        where n.level < 3 or n.source <> 'producer' or n.intent in (select s.intent from stopped s)
           or not exists (select from waiting w where w.intent = n.intent and w.purpose < 2)
    ), noted as (
        update deadlines d set warned = n.level from sure n where d.ctid = n.row
    ), due as (
        update waiting w set cause = 'scheduled', due_at = v_now where w.intent = any (array(select s.intent from stopped s))
    ), told as (
        insert into events (type, intent_id, provider, account, order_id, payment_id, capture_ref, amount_minor, currency, data, occurred_at)
        select 'capture.auth_expiring', i.id, i.provider, i.account, i.order_id, i.payment_id, i.capture_ref, i.amount_minor, i.currency,
               jsonb_strip_nulls(jsonb_build_object(
                   'expires_at', n.expires_at, 'source', n.source, 'within_hours', case n.level when 1 then 48 when 2 then 24 else 0 end,
                   -- Why it is not captured yet: what waits for a release is another matter than what fails.
                   'state', case when r.purpose = 2 or w.purpose = 2 then 'verifying' when r.purpose is not null then 'ready'
                                 when w.cause = 'held' then 'held' when w.purpose is not null then 'scheduled' else 'leased' end,
                   'class', p.last_class, 'code', p.last_code)), v_now
        from sure n
        cross join lateral (select i.* from intents i where i.id = n.intent limit 1) i
        left join lateral (select r.purpose from ready r where r.intent = n.intent limit 1) r on true
        left join lateral (select w.purpose, w.cause from waiting w where w.intent = n.intent limit 1) w on true
        left join lateral (select p.last_class, p.last_code from progress p where p.intent = n.intent limit 1) p on true
        returning 1
    )
    select count(*) into v_told from told;
    if v_told > 0 then
        perform wake_sleepers();
    end if;
    return v_told;
end $$;

create function release(
    provider text, payment_id text default null, order_id text default null, account text default 'default',
    capture_ref text default null, shipment_ref text default null, company text default null, method text default null,
    tracking_number text default null, out release_id bigint, out created boolean
)
    language plpgsql volatile security definer set search_path from current set enable_seqscan = off set jit = off as $$
#variable_conflict use_column
declare
    v_column text;
    v_length integer;
begin
    if release.provider is null or not exists (select from providers p where p.name = release.provider) then
        raise exception 'release: unknown provider %', coalesce(quote_literal(left(release.provider, 60)), 'null')
            using errcode = '23514', constraint = 'releases_provider_known', column = 'provider', table = 'releases', schema = current_schema(),
                  hint = (select 'use one of: ' || string_agg(p.name, ', ' order by p.name) from providers p);
    end if;
    if coalesce(release.payment_id, release.order_id) is null then
        raise exception 'release: neither payment_id nor order_id is given'
            using errcode = '23514', constraint = 'releases_name_a_payment_or_an_order', column = 'payment_id', table = 'releases', schema = current_schema(),
                  hint = 'pass payment_id => or order_id => of the held capture';
    end if;
    -- Empty is not given: a form that was left blank must not end a capture as one with incomplete shipping data.
    company := nullif(btrim(release.company), '');
    method := nullif(btrim(release.method), '');
    tracking_number := nullif(btrim(release.tracking_number), '');
    if (release.company is null) <> (release.method is null) or (release.company is null) <> (release.tracking_number is null) then
        raise exception 'release: company, method and tracking_number go together'
            using errcode = '23514', constraint = 'releases_shipping_all_or_none', column = 'company', table = 'releases', schema = current_schema(),
                  hint = 'pass all three or none';
    end if;
    -- No index takes more than some 2700 bytes, and what is longer than an intent's names is none of them.
    select given.name, char_length(given.value) into v_column, v_length
        from (values (1, 'account', release.account), (2, 'payment_id', release.payment_id), (3, 'order_id', release.order_id),
                     (4, 'capture_ref', release.capture_ref), (5, 'shipment_ref', release.shipment_ref), (6, 'company', release.company),
                     (7, 'method', release.method), (8, 'tracking_number', release.tracking_number)) given(nth, name, value)
        where char_length(given.value) > 255 order by given.nth limit 1;
    if v_column is not null then
        raise exception 'release: % has % characters, more than 255', v_column, v_length
            using errcode = '23514', constraint = 'releases_texts_short', column = v_column, table = 'releases', schema = current_schema(),
                  hint = format('pass %s as at most 255 characters, the same for every call about this shipment', v_column);
    end if;
    insert into releases as r (provider, account, payment_id, order_id, capture_ref, shipment_ref, company, method, tracking_number, released_by, created_at, next_try_at)
        values (release.provider, coalesce(release.account, 'default'), release.payment_id, release.order_id, release.capture_ref, release.shipment_ref,
                release.company, release.method, release.tracking_number, session_user, clock_now(), clock_now())
        on conflict do nothing
        returning r.id into release_id;
    created := release_id is not null;
    if not created then
        select r.id into release_id from releases r
        where r.provider = release.provider and r.account = coalesce(release.account, 'default')
          and coalesce(r.payment_id, '') = coalesce(release.payment_id, '') and coalesce(r.order_id, '') = coalesce(release.order_id, '')
          and coalesce(r.capture_ref, '') = coalesce(release.capture_ref, '') and r.shipment_ref = release.shipment_ref;
    else
        perform wake_sleepers();
    end if;
end $$;
comment on function release is 'Frees a held capture, in your transaction: release(provider => ..., payment_id | order_id => ...). May come before the intent; the same shipment_ref again changes nothing, but without shipment_ref or capture_ref each call frees another one.';

-- Ends an intent that nobody works on as cancelled. For the functions below, which know why it may.
create function end_cancelled(p_intent uuid, p_lane integer, p_fence integer, p_by text, p_reason text, p_more jsonb default '{}') returns void
    language plpgsql volatile set search_path from current set enable_seqscan = off set jit = off as $$
declare
    v_now timestamptz := clock_now();
begin
    insert into outcomes (intent, lane, state, fence, attempts, ended_at, last_class, last_code)
        select p_intent, p_lane, 'cancelled', p_fence, coalesce(p.attempts, 0::smallint), v_now, p.last_class, p.last_code
        from (select 1) one left join progress p on p.intent = p_intent;
    delete from progress p where p.intent = p_intent;
    delete from deadlines d where d.intent = p_intent;
    delete from cancel_requests c where c.intent = p_intent;
    insert into events (type, intent_id, provider, account, order_id, payment_id, capture_ref, amount_minor, currency, data, occurred_at)
        select 'capture.cancelled', i.id, i.provider, i.account, i.order_id, i.payment_id, i.capture_ref, i.amount_minor, i.currency,
               jsonb_build_object('by', p_by, 'reason', p_reason) || p_more, v_now
        from intents i where i.id = p_intent;
end $$;

-- Takes back this one intent. p_unless_shipped: not if a release has freed it, for then its goods have left.
create function cancel_one(p_intent uuid, p_reason text, p_unless_shipped boolean) returns text
    language plpgsql volatile set search_path from current set enable_seqscan = off set jit = off as $$
declare
    v_lane integer;
    v_fence integer;
    v_row_epoch integer;
    v_may_be_sent boolean;
    -- Null in a history of the database that no worker has looked at yet: then everything may have been sent.
    v_epoch integer := (select e.number from epoch e where e.system_identifier = server_identifier() and e.timeline = server_timeline());
begin
    -- What was never sent, or surely not processed, and has not lost a history, is taken back at once. Epochs are
    -- compared because a row of an older epoch may have been sent in a history that is gone. So may what was made soon after
    -- that: asked for again, and captured when it was first asked for. As in `claim`, which looks again: for five leases.
    v_may_be_sent := exists (
        select from epoch e, intents i
        where i.id = p_intent and e.number > 1
          and i.created_at < e.began_at
              + 5 * coalesce((select max(w.lease_ms) from workers w), 3600000) * interval '1 millisecond'
          and not exists (select from progress p where p.intent = i.id and p.lost_leases = 0)
    );
    for attempt in 1..3 loop
        if p_unless_shipped then
            -- A release frees only what waits: whoever holds this row knows whether it is shipped, and it stays so.
            perform from waiting w where w.intent = p_intent for update;
            if exists (select from releases r where r.intent = p_intent) then
                return 'ended';
            end if;
        end if;
        -- Also what is only wished for waits for a split that is under way, and goes on to what that leaves.
        select w.epoch into v_row_epoch from waiting w where w.intent = p_intent and w.purpose < 2 for update;
        if not found then
            select r.epoch into v_row_epoch from ready r where r.intent = p_intent and r.purpose < 2 for update;
        end if;
        if found then
            exit when v_may_be_sent or v_row_epoch is distinct from v_epoch;
            -- A receipt that comes late, and this decision that nothing was captured, must not miss each other: both hold
            -- the intent. One that is there already ends it as captured at its next claim.
            perform from intents i where i.id = p_intent for no key update;
            exit when exists (select from late_results t where t.intent = p_intent and t.proof in ('answer', 'reference'));
            delete from waiting w where w.intent = p_intent returning w.lane, w.fence into v_lane, v_fence;
            if v_lane is null then
                delete from ready r where r.intent = p_intent returning r.lane, r.fence into v_lane, v_fence;
            end if;
            perform end_cancelled(p_intent, v_lane, v_fence, session_user, p_reason);
            return 'cancelled';
        end if;
        if exists (select from outcomes o where o.intent = p_intent) then
            return 'ended';
        end if;
        -- Else it is in a lease, or its outcome is unknown; or it moved between the two looks: look once more.
    end loop;
    insert into cancel_requests (intent, reason, requested_by, requested_at) values (p_intent, p_reason, session_user, clock_now())
        on conflict do nothing;
    -- What waits for a time or a release, and may have been sent in a history that is gone, is looked at now: the wish is
    -- applied at a claim, and what is held is not claimed by itself.
    update waiting w set cause = case w.cause when 'held' then 'scheduled' else w.cause end, due_at = clock_now()
        where w.intent = p_intent and w.purpose < 2 and w.cause in ('held', 'scheduled');
    if found then
        perform wake_sleepers();
    end if;
    return 'in_flight';
end $$;

-- Takes back an intent, or, if shipments have split it (splits, in 0011), what is left of it: whoever cancels an order names
-- what they asked for, and may not know yet that a part of it has left. The parts that have left stay: their goods are gone
-- and paid for, and each can be named itself. `reached`: the intent that `said` is true of. A split that is under way holds
-- the row that is waited for here, and by the time it is given up the parts can be seen; one that comes later finds nothing.
create function cancel_what_is_left(p_intent uuid, p_reason text, out said text, out reached uuid)
    language plpgsql volatile set search_path from current set enable_seqscan = off set jit = off as $$
declare
    v_rest uuid;
begin
    if coalesce(btrim(p_reason), '') = '' then
        raise exception 'cancel: reason is empty' using errcode = '23514', constraint = 'cancel_says_why', column = 'reason',
            hint = 'say in a few words why, for the people who read the timeline';
    end if;
    if not exists (select from intents i where i.id = p_intent) then
        raise exception 'cancel: no intent %', p_intent using errcode = 'P0002', hint = 'look it up in the view status';
    end if;
    reached := p_intent;
    loop
        said := cancel_one(reached, p_reason, reached <> p_intent);
        exit when said <> 'ended';
        v_rest := (select s.rest from splits s where s.intent = reached);
        exit when v_rest is null;
        reached := v_rest;
    end loop;
end $$;

create function cancel(intent_id uuid, reason text) returns text
    language sql volatile security definer set search_path from current
    as $$ select c.said from cancel_what_is_left(cancel.intent_id, cancel.reason) c $$;
comment on function cancel is 'Cancels a capture that was not sent yet; of one that shipments have split, what is left. Returns cancelled, in_flight (the wish is applied when the call in flight has ended) or ended (nothing was left to cancel).';

-- An operator's replay of a dead letter: always to a verification, never straight to a send. The generation of the key
-- and the freshness of a new one are decided by the caller (retry.rs) from what it read here under p_ended_at; a dead
-- letter that somebody else moved meanwhile is left alone.
create function replay(p_intent uuid, p_ended_at timestamptz, p_fresh_key boolean, p_actor text, p_reason text, p_detail jsonb) returns boolean
    language plpgsql volatile security definer set search_path from current set enable_seqscan = off set jit = off as $$
declare
    v_now timestamptz := clock_now();
    o outcomes;
begin
    delete from outcomes x where x.intent = p_intent and x.state = 'dead' and x.ended_at = p_ended_at returning * into o;
    if o.intent is null then
        return false;
    end if;
    insert into waiting (intent, lane, purpose, urgency, fence, epoch, cause, due_at, since)
        select o.intent, o.lane, 2, urgency_of(i.priority, i.authorization_expires_at, v_now), o.fence, e.number, 'verify', v_now, v_now
        from intents i, epoch e where i.id = p_intent;
    insert into progress as p (intent, fresh_key, read_first, replayed, unknown_since, quiet_after) values (p_intent, p_fresh_key, true, true, v_now, v_now)
        on conflict (intent) do update set
            attempts = 0, looks = 0, own_faults = 0, lost_leases = 0, quiet_reads = 0, last_quiet_at = null, in_progress_since = null,
            refusal_class = null, refusal_code = null, fresh_key = excluded.fresh_key, read_first = true, replayed = true,
            unknown_since = v_now, quiet_after = greatest(p.quiet_after, v_now);
    -- A wish to cancel that was written while the result that ended the intent was: its author asked before this replay.
    delete from cancel_requests c where c.intent = p_intent;
    insert into deadlines (intent, expires_at, source)
        select i.id, ends.at, coalesce(o.expiry_source, 'producer')
        from intents i
        cross join lateral (select case when o.expiry_source is null then i.authorization_expires_at else o.expires_at end as at) ends
        where i.id = p_intent and ends.at is not null on conflict do nothing;
    insert into audit (at, actor, action, reason, intent, lane, detail)
        values (v_now, p_actor, 'replay', p_reason, p_intent, o.lane, p_detail || jsonb_build_object('before', jsonb_strip_nulls(to_jsonb(o) - 'evidence')));
    insert into events (type, intent_id, provider, account, order_id, payment_id, capture_ref, amount_minor, currency, data, occurred_at)
        select 'capture.replayed', i.id, i.provider, i.account, i.order_id, i.payment_id, i.capture_ref, i.amount_minor, i.currency,
               jsonb_build_object('by', p_actor, 'reason', p_reason), v_now
        from intents i where i.id = p_intent;
    perform wake_sleepers();
    return true;
end $$;

-- A person settles a dead letter by evidence from outside.
create function resolve(p_intent uuid, p_captured boolean, p_evidence text, p_actor text, p_reason text) returns text
    language plpgsql volatile security definer set search_path from current set enable_seqscan = off set jit = off as $$
declare
    v_now timestamptz := clock_now();
    o outcomes;
begin
    select * into o from outcomes x where x.intent = p_intent for update;
    if o.intent is null then
        return case when exists (select from intents i where i.id = p_intent) then 'in_flight' else 'not_found' end;
    end if;
    if o.state <> 'dead' then
        return o.state;
    end if;
    if p_captured then
        update outcomes x set state = 'captured', dead_reason = null, captured_minor = i.amount_minor::bigint, provider_capture_id = p_evidence,
               captured_at = v_now, proof = 'person', ended_at = v_now
            from intents i where x.intent = p_intent and i.id = p_intent;
    else
        update outcomes x set dead_reason = 'rejected', last_code = 'resolved_not_captured', ended_at = v_now where x.intent = p_intent;
    end if;
    insert into audit (at, actor, action, reason, intent, lane, detail)
        values (v_now, p_actor, 'resolve', p_reason, p_intent, o.lane,
                jsonb_build_object('as', case when p_captured then 'captured' else 'not-captured' end, 'evidence', p_evidence, 'before', jsonb_strip_nulls(to_jsonb(o) - 'evidence')));
    insert into events (type, intent_id, provider, account, order_id, payment_id, capture_ref, amount_minor, currency, data, occurred_at)
        select 'capture.resolved', i.id, i.provider, i.account, i.order_id, i.payment_id, i.capture_ref, i.amount_minor, i.currency,
               jsonb_build_object('as', case when p_captured then 'captured' else 'not-captured' end, 'evidence', p_evidence, 'by', p_actor, 'reason', p_reason), v_now
        from intents i where i.id = p_intent;
    return 'resolved';
end $$;

-- Pauses or resumes a lane; false if there was nothing to do. A resume forgets what the lane was waiting for.
create function set_lane_pause(p_lane integer, p_paused boolean, p_actor text, p_reason text) returns boolean
    language plpgsql volatile security definer set search_path from current as $$
declare
    v_now timestamptz := clock_now();
    v_changed integer;
begin
    update lanes l set
        paused_at = case when p_paused then v_now end,
        paused_by = case when p_paused then p_actor end,
        pause_reason = case when p_paused then p_reason end,
        open_until = null, testing = false, unanswered = 0, open_ms = 0, limited_until = null
        where l.id = p_lane and (l.paused_at is not null) <> p_paused;
    get diagnostics v_changed = row_count;
    if v_changed = 1 then
        insert into audit (at, actor, action, reason, lane)
            values (v_now, p_actor, case when p_paused then 'lane pause' else 'lane resume' end, p_reason, p_lane);
        if not p_paused then
            perform wake_sleepers();
        end if;
    end if;
    return v_changed = 1;
end $$;
