-- Claim: one round trip and one commit that takes ready rows and opens their attempts.
--
-- Why a function: it needs several snapshots in one round trip. The first statement locks the rows of the lanes that have
-- something to claim; the second, with a snapshot taken *after* those locks, picks. Claims of one lane are thereby made
-- one after another, which makes both the shared rate budget and "one money movement at a time per authorisation" exact:
-- whatever another claim took is visible, as a lease, to this one. A client-side transaction would do the same but could
-- be held open by a frozen process.
--
-- Planner settings are pinned to nested loops over indexes: every input is small and bounded, and statistics of tables
-- that are empty one moment and hold millions the next would otherwise talk the planner into scans. That alone is not
-- enough: a plan made (and kept) while a table is empty may join by reading all of its index, or hash all of it for an
-- `exists`. So, here and in all that workers run: what is looked up for a row is a lateral subquery with a limit, what
-- must not be there is an `exists` with `offset 0`, and what is deleted or updated is named by an array of keys or by its
-- ctid. Each of these leaves the planner no way but the index.
--
-- Several small statements, not one large one: what most claims do not need (siblings, budgets, parking) is not even begun.
-- One statement that held it all took 0.8 ms for a single row, most of it to set up and take down what it never used.
--
-- Where a pick begins: at the front of its class, if that has one (`fronts`, 0002_outbox.sql).
--
-- Where only one lane has something, all of it first sends, and keeps no account, a statement of its own picks: to set up the
-- one that shares, takes turns and keeps to budgets is a quarter of a claim for one row, and most claims need none of it.
--
-- p_lanes: [{"lane", "free", "sending", "retrying", "verifying", "favour", "send_calls", "read_calls"}], slots free in
-- this worker, slots in use by purpose, the purpose whose turn it is, and what each purpose costs in calls.
create function claim(
    p_lease uuid, p_worker uuid, p_lease_ms bigint, p_request_format smallint, p_batch integer, p_alone boolean, p_lanes jsonb
) returns table (
    slot integer, lane integer, purpose smallint, fence integer, epoch_changed boolean, now timestamptz,
    id uuid, provider text, account text, order_id text, payment_id text, capture_ref text,
    amount_minor bigint, currency text, authorized_minor bigint, authorization_expires_at timestamptz,
    details jsonb, traceparent text, created_at timestamptz,
    company text, method text, tracking_number text,
    progress jsonb, cancel_requested boolean, late jsonb,
    authorized_known_minor bigint, committed_minor bigint, open_minor bigint, sibling_undecided boolean, sibling_captures text[],
    unreleased boolean
)
    language plpgsql volatile security definer set search_path from current
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off set jit = off
    set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    v_now timestamptz;
    -- See `clock`.
    v_ahead interval;
    v_stands_at timestamptz;
    v_epoch integer;
    v_open integer[];
    -- What is picked, in the order in which it goes: one place in each array is one row of `ready`.
    v_rows tid[];
    v_gone integer;
    v_intents uuid[];
    v_lanes integer[];
    v_purposes smallint[];
    v_urgencies smallint[];
    v_fences integer[];
    v_epochs integer[];
    v_generations smallint[];
    -- What they cost in calls, and the budgets of their lanes. Most lanes keep no account of what is claimed.
    v_accounted boolean;
    v_costs integer[];
    v_steps interval[];
    v_spans interval[];
    -- Which of them have siblings, and what is to be known of these: {intent: {"blocked", "committed", …}}.
    v_accompanied boolean[];
    v_beside jsonb;
    -- What was made before this may have been asked for, and sent, in the history before; null: there was none.
    v_doubt timestamptz;
    -- Are there first sends of one lane, and nothing else to think of?
    v_is_plain boolean := false;
    -- Which payments the round before found held.
    v_held text[] := '{}';
    -- The stretches of a lane and purpose that are read: from an (urgency, seq) to before another urgency. Without fronts it is one,
    -- for every lane and purpose. Those of a lane stand together, until the place that its first one names: who looked through
    -- those of a hundred lanes, for each lane and purpose, took 30 ms.
    v_stretch_lanes integer[] := '{null}';
    v_stretch_untils integer[] := '{1}';
    v_stretch_purposes smallint[] := '{null}';
    v_from_urgencies smallint[] := '{-32768}';
    v_from_seqs bigint[] := '{0}';
    v_to_urgencies integer[] := '{32768}';
    v_there_are_fronts boolean := false;
    -- Lanes with something behind their fronts.
    v_found integer[];
    -- What this claim can see of fronts, if it has no id yet; how many entries of the index were read before it picks.
    v_began pg_snapshot;
    v_entries bigint;
    v_drawn bigint;
    v_running pg_snapshot;
begin
    for v_again in 1..2 loop
        select p.number, p.ahead, p.stands_at, n.now,
               not p_alone and exists (select from fronts f where f.begun_at between n.now - interval '10 minutes' and n.now offset 0),
               -- An order system that finds its commit gone asks again, and what it had asked for first may have been sent: by whoever
               -- had claimed it there, for one lease at most; four more for the provider's reads to catch up. The doubt is over once
               -- a claim is settled, which keeps it in `progress`; a lease that lapsed has kept nothing.
               case when p.number > 1 then p.began_at + 5 * p_lease_ms * interval '1 millisecond' end
            into v_epoch, v_ahead, v_stands_at, v_now, v_there_are_fronts, v_doubt
            from present_epoch p cross join lateral (select coalesce(p.stands_at, clock_timestamp() + p.ahead) as now offset 0) n;
        exit when found;
        perform current_epoch();
    end loop;
    if v_epoch is null then
        raise exception 'claim: which history this database has cannot be told' using errcode = '40001';
    end if;

    if v_there_are_fronts then
        v_began := case when pg_current_xact_id_if_assigned() is null then pg_current_snapshot() end;
        select array_agg(s.lane), array_agg(s.until), array_agg(s.purpose), array_agg(s.urgency), array_agg(s.seq), array_agg(s.to_urgency)
        into v_stretch_lanes, v_stretch_untils, v_stretch_purposes, v_from_urgencies, v_from_seqs, v_to_urgencies
        from (
            select f.*, lead(f.urgency::integer, 1, 32768) over w as to_urgency, count(*) over (order by f.lane)::integer as until
            from (
                select (a ->> 'lane')::integer as lane, p.purpose, (-32768)::smallint as urgency, 0::bigint as seq
                from jsonb_array_elements(p_lanes) a cross join (values (0::smallint), (1::smallint), (2::smallint)) p(purpose)
                union all
                select f.lane, f.purpose, f.urgency, f.seq
                from jsonb_array_elements(p_lanes) a
                cross join ready_seq_seq s
                cross join lateral (select f.* from fronts f where f.lane = (a ->> 'lane')::integer offset 0) f
                where f.begun_at between v_now - interval '10 minutes' and v_now
                  -- (if somebody has set the sequence back, what is drawn next comes before this front)
                  and f.seq <= s.last_value + s.is_called::integer
            ) f
            window w as (partition by f.lane, f.purpose order by f.urgency, f.seq)
            order by f.lane, f.purpose, f.urgency, f.seq
        ) s;
        select array_agg(l.lane) into v_found
        from (
            select s.lane, s.first, v_stretch_untils[s.first] as until
            from (
                select (a ->> 'lane')::integer as lane, array_position(v_stretch_lanes, (a ->> 'lane')::integer) as first
                from jsonb_array_elements(p_lanes) a
            ) s
            offset 0
        ) l
        cross join lateral (
            select from unnest(v_stretch_purposes[l.first:l.until], v_from_urgencies[l.first:l.until],
                               v_from_seqs[l.first:l.until], v_to_urgencies[l.first:l.until]) as s(purpose, urgency, seq, to_urgency)
            cross join lateral (
                select from ready r
                where r.lane = l.lane and r.purpose = s.purpose and r.alone = false
                  and (r.urgency, r.seq) >= (s.urgency, s.seq) and r.urgency < s.to_urgency
                order by r.urgency, r.seq limit 1
            ) r
            limit 1
        ) something;
    end if;

    -- Lanes that may run and have something to claim, locked in one order. A poll of empty lanes ends here, having
    -- written nothing.
    select array_agg(o.id) into v_open from (
        select l.id
        from lanes l
        where l.id in (select (a ->> 'lane')::integer from jsonb_array_elements(p_lanes) a)
          and l.paused_at is null
          and (l.limited_until is null or l.limited_until <= v_now)
          and (l.open_until is null or l.open_until <= v_now)
          -- From the back: what is claimed stands at the front, and under an old snapshot its entries stay there. (`exists` would
          -- forget the order.)
          and case when v_there_are_fronts then l.id = any (v_found)
                   else (select true from ready r where r.lane = l.id
                         order by r.purpose desc, r.alone desc, r.urgency desc, r.seq desc limit 1) end
        order by l.id
        for no key update of l
    ) o;
    if v_open is null then
        return;
    end if;
    v_now := coalesce(v_stands_at, clock_timestamp() + v_ahead);

    v_entries := pg_stat_get_xact_tuples_returned('ready_pkey'::regclass);
    -- First sends come before all else, so where the last row is one, all are. Seen from the back, as above.
    if not p_alone and not v_there_are_fronts and cardinality(v_open) = 1 then
        select array_agg(r.row), array_agg(r.intent), array_agg(r.lane), array_agg(r.purpose), array_agg(r.urgency), array_agg(r.fence),
               array_agg(r.epoch), array_agg(0)
        into v_rows, v_intents, v_lanes, v_purposes, v_urgencies, v_fences, v_epochs, v_costs
        from lanes l
        cross join lateral (
            select least((a ->> 'free')::integer, p_batch) as free from jsonb_array_elements(p_lanes) a where (a ->> 'lane')::integer = l.id limit 1
        ) asked
        cross join lateral (
            select r.purpose, r.alone from ready r where r.lane = l.id
            order by r.purpose desc, r.alone desc, r.urgency desc, r.seq desc limit 1
        ) last
        cross join lateral (
            select r.ctid as row, r.* from ready r where r.lane = l.id and r.purpose = 0 and r.alone = false
            order by r.urgency, r.seq limit asked.free
            for update skip locked
        ) r
        where l.id = v_open[1] and l.open_until is null and coalesce(l.rate_override, l.rate_per_minute, 0) <= 0
          and last.purpose = 0 and not last.alone;
        v_is_plain := v_rows is not null;
        v_accounted := false;
    end if;
    for v_round in 1..100 loop
        v_beside := null;
        if not (v_round = 1 and v_is_plain) then
            with asked as materialized (
                select a.lane, a.favour, a.send_calls, a.read_calls, a.sending, a.retrying, a.verifying,
                       stretch.first, v_stretch_untils[stretch.first] as until,
                       -- A breaker that was open lets one through to test.
                       case when l.open_until is not null or p_alone then least(a.free, 1) else least(a.free, p_batch) end as free,
                       budget.step, budget.step * burst.calls as span, budget.step is not null or l.open_until is not null as accounted,
                       -- How many calls the lane's budget still holds; null: no limit.
                       case when budget.step is not null then
                           greatest(0, floor(extract(epoch from v_now - greatest(l.budget_spent_until, v_now - budget.step * burst.calls))
                                             / extract(epoch from budget.step)))::integer end as calls_left
                from jsonb_to_recordset(p_lanes) as a(
                         lane integer, free integer, sending integer, retrying integer, verifying integer,
                         favour smallint, send_calls integer, read_calls integer)
                join lanes l on l.id = a.lane
                -- An operator's word goes before the settings'.
                cross join lateral (select coalesce(l.rate_override, l.rate_per_minute) as per_minute) rate
                -- A tenth of the minute's calls may burst, or what one intent needs if that is more; the rest flows evenly, so
                -- that no sliding minute sees more than the limit.
                cross join lateral (select greatest(a.send_calls, a.read_calls, rate.per_minute / 10) as calls) burst
                cross join lateral (
                    select case when rate.per_minute > 0 then interval '60 seconds' / greatest(1, rate.per_minute - burst.calls) end as step
                ) budget
                cross join lateral (select coalesce(array_position(v_stretch_lanes, a.lane), 1) as first) stretch
                where a.lane = any (v_open) and a.free > 0
            ),
            seen as (
                select a.*, r.row, r.purpose, r.urgency, r.seq, r.intent, r.fence, r.epoch,
                       case when r.purpose = 2 then a.read_calls else a.send_calls end as cost,
                       -- Slots are shared 2 : 1 : 1; what a purpose does not use another may.
                       case r.purpose when 0 then a.sending + r.place when 1 then 2 * (a.retrying + r.place)
                                      else 2 * (a.verifying + r.place) end as turn,
                       r.place = 1 and r.purpose = a.favour as favoured
                from asked a
                cross join lateral (values (0::smallint), (1::smallint), (2::smallint)) p(purpose)
                cross join lateral (
                    select c.*, row_number() over (order by c.urgency, c.seq) as place
                    from (
                        select r.*
                        from unnest(v_stretch_purposes[a.first:a.until], v_from_urgencies[a.first:a.until],
                                    v_from_seqs[a.first:a.until], v_to_urgencies[a.first:a.until])
                                 as s(purpose, urgency, seq, to_urgency)
                        cross join lateral (
                            select r.ctid as row, r.purpose, r.urgency, r.seq, r.intent, r.fence, r.epoch
                            from ready r
                            where r.lane = a.lane and r.purpose = p.purpose and r.alone = p_alone
                              -- (not as a row below a row: a scan does not end at the first that is not)
                              and (r.urgency, r.seq) >= (s.urgency, s.seq) and r.urgency < s.to_urgency
                            order by r.urgency, r.seq
                            limit a.free
                            for update skip locked
                        ) r
                        -- The stretches come in order, so what is most urgent comes first.
                        where s.purpose is null or s.purpose = p.purpose
                        limit a.free
                    ) c
                ) r
            ),
            ranked as (
                select s.*,
                       row_number() over w as place,
                       sum(s.cost) over (w rows unbounded preceding) as calls
                from seen s
                window w as (partition by s.lane order by s.favoured desc, s.turn, s.purpose, s.urgency, s.seq)
            )
            select array_agg(k.row), array_agg(k.intent), array_agg(k.lane), array_agg(k.purpose), array_agg(k.urgency), array_agg(k.fence),
                   array_agg(k.epoch), bool_or(k.accounted), array_agg(k.cost), array_agg(k.step), array_agg(k.span)
            into v_rows, v_intents, v_lanes, v_purposes, v_urgencies, v_fences, v_epochs, v_accounted, v_costs, v_steps, v_spans
            from (
                select k.* from ranked k
                where k.place <= k.free and (k.calls_left is null or k.calls <= k.calls_left)
                order by k.place, k.lane
                limit p_batch
            ) k;
        end if;
        if v_rows is null then
            return;
        end if;

        -- Who had to step over many lets the fronts of its lanes follow, one step each time (see `fronts`).
        if v_round = 1 and not p_alone
           and pg_stat_get_xact_tuples_returned('ready_pkey'::regclass) - v_entries > 2000 + 2 * cardinality(v_rows) then
            -- (who draws from a cache of its session draws what was counted as drawn long before)
            select case when s.is_called then s.last_value else 0 end, pg_current_snapshot() into v_drawn, v_running
            from ready_seq_seq s
            where (select q.seqcache from pg_sequence q where q.seqrelid = 'ready_seq_seq'::regclass) = 1;
            delete from fronts f
            where f.lane = any (v_open)
              and (f.begun_at not between v_now - interval '10 minutes' and v_now
                   or f.seq > (select s.last_value + s.is_called::integer from ready_seq_seq s));
            update fronts f
            set seq = case when n.is_decided then
                          -- (the least of those that are there: what is locked is passed over by the pick alone)
                          least(f.drawn + 1, (select r.seq from ready r
                                              where r.lane = f.lane and r.purpose = f.purpose and r.alone = false
                                                and r.urgency = f.urgency and r.seq >= f.seq
                                              order by r.seq limit 1))
                      else least(f.seq, v_drawn + 1) end,
                drawn = case when n.is_new then v_drawn else f.drawn end,
                bound = case when n.is_new then null when n.is_bound then pg_current_xact_id() else f.bound end,
                noted_by = case when n.is_new then pg_current_xact_id() else f.noted_by end
            from (
                select f.lane, f.purpose, f.urgency, d.is_decided,
                       -- (an id that nobody has yet is another server's, from which these tables came)
                       d.is_decided or f.drawn > v_drawn
                       or greatest(f.noted_by, f.bound) >= pg_snapshot_xmax(v_running) as is_new,
                       f.bound is null and coalesce(pg_visible_in_snapshot(f.noted_by, v_began), false) as is_bound
                from fronts f
                cross join lateral (
                    select f.bound is not null and pg_snapshot_xmin(v_running) >= f.bound and f.drawn <= v_drawn as is_decided
                ) d
                where f.lane = any (v_open) and v_drawn is not null
            ) n
            where f.lane = n.lane and f.purpose = n.purpose and f.urgency = n.urgency and (n.is_new or n.is_bound);
            insert into fronts (lane, purpose, urgency, seq, drawn, noted_by, begun_at)
            select x.lane, x.purpose, x.urgency, 0, v_drawn, pg_current_xact_id(), v_now
            from (select distinct * from unnest(v_lanes, v_purposes, v_urgencies) as x(lane, purpose, urgency) offset 0) x
            -- Who has more classes than that has few of each.
            where (select count(*) from fronts f where f.lane = x.lane) < 64 and v_drawn is not null
            on conflict do nothing;
        end if;

        select array_agg(k.generation), array_agg(k.accompanied) into v_generations, v_accompanied
        from (
            select coalesce(p.generation, 0::smallint) as generation,
                   exists (
                       select from intents s
                       where s.provider = i.provider and s.account = i.account and s.payment_id = i.payment_id and s.id <> x.intent
                       offset 0
                   ) as accompanied
            from unnest(v_intents) with ordinality x(intent, place)
            cross join lateral (select i.provider, i.account, i.payment_id from intents i where i.id = x.intent limit 1) i
            left join lateral (select p.generation from progress p where p.intent = x.intent limit 1) p on true
            order by x.place
        ) k;

        -- One money movement at a time per authorisation: a sibling that is in a lease or whose outcome is unknown holds
        -- it. A verification is its own holder, but for one that comes back from a dead letter, which let go of it: that one
        -- waits for a holder like any other, and holds it from its next claim on. Of several in this batch the first goes.
        -- Who is held off, and what the others are told of their siblings, is seen with one snapshot.
        --
        -- To look at a payment is to read all its siblings, and there may be thousands. So only its first in this batch looks
        -- for a holder, only who is not held off reads sums, and what the round before found held is held in this one too: if
        -- it was let go of between the two, who stands behind waits five seconds, as who stood before.
        if true = any (v_accompanied) then
            select jsonb_object_agg(j.intent, case when j.blocked then jsonb_build_object('blocked', true) else jsonb_build_object(
                       'blocked', false, 'committed', sib.committed_minor, 'open', sib.open_minor, 'undecided', sib.undecided,
                       'captures', sib.captures, 'authorized', sib.authorized_minor) end),
                   coalesce(array_agg(j.key) filter (where j.blocked and j.turn = 1), '{}')
            into v_beside, v_held
            from (
                select k.*,
                       (k.purpose < 2 or k.replayed) and (
                           k.turn > 1
                           or k.key = any (v_held)
                           or exists (
                               select from intents s
                               where s.provider = k.provider and s.account = k.account and s.payment_id = k.payment_id and s.id <> k.intent
                                 and not exists (select from outcomes o where o.intent = s.id offset 0)
                                 and not exists (select from ready r where r.intent = s.id and r.purpose < 2 offset 0)
                                 and not exists (select from waiting w where w.intent = s.id and w.purpose < 2 offset 0)
                                 and not (k.replayed and exists (select from progress p where p.intent = s.id and p.replayed offset 0)
                                          and (exists (select from ready r where r.intent = s.id offset 0)
                                               or exists (select from waiting w where w.intent = s.id offset 0)))
                               offset 0
                           )
                       ) as blocked
                from (
                    select x.*,
                           -- Its payment, and whether it let go of that: who may go before it is not the same for both.
                           concat_ws(' ', x.lane, x.replayed, x.payment_id) as key,
                           row_number() over (partition by x.provider, x.account, x.payment_id
                                              order by x.purpose desc, x.replayed, x.place) as turn
                    from (
                        select x.intent, x.lane, x.purpose, x.place, i.provider, i.account, i.payment_id,
                               x.purpose = 2 and exists (select from progress p where p.intent = x.intent and p.replayed offset 0) as replayed
                        from unnest(v_intents, v_lanes, v_purposes, v_accompanied) with ordinality x(intent, lane, purpose, accompanied, place)
                        cross join lateral (select i.provider, i.account, i.payment_id from intents i where i.id = x.intent limit 1) i
                        where x.accompanied
                    ) x
                ) k
                -- (the look is made once, not wherever its result is used)
                offset 0
            ) j
            cross join lateral (
                select coalesce(sum(case when o.state = 'captured' then o.captured_minor
                                         when o.dead_reason = 'undecided' then s.amount_minor else 0 end), 0)::bigint as committed_minor,
                       coalesce(sum(s.amount_minor) filter (where o.state is null), 0)::bigint as open_minor,
                       -- Whose capture a person meant nobody can tell by its id: their evidence may be a statement's number.
                       coalesce(bool_or(o.dead_reason = 'undecided' or o.proof = 'person'), false) as undecided,
                       coalesce(array_agg(o.provider_capture_id) filter (where o.state = 'captured'), '{}') as captures,
                       (array_agg(s.authorized_minor order by s.created_at desc, s.id desc)
                           filter (where s.authorized_minor is not null))[1]::bigint as authorized_minor
                from intents s
                left join lateral (
                    select o.state, o.dead_reason, o.captured_minor, o.provider_capture_id, o.proof from outcomes o where o.intent = s.id limit 1
                ) o on true
                where not j.blocked
                  and s.provider = j.provider and s.account = j.account and s.payment_id = j.payment_id and s.id <> j.intent
            ) sib;
        end if;

        -- They are locked, so all of them are there. If ever one were not, it would be claimed and ready at once: rather no claim.
        delete from ready r where r.ctid = any (v_rows);
        get diagnostics v_gone = row_count;
        if v_gone <> cardinality(v_rows) then
            raise exception 'claim: of % rows that were picked % were there', cardinality(v_rows), v_gone using errcode = '40001';
        end if;

        if v_beside is not null then
            insert into waiting (intent, lane, purpose, urgency, fence, epoch, cause, due_at, since)
            select x.intent, x.lane, x.purpose, x.urgency, x.fence, x.epoch, 'sibling', v_now + interval '5 seconds', v_now
            from unnest(v_intents, v_lanes, v_purposes, v_urgencies, v_fences, v_epochs) as x(intent, lane, purpose, urgency, fence, epoch)
            where (v_beside -> x.intent::text ->> 'blocked')::boolean;

            select array_agg(x.intent), array_agg(x.lane), array_agg(x.purpose), array_agg(x.fence), array_agg(x.epoch),
                   array_agg(x.generation), array_agg(x.cost), array_agg(x.step), array_agg(x.span)
            into v_intents, v_lanes, v_purposes, v_fences, v_epochs, v_generations, v_costs, v_steps, v_spans
            from (
                select * from unnest(v_intents, v_lanes, v_purposes, v_fences, v_epochs, v_generations, v_costs, v_steps, v_spans) with ordinality
                    as x(intent, lane, purpose, fence, epoch, generation, cost, step, span, place)
                where not coalesce((v_beside -> x.intent::text ->> 'blocked')::boolean, false)
                order by x.place
            ) x;
        end if;
        -- All of them held off: who stands behind them may go. Else a few hundred siblings of one unknown outcome would keep a lane
        -- from everybody else's captures.
        exit when v_intents is not null;
    end loop;
    if v_intents is null then
        return;
    end if;

    insert into leases (id, worker, epoch, claimed_at, until, request_format, intents, lanes, fences, generations, purposes, epochs, settled)
    values (p_lease, p_worker, v_epoch, v_now, v_now + p_lease_ms * interval '1 millisecond', p_request_format,
            v_intents, v_lanes, array(select f + 1 from unnest(v_fences) f), v_generations, v_purposes, v_epochs,
            repeat('0', cardinality(v_intents))::bit varying);

    if v_accounted then
        update lanes l
        set budget_spent_until = coalesce(greatest(l.budget_spent_until, v_now - u.span) + u.calls * u.step, l.budget_spent_until),
            -- The test capture has until the end of its lease to answer; nobody else is let through meanwhile.
            open_until = case when l.open_until is null then null else v_now + p_lease_ms * interval '1 millisecond' end,
            testing = l.open_until is not null
        from (
            select c.lane, sum(c.cost) as calls, max(c.step) as step, max(c.span) as span
            from unnest(v_lanes, v_costs, v_steps, v_spans) as c(lane, cost, step, span) group by c.lane
        ) u
        where l.id = u.lane and (u.step is not null or l.open_until is not null);
    end if;

    return query
    select c.place::integer - 1, c.lane, c.purpose, c.fence + 1, c.epoch <> v_epoch or coalesce(i.created_at < v_doubt and coalesce(p.lost_leases > 0, true), false), v_now,
           i.id, i.provider, i.account, i.order_id, i.payment_id, i.capture_ref,
           i.amount_minor::bigint, i.currency, i.authorized_minor::bigint,
           i.authorization_expires_at,
           i.details, i.traceparent, i.created_at,
           rel.company, rel.method, rel.tracking_number,
           p.progress, cr.wished is not null, late.receipt,
           coalesce(i.authorized_minor::bigint, (sib.known ->> 'authorized')::bigint),
           coalesce((sib.known ->> 'committed')::bigint, 0), coalesce((sib.known ->> 'open')::bigint, 0),
           coalesce((sib.known ->> 'undecided')::boolean, false),
           case when sib.known is null then '{}' else array(select jsonb_array_elements_text(sib.known -> 'captures')) end,
           i.hold is not null and rel.id is null
    from unnest(v_intents, v_lanes, v_purposes, v_fences, v_epochs) with ordinality as c(intent, lane, purpose, fence, epoch, place)
    cross join lateral (select i.* from intents i where i.id = c.intent limit 1) i
    cross join lateral (select v_beside -> c.intent::text as known) sib
    left join lateral (select to_jsonb(p) - 'intent' as progress, p.lost_leases from progress p where p.intent = c.intent limit 1) p on true
    left join lateral (select true as wished from cancel_requests cr where cr.intent = c.intent limit 1) cr on true
    left join lateral (
        select r.id, r.company, r.method, r.tracking_number from releases r where r.intent = c.intent limit 1
    ) rel on true
    left join lateral (
        select jsonb_build_object('provider_capture_id', l.provider_capture_id, 'captured_minor', l.captured_minor,
                                  'captured_at', l.captured_at, 'proof', l.proof) as receipt
        from late_results l
        where l.intent = c.intent and l.proof in ('answer', 'reference')
        order by l.fence limit 1
    ) late on true
    order by c.place;
end $$;

-- Moves what is due from `waiting` to `ready`, a bounded number at a time; returns how many, and how long until the
-- next is due (null: nothing waits for a time); and whether something may be ready.
create function move_due(p_limit integer, out moved integer, out next_due_ms bigint, out any_ready boolean)
    language plpgsql volatile security definer set search_path from current
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
declare
    v_now timestamptz := clock_now();
    v_next timestamptz;
begin
    moved := 0;
    -- An idle worker asks this all the time: what moves is not even begun for nothing. What is ready is looked for from the back,
    -- as in claim (and not by `exists`, which forgets the order); where fronts are needed a claim knows where to look.
    select (select w.due_at from waiting w where w.due_at is not null order by w.due_at limit 1),
           exists (select from fronts f where f.begun_at > v_now - interval '10 minutes' offset 0)
           or (select true from ready r order by r.lane desc, r.purpose desc, r.alone desc, r.urgency desc, r.seq desc limit 1) is not null
        into v_next, any_ready;
    if v_next <= v_now then
        with due as (
            select w.intent from waiting w where w.due_at <= v_now order by w.due_at limit p_limit for update skip locked
        ), gone as (
            delete from waiting w where w.intent = any (array(select d.intent from due d)) returning w.*
        ), put as (
            insert into ready (lane, purpose, urgency, intent, fence, epoch, alone, since)
            select g.lane, g.purpose, urgency_of(g.urgency, d.expires_at, v_now), g.intent, g.fence, g.epoch,
                   coalesce(p.alone, false), v_now
            from gone g
            left join lateral (select d.expires_at from deadlines d where d.intent = g.intent limit 1) d on true
            left join lateral (select p.lost_leases >= 2 as alone from progress p where p.intent = g.intent limit 1) p on true
            returning 1
        )
        select count(*) into moved from put;
        -- Who finds nothing there need not claim.
        any_ready := any_ready or moved > 0;
        select w.due_at into v_next from waiting w where w.due_at is not null order by w.due_at limit 1;
    end if;
    next_due_ms := case when v_next < v_now then 0 else (extract(epoch from v_next - v_now) * 1000)::bigint end;
end $$;

-- Leases that lapsed, or were given in another history of the database: their unsettled attempts become verifications,
-- never runs. What is unsettled is read from the locked lease row alone. A missing heartbeat is no reason: a worker cut
-- off from the database may still be talking to the provider.
create function rescue(p_limit integer) returns integer
    language plpgsql volatile security definer set search_path from current
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
declare
    v_now timestamptz := clock_now();
    v_epoch integer := current_epoch();
    v_rescued integer;
begin
    with lapsed as materialized (
        select * from (
            (select l.* from leases l where l.until < v_now order by l.until limit p_limit for update skip locked)
        ) a
        union all
        select * from (
            (select l.* from leases l where l.epoch <> v_epoch and l.until >= v_now limit p_limit for update skip locked)
        ) b
    ), gone as (
        delete from leases l where l.id = any (array(select x.id from lapsed x))
    ), open as materialized (
        -- What nobody has settled since its history was lost goes on being of that history.
        select l.id as lease, l.worker, l.claimed_at, l.until, l.request_format, s.intent, s.lane, s.fence, s.generation, s.purpose,
               least(s.epoch, l.epoch) as epoch
        from lapsed l,
             unnest(l.intents, l.lanes, l.fences, l.generations, l.purposes, l.epochs) with ordinality
                 as s(intent, lane, fence, generation, purpose, epoch, place)
        where get_bit(l.settled, s.place::integer - 1) = 0
    ), put as (
        insert into waiting (intent, lane, purpose, urgency, fence, epoch, cause, due_at, since)
        select o.intent, o.lane, 2, urgency_of(i.priority, i.authorization_expires_at, v_now), o.fence, o.epoch, 'verify', v_now, v_now
        from open o
        cross join lateral (select i.priority, i.authorization_expires_at from intents i where i.id = o.intent limit 1) i
        returning 1
    ), closed as (
        insert into attempts_apart (intent, fence, lease, worker, purpose, generation, request_format, sent, outcome, class, code, began_at, ended_at)
        select o.intent, o.fence, o.lease, o.worker, o.purpose, o.generation, o.request_format, null, 'lost', 'ambiguous', 'lease_lost', o.claimed_at, v_now
        from open o
    ), kept as (
        insert into progress as p (intent, generation, request_format, tainted, first_sent_at, quiet_after, unknown_since, lost_leases, last_class, last_code)
        select o.intent, o.generation, o.request_format, true, o.claimed_at, greatest(o.until, v_now), v_now, 1, 'ambiguous', 'lease_lost'
        from open o
        on conflict (intent) do update set
            tainted = true,
            first_sent_at = coalesce(p.first_sent_at, excluded.first_sent_at),
            quiet_after = greatest(p.quiet_after, excluded.quiet_after),
            -- A verification may have sent again: what was quiet before it counts no more.
            quiet_reads = 0,
            last_quiet_at = null,
            unknown_since = coalesce(p.unknown_since, excluded.unknown_since),
            lost_leases = p.lost_leases + 1,
            replayed = false,
            last_class = excluded.last_class,
            last_code = excluded.last_code
    ), told as (
        insert into events (type, intent_id, provider, account, order_id, payment_id, capture_ref, amount_minor, currency, data, occurred_at)
        select 'capture.outcome_unknown', i.id, i.provider, i.account, i.order_id, i.payment_id, i.capture_ref, i.amount_minor, i.currency,
               jsonb_strip_nulls(jsonb_build_object('fence', o.fence, 'class', 'ambiguous', 'code', 'lease_lost',
                                                    'expires_at', i.authorization_expires_at)), v_now
        from open o
        cross join lateral (select i.* from intents i where i.id = o.intent limit 1) i
    )
    select count(*) into v_rescued from put;
    if v_rescued > 0 then
        perform wake_sleepers();
    end if;
    return v_rescued;
end $$;

-- The answer of a claim was lost on its way to the worker, which therefore sent nothing: its intents go back to where
-- they came from. Only that worker, which made up the lease's id, may ask for this.
create function give_back(p_lease uuid) returns integer
    language plpgsql volatile security definer set search_path from current
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
declare
    v_now timestamptz := clock_now();
    v_returned integer;
begin
    with gone as (
        delete from leases l where l.id = p_lease and position('1' in l.settled::text) = 0 returning l.*
    ), put as (
        insert into ready (lane, purpose, urgency, intent, fence, epoch, alone, since)
        select s.lane, s.purpose, urgency_of(i.priority, coalesce(d.expires_at, i.authorization_expires_at), v_now), s.intent, s.fence, s.epoch,
               coalesce(p.alone, false), v_now
        from gone g
        cross join lateral unnest(g.intents, g.lanes, g.fences, g.purposes, g.epochs) as s(intent, lane, fence, purpose, epoch)
        cross join lateral (select i.priority, i.authorization_expires_at from intents i where i.id = s.intent limit 1) i
        left join lateral (select d.expires_at from deadlines d where d.intent = s.intent limit 1) d on true
        left join lateral (select p.lost_leases >= 2 as alone from progress p where p.intent = s.intent limit 1) p on true
        returning 1
    )
    select count(*) into v_returned from put;
    return v_returned;
end $$;
