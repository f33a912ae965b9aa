-- What people do, and the proof of it: the audit as a chain of hashes, and operations, which act on many captures.
--
-- One order of locks for all who act for people: the operation's row, the head of the audit, then the intents. So nobody
-- who holds an intent ever waits for the head. A producer's commit touches neither operations nor head: its cancel leaves
-- an event and no line of audit.


-- The audit's chain ------------------------------------------------------------------------------------------------------

-- Its last number and hash. Locked by whoever adds a row, so the numbers have no gaps and the order of the chain is that
-- of the commits.
create table audit_head (
    only_row boolean primary key default true constraint audit_head_has_one_row check (only_row),
    id bigint not null,
    hash bytea not null
) with (fillfactor = 20);
insert into audit_head (id, hash) values (0, '');

alter table audit alter column id drop identity;
alter table audit
    add column operation uuid,
    add column previous bytea,
    add column hash bytea;
create index audit_operation on audit (operation, id) where operation is not null;
comment on table audit is 'What operators did, append-only. id has no gaps; hash is the sha256 of the row and of the hash before it. verify_audit() reckons all of it again; see capture audit verify.';

-- A row as one text, the same on every server: no time zone, no number format, jsonb in its one order of keys.
create function audit_hash(a audit, p_previous bytea) returns bytea
    language sql immutable set search_path from current
    as $$
        select sha256(convert_to(encode(p_previous, 'hex') || jsonb_build_array(
            a.id, (extract(epoch from a.at) * 1000000)::bigint, a.actor, a.action, a.reason, a.intent, a.lane, a.operation, a.detail)::text, 'UTF8'))
    $$;

-- Whatever the inserter passes for them, number, previous hash and hash are those of the chain.
create function audit_chained() returns trigger
    language plpgsql security definer set search_path from current as $$
begin
    select h.id + 1, h.hash into strict new.id, new.previous from audit_head h for update;
    new.hash := audit_hash(new, new.previous);
    update audit_head set id = new.id, hash = new.hash;
    return new;
end $$;

-- Rows from before there was a chain become its beginning.
alter table audit disable trigger audit_is_append_only;
do $$
declare
    a audit;
    v_id bigint := 0;
    v_hash bytea := '';
begin
    for a in select * from audit order by id loop
        v_id := v_id + 1;
        -- Numbers only come closer together, so each is free by now.
        update audit x set id = v_id, previous = v_hash where x.id = a.id returning * into a;
        update audit x set hash = audit_hash(a, v_hash) where x.id = v_id returning x.hash into v_hash;
    end loop;
    update audit_head set id = v_id, hash = v_hash;
end $$;
alter table audit enable trigger audit_is_append_only;
alter table audit alter column previous set not null, alter column hash set not null;
create trigger audit_chained before insert on audit for each row execute function audit_chained();

-- Reckons the next rows of the chain again. p_after, p_previous: number and hash of the last row reckoned (0 and '' at the
-- beginning). `fault`: what is wrong first, with the row of it; null: nothing. With fewer than p_limit rows the end was
-- reached, and head and rows were seen at one instant.
create function verify_audit(
    p_after bigint, p_previous bytea, p_limit integer, p_expect bytea default null,
    out checked bigint, out last_id bigint, out last_hash bytea, out fault text, out fault_id bigint, out expected_id bigint
)
    language plpgsql stable security definer set search_path from current as $$
declare
    a audit;
    h audit_head;
begin
    checked := 0;
    last_id := p_after;
    last_hash := p_previous;
    if p_after = 0 then
        select x.id into fault_id from audit x where x.id < 1 order by x.id limit 1;
        if found then
            fault := 'inserted';
            return;
        end if;
    end if;
    for a in select * from audit x where x.id > p_after order by x.id limit p_limit loop
        if a.id <> last_id + 1 then
            fault := 'removed';
            fault_id := last_id + 1;
            return;
        end if;
        if a.hash is distinct from audit_hash(a, a.previous) then
            fault := 'altered';
            fault_id := a.id;
            return;
        end if;
        if a.previous <> last_hash then
            -- This row is whole, and stands on another one than the one before it.
            fault := case when a.id = 1 then 'altered' else 'replaced' end;
            fault_id := greatest(last_id, 1);
            return;
        end if;
        checked := checked + 1;
        last_id := a.id;
        last_hash := a.hash;
        if a.hash = p_expect then
            expected_id := a.id;
        end if;
    end loop;
    if checked < p_limit then
        select * into h from audit_head;
        if h.id is null or h.id < last_id then
            fault := 'inserted';
            fault_id := coalesce(h.id, 0) + 1;
        elsif h.id > last_id then
            fault := 'cut';
            fault_id := last_id + 1;
        elsif h.hash <> last_hash then
            fault := 'replaced';
            fault_id := last_id;
        end if;
    end if;
end $$;


-- Functions below that forbid sequential scans also turn the JIT compiler off: a table of one row has no index, its scan
-- then counts as dear beyond measure, and every statement that reads the clock would be compiled first, for 50 to 500 ms.


-- Operations -----------------------------------------------------------------------------------------------------------

create table operations (
    id uuid primary key default new_id(),
    act text not null constraint operations_act_known check (act in ('replay', 'cancel', 'resolve')),
    -- Replay: {"also_resolved"}. Resolve: {"captured", "evidence"}.
    detail jsonb not null default '{}',
    -- What was asked for, if the list of ids came from a filter.
    filter jsonb,
    state text not null constraint operations_state_known check (state in ('running', 'paused', 'cancelled', 'stopped', 'done')),
    total bigint not null,
    -- Items with a verdict: acted on; left alone; refused.
    done bigint not null default 0,
    skipped bigint not null default 0,
    failed bigint not null default 0,
    -- Of the replayed ones: those that ended since, and how many of these are dead again.
    ended bigint not null default 0,
    dead_again bigint not null default 0,
    -- Up to which item the replayed ones were looked at last.
    watched_n bigint not null default 0,
    rate_per_second integer not null constraint operations_rate_plausible check (rate_per_second between 1 and 10000),
    stop_at_percent smallint not null constraint operations_stop_at_a_percentage check (stop_at_percent between 0 and 100),
    -- Until when its rate is spent (the theoretical arrival time of a leaky bucket that holds one second).
    spent_until timestamptz not null default '-infinity',
    actor text not null constraint operations_name_who check (btrim(actor) <> ''),
    reason text not null constraint operations_say_why check (btrim(reason) <> ''),
    last_word text,
    created_at timestamptz not null,
    ended_at timestamptz,
    -- By which whoever began it knows it again, and the sha256 of what they asked for.
    request_key text,
    request_hash bytea,
    constraint operations_request_has_key_and_hash check ((request_key is null) = (request_hash is null)),
    constraint operations_ended_iff_no_more_to_do check ((ended_at is null) = (state in ('running', 'paused')))
) with (fillfactor = 50);
create index operations_running on operations (id) where state = 'running';
create unique index operations_request_once on operations (actor, request_key) where request_key is not null;
create index operations_watched on operations (id) where act = 'replay' and state <> 'running' and ended < done;

-- The frozen list: what died or was asked for later is no part of it. `mark`: when it had ended as the list was frozen;
-- null: it had not (or, for those that act on dead letters, it was not dead).
create table operation_items (
    operation uuid not null references operations,
    n bigint not null,
    intent uuid not null,
    mark timestamptz,
    verdict text constraint operation_items_verdict_known
        check (verdict in ('replayed', 'cancelled', 'in_flight', 'resolved', 'skipped', 'moved_meanwhile', 'failed')),
    says text,
    -- Under which it would be sent.
    key text,
    key_generation smallint,
    at timestamptz,
    -- How a replayed one ended again.
    came_to text,
    -- How often its act failed by a trouble that passes (a deadlock, a full disk), and before when it is not tried again.
    tries smallint not null default 0,
    again_at timestamptz,
    primary key (operation, n),
    constraint operation_items_intent_once unique (operation, intent),
    constraint operation_items_verdict_has_a_time check ((verdict is null) = (at is null))
) with (fillfactor = 80);
create index operation_items_not_done on operation_items (operation, n) where verdict is null;
create index operation_items_on_their_way on operation_items (operation, n) where verdict = 'replayed' and came_to is null;
create index operation_items_intent on operation_items (intent);

-- By which dead letters are paged through, the newest first.
create index outcomes_dead_intent on outcomes (intent) where state = 'dead';

create function audit_operation(o operations, p_action text, p_actor text, p_reason text, p_detail jsonb) returns void
    language sql volatile set search_path from current
    as $$
        insert into audit (at, actor, action, reason, operation, detail)
            values (clock_now(), p_actor, 'operation ' || p_action, p_reason, o.id, jsonb_build_object('act', o.act) || p_detail)
    $$;

-- Writes down what shall be done, and to which captures, once and for all. From a filter: those whose authorisation ends
-- first go first. Else in the order in which they are named.
create function begin_operation(
    p_act text, p_detail jsonb, p_filter jsonb, p_ids uuid[], p_rate_per_second integer, p_stop_at_percent smallint,
    p_actor text, p_reason text, p_request_key text default null, p_request_hash bytea default null
) returns uuid
    language plpgsql volatile security definer set search_path from current as $$
declare
    v_now timestamptz := clock_now();
    o operations;
begin
    if coalesce(btrim(p_reason), '') = '' then
        raise exception 'operation: reason is empty' using errcode = '23514', constraint = 'operations_say_why', column = 'reason',
            table = 'operations', schema = current_schema(), hint = 'say in a few words why, for the people who read the audit';
    end if;
    if p_act = 'resolve' and coalesce(btrim(p_detail ->> 'evidence'), '') = '' then
        raise exception 'operation: evidence is empty' using errcode = '23514', constraint = 'operations_resolve_by_evidence', column = 'evidence',
            table = 'operations', schema = current_schema(), hint = 'name where you saw it, so that others can look there too';
    end if;
    insert into operations (act, detail, filter, state, total, rate_per_second, stop_at_percent, actor, reason, created_at, request_key, request_hash)
        values (p_act, p_detail, p_filter, 'running', 0, p_rate_per_second, p_stop_at_percent, p_actor, p_reason, v_now, p_request_key, p_request_hash)
        returning * into o;
    insert into operation_items (operation, n, intent, mark)
        select o.id,
               row_number() over (order by case when p_filter is not null then coalesce(i.authorization_expires_at, 'infinity') end, named.place),
               named.id, case when p_act = 'cancel' or x.state = 'dead' then x.ended_at end
        from (select u.id, min(u.place) as place from unnest(p_ids) with ordinality as u(id, place) group by u.id) named
        left join intents i on i.id = named.id
        left join outcomes x on x.intent = named.id;
    get diagnostics o.total = row_count;
    update operations x set total = o.total, state = case when o.total = 0 then 'done' else 'running' end,
        ended_at = case when o.total = 0 then v_now end where x.id = o.id;
    perform audit_operation(o, 'begin', o.actor, o.reason, jsonb_strip_nulls(jsonb_build_object(
        'total', o.total, 'detail', o.detail, 'filter', o.filter, 'rate_per_second', o.rate_per_second, 'stop_at_percent', o.stop_at_percent)));
    return o.id;
end $$;

-- Pauses, resumes or cancels. Returns the state it had; null: there is no such operation. Cancelled, stopped and done are
-- ends; what has no verdict by then is not done.
create function set_operation_state(p_operation uuid, p_state text, p_actor text, p_reason text) returns text
    language plpgsql volatile security definer set search_path from current as $$
declare
    v_now timestamptz := clock_now();
    o operations;
begin
    if coalesce(btrim(p_reason), '') = '' then
        raise exception 'operation: reason is empty' using errcode = '23514', constraint = 'operations_say_why', column = 'reason',
            table = 'operations', schema = current_schema(), hint = 'say in a few words why, for the people who read the audit';
    end if;
    select * into o from operations x where x.id = p_operation for no key update;
    if (o.state, p_state) in (('running', 'paused'), ('paused', 'running'), ('running', 'cancelled'), ('paused', 'cancelled')) then
        update operations x set state = p_state, ended_at = case when p_state = 'cancelled' then v_now end,
            last_word = format('%s by %s: %s', case p_state when 'running' then 'resumed' else p_state end, p_actor, p_reason)
            where x.id = o.id;
        perform audit_operation(o, case p_state when 'paused' then 'pause' when 'running' then 'resume' else 'cancel' end, p_actor, p_reason,
            jsonb_build_object('not_done', o.total - o.done - o.skipped - o.failed));
    end if;
    return o.state;
end $$;

-- Who did what to a capture since then, in words; else what it is now.
create function moved_by(p_intent uuid, p_since timestamptz) returns text
    language sql stable set search_path from current
    as $$
        select coalesce(
            (select a.actor || ' ' || case a.action when 'replay' then 'replayed' when 'resolve' then 'resolved' when 'cancel' then 'cancelled' when 'release' then 'released' else a.action end
                    || ' it at ' || to_char(a.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') || ' (' || a.reason || ')'
             from audit a where a.intent = p_intent and a.at >= p_since order by a.id desc limit 1),
            (select 'it is ' || s.state || ' meanwhile' from status s where s.id = p_intent),
            'there is no such capture')
    $$;

-- As replay() in 0005, and with the urgency and the operation it belongs to.
create function replay_letter(
    p_intent uuid, p_ended_at timestamptz, p_fresh_key boolean, p_urgency smallint, p_operation uuid, p_actor text, p_reason text, p_detail jsonb
) returns boolean
    language plpgsql volatile set search_path from current set enable_seqscan = off set jit = off as $$
declare
    v_now timestamptz := clock_now();
    o outcomes;
begin
    perform from audit_head for update;
    delete from outcomes x where x.intent = p_intent and x.state = 'dead' and x.ended_at = p_ended_at returning * into o;
    if o.intent is null then
        return false;
    end if;
    insert into waiting (intent, lane, purpose, urgency, fence, epoch, cause, due_at, since)
        select o.intent, o.lane, 2, coalesce(p_urgency, urgency_of(i.priority, i.authorization_expires_at, v_now)), o.fence,
               -- What died in an earlier history may have been replayed in the part of it that is lost, and sent: its claim looks
               -- at it as at everything of that history.
               case when o.ended_at < e.began_at then e.number - 1 else e.number end, 'verify', v_now, v_now
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
    insert into audit (at, actor, action, reason, intent, lane, operation, detail)
        values (v_now, p_actor, 'replay', p_reason, p_intent, o.lane, p_operation, p_detail || jsonb_build_object('before', jsonb_strip_nulls(to_jsonb(o) - 'evidence')));
    insert into events (type, intent_id, provider, account, order_id, payment_id, capture_ref, amount_minor, currency, data, occurred_at)
        select 'capture.replayed', i.id, i.provider, i.account, i.order_id, i.payment_id, i.capture_ref, i.amount_minor, i.currency,
               jsonb_build_object('by', p_actor, 'reason', p_reason), v_now
        from intents i where i.id = p_intent;
    perform wake_sleepers();
    return true;
end $$;

create or replace function replay(p_intent uuid, p_ended_at timestamptz, p_fresh_key boolean, p_actor text, p_reason text, p_detail jsonb) returns boolean
    language sql volatile security definer set search_path from current
    as $$ select replay_letter(p_intent, p_ended_at, p_fresh_key, null, null, p_actor, p_reason, p_detail) $$;

-- As resolve() in 0005; p_mark: the letter as it was looked at, null: whatever it is now.
create function resolve_letter(
    p_intent uuid, p_mark timestamptz, p_captured boolean, p_evidence text, p_operation uuid, p_actor text, p_reason text
) returns text
    language plpgsql volatile set search_path from current set enable_seqscan = off set jit = off as $$
declare
    v_now timestamptz := clock_now();
    o outcomes;
begin
    perform from audit_head for update;
    select * into o from outcomes x where x.intent = p_intent for update;
    if o.intent is null then
        return case when exists (select from intents i where i.id = p_intent) then 'in_flight' else 'not_found' end;
    end if;
    if o.state <> 'dead' then
        return o.state;
    end if;
    if o.ended_at <> p_mark then
        return 'moved_meanwhile';
    end if;
    -- We hold what the provider said. A replay records it; nobody's word goes against it.
    if not p_captured and exists (select from late_results l where l.intent = p_intent and l.proof in ('answer', 'reference')) then
        return 'receipt_held';
    end if;
    if p_captured then
        update outcomes x set state = 'captured', dead_reason = null, captured_minor = i.amount_minor::bigint, provider_capture_id = p_evidence,
               captured_at = v_now, proof = 'person', ended_at = v_now
            from intents i where x.intent = p_intent and i.id = p_intent;
    else
        -- A person's word is as definite as a refusal; what it was before stands in the audit.
        update outcomes x set dead_reason = 'rejected', last_code = 'resolved_not_captured', ended_at = v_now where x.intent = p_intent;
    end if;
    insert into audit (at, actor, action, reason, intent, lane, operation, detail)
        values (v_now, p_actor, 'resolve', p_reason, p_intent, o.lane, p_operation,
                jsonb_build_object('as', case when p_captured then 'captured' else 'not-captured' end, 'evidence', p_evidence, 'before', jsonb_strip_nulls(to_jsonb(o) - 'evidence')));
    insert into events (type, intent_id, provider, account, order_id, payment_id, capture_ref, amount_minor, currency, data, occurred_at)
        select 'capture.resolved', i.id, i.provider, i.account, i.order_id, i.payment_id, i.capture_ref, i.amount_minor, i.currency,
               jsonb_build_object('as', case when p_captured then 'captured' else 'not-captured' end, 'evidence', p_evidence, 'by', p_actor, 'reason', p_reason), v_now
        from intents i where i.id = p_intent;
    return 'resolved';
end $$;

create or replace function resolve(p_intent uuid, p_captured boolean, p_evidence text, p_actor text, p_reason text) returns text
    language sql volatile security definer set search_path from current
    as $$ select resolve_letter(p_intent, null, p_captured, p_evidence, null, p_actor, p_reason) $$;

-- An operator's cancel: as a producer's, and with a line of audit if it changed anything, of the capture that it reached.
create function cancel_for(p_intent uuid, p_actor text, p_reason text, p_operation uuid) returns text
    language plpgsql volatile set search_path from current set enable_seqscan = off set jit = off as $$
declare
    v_meant uuid;
    v_asked timestamptz;
    v_before text;
    v_said text;
    v_reached uuid;
begin
    perform from audit_head for update;
    v_meant := coalesce(left_of_split(p_intent), p_intent);
    select s.state into v_before from status s where s.id = v_meant;
    select c.requested_at into v_asked from cancel_requests c where c.intent = v_meant;
    -- The event's `by` is the database's role; the person is kept in the reason.
    select c.said, c.reached into v_said, v_reached from cancel_what_is_left(p_intent, p_reason || ' (by ' || p_actor || ')') c;
    if v_said = 'cancelled' or v_said = 'in_flight' and v_asked is null then
        insert into audit (at, actor, action, reason, intent, lane, operation, detail)
            -- At the time of its event, if it has one: the two are one act.
            select coalesce((select e.occurred_at from events e where e.intent_id = i.id and e.type = 'capture.cancelled' order by e.seq desc limit 1), clock_now()),
                   p_actor, 'cancel', p_reason, i.id, l.id, p_operation,
                   jsonb_strip_nulls(jsonb_build_object('said', v_said, 'before', v_before, 'named', nullif(p_intent, i.id)))
            from intents i join lanes l on l.provider = i.provider and l.account = i.account where i.id = v_reached;
    end if;
    return v_said;
end $$;

create function cancel_by(p_intent uuid, p_actor text, p_reason text) returns text
    language sql volatile security definer set search_path from current
    as $$ select cancel_for(p_intent, p_actor, p_reason, null) $$;
comment on function cancel_by is 'An operator''s cancel: as cancel(), with a line of audit.';

-- A release over HTTP, in the console, or by the command line with a reason: as release(), under the name of who asked for it
-- and not of the server's login, and with a line of audit if it is new. Of the capture too, if it is named and there already.
create function release_by(
    p_provider text, p_payment_id text, p_order_id text, p_account text, p_capture_ref text, p_shipment_ref text, p_company text, p_method text,
    p_tracking_number text, p_actor text, p_reason text, out release_id bigint, out created boolean
)
    language plpgsql volatile security definer set search_path from current set enable_seqscan = off set jit = off as $$
#variable_conflict use_column
declare
    v_account text := coalesce(p_account, 'default');
begin
    perform from audit_head for update;
    select r.release_id, r.created into release_id, created
        from release(provider => p_provider, payment_id => p_payment_id, order_id => p_order_id, account => v_account, capture_ref => p_capture_ref,
                     shipment_ref => p_shipment_ref, company => p_company, method => p_method, tracking_number => p_tracking_number) r;
    if created then
        update releases r set released_by = p_actor where r.id = release_id;
        insert into audit (at, actor, action, reason, intent, lane, detail)
            values (clock_now(), p_actor, 'release', p_reason,
                    (select i.id from intents i where i.provider = p_provider and i.account = v_account and i.payment_id = p_payment_id
                        and i.capture_ref = p_capture_ref),
                    (select l.id from lanes l where l.provider = p_provider and l.account = v_account),
                    jsonb_strip_nulls(jsonb_build_object('release', release_id, 'payment_id', p_payment_id, 'order_id', p_order_id,
                        'capture_ref', p_capture_ref, 'shipment_ref', p_shipment_ref)));
    end if;
end $$;
comment on function release_by is 'A release by a named person or program: as release(), with a line of audit.';

-- As in 0005, the head of the audit first.
create or replace function set_lane_pause(p_lane integer, p_paused boolean, p_actor text, p_reason text) returns boolean
    language plpgsql volatile security definer set search_path from current as $$
declare
    v_now timestamptz := clock_now();
    v_changed integer;
begin
    perform from audit_head for update;
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

-- How many items may be acted on now: a second's worth at most.
create function operation_tokens(o operations, p_now timestamptz) returns integer
    language sql immutable set search_path from current
    as $$
        select greatest(0, floor(extract(epoch from p_now - greatest(o.spent_until, p_now - interval '1 second')) * o.rate_per_second))::integer
    $$;

-- What became of those that were replayed, some of them each time, in turn; the operation with its counts.
create function watched(o operations) returns operations
    language plpgsql volatile set search_path from current set enable_seqscan = off set jit = off as $$
declare
    v_looked bigint;
    v_last bigint;
    v_ended bigint;
    v_dead bigint;
begin
    with looked as materialized (
        select i.n, i.intent from operation_items i
        where i.operation = o.id and i.verdict = 'replayed' and i.came_to is null and i.n > o.watched_n
        order by i.n limit 500
    ), ended as (
        update operation_items i set came_to = x.state
        from looked l cross join lateral (select x.state from outcomes x where x.intent = l.intent limit 1) x
        where i.operation = o.id and i.n = l.n
        returning i.came_to
    )
    select (select count(*) from looked), (select max(l.n) from looked l), count(*), count(*) filter (where e.came_to = 'dead')
        into v_looked, v_last, v_ended, v_dead from ended e;
    o.ended := o.ended + v_ended;
    o.dead_again := o.dead_again + v_dead;
    o.watched_n := case when v_looked = 500 then v_last else 0 end;
    return o;
end $$;

-- The same for operations that act no more, or rest: most of what they replayed may end after the last step, and how it did
-- is what people come back to see. For a week; returns of how many operations the counts changed.
create function watch_replayed() returns integer
    language plpgsql volatile security definer set search_path from current set enable_seqscan = off set jit = off as $$
declare
    v_now timestamptz := clock_now();
    o operations;
    v_before operations;
    v_changed integer := 0;
begin
    for o in
        select x.* from operations x
        where x.act = 'replay' and x.state <> 'running' and x.ended < x.done and coalesce(x.ended_at, v_now) > v_now - interval '7 days'
        order by x.id desc limit 100 for no key update skip locked
    loop
        v_before := o;
        o := watched(o);
        if o is distinct from v_before then
            update operations x set ended = o.ended, dead_again = o.dead_again, watched_n = o.watched_n where x.id = o.id;
            v_changed := v_changed + 1;
        end if;
    end loop;
    return v_changed;
end $$;

-- An item whose act failed by a trouble that passes stays without a verdict and gets its turn later, each time later than
-- before; how often is up to the driver.
create function put_off_item(p_operation uuid, p_n bigint, p_says text) returns void
    language sql volatile security definer set search_path from current
    as $$
        update operation_items i
        set tries = i.tries + 1, says = p_says,
            again_at = clock_now() + least(interval '1 minute', interval '1 second' * 2 ^ least(i.tries, 6))
        where i.operation = p_operation and i.n = p_n and i.verdict is null
    $$;

-- One step of an operation, all or nothing: acts on these items as far as its rate allows, and writes their verdicts. One
-- driver at a time; to another it says `busy`. p_items: [{"n", "verdict", "says", "fresh_key", "generation", "key"}]; without a
-- verdict it is acted on, else that verdict is written. What the driver has read may be old by now: a letter that moved
-- since the list was frozen is left alone, and the verdict says who moved it.
create function operation_step(p_operation uuid, p_items jsonb, out state text, out acted integer, out written integer)
    language plpgsql volatile security definer set search_path from current set enable_seqscan = off set jit = off set lock_timeout = '5s' as $$
#variable_conflict use_column
declare
    v_now timestamptz := clock_now();
    o operations;
    it record;
    v_tokens integer;
    v_verdict text;
    v_says text;
begin
    acted := 0;
    written := 0;
    select * into o from operations x where x.id = p_operation for no key update skip locked;
    if o.id is null then
        state := 'busy';
        return;
    end if;
    if o.state <> 'running' then
        state := o.state;
        return;
    end if;
    begin
        perform from audit_head for update;
    exception when lock_not_available then
        -- Somebody else's long act. Nothing is wrong with these items.
        state := 'busy';
        return;
    end;

    if o.act = 'replay' then
        o := watched(o);
    else
        o.ended := o.done;
    end if;
    if o.ended + o.failed >= 20 and (o.dead_again + o.failed) * 100 > (o.ended + o.failed) * o.stop_at_percent then
        o.state := 'stopped';
        o.last_word := case when o.act = 'replay'
            then format('stopped: of %s replayed captures that have ended, %s are dead again, and %s were refused: more than %s %%',
                        o.ended, o.dead_again, o.failed, o.stop_at_percent)
            else format('stopped: %s of %s were refused: more than %s %%', o.failed, o.ended + o.failed, o.stop_at_percent) end;
        o.ended_at := v_now;
        perform audit_operation(o, 'stop', 'capture', o.last_word, jsonb_build_object('not_done', o.total - o.done - o.skipped - o.failed));
    end if;

    v_tokens := operation_tokens(o, v_now);
    for it in
        select x.verdict, x.says, coalesce(x.fresh_key, false) as fresh_key, x.generation, x.key, i.n, i.intent, i.mark
        from jsonb_to_recordset(p_items) as x(n bigint, verdict text, says text, fresh_key boolean, generation smallint, key text)
        join operation_items i on i.operation = o.id and i.n = x.n
        where i.verdict is null
        order by i.n
    loop
        exit when o.state <> 'running' or (it.verdict is null and acted >= v_tokens);
        v_verdict := it.verdict;
        v_says := it.says;
        if it.verdict is null then
            if o.act = 'replay' then
                v_verdict := case when replay_letter(
                    it.intent, it.mark, it.fresh_key, 32767::smallint, o.id, o.actor, o.reason,
                    jsonb_build_object('fresh_key', it.fresh_key, 'next_generation', it.generation, 'says', it.says))
                    then 'replayed' else 'moved_meanwhile' end;
            elsif o.act = 'cancel' then
                v_verdict := cancel_for(it.intent, o.actor, o.reason, o.id);
                if v_verdict = 'ended' then
                    v_verdict := 'moved_meanwhile';
                end if;
            else
                v_verdict := resolve_letter(it.intent, it.mark, (o.detail ->> 'captured')::boolean, o.detail ->> 'evidence', o.id, o.actor, o.reason);
                if v_verdict = 'receipt_held' then
                    v_verdict := 'skipped';
                    v_says := 'the provider''s receipt came late and is held: replay it, which records the capture and sends nothing';
                elsif v_verdict <> 'resolved' then
                    v_verdict := 'moved_meanwhile';
                end if;
            end if;
            if v_verdict = 'moved_meanwhile' then
                v_says := case when exists (select from splits s where s.intent = it.intent) and o.act = 'cancel'
                    then 'it was split, and nothing is left of it to take back' else moved_by(it.intent, coalesce(it.mark, o.created_at)) end;
            elsif v_verdict <> 'skipped' then
                acted := acted + 1;
            end if;
        end if;
        update operation_items i set verdict = v_verdict, says = v_says, at = v_now,
            key = case when v_verdict = 'replayed' then it.key end, key_generation = case when v_verdict = 'replayed' then it.generation end
            where i.operation = o.id and i.n = it.n;
        written := written + 1;
        if v_verdict in ('skipped', 'moved_meanwhile') then
            o.skipped := o.skipped + 1;
        elsif v_verdict = 'failed' then
            o.failed := o.failed + 1;
            o.last_word := format('capture %s was refused: %s', it.intent, v_says);
        else
            o.done := o.done + 1;
        end if;
    end loop;
    if acted > 0 then
        o.spent_until := greatest(o.spent_until, v_now - interval '1 second') + acted * (interval '1 second' / o.rate_per_second);
    end if;
    if o.state = 'running' and o.done + o.skipped + o.failed = o.total then
        o.state := 'done';
        o.ended_at := v_now;
        perform audit_operation(o, 'end', 'capture', 'all have their verdict',
            jsonb_build_object('done', o.done, 'skipped', o.skipped, 'failed', o.failed));
    end if;
    update operations x set state = o.state, done = o.done, skipped = o.skipped, failed = o.failed,
        ended = case when o.act = 'replay' then o.ended else 0 end, dead_again = o.dead_again, watched_n = o.watched_n,
        spent_until = o.spent_until, last_word = o.last_word, ended_at = o.ended_at
        where x.id = o.id;
    state := o.state;
end $$;
