-- Siblings that waited for the authorisations of these need not sleep on. Rows that a producer's open transaction holds (a
-- cancel) are passed over: nothing here waits for a producer.
create function wake_siblings(p_intents uuid[], p_now timestamptz) returns void
    language plpgsql volatile set search_path from current
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
begin
    if p_intents is null or not exists (select from waiting w where w.cause = 'sibling') then
        return;
    end if;
    update waiting w set due_at = p_now
    where w.intent = any (array(
        select w.intent
        from unnest(p_intents) x(intent)
        cross join lateral (select i.provider, i.account, i.payment_id from intents i where i.id = x.intent limit 1) i
        cross join lateral (
            select s.id from intents s
            where s.provider = i.provider and s.account = i.account and s.payment_id = i.payment_id and s.id <> x.intent
            offset 0
        ) s
        cross join lateral (
            select w.intent from waiting w where w.intent = s.id and w.cause = 'sibling' limit 1 for update skip locked
        ) w));
    if found then
        perform wake_sleepers();
    end if;
end $$;

-- What a batch of calls told of its lanes: for their breakers, rate limits and pauses.
-- p_lanes: [{"lane", "answered", "unanswered", "failures", "open_ms", "open_max_ms", "wait_ms", "pause_reason"}]
create function hear_of_lanes(p_lanes jsonb, p_now timestamptz) returns void
    language plpgsql volatile set search_path from current
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
begin
    update lanes l set
        unanswered = case when x.answered then x.unanswered else l.unanswered + x.unanswered end,
        -- An answer closes the breaker. The failure of a test opens it for twice as long. A test that ended without a
        -- call lets the next one through. Stragglers from before it opened change nothing.
        open_until = case when x.answered then null
                          when l.testing and x.unanswered = 0 then p_now
                          when trips.open_ms is not null then p_now + trips.open_ms * interval '1 millisecond'
                          else l.open_until end,
        open_ms = case when x.answered then 0 else coalesce(trips.open_ms, l.open_ms) end,
        open_since = case when l.open_until is null and trips.open_ms is not null then p_now else l.open_since end,
        testing = false,
        limited_until = case when x.wait_ms is null then l.limited_until
                             else greatest(l.limited_until, p_now + x.wait_ms * interval '1 millisecond') end,
        paused_at = case when x.pause_reason is not null then coalesce(l.paused_at, p_now) else l.paused_at end,
        paused_by = case when x.pause_reason is not null then coalesce(l.paused_by, 'worker') else l.paused_by end,
        pause_reason = case when x.pause_reason is not null then coalesce(l.pause_reason, x.pause_reason) else l.pause_reason end
    from jsonb_to_recordset(p_lanes) as x(
             lane integer, answered boolean, unanswered integer, failures integer, open_ms bigint, open_max_ms bigint,
             wait_ms bigint, pause_reason text)
    join lanes before on before.id = x.lane
    cross join lateral (
        select case when x.unanswered = 0 then null
                    when before.testing then least(greatest(before.open_ms, x.open_ms) * 2, x.open_max_ms)
                    when before.open_until is null and before.unanswered + x.unanswered >= x.failures
                    then least(x.open_ms, x.open_max_ms) end as open_ms
    ) trips
    where l.id = x.lane
      -- An answer on a healthy lane writes nothing.
      and (x.wait_ms is not null or x.pause_reason is not null or l.testing
           or (x.answered and (l.unanswered <> x.unanswered or l.open_until is not null))
           or (not x.answered and x.unanswered > 0));
end $$;

-- Settle: records what calls told, and moves their intents on. One statement from the worker, one commit, many results.
--
-- The lease rows are locked first, in one order; the second statement then sees everything that was committed before the
-- locks were had. A result whose bit in its lease is still clear is recorded. One whose attempt is already recorded under
-- the same lease is a repeat (the answer to our COMMIT was lost): nothing happens. Anything else lost its fence and is
-- kept as a late result: a late "captured" is real money.
--
-- A lease that was given in a history of which commits are lost is void. Others may have claimed and sent its intents in
-- the part that is gone, so what its worker knows is not the whole truth: a receipt is recorded as ever, and anything else
-- leads to a verification, in a row that goes on being of that history, until a claim of this one has looked.
--
-- p_results: [{"n", "lease", "slot", "intent", "fence", "to", "purpose", "cause", "delay_ms",
--              "attempt": {...}, "progress": {...}|null, "receipt": {...}|null, "dead_reason", "events": [{"type", "data"}]}]
-- p_lanes: see hear_of_lanes.
create function settle_each(p_results jsonb, p_lanes jsonb) returns table (n integer, settled text)
    language plpgsql volatile security definer set search_path from current
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
#variable_conflict use_column
declare
    v_now timestamptz;
    v_epoch integer;
    v_places integer[];
    v_settled text[];
    v_held uuid[];
begin
    v_epoch := current_epoch();
    perform from leases l
    where l.id in (select (x ->> 'lease')::uuid from jsonb_array_elements(p_results) x)
    order by l.id
    for update;
    -- A receipt that comes late, and a decision that nothing was captured, must not miss each other: both hold the intent.
    -- Nor must two tries of one result whose lease is gone (the first one's answer was lost while it still ran) both take it
    -- for new: there is no lease row any more to hold one of them off.
    perform from intents i
    where i.id in (
        select (x ->> 'intent')::uuid from jsonb_array_elements(p_results) x
        where x ->> 'to' in ('dead', 'cancelled')
           or not exists (select from leases l where l.id = (x ->> 'lease')::uuid))
    order by i.id
    for no key update;
    v_now := clock_now();

    with input as materialized (
        select r.*, i.provider, i.account, i.order_id, i.payment_id, i.capture_ref, i.amount_minor, i.currency,
               i.priority, i.authorization_expires_at, i.created_at,
               o.state as ended_as, o.provider_capture_id as ended_with,
               case when its.bit_is_clear then 'recorded'
                    when (o.fence = r.fence and o.lease = r.lease)
                      or exists (select from attempts_apart a where a.intent = r.intent and a.fence = r.fence
                                   and a.lease = r.lease and a.outcome <> 'lost' offset 0)
                      or exists (select from late_results t where t.intent = r.intent and t.fence = r.fence
                                   and t.lease = r.lease offset 0) then 'already_recorded'
                    else 'lease_lost' end as settled,
               l.lanes[r.slot + 1] as lane, l.generations[r.slot + 1] as generation, l.purposes[r.slot + 1] as claimed_as,
               l.request_format, l.worker, length(l.settled) as lease_size, l.settled as bits,
               l.epoch, l.epoch <> v_epoch and r."to" <> 'captured' as void
        from jsonb_to_recordset(p_results) as r(
                 n integer, lease uuid, slot integer, intent uuid, fence integer, "to" text, purpose smallint, cause text,
                 delay_ms bigint, attempt jsonb, progress jsonb, receipt jsonb, dead_reason text, events jsonb)
        cross join lateral (select i.* from intents i where i.id = r.intent limit 1) i
        left join lateral (select l.* from leases l where l.id = r.lease limit 1) l on true
        cross join lateral (
            select coalesce(l.fences[r.slot + 1] = r.fence and l.intents[r.slot + 1] = r.intent and get_bit(l.settled, r.slot) = 0, false) as bit_is_clear
        ) its
        left join lateral (
            select o.state, o.provider_capture_id, o.fence, o.lease from outcomes o where not its.bit_is_clear and o.intent = r.intent limit 1
        ) o on true
    ),
    -- Whoever ends an intent without a capture has not seen the receipt that came meanwhile: it ends captured.
    held as materialized (
        select i.n, i.lease, i.slot, i.intent, i.fence, case when i.void then 2 else i.purpose end as purpose,
               case when i.void then 'verify' else i.cause end as cause, case when i.void then 0 else i.delay_ms end as delay_ms,
               i.attempt, i.progress, i."to" = 'captured' as seen_here, case when i.void then i.epoch else v_epoch end as epoch,
               case when late.receipt is not null then 'captured' when i.void then 'waiting' else i."to" end as "to",
               case when late.receipt is null and not i.void then i.dead_reason end as dead_reason,
               coalesce(late.receipt, i.receipt) as receipt,
               coalesce(late.evidence, decode(i.attempt ->> 'evidence', 'hex')) as evidence,
               case when late.receipt is null and i.void then (
                   select coalesce(jsonb_agg(e.event order by e.place), '[]')
                   from jsonb_array_elements(i.events) with ordinality as e(event, place)
                   where e.event ->> 'type' in ('capture.attempt_failed', 'capture.outcome_unknown')
               ) when late.receipt is null then i.events else (
                   select coalesce(jsonb_agg(e.event order by e.place), '[]')
                   from jsonb_array_elements(i.events) with ordinality as e(event, place)
                   where e.event ->> 'type' not in ('capture.dead_lettered', 'capture.cancelled')
               ) || jsonb_build_object('type', 'capture.captured', 'data', late.receipt || jsonb_build_object('attempts', i.progress -> 'attempts'))
               end as events,
               i.provider, i.account, i.order_id, i.payment_id, i.capture_ref, i.amount_minor, i.currency, i.priority,
               i.authorization_expires_at, i.created_at, i.lane, i.generation, i.claimed_as, i.request_format, i.worker, i.lease_size, i.bits
        from input i
        left join lateral (
            select t.evidence, t.receipt
            from (
                select l.fence, l.evidence,
                       jsonb_build_object('captured_minor', l.captured_minor, 'provider_capture_id', l.provider_capture_id,
                                          'captured_at', l.captured_at, 'proof', l.proof) as receipt
                from late_results l
                where l.intent = i.intent and l.proof in ('answer', 'reference')
                union all
                -- A receipt that lost its fence and comes in this very batch is not in the table yet.
                select s.fence, decode(s.attempt ->> 'evidence', 'hex'), s.receipt
                from input s
                where s.intent = i.intent and s.settled = 'lease_lost' and s.receipt ->> 'proof' in ('answer', 'reference')
            ) t
            where i."to" in ('dead', 'cancelled')
            order by t.fence limit 1
        ) late on true
        where i.settled = 'recorded'
    ),
    closed as (
        insert into attempts_apart (intent, fence, lease, worker, purpose, generation, request_format, sent, outcome, class, code,
                                    http_status, began_at, ended_at, duration_ms, request_sha256, host, evidence)
        select h.intent, h.fence, h.lease, h.worker, h.claimed_as, (h.attempt ->> 'generation')::smallint, h.request_format,
               (h.attempt ->> 'sent')::boolean, h.attempt ->> 'outcome', h.attempt ->> 'class', h.attempt ->> 'code',
               (h.attempt ->> 'http_status')::smallint,
               v_now - (h.attempt ->> 'began_ms_ago')::bigint * interval '1 millisecond', v_now,
               (h.attempt ->> 'duration_ms')::integer, decode(h.attempt ->> 'request_sha256', 'hex'), h.attempt ->> 'host',
               -- (what shows a capture stands in its outcome, which is kept for ever)
               case when not h.seen_here then decode(h.attempt ->> 'evidence', 'hex') end
        from held h
    ),
    marks as materialized (
        select h.lease, h.bits | bit_or(set_bit(repeat('0', h.lease_size)::bit varying, h.slot, 1)) as bits
        from held h group by h.lease, h.bits
    ),
    emptied as (delete from leases l using marks m where l.id = m.lease and position('0' in m.bits::text) = 0),
    marked as (update leases l set settled = m.bits from marks m where l.id = m.lease and position('0' in m.bits::text) > 0),
    ended as (
        insert into outcomes (intent, lane, state, fence, attempts, ended_at, captured_minor, provider_capture_id, captured_at, proof,
                              dead_reason, last_class, last_code, evidence, expires_at, warned, created_at, amount_minor, currency)
        select h.intent, h.lane, h."to", h.fence, (h.progress ->> 'attempts')::smallint, v_now,
               (h.receipt ->> 'captured_minor')::bigint, h.receipt ->> 'provider_capture_id',
               (h.receipt ->> 'captured_at')::timestamptz, h.receipt ->> 'proof', h.dead_reason,
               coalesce(h.attempt ->> 'class', h.progress ->> 'last_class'), coalesce(h.attempt ->> 'code', h.progress ->> 'last_code'),
               h.evidence, case when h."to" = 'dead' then h.authorization_expires_at end,
               -- Its death tells when the authorisation ends; only what comes later is told by itself (watch_dead_letters).
               case when h."to" <> 'dead' or h.authorization_expires_at is null then null
                    when h.dead_reason = 'expired' or h.authorization_expires_at <= v_now then 3
                    when h.authorization_expires_at <= v_now + interval '24 hours' then 2
                    when h.authorization_expires_at <= v_now + interval '48 hours' then 1 else 0 end::smallint,
               case when h."to" = 'dead' then h.created_at end, case when h."to" = 'dead' then h.amount_minor::bigint end,
               case when h."to" = 'dead' then h.currency end
        from held h
        where h."to" in ('captured', 'dead', 'cancelled')
    ),
    moved as (
        -- An in-flight wish to cancel makes what would wait ready at once: the next claim applies it.
        insert into waiting (intent, lane, purpose, urgency, fence, epoch, cause, due_at, since)
        select h.intent, h.lane, h.purpose, urgency_of(h.priority, h.authorization_expires_at, v_now), h.fence, h.epoch, h.cause,
               case when h.purpose < 2 and exists (select from cancel_requests c where c.intent = h.intent offset 0) then v_now
                    else v_now + h.delay_ms * interval '1 millisecond' end, v_now
        from held h
        where h."to" = 'waiting'
    ),
    returned as (
        insert into ready (lane, purpose, urgency, intent, fence, epoch, alone, since)
        select h.lane, h.purpose, urgency_of(h.priority, coalesce(d.expires_at, h.authorization_expires_at), v_now), h.intent, h.fence, h.epoch,
               false, v_now
        from held h
        left join lateral (select d.expires_at from deadlines d where d.intent = h.intent limit 1) d on true
        where h."to" = 'ready'
    ),
    kept as (
        insert into progress as p (intent, attempts, generation, request_format, tainted, accepted, accepted_id, pending_id, first_sent_at, quiet_after, quiet_reads,
                              last_quiet_at, in_progress_since, unknown_since, refusal_class, refusal_code, fresh_key, read_first, looks, own_faults,
                              lost_leases, last_class, last_code)
        select h.intent, g.attempts, g.generation, h.request_format, g.tainted, g.accepted, g.accepted_id, g.pending_id, g.first_sent_at, g.quiet_after, g.quiet_reads,
               g.last_quiet_at, g.in_progress_since, g.unknown_since, g.refusal_class, g.refusal_code, g.fresh_key, g.read_first, g.looks, g.own_faults,
               0, g.last_class, g.last_code
        from held h cross join lateral jsonb_populate_record(null::progress, h.progress) g
        where h."to" not in ('captured', 'cancelled')
        on conflict (intent) do update set
            attempts = excluded.attempts, generation = excluded.generation, tainted = excluded.tainted, accepted = excluded.accepted,
            accepted_id = excluded.accepted_id, pending_id = excluded.pending_id, first_sent_at = excluded.first_sent_at, quiet_after = excluded.quiet_after, quiet_reads = excluded.quiet_reads,
            last_quiet_at = excluded.last_quiet_at, in_progress_since = excluded.in_progress_since, unknown_since = excluded.unknown_since,
            refusal_class = excluded.refusal_class, refusal_code = excluded.refusal_code, fresh_key = excluded.fresh_key,
            read_first = excluded.read_first, looks = excluded.looks, own_faults = excluded.own_faults, lost_leases = 0, replayed = false,
            last_class = excluded.last_class, last_code = excluded.last_code
    ),
    forgotten as (
        delete from progress p where p.intent = any (array(select h.intent from held h where h."to" in ('captured', 'cancelled')))
    ),
    no_deadline as (
        delete from deadlines d where d.intent = any (array(select h.intent from held h where h."to" in ('captured', 'dead', 'cancelled')))
    ),
    no_wish as (
        delete from cancel_requests c where c.intent = any (array(select h.intent from held h where h."to" in ('captured', 'dead', 'cancelled')))
    ),
    told as (
        insert into events (type, intent_id, provider, account, order_id, payment_id, capture_ref, amount_minor, currency, data, occurred_at)
        select e.event ->> 'type', h.intent, h.provider, h.account, h.order_id, h.payment_id, h.capture_ref, h.amount_minor, h.currency,
               coalesce(e.event -> 'data', '{}')
               -- An alert must tell how much time is left without asking back.
               || case when e.event ->> 'type' in ('capture.dead_lettered', 'capture.outcome_unknown') and h.authorization_expires_at is not null
                       then jsonb_build_object('expires_at', h.authorization_expires_at) else '{}' end, v_now
        from held h cross join lateral jsonb_array_elements(h.events) with ordinality as e(event, place)
        order by h.n, e.place
    ),
    -- Late results: kept, told, and whoever still waits for this intent's outcome is woken to read them.
    late as (
        insert into late_results (intent, fence, lease, worker, outcome, class, code, captured_minor, provider_capture_id, captured_at, proof, evidence, recorded_at)
        select i.intent, i.fence, i.lease, (i.attempt ->> 'worker')::uuid, i.attempt ->> 'outcome', i.attempt ->> 'class', i.attempt ->> 'code',
               (i.receipt ->> 'captured_minor')::bigint, i.receipt ->> 'provider_capture_id', (i.receipt ->> 'captured_at')::timestamptz,
               i.receipt ->> 'proof', decode(i.attempt ->> 'evidence', 'hex'), v_now
        from input i where i.settled = 'lease_lost'
    ),
    late_told as (
        insert into events (type, intent_id, provider, account, order_id, payment_id, capture_ref, amount_minor, currency, data, occurred_at)
        select 'capture.late_result', i.intent, i.provider, i.account, i.order_id, i.payment_id, i.capture_ref, i.amount_minor, i.currency,
               jsonb_strip_nulls(jsonb_build_object(
                   'fence', i.fence, 'outcome', i.attempt ->> 'outcome', 'class', i.attempt ->> 'class', 'code', i.attempt ->> 'code',
                   'provider_capture_id', i.receipt ->> 'provider_capture_id', 'state', o.state,
                   -- A receipt where none was expected: an intent that ended without capture, or captured under another id.
                   'alarm', case when i.receipt is null then null
                                 when o.state in ('dead', 'cancelled') then 'captured_after_' || o.state
                                 when o.provider_capture_id <> i.receipt ->> 'provider_capture_id' then 'second_receipt' end)), v_now
        from input i
        left join lateral (
            select i.ended_as, i.ended_with where i.ended_as is not null
            union all
            -- It ends in this very batch.
            select h."to", h.receipt ->> 'provider_capture_id' from held h
            where h.intent = i.intent and h."to" in ('captured', 'dead', 'cancelled')
            limit 1
        ) o(state, provider_capture_id) on true
        where i.settled = 'lease_lost'
    ),
    late_waiting as materialized (
        select w.intent from waiting w
        where w.cause <> 'held'
          and w.intent = any (array(select i.intent from input i where i.settled = 'lease_lost' and i.receipt is not null))
        for update skip locked
    ),
    late_woken as (update waiting w set due_at = v_now where w.intent = any (array(select l.intent from late_waiting l)))
    select array_agg(i.n order by i.n), array_agg(i.settled order by i.n), (select array_agg(h.intent) from held h)
    into v_places, v_settled, v_held
    from input i;

    perform wake_siblings(v_held, v_now);
    perform hear_of_lanes(p_lanes, v_now);
    -- What moved on by these results needs nobody told: this worker looks again by itself.
    return query select * from unnest(v_places, v_settled);
end $$;

-- The same where most results are captures, as they are: those come as arrays, one place in each array is one capture, and
-- take a few small statements. What else there is comes as above, in the same commit, and costs nothing where there is
-- none. A capture whose lease is not there any more, or that is already recorded, goes the long way too.
--
-- Why arrays: a result as JSON is a kilobyte, and reading it back took a quarter of the time that settling takes.
-- p_n is the place of each in the caller's list. p_captured_at is RFC 3339, as events tell it. p_answered are lanes of which there
-- is nothing to tell but answers, where p_lanes has no others: nearly always, and nearly always nothing comes of it.
create function settle(
    p_worker uuid, p_n integer[], p_lease uuid[], p_slot integer[], p_intent uuid[], p_fence integer[], p_attempts smallint[],
    p_generation smallint[], p_sent boolean[], p_outcome text[], p_http_status smallint[], p_began_ms_ago bigint[],
    p_duration_ms integer[], p_host text[], p_captured_minor bigint[], p_provider_capture_id text[], p_captured_at text[],
    p_proof text[], p_evidence bytea[], p_results jsonb, p_lanes jsonb, p_answered integer[] default '{}'
) returns table (n integer, settled text)
    language plpgsql volatile security definer set search_path from current
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
    set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    v_now timestamptz;
    -- See `clock`.
    v_ahead interval;
    v_stands_at timestamptz;
    v_leases uuid[];
    v_recorded integer[];
    v_ended uuid[];
    v_results jsonb := p_results;
begin
    -- A lease of another history is void, which settle_each() sees once there is another one.
    select p.ahead, p.stands_at into v_ahead, v_stands_at from present_epoch p;
    if not found then
        perform current_epoch();
        select c.ahead, c.stands_at into strict v_ahead, v_stands_at from clock c;
    end if;
    -- All of them now, in one order: what follows takes no lease that is not had already.
    v_leases := array(
        select l.id from leases l
        where l.id = any (p_lease || array(select (x ->> 'lease')::uuid from jsonb_array_elements(p_results) x))
        order by l.id
        for update);
    -- And all intents that settle_each() holds, before anything is written: it waits there for a producer who cancels one of
    -- them, and that transaction may want next what this one has written (a sibling that it woke), which would be a deadlock.
    -- Captures whose leases are there hold none.
    if jsonb_array_length(p_results) > 0 or not p_lease <@ v_leases then
        perform from intents i
        where i.id = any (array(
            select (x ->> 'intent')::uuid from jsonb_array_elements(p_results) x
            where x ->> 'to' in ('dead', 'cancelled') or (x ->> 'lease')::uuid <> all (v_leases)
            union all
            select r.intent from unnest(p_intent, p_lease) r(intent, lease) where r.lease <> all (v_leases)))
        order by i.id
        for no key update;
    end if;
    v_now := coalesce(v_stands_at, clock_timestamp() + v_ahead);

    with held as materialized (
        select r.*, i.provider, i.account, i.order_id, i.payment_id, i.capture_ref, i.amount_minor, i.currency,
               l.worker, l.request_format, l.lanes[r.slot + 1] as lane, l.purposes[r.slot + 1] as purpose, l.settled
        from unnest(p_n, p_lease, p_slot, p_intent, p_fence, p_attempts, p_generation, p_sent, p_outcome, p_http_status,
                    p_began_ms_ago, p_duration_ms, p_host, p_captured_minor, p_provider_capture_id, p_captured_at, p_proof, p_evidence)
                 as r(n, lease, slot, intent, fence, attempts, generation, sent, outcome, http_status,
                      began_ms_ago, duration_ms, host, captured_minor, provider_capture_id, captured_at, proof, evidence)
        -- The long arrays lie outside the row. Each is fetched once, by making it anew, and not once for every capture.
        join (
            select l.id, l.worker, l.request_format, l.settled, l.intents || '{}'::uuid[] as intents, l.fences || '{}'::integer[] as fences,
                   l.lanes || '{}'::integer[] as lanes, l.purposes || '{}'::smallint[] as purposes
            from leases l where l.id = any (p_lease)
            offset 0
        ) l on l.id = r.lease
        cross join lateral (select i.* from intents i where i.id = r.intent limit 1) i
        where l.intents[r.slot + 1] = r.intent and l.fences[r.slot + 1] = r.fence and get_bit(l.settled, r.slot) = 0
    ),
    -- With the attempt that ended it.
    ended as (
        insert into outcomes (intent, lane, state, fence, attempts, ended_at, captured_minor, provider_capture_id, captured_at, proof,
                              evidence, lease, worker, purpose, generation, request_format, sent, attempt_outcome, http_status, began_at,
                              duration_ms, host)
        select h.intent, h.lane, 'captured', h.fence, h.attempts, v_now, h.captured_minor, h.provider_capture_id,
               h.captured_at::timestamptz, h.proof, h.evidence, h.lease, h.worker, h.purpose, h.generation, h.request_format, h.sent,
               h.outcome, h.http_status, v_now - h.began_ms_ago * interval '1 millisecond', h.duration_ms, h.host
        from held h
    ),
    told as (
        insert into events (type, intent_id, provider, account, order_id, payment_id, capture_ref, amount_minor, currency, data, occurred_at)
        select 'capture.captured', h.intent, h.provider, h.account, h.order_id, h.payment_id, h.capture_ref, h.amount_minor, h.currency,
               jsonb_build_object('captured_minor', h.captured_minor, 'provider_capture_id', h.provider_capture_id,
                                  'captured_at', h.captured_at, 'proof', h.proof, 'attempts', h.attempts), v_now
        from held h
        order by h.n
    ),
    marks as materialized (
        select h.lease, h.settled | bit_or(set_bit(repeat('0', length(h.settled))::bit varying, h.slot, 1)) as settled
        from held h group by h.lease, h.settled
    ),
    emptied as (delete from leases l using marks m where l.id = m.lease and position('0' in m.settled::text) = 0),
    marked as (update leases l set settled = m.settled from marks m where l.id = m.lease and position('0' in m.settled::text) > 0)
    select array_agg(h.n), array_agg(h.intent) into v_recorded, v_ended from held h;

    if v_ended is not null then
        delete from progress p where p.intent = any (v_ended);
        delete from deadlines d where d.intent = any (v_ended);
        delete from cancel_requests c where c.intent = any (v_ended);
        if exists (select from waiting w where w.cause = 'sibling') then
            perform wake_siblings(v_ended, v_now);
        end if;
        return query select r, 'recorded' from unnest(v_recorded) r;
    end if;
    if cardinality(p_n) > coalesce(cardinality(v_recorded), 0) then
        v_results := v_results || (
            select jsonb_agg(jsonb_build_object(
                       'n', r.n, 'lease', r.lease, 'slot', r.slot, 'intent', r.intent, 'fence', r.fence, 'to', 'captured', 'purpose', 0,
                       'cause', null, 'delay_ms', 0,
                       'attempt', jsonb_build_object(
                           'worker', p_worker, 'sent', r.sent, 'outcome', r.outcome, 'class', null, 'code', null, 'http_status', r.http_status,
                           'generation', r.generation, 'began_ms_ago', r.began_ms_ago, 'duration_ms', r.duration_ms, 'host', r.host,
                           'evidence', encode(r.evidence, 'hex')),
                       'progress', jsonb_build_object('attempts', r.attempts),
                       'receipt', jsonb_build_object('captured_minor', r.captured_minor, 'provider_capture_id', r.provider_capture_id,
                                                     'captured_at', r.captured_at, 'proof', r.proof),
                       'dead_reason', null,
                       'events', jsonb_build_array(jsonb_build_object('type', 'capture.captured', 'data', jsonb_build_object(
                           'captured_minor', r.captured_minor, 'provider_capture_id', r.provider_capture_id, 'captured_at', r.captured_at,
                           'proof', r.proof, 'attempts', r.attempts)))))
            from unnest(p_n, p_lease, p_slot, p_intent, p_fence, p_attempts, p_generation, p_sent, p_outcome, p_http_status,
                        p_began_ms_ago, p_duration_ms, p_host, p_captured_minor, p_provider_capture_id, p_captured_at, p_proof, p_evidence)
                     as r(n, lease, slot, intent, fence, attempts, generation, sent, outcome, http_status,
                          began_ms_ago, duration_ms, host, captured_minor, provider_capture_id, captured_at, proof, evidence)
            where not r.n = any (coalesce(v_recorded, '{}')));
    end if;
    if jsonb_array_length(v_results) > 0 then
        return query select * from settle_each(v_results, p_lanes);
    elsif jsonb_array_length(p_lanes) > 0 then
        perform hear_of_lanes(p_lanes, v_now);
    end if;
    -- As hear_of_lanes() does of an answer and nothing else.
    update lanes l set unanswered = 0, open_until = null, open_ms = 0, testing = false
    where l.id = any (p_answered) and (l.unanswered <> 0 or l.open_until is not null or l.testing);
end $$;
