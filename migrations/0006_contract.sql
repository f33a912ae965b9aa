-- What others read: one row per intent, and the feed of events.

create view status as
select i.id, i.provider, i.account, i.order_id, i.payment_id, i.capture_ref, i.amount_minor, i.currency,
       case when o.intent is not null then o.state
            when r.purpose = 2 or w.purpose = 2 then 'verifying'
            when r.intent is not null then 'ready'
            when w.cause = 'held' then 'held'
            when w.intent is not null then 'scheduled'
            -- In none of them and not ended: a worker has it.
            else 'leased' end as state,
       coalesce(o.attempts, p.attempts, 0::smallint) as attempts,
       coalesce(o.last_class, p.last_class) as last_class,
       coalesce(o.last_code, p.last_code) as last_code,
       w.due_at as next_attempt_at,
       o.captured_minor::numeric as captured_minor, o.provider_capture_id, o.captured_at, o.dead_reason,
       i.created_at
from intents i
left join outcomes o on o.intent = i.id
left join ready r on r.intent = i.id
left join waiting w on w.intent = i.id
left join progress p on p.intent = i.id;
comment on view status is 'One row per intent. state: held, scheduled (back-off too), ready, leased, verifying (unknown or pending), captured, dead, cancelled.';

create type feed_event as (
    cursor text, seq bigint, xid xid8, id uuid, type text, intent_id uuid, provider text, account text, order_id text,
    payment_id text, capture_ref text, amount_minor numeric, currency text, data jsonb, occurred_at timestamptz
);

-- Reads the feed without missing what commits late: only transactions older than every one still running are shown, in
-- (xid, seq) order. Null or '' begins at the beginning; keep the last row's cursor and pass it next time.
create function events_after(cursor text, max_rows integer default 100) returns setof feed_event
    language plpgsql stable set search_path from current
    set enable_seqscan = off set jit = off
as $$
#variable_conflict use_column
declare
    v_xid xid8 := '0';
    v_seq bigint := -1;
    v_given text := nullif(btrim(events_after.cursor), '');
    v_id text;
begin
    if v_given is not null then
        if v_given !~ '^[0-9]{1,19}-[0-9]{1,18}(-[0-9a-f]{32})?$' then
            raise exception 'events_after: % is not a cursor', quote_literal(left(v_given, 60))
                using errcode = '22023', hint = 'pass the cursor of the last row you have read, or null to begin at the beginning';
        end if;
        v_xid := split_part(v_given, '-', 1)::xid8;
        v_seq := split_part(v_given, '-', 2)::bigint;
        v_id := nullif(split_part(v_given, '-', 3), '');
        -- Whoever was given a cursor was given it of a transaction that had ended, so no cursor of this history is later than all
        -- that this server has begun. (A standby may lag behind the primary on which the cursor was read: there it waits.)
        if v_xid >= pg_snapshot_xmax(pg_current_snapshot()) and not pg_is_in_recovery() then
            raise exception 'events_after: cursor % is of another history: this server has not come to transaction % yet', v_given, v_xid
                using errcode = '22023', constraint = 'events_cursor_of_this_history',
                hint = 'the database was restored or copied from elsewhere, or lost commits in a fail-over: begin anew from null, '
                       'and pass over the events whose id you have handled; capture doctor says whether more is wrong';
        end if;
        -- A fail-over that loses the event of a cursor gives its numbers to others, and a reader that went on would pass over those
        -- that are before it. The event itself says so: it is not there, and it was not pruned. Where it is, all before it is what its
        -- reader has seen, for the log of a history is kept up to some place and not beyond. (The first 48 bits of an id are its
        -- milliseconds, by a clock that the tests do not set: an hour for both.)
        if v_id is not null and not exists (select from events e where e.xid = v_xid and e.seq = v_seq and e.id = v_id::uuid)
           and (exists (select from events e where e.xid = v_xid and e.seq = v_seq)
                or not pg_is_in_recovery()
                   and to_timestamp(('x' || left(v_id, 12))::bit(48)::bigint / 1000.0) - interval '1 hour'
                       > (select p.events_pruned_before from epoch p)) then
            raise exception 'events_after: cursor % is of another history: its event is not of this one', v_given
                using errcode = '22023', constraint = 'events_cursor_of_this_history',
                hint = 'a fail-over lost commits, or the database was restored or copied from elsewhere: begin anew from null, '
                       'and pass over the events whose id you have handled; capture doctor says whether more is wrong';
        end if;
    end if;
    if events_after.max_rows is null or events_after.max_rows not between 1 and 10000 then
        raise exception 'events_after: max_rows is %, not 1 to 10000', coalesce(events_after.max_rows::text, 'null')
            using errcode = '22023', hint = 'ask for fewer rows and go on with the cursor';
    end if;
    return query
    select e.xid::text || '-' || e.seq || '-' || replace(e.id::text, '-', ''), e.seq, e.xid, e.id, e.type, e.intent_id, e.provider, e.account, e.order_id,
           e.payment_id, e.capture_ref, e.amount_minor, e.currency, e.data, e.occurred_at
    from events e
    where (e.xid, e.seq) > (v_xid, v_seq) and e.xid < pg_snapshot_xmin(pg_current_snapshot())
    order by e.xid, e.seq
    limit events_after.max_rows;
end $$;
comment on function events_after is 'The event feed: events_after(null, 100), then events_after(last cursor, 100). Misses nothing that commits late.';
