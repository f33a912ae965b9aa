-- Outgoing webhooks: endpoints, their secrets, and one delivery for each event that an endpoint is to be told.
--
-- The capture path knows nothing of this: no trigger on events, no write at settle. One row holds the cursor of a feed
-- reader; fan_out_webhooks() reads the feed behind it (whole transactions only, as every reader of events_after) and writes
-- deliveries, in one transaction with the cursor: each event once for each endpoint.
--
-- A delivery is claimed by moving its due time behind the lease and raising its fence, and settled only under that fence. A
-- lease that lapses needs no rescue: the delivery is due again. So a receiver may be told twice, always with the same id;
-- unlike a capture, a message may be repeated.

create table webhook_endpoints (
    id uuid primary key default new_id(),
    url text not null constraint webhook_endpoints_url_is_http check (url ~ '^https?://[^[:space:]]+$' and octet_length(url) <= 2000),
    -- Which types of events it is told; none: all of them.
    types text[] not null default '{}',
    description text not null default '' constraint webhook_endpoints_description_is_short check (char_length(description) <= 255),
    created_by text not null,
    created_at timestamptz not null,
    -- Disabled: nothing is sent, and what happens meanwhile is not kept for it; redelivery brings that back.
    disabled_at timestamptz,
    disabled_by text,
    disabled_reason text,
    -- Its row stays, for the audit; its secrets are gone at once, its deliveries a few at a time.
    removed_at timestamptz,
    -- Attempts in a row that failed, since when, and until when nothing is sent because of it (or because it asked so).
    failures integer not null default 0 constraint webhook_endpoints_failures_not_negative check (failures >= 0),
    failing_since timestamptz,
    wait_until timestamptz,
    -- To the minute.
    last_success_at timestamptz,
    constraint webhook_endpoints_disabled_has_who_and_why
        check ((disabled_at is null) = (disabled_by is null) and (disabled_at is null) = (disabled_reason is null)),
    constraint webhook_endpoints_failing_since_iff_failures check ((failures = 0) = (failing_since is null))
) with (fillfactor = 50);
comment on table webhook_endpoints is 'Who is told of events over HTTP. See capture webhook endpoint.';

-- What signs. Who can read it can sign as we do, so no role may: the claim hands it out.
create table webhook_secrets (
    endpoint uuid not null references webhook_endpoints,
    n integer not null,
    secret bytea not null constraint webhook_secrets_length check (octet_length(secret) between 24 and 64),
    created_at timestamptz not null,
    ends_at timestamptz,
    primary key (endpoint, n)
);
comment on table webhook_secrets is 'The keys that sign webhooks, as they are. No role may read them; capture_worker gets them with what it claims.';

create table webhook_deliveries (
    id bigint generated always as identity primary key,
    endpoint uuid not null,
    -- The event, by its own id (which is the id of the message) and by its place in the feed.
    event uuid not null,
    xid xid8 not null,
    seq bigint not null,
    state text not null default 'pending' constraint webhook_deliveries_state_known check (state in ('pending', 'delivered', 'failed', 'dropped')),
    fence integer not null default 0,
    -- Of this round: a redelivery begins a new one.
    attempts integer not null default 0,
    begun_at timestamptz not null,
    redeliveries integer not null default 0,
    -- When it may be claimed; while it is claimed: when its lease ends.
    due_at timestamptz,
    ended_at timestamptz,
    last_at timestamptz,
    last_code text,
    last_status smallint,
    last_ms integer,
    constraint webhook_deliveries_once unique (endpoint, event),
    constraint webhook_deliveries_pending_iff_due check ((state = 'pending') = (due_at is not null)),
    constraint webhook_deliveries_ended_iff_not_pending check ((state = 'pending') = (ended_at is null))
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
comment on table webhook_deliveries is 'One row for each event that an endpoint is, or was, to be told.';
create index webhook_deliveries_due on webhook_deliveries (endpoint, due_at) where due_at is not null;
-- The oldest that waits: how far an endpoint is behind.
create index webhook_deliveries_oldest on webhook_deliveries (endpoint, begun_at) where due_at is not null;
create index webhook_deliveries_ended on webhook_deliveries (ended_at) where ended_at is not null;

-- How far the feed was read for webhooks.
create table webhook_cursor (
    only_row boolean primary key default true constraint webhook_cursor_has_one_row check (only_row),
    cursor text not null
) with (fillfactor = 20);
insert into webhook_cursor (cursor) values ('0-0');

-- Where events of a span of time are. A few bytes for many pages; an insert of an event writes nothing to it.
create index events_occurred on events using brin (occurred_at) with (pages_per_range = 32, autosummarize = on);


-- What operators do ---------------------------------------------------------------------------------------------------
-- The order of locks is: endpoints (by id), then the head of the audit.

create function audit_webhook(p_action text, p_endpoint uuid, p_actor text, p_reason text, p_detail jsonb) returns void
    language sql volatile set search_path from current
    as $$
        insert into audit (at, actor, action, reason, detail)
            values (clock_now(), p_actor, 'webhook ' || p_action, p_reason, jsonb_strip_nulls(jsonb_build_object('endpoint', p_endpoint) || p_detail))
    $$;

create function create_webhook_endpoint(p_url text, p_types text[], p_description text, p_secret bytea, p_actor text, p_reason text) returns uuid
    language plpgsql volatile security definer set search_path from current as $$
declare
    v_id uuid;
begin
    -- Whoever is the first begins at the feed's end and not at its beginning. Later ones are told of what is fanned out
    -- once they are there: at least of every transaction that begins after this one has committed.
    perform from webhook_cursor for update;
    if not exists (select from webhook_endpoints e where e.removed_at is null) then
        update webhook_cursor set cursor = coalesce(
            (select e.xid::text || '-' || e.seq from events e where e.xid < pg_snapshot_xmin(pg_current_snapshot()) order by e.xid desc, e.seq desc limit 1),
            cursor);
    end if;
    insert into webhook_endpoints (url, types, description, created_by, created_at)
        values (p_url, p_types, p_description, p_actor, clock_now()) returning id into v_id;
    insert into webhook_secrets (endpoint, n, secret, created_at) values (v_id, 1, p_secret, clock_now());
    perform audit_webhook('endpoint add', v_id, p_actor, p_reason,
        jsonb_build_object('url', p_url, 'types', p_types, 'description', nullif(p_description, '')));
    return v_id;
end $$;

-- Null leaves as it is. 'changed', 'unchanged' or 'not_found'. Another address has failed at nothing yet.
create function change_webhook_endpoint(p_endpoint uuid, p_url text, p_types text[], p_description text, p_actor text, p_reason text) returns text
    language plpgsql volatile security definer set search_path from current as $$
declare
    v_old webhook_endpoints;
begin
    select * into v_old from webhook_endpoints e where e.id = p_endpoint and e.removed_at is null for no key update;
    if not found then
        return 'not_found';
    elsif coalesce(p_url, v_old.url) = v_old.url and coalesce(p_types, v_old.types) = v_old.types
          and coalesce(p_description, v_old.description) = v_old.description then
        return 'unchanged';
    end if;
    update webhook_endpoints e set url = coalesce(p_url, e.url), types = coalesce(p_types, e.types), description = coalesce(p_description, e.description)
        where e.id = p_endpoint;
    if p_url <> v_old.url then
        update webhook_endpoints e set failures = 0, failing_since = null, wait_until = null where e.id = p_endpoint;
    end if;
    perform audit_webhook('endpoint set', p_endpoint, p_actor, p_reason, jsonb_build_object(
        'before', jsonb_build_object('url', v_old.url, 'types', v_old.types, 'description', v_old.description),
        'after', jsonb_build_object('url', coalesce(p_url, v_old.url), 'types', coalesce(p_types, v_old.types), 'description', coalesce(p_description, v_old.description))));
    return 'changed';
end $$;

-- 'changed', 'unchanged' or 'not_found'. Enabled anew it has failed at nothing yet, and what is still pending for it goes on.
create function set_webhook_endpoint_state(p_endpoint uuid, p_enabled boolean, p_actor text, p_reason text) returns text
    language plpgsql volatile security definer set search_path from current as $$
declare
    v_old webhook_endpoints;
begin
    select * into v_old from webhook_endpoints e where e.id = p_endpoint and e.removed_at is null for no key update;
    if not found then
        return 'not_found';
    elsif (v_old.disabled_at is null) = p_enabled then
        return 'unchanged';
    elsif p_enabled then
        update webhook_endpoints e set disabled_at = null, disabled_by = null, disabled_reason = null,
            failures = 0, failing_since = null, wait_until = null where e.id = p_endpoint;
    else
        update webhook_endpoints e set disabled_at = clock_now(), disabled_by = p_actor, disabled_reason = p_reason where e.id = p_endpoint;
    end if;
    perform audit_webhook(case when p_enabled then 'endpoint enable' else 'endpoint disable' end, p_endpoint, p_actor, p_reason, '{}');
    return 'changed';
end $$;

create function remove_webhook_endpoint(p_endpoint uuid, p_actor text, p_reason text) returns text
    language plpgsql volatile security definer set search_path from current as $$
begin
    update webhook_endpoints e set removed_at = clock_now() where e.id = p_endpoint and e.removed_at is null;
    if not found then
        return 'not_found';
    end if;
    delete from webhook_secrets s where s.endpoint = p_endpoint;
    perform audit_webhook('endpoint remove', p_endpoint, p_actor, p_reason, '{}');
    return 'changed';
end $$;

-- A second secret beside the first, which ends after the grace: for so long both sign. 'changed', 'not_found', or
-- 'two_live' (the rotation before is not over).
create function rotate_webhook_secret(p_endpoint uuid, p_secret bytea, p_grace interval, p_actor text, p_reason text) returns text
    language plpgsql volatile security definer set search_path from current as $$
declare
    v_now timestamptz := clock_now();
begin
    perform from webhook_endpoints e where e.id = p_endpoint and e.removed_at is null for no key update;
    if not found then
        return 'not_found';
    end if;
    delete from webhook_secrets s where s.endpoint = p_endpoint and s.ends_at <= v_now;
    if (select count(*) from webhook_secrets s where s.endpoint = p_endpoint) > 1 and p_grace > interval '0' then
        return 'two_live';
    end if;
    -- Without a grace the old ones end here: they leaked, perhaps.
    if p_grace > interval '0' then
        update webhook_secrets s set ends_at = v_now + p_grace where s.endpoint = p_endpoint;
    else
        delete from webhook_secrets s where s.endpoint = p_endpoint;
    end if;
    insert into webhook_secrets (endpoint, n, secret, created_at)
        values (p_endpoint, coalesce((select max(s.n) from webhook_secrets s where s.endpoint = p_endpoint), 0) + 1, p_secret, v_now);
    perform audit_webhook('endpoint rotate', p_endpoint, p_actor, p_reason, jsonb_build_object('old_ends_at', v_now + p_grace));
    return 'changed';
end $$;

-- These deliveries once more, from the beginning of their schedule, whatever became of them. What is pending is due at once.
-- Those of removed endpoints are left alone. Returns how many.
create function redeliver_webhooks(p_deliveries bigint[], p_actor text, p_reason text) returns bigint
    language plpgsql volatile security definer set search_path from current set enable_seqscan = off set jit = off as $$
declare
    v_now timestamptz := clock_now();
    v_count bigint;
begin
    with chosen as materialized (
        select d.id from webhook_deliveries d join webhook_endpoints e on e.id = d.endpoint
        where d.id = any (p_deliveries) and e.removed_at is null order by d.id for update of d
    )
    update webhook_deliveries d set state = 'pending', attempts = 0, begun_at = v_now, due_at = v_now, ended_at = null, redeliveries = d.redeliveries + 1
        from chosen c where d.id = c.id;
    get diagnostics v_count = row_count;
    perform audit_webhook('redeliver', null, p_actor, p_reason, jsonb_build_object('deliveries', to_jsonb(p_deliveries)));
    return v_count;
end $$;

-- Says who wants a span of events told once more, to whom and why. redeliver_webhooks_step() acts on the row of `audit` that
-- this returns, from the one place of the feed to the other (null: there is nothing in that span).
create function begin_webhook_redelivery(p_endpoint uuid, p_since timestamptz, p_until timestamptz, p_actor text, p_reason text,
                                         out audit_id bigint, out behind text, out last text)
    language plpgsql volatile security definer set search_path from current as $$
declare
    v_until timestamptz := coalesce(p_until, clock_now());
begin
    if not exists (select from webhook_endpoints e where e.id = p_endpoint and e.removed_at is null) then
        return;
    end if;
    insert into audit (at, actor, action, reason, detail)
        values (clock_now(), p_actor, 'webhook redeliver', p_reason, jsonb_build_object('endpoint', p_endpoint, 'since', p_since, 'until', v_until))
        returning id into audit_id;
    select min(e.xid)::text || '-0', max(e.xid)::text || '-999999999999999999' into behind, last
        from events e where e.occurred_at >= p_since and e.occurred_at < v_until;
end $$;

-- The next so many events behind that place. Events that the fan-out has yet to reach are left to it. Returns how many
-- deliveries are pending by it and how far it came (null: that was all).
create function redeliver_webhooks_step(p_audit bigint, p_behind text, p_last text, p_rows integer, out redelivered bigint, out next text)
    language plpgsql volatile security definer set search_path from current set enable_seqscan = off set jit = off as $$
declare
    v_now timestamptz := clock_now();
    a jsonb := (select x.detail from audit x where x.id = p_audit and x.action = 'webhook redeliver' and x.detail ? 'since');
    v_last text := p_last;
    e webhook_endpoints;
begin
    if a is null then
        raise exception 'redelivery: audit row % says nothing of a span of events', p_audit
            using errcode = '22023', hint = 'call begin_webhook_redelivery first, and pass what it returns';
    end if;
    select x.* into e from webhook_endpoints x where x.id = (a ->> 'endpoint')::uuid and x.removed_at is null;
    with page as materialized (
        select v.* from events v, webhook_cursor c
        where (v.xid, v.seq) > (split_part(p_behind, '-', 1)::xid8, split_part(p_behind, '-', 2)::bigint)
          and (v.xid, v.seq) <= (split_part(v_last, '-', 1)::xid8, split_part(v_last, '-', 2)::bigint)
          and (v.xid, v.seq) <= (split_part(c.cursor, '-', 1)::xid8, split_part(c.cursor, '-', 2)::bigint)
        order by v.xid, v.seq limit least(greatest(p_rows, 1), 10000)
    ), told as (
        insert into webhook_deliveries as d (endpoint, event, xid, seq, begun_at, due_at)
        select e.id, p.id, p.xid, p.seq, v_now, v_now from page p
        where p.occurred_at >= (a ->> 'since')::timestamptz and p.occurred_at < (a ->> 'until')::timestamptz
          and (e.types = '{}' or p.type = any (e.types)) and e.id is not null
        on conflict (endpoint, event) do update
            set state = 'pending', attempts = 0, begun_at = v_now, due_at = v_now, ended_at = null, redeliveries = d.redeliveries + 1
        returning 1
    ), furthest as (select p.xid, p.seq from page p order by p.xid desc, p.seq desc limit 1)
    select (select count(*) from told),
           (select f.xid::text || '-' || f.seq from furthest f where (select count(*) from page) = least(greatest(p_rows, 1), 10000))
        into redelivered, next;
end $$;


-- What workers do -----------------------------------------------------------------------------------------------------

-- Writes the deliveries of the next events, and moves the cursor, in one transaction. One at a time: who finds the cursor
-- taken leaves it to who has it. Returns how many events were read, how many deliveries written, and how many endpoints there
-- are: while there is none, nobody need ask often.
--
-- One statement sees both the events and the endpoints: an endpoint that is committed while this runs comes into force
-- with the events of transactions that are younger than its own, because those are not shown to this snapshot.
create function fan_out_webhooks(p_rows integer, out events integer, out deliveries integer, out endpoints bigint)
    language plpgsql volatile security definer set search_path from current
    set enable_seqscan = off set jit = off
as $$
#variable_conflict use_column
declare
    v_now timestamptz := clock_now();
    v_cursor text;
    v_next text;
begin
    events := 0;
    deliveries := 0;
    select count(*) into endpoints from webhook_endpoints e where e.removed_at is null;
    if endpoints = 0 then
        return;
    end if;
    select c.cursor into v_cursor from webhook_cursor c for update skip locked;
    if not found then
        return;
    end if;
    with page as materialized (
        -- Few events where there are many endpoints: one transaction stays small.
        select * from events_after(v_cursor, greatest(1, least(p_rows, (20000 / endpoints)::integer)))
    ), written as (
        insert into webhook_deliveries (endpoint, event, xid, seq, begun_at, due_at)
        select e.id, p.id, p.xid, p.seq, v_now, v_now
        from page p join webhook_endpoints e on e.removed_at is null and e.disabled_at is null and (e.types = '{}' or p.type = any (e.types))
        on conflict (endpoint, event) do nothing
        returning 1
    )
    select (select count(*) from page), (select count(*) from written),
           (select p.cursor from page p order by p.xid desc, p.seq desc limit 1)
        into events, deliveries, v_next;
    if events > 0 then
        update webhook_cursor set cursor = v_next;
    end if;
end $$;

-- Takes deliveries that are due: at most p_limit in all, at most p_each of an endpoint together with what this caller has in
-- flight for it (p_busy, p_in_flight), and one of an endpoint that failed last. Goes round the endpoints, beginning behind
-- p_after, so that none is passed over because others have more. What is taken is due again when the lease ends.
create function claim_webhook_deliveries(
    p_lease interval, p_limit integer, p_each integer, p_after uuid, p_busy uuid[], p_in_flight integer[]
)
    returns table (
        delivery bigint, fence integer, attempts integer, endpoint uuid, url text, failures integer, secrets bytea[], event uuid,
        xid text, seq bigint, type text, intent_id uuid, provider text, account text, order_id text, payment_id text, capture_ref text,
        amount_minor bigint, currency text, data jsonb, occurred_at timestamptz
    )
    language plpgsql volatile security definer set search_path from current
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
#variable_conflict use_column
declare
    v_now timestamptz := clock_now();
begin
    return query
    with ring as materialized (
        select e.id, case when e.failures > 0 then 1 else p_each end - coalesce(b.n, 0) as free
        from webhook_endpoints e
        left join unnest(p_busy, p_in_flight) as b(endpoint, n) on b.endpoint = e.id
        where e.removed_at is null and e.disabled_at is null and (e.wait_until is null or e.wait_until <= v_now)
          and case when e.failures > 0 then 1 else p_each end > coalesce(b.n, 0)
          and exists (select from webhook_deliveries d where d.endpoint = e.id and d.due_at <= v_now)
        order by e.id <= p_after, e.id
        limit p_limit
    ), picked as materialized (
        select d.id from ring r
        cross join lateral (
            select d.id from webhook_deliveries d
            where d.endpoint = r.id and d.due_at <= v_now
            order by d.due_at limit r.free
            for update skip locked
        ) d
        limit p_limit
    ), taken as (
        update webhook_deliveries d set fence = d.fence + 1, due_at = v_now + p_lease
        from picked p where d.id = p.id
        returning d.*
    )
    select t.id, t.fence, t.attempts, t.endpoint, e.url, e.failures,
           array(select s.secret from webhook_secrets s where s.endpoint = t.endpoint and (s.ends_at is null or s.ends_at > v_now) order by s.n desc),
           -- An event that was pruned has no type: the delivery is dropped by who claimed it.
           t.event, t.xid::text, t.seq, v.type, v.intent_id, v.provider, v.account, v.order_id, v.payment_id, v.capture_ref,
           v.amount_minor::bigint, v.currency, v.data, v.occurred_at
    from taken t
    join webhook_endpoints e on e.id = t.endpoint
    left join events v on v.xid = t.xid and v.seq = t.seq
    order by t.endpoint, t.id;
end $$;

-- Records what came of claimed deliveries, each under its fence; who lost its lease changes nothing.
-- p_results: [{"delivery", "fence", "result": "delivered", "retry", "gone" or "dropped", "code", "status", "ms", "wait_ms" (until
-- the next try), "endpoint_wait_ms" (nothing goes to the endpoint for so long), "failure": did it not do its duty?}].
-- A delivery is given up p_give_up after its round began. An endpoint that says that it is gone is disabled, and so is one
-- at which nothing arrived for p_disable_after. Returns the deliveries that were recorded, and what they are now.
create function settle_webhook_deliveries(p_results jsonb, p_give_up interval, p_disable_after interval)
    returns table (delivery bigint, state text)
    language plpgsql volatile security definer set search_path from current
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
#variable_conflict use_column
declare
    v_now timestamptz := clock_now();
    r record;
    v_reason text;
begin
    -- In one order, and before the head of the audit: two that settle never wait for each other in a circle.
    perform from webhook_endpoints e
        where e.id in (select d.endpoint from jsonb_to_recordset(p_results) as g(delivery bigint) join webhook_deliveries d on d.id = g.delivery)
        order by e.id for no key update;
    for r in
        with given as materialized (
            select * from jsonb_to_recordset(p_results) as g(
                delivery bigint, fence integer, result text, code text, status smallint, ms integer, wait_ms bigint,
                endpoint_wait_ms bigint, failure boolean)
        ), judged as materialized (
            select g.*, d.endpoint,
                   case g.result when 'delivered' then 'delivered' when 'dropped' then 'dropped'
                        else case when d.begun_at <= v_now - p_give_up then 'failed' else 'pending' end end as state
            from given g join webhook_deliveries d on d.id = g.delivery
            where d.fence = g.fence and d.ended_at is null
        ), noted as (
            update webhook_deliveries d set
                state = j.state, attempts = d.attempts + 1, last_at = v_now, last_code = j.code, last_status = j.status, last_ms = j.ms,
                due_at = case when j.state = 'pending' then v_now + coalesce(j.wait_ms, 0) * interval '1 millisecond' end,
                ended_at = case when j.state <> 'pending' then v_now end
            from judged j where d.id = j.delivery and d.fence = j.fence and d.ended_at is null
            returning d.id, d.endpoint, d.state, j.result, j.failure, j.endpoint_wait_ms
        )
        select n.endpoint, bool_or(n.result = 'delivered') as arrived, bool_or(n.result = 'gone') as gone,
               (count(*) filter (where n.failure))::integer as failed, max(n.endpoint_wait_ms) as wait_ms,
               array_agg(n.id) as ids, array_agg(n.state) as states
        from noted n group by n.endpoint order by n.endpoint
    loop
        update webhook_endpoints e set
            failures = case when r.arrived then 0 else e.failures + r.failed end,
            failing_since = case when r.arrived then null when r.failed > 0 then coalesce(e.failing_since, v_now) else e.failing_since end,
            wait_until = case when r.wait_ms is not null then greatest(e.wait_until, v_now + r.wait_ms * interval '1 millisecond')
                              when r.arrived then null else e.wait_until end,
            last_success_at = case when r.arrived then v_now else e.last_success_at end
        where e.id = r.endpoint
          -- Not for every message: of what goes well it is enough to know the minute.
          and (r.failed > 0 or r.wait_ms is not null or (r.arrived and (
               e.failures > 0 or e.wait_until is not null or e.last_success_at is null or e.last_success_at < v_now - interval '1 minute')));
        select case when r.gone then 'the endpoint answered 410 Gone'
                    else format('nothing arrived since %s', to_char(e.failing_since at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')) end
            into v_reason from webhook_endpoints e
            where e.id = r.endpoint and e.disabled_at is null and e.removed_at is null
              and (r.gone or e.failing_since <= v_now - p_disable_after);
        if found then
            update webhook_endpoints e set disabled_at = v_now, disabled_by = 'capture', disabled_reason = v_reason where e.id = r.endpoint;
            perform audit_webhook('endpoint disable', r.endpoint, 'capture', v_reason, '{}');
        end if;
        return query select * from unnest(r.ids, r.states);
    end loop;
end $$;

-- Removes so many deliveries that ended before p_keep, and of removed endpoints. Returns how many.
create function prune_webhook_deliveries(p_keep interval, p_limit integer) returns integer
    language plpgsql volatile security definer set search_path from current set enable_seqscan = off set jit = off as $$
declare
    v_gone integer;
    v_more integer;
begin
    delete from webhook_deliveries d where d.id in (
        select o.id from webhook_deliveries o where o.ended_at < clock_now() - p_keep order by o.ended_at limit p_limit for update skip locked);
    get diagnostics v_gone = row_count;
    delete from webhook_deliveries d where d.id in (
        select o.id from webhook_endpoints e join webhook_deliveries o on o.endpoint = e.id
        where e.removed_at is not null limit p_limit for update of o skip locked);
    get diagnostics v_more = row_count;
    return v_gone + v_more;
end $$;

-- How each endpoint that is not removed stands; of `pending` at most 1,000 are counted: whoever looks at metrics looks often.
create view webhook_state as
select e.id, e.url, e.types, e.description, e.created_by, e.created_at, e.disabled_at, e.disabled_by, e.disabled_reason,
       e.failures, e.failing_since, e.wait_until, e.last_success_at,
       (select count(*) from (select from webhook_deliveries d where d.endpoint = e.id and d.due_at is not null limit 1000) p) as pending,
       (select d.begun_at from webhook_deliveries d where d.endpoint = e.id and d.due_at is not null order by d.begun_at limit 1) as oldest_at
from webhook_endpoints e
where e.removed_at is null;
