-- Shipments: what warehouses, shops and carriers tell, what follows from it for held captures, and what nobody can place.
--
-- A shipment event becomes a release (take_shipments), a release frees held captures (match_releases), and what frees
-- nothing is told (watch_shipments), for goods that left without a capture are money that nobody asks for.


-- What comes in over HTTP -----------------------------------------------------------------------------------------------

-- The bytes as they came, for support, and what makes two requests the same. The bytes may hold names and addresses of
-- customers: only operators may read them, and watch_shipments() removes them after 30 days.
create table shipment_bodies (
    id bigint generated always as identity primary key,
    source text not null,
    -- Of the body; where the event's id is part of what was signed, of both.
    digest bytea not null,
    event_id text not null,
    received_at timestamptz not null,
    body bytea,
    -- Why it could not be understood; null: it became this row of shipment_events.
    fault text,
    shipment bigint,
    constraint shipment_bodies_once unique (source, digest)
);
create index shipment_bodies_to_forget on shipment_bodies (received_at) where body is not null;

-- How many requests of each source were taken, known, or refused and why. Counted in the servers and added up here every
-- few seconds, so that a flood of refused ones costs no write each.
create table shipment_requests (
    source text not null,
    result text not null,
    count bigint not null,
    last_at timestamptz not null,
    primary key (source, result)
);

-- Keeps a shipment that came over HTTP; p_shipment: the columns of shipment_events, as text. Null: it was known. A body
-- that was signed, and not understood (p_fault), is only kept.
create function receive_shipment(p_source text, p_event_id text, p_digest bytea, p_body bytea, p_fault text, p_shipment jsonb) returns bigint
    language plpgsql volatile security definer set search_path from current set enable_seqscan = off set jit = off as $$
declare
    v_id bigint;
    v_seq bigint;
    v_provider text := p_shipment ->> 'provider';
begin
    if v_provider is not null and not exists (select from providers p where p.name = v_provider) then
        raise exception 'unknown provider %', to_json(left(v_provider, 60))
            using errcode = '23514', constraint = 'releases_provider_known', column = 'provider', table = 'releases', schema = current_schema(),
                  hint = (select 'use one of: ' || string_agg(p.name, ', ' order by p.name) from providers p);
    end if;
    insert into shipment_bodies (source, digest, event_id, received_at, body, fault)
        values (p_source,
                -- The same bytes may be understood one day.
                case when p_fault is null then p_digest else sha256(p_digest || convert_to('not understood', 'UTF8')) end,
                p_event_id, clock_now(), p_body, p_fault)
        on conflict do nothing
        returning id into v_id;
    if v_id is null or p_fault is not null then
        return null;
    end if;
    insert into shipment_events (source, event_id, provider, account, order_id, payment_id, capture_ref, kind, company, method,
                                 tracking_number, occurred_at, shipment_ref, amount_minor, currency, is_final, received_at)
        select p_source, p_event_id, s.provider, s.account, s.order_id, s.payment_id, s.capture_ref, s.kind, s.company, s.method,
               s.tracking_number, s.occurred_at, s.shipment_ref, s.amount_minor, s.currency, s.is_final, clock_now()
        from jsonb_to_record(p_shipment) as s(
            provider text, account text, order_id text, payment_id text, capture_ref text, kind text, company text, method text,
            tracking_number text, occurred_at text, shipment_ref text, amount_minor text, currency text, is_final text)
        on conflict do nothing
        returning seq into v_seq;
    if v_seq is null then
        -- The id is known, with other bytes. It was told once; what it says now changes nothing.
        delete from shipment_bodies b where b.id = v_id;
    else
        update shipment_bodies b set shipment = v_seq where b.id = v_id;
    end if;
    return v_seq;
end $$;

create function count_shipment_requests(p_source text, p_result text, p_count bigint) returns void
    language sql volatile security definer set search_path from current as $$
    insert into shipment_requests as s (source, result, count, last_at) values (p_source, p_result, p_count, clock_now())
        on conflict (source, result) do update set count = s.count + excluded.count, last_at = excluded.last_at
$$;


-- Events become releases ------------------------------------------------------------------------------------------------

-- A name that an index can take.
create function short_name(p_name text) returns text
    language sql immutable set search_path from current
    as $$ select case when octet_length(p_name) > 255 then 'sha256:' || encode(sha256(convert_to(p_name, 'UTF8')), 'hex') else p_name end $$;

-- What one event does. The parcel is the shipment: whatever its source calls it and whatever further events it has, it is
-- one release. `release`: the one that it made or changed.
create function take_shipment(e shipment_events, out handling text, out release bigint)
    language plpgsql volatile set search_path from current set enable_seqscan = off set jit = off as $$
#variable_conflict use_variable
declare
    v_now timestamptz := clock_now();
    v_kind text := lower(btrim(coalesce(e.kind, 'shipped')));
    v_parcel text := short_name(nullif(btrim(e.tracking_number), ''));
    v_told_as text := short_name(e.source || ':' || nullif(btrim(e.shipment_ref), ''));
    v_name text;
    v_scanned boolean;
    v_final boolean := lower(btrim(coalesce(e.is_final, ''))) in ('true', 't', 'yes', '1');
    v_amount numeric;
    v_currency text := nullif(upper(btrim(e.currency)), '');
    v_shipping text[];
    r releases;
begin
    if v_kind not in ('shipped', 'in_transit', 'delivered', 'cancelled') then
        handling := 'ignored: goods have not left';
        return;
    end if;
    v_scanned := v_kind in ('in_transit', 'delivered');
    if nullif(btrim(e.provider), '') is null then
        handling := 'ignored: provider is missing';
        return;
    elsif nullif(btrim(e.order_id), '') is null and nullif(btrim(e.payment_id), '') is null then
        handling := 'ignored: neither order_id nor payment_id';
        return;
    elsif octet_length(concat(e.provider, e.account, e.order_id, e.payment_id, e.capture_ref)) > 2000 then
        -- No index takes names so long: one such row must not keep all others from being read.
        handling := 'ignored: its names are longer than 2000 bytes';
        return;
    end if;
    -- A source may have said before the goods left that nothing comes after them.
    v_final := v_final or exists (
        select from shipment_events x where x.source = e.source and x.shipment_ref = e.shipment_ref and octet_length(x.shipment_ref) <= 255
          and x.is_final is not null and lower(btrim(x.is_final)) in ('true', 't', 'yes', '1'));
    -- What is no amount is none: the rule of the account says what follows.
    if btrim(e.amount_minor) ~ '^[0-9]{1,15}$' then
        v_amount := nullif(btrim(e.amount_minor)::numeric, 0);
    end if;
    -- An empty text is none. All three together or nothing: half of it a provider would refuse.
    v_shipping := array[nullif(btrim(e.company), ''), nullif(btrim(e.method), ''), nullif(btrim(e.tracking_number), '')];
    if num_nulls(v_shipping[1], v_shipping[2], v_shipping[3]) > 0
       or greatest(char_length(v_shipping[1]), char_length(v_shipping[2]), char_length(v_shipping[3])) > 255 then
        v_shipping := array[null, null, null];
    end if;
    -- Without a number and a name each event is a shipment of its own.
    v_name := coalesce(v_parcel, v_told_as, short_name(coalesce(e.source || ':' || e.event_id, 'event:' || e.seq)));

    select x.* into r from releases x
    where x.provider = btrim(e.provider) and x.account = coalesce(nullif(btrim(e.account), ''), 'default')
      and coalesce(x.payment_id, '') = btrim(coalesce(e.payment_id, '')) and coalesce(x.order_id, '') = btrim(coalesce(e.order_id, ''))
      and coalesce(x.capture_ref, '') = btrim(coalesce(e.capture_ref, ''))
      and (x.shipment_ref in (v_name, v_parcel, v_told_as) or x.parcel = v_parcel or x.told_as = v_told_as)
    order by x.id limit 1 for update;
    release := r.id;

    if v_kind = 'cancelled' then
        if r.intent is not null then
            handling := 'too late: its capture was released';
            return;
        elsif r.id is not null then
            update releases x set withdrawn_at = coalesce(x.withdrawn_at, v_now) where x.id = r.id;
            handling := 'withdrawn';
            return;
        end if;
    elsif r.id is not null and r.intent is null then
        -- A carrier has it: whoever cancelled it was wrong. A late "shipped" proves nothing.
        if r.withdrawn_at is not null and not v_scanned then
            handling := 'ignored: this shipment was cancelled';
            return;
        end if;
        update releases x set
            withdrawn_at = null, scanned = x.scanned or v_scanned, is_final = x.is_final or v_final,
            amount_minor = coalesce(x.amount_minor, v_amount), currency = coalesce(x.currency, v_currency),
            parcel = coalesce(x.parcel, v_parcel), told_as = coalesce(x.told_as, v_told_as),
            company = coalesce(x.company, v_shipping[1]), method = coalesce(x.method, v_shipping[2]),
            tracking_number = coalesce(x.tracking_number, v_shipping[3]), next_try_at = v_now
            where x.id = r.id;
        handling := 'released';
        return;
    elsif r.id is not null and (not v_final or r.is_final) then
        -- It has done what it does; by the number that it has only now, others may tell of it.
        update releases x set parcel = v_parcel, told_as = coalesce(x.told_as, v_told_as)
            where x.id = r.id and x.parcel is null and v_parcel is not null;
        handling := 'released';
        return;
    elsif r.id is not null then
        -- It has freed its own amount, and only now is it the last: what is left goes with a release of its own.
        v_name := short_name(v_name || '#final');
        v_amount := null;
        v_parcel := null;
        v_told_as := null;
    end if;
    insert into releases as x (provider, account, payment_id, order_id, capture_ref, shipment_ref, company, method, tracking_number, released_by,
                               created_at, next_try_at, shipment, parcel, told_as, scanned, amount_minor, currency, is_final, withdrawn_at)
        values (btrim(e.provider), coalesce(nullif(btrim(e.account), ''), 'default'), nullif(btrim(e.payment_id), ''), nullif(btrim(e.order_id), ''),
                nullif(btrim(e.capture_ref), ''), v_name, v_shipping[1], v_shipping[2], v_shipping[3], 'shipment_events',
                v_now, v_now, e.seq, v_parcel, v_told_as, v_scanned, v_amount, v_currency, v_final,
                case when v_kind = 'cancelled' then v_now end)
        on conflict do nothing
        returning x.id into release;
    handling := case when v_kind = 'cancelled' then 'withdrawn' else 'released' end;
end $$;

-- Shipment events become releases: goods that left, never a label. Returns how many events were handled.
create function take_shipments(p_limit integer) returns integer
    language plpgsql volatile security definer set search_path from current set enable_seqscan = off set jit = off as $$
declare
    v_now timestamptz := clock_now();
    e shipment_events;
    v_seq bigint;
    v_told shipment_events;
    v_handling text;
    v_release bigint;
    v_unmatched boolean;
    v_handled integer := 0;
begin
    -- One at a time: of two events of one parcel, the second must see what the first has made.
    if not pg_try_advisory_xact_lock(hashtextextended(current_schema() || '.take_shipments', 0)) then
        return 0;
    end if;
    for e in select * from shipment_events x where x.handled_at is null order by x.seq limit p_limit for update skip locked loop
        v_seq := e.seq;
        v_release := null;
        begin
            if nullif(btrim(e.tracking_number), '') is not null and octet_length(e.tracking_number) <= 255 then
                if nullif(btrim(e.order_id), '') is null and nullif(btrim(e.payment_id), '') is null then
                    -- A carrier knows the parcel and not the order: whoever told of both says which it is.
                    select x.* into v_told from shipment_events x
                        where x.tracking_number = e.tracking_number and octet_length(x.tracking_number) <= 255
                          and coalesce(nullif(btrim(x.order_id), ''), nullif(btrim(x.payment_id), '')) is not null
                          and btrim(x.provider) = coalesce(nullif(btrim(e.provider), ''), btrim(x.provider))
                        order by x.seq desc limit 1;
                    if found then
                        e.provider := v_told.provider;
                        e.account := v_told.account;
                        e.order_id := v_told.order_id;
                        e.payment_id := v_told.payment_id;
                        e.capture_ref := v_told.capture_ref;
                    end if;
                else
                    update shipment_events x set handled_at = null, handling = null, unmatched = false
                        where x.unmatched and x.tracking_number = e.tracking_number and octet_length(x.tracking_number) <= 255
                          and coalesce(nullif(btrim(x.order_id), ''), nullif(btrim(x.payment_id), '')) is null;
                end if;
            end if;
            select t.handling, t.release into v_handling, v_release from take_shipment(e) t;
        exception
            -- One row that cannot be kept must not keep all others from being read.
            when data_exception or program_limit_exceeded or check_violation then v_handling := 'ignored: ' || left(sqlerrm, 200);
        end;
        v_unmatched := v_release is null and v_handling like 'ignored: %' and v_handling <> 'ignored: goods have not left'
                       and lower(btrim(coalesce(e.kind, 'shipped'))) <> 'cancelled';
        update shipment_events x set handled_at = v_now, handling = v_handling, release = v_release, unmatched = v_unmatched where x.seq = v_seq;
        v_handled := v_handled + 1;
    end loop;
    return v_handled;
end $$;


-- Releases free captures ------------------------------------------------------------------------------------------------

-- By which a release finds the held intents of an order; those of a payment are found by the unique key.
create index intents_held_of_order on intents (provider, account, order_id) where hold is not null;

-- A held intent that this release names, and the lock on its place; p_least: of at least that amount, and just that amount
-- before others. Else the oldest.
create function held_for(rel releases, p_least numeric) returns uuid
    language plpgsql volatile set search_path from current
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
declare
    v_intent uuid;
begin
    select w.intent into v_intent
    from (
        select * from (
            select i.id, i.created_at, i.amount_minor from intents i
            where rel.payment_id is not null and i.provider = rel.provider and i.account = rel.account
              and i.payment_id = rel.payment_id and (rel.order_id is null or i.order_id = rel.order_id)
              and (rel.capture_ref is null or i.capture_ref = rel.capture_ref)
              and (p_least is null or i.amount_minor >= p_least)
            union all
            select i.id, i.created_at, i.amount_minor from intents i
            where rel.payment_id is null and i.provider = rel.provider and i.account = rel.account
              and i.order_id = rel.order_id and i.hold is not null
              and (rel.capture_ref is null or i.capture_ref = rel.capture_ref)
              and (p_least is null or i.amount_minor >= p_least)
        ) named
        order by p_least is not null and amount_minor <> p_least, created_at, id
        offset 0
    ) i
    cross join lateral (
        select w.intent from waiting w where w.intent = i.id and w.cause = 'held' limit 1 for update skip locked
    ) w
    limit 1;
    return v_intent;
end $$;

-- Lets a held intent go, whose place is locked, and writes which release did it.
create function free_held(p_intent uuid, rel releases, p_now timestamptz) returns void
    language plpgsql volatile set search_path from current set enable_seqscan = off set jit = off as $$
begin
    update releases r set intent = p_intent, matched_at = p_now, says = null, waits_for = null where r.id = rel.id;
    -- The provider is told of the parcel when the capture is on record (0014), where the account does so.
    if rel.tracking_number is not null and rel.company is not null then
        insert into shipping_notices (intent, lane, due_at, since)
            select p_intent, l.id, p_now + interval '5 seconds', p_now from lanes l
            where l.provider = rel.provider and l.account = rel.account and l.tell_shipments
            on conflict do nothing;
    end if;
    with gone as (
        delete from waiting w where w.intent = p_intent returning w.*
    ), put as (
        insert into waiting (intent, lane, purpose, urgency, fence, epoch, cause, due_at, since)
        select g.intent, g.lane, g.purpose, g.urgency, g.fence, g.epoch, 'scheduled', greatest(p_now, i.not_before), p_now
        from gone g cross join lateral (select i.not_before from intents i where i.id = g.intent limit 1) i
    )
    insert into events (type, intent_id, provider, account, order_id, payment_id, capture_ref, amount_minor, currency, data, occurred_at)
    select 'capture.released', i.id, i.provider, i.account, i.order_id, i.payment_id, i.capture_ref, i.amount_minor, i.currency,
           jsonb_strip_nulls(jsonb_build_object('released_by', rel.released_by, 'shipment_ref', rel.shipment_ref)), p_now
    from intents i where i.id = p_intent;
end $$;

-- Which two took the place of an intent that was split: `part` goes with the shipment, `rest` is held on. By it a cancel
-- reaches what is left.
create table splits (
    intent uuid primary key,
    part uuid not null,
    rest uuid not null
);

-- What is left of an intent that was split: the last rest, if it has not ended and no release has freed it. Null: nothing.
create function left_of_split(p_intent uuid) returns uuid
    language sql stable set search_path from current
    as $$
        with recursive rests(intent) as (
            select s.rest from splits s where s.intent = p_intent
            union all
            select s.rest from rests r join splits s on s.intent = r.intent
        )
        select r.intent from rests r
        where not exists (select from outcomes o where o.intent = r.intent) and not exists (select from releases l where l.intent = r.intent)
    $$;

-- Splits a held intent, whose place is locked: an intent never changes, so it ends as cancelled, and two take its place, one
-- of the shipment's amount and one, held, of the rest. Together they ask for what it asked for: nothing is held twice, and
-- the rule of the insert (no more than is authorised) judges both. Their references follow from the shipment, so a shipment
-- makes one intent for ever. Not for what was written in a history that is gone (match_release). Returns the shipment's
-- intent, its place locked; else why there is none.
create function split_held(p_intent uuid, rel releases, out part uuid, out why text)
    language plpgsql volatile set search_path from current set enable_seqscan = off set jit = off as $$
declare
    i intents;
    v_lane integer;
    v_fence integer;
    v_rest uuid;
    -- What the provider told of the authorisation (0013) holds for both parts.
    v_told timestamptz := (select d.expires_at from deadlines d where d.intent = p_intent and d.source = 'provider');
    -- Of two or three payments of one order the same parcel may take a part; the reference is of the payment.
    v_reference text := case when char_length(rel.shipment_ref) <= 200 then rel.shipment_ref else encode(sha256(convert_to(rel.shipment_ref, 'UTF8')), 'hex') end;
begin
    -- A receipt that comes late, and this decision that nothing was captured, must not miss each other.
    select x.* into strict i from intents x where x.id = p_intent for no key update;
    if exists (select from late_results t where t.intent = p_intent and t.proof in ('answer', 'reference')) then
        why := 'what is held has a late receipt: release it whole';
        return;
    end if;
    begin
        part := new_id();
        v_rest := new_id();
        delete from waiting w where w.intent = p_intent returning w.lane, w.fence into strict v_lane, v_fence;
        perform end_cancelled(p_intent, v_lane, v_fence, rel.released_by,
            format('split: shipment %s takes %s of %s', rel.shipment_ref, rel.amount_minor, i.amount_minor),
            jsonb_build_object('split_into', jsonb_build_array(part, v_rest)));
        insert into intents (id, provider, account, order_id, payment_id, capture_ref, amount_minor, currency, authorized_minor,
                             authorization_expires_at, hold, not_before, priority, details, traceparent)
            select p.id, i.provider, i.account, i.order_id, i.payment_id, p.reference, p.minor, i.currency, i.authorized_minor,
                   i.authorization_expires_at, 'shipment', i.not_before, i.priority, i.details, i.traceparent
            from (values (1, part, 'shipment ' || v_reference, rel.amount_minor),
                         (2, v_rest, 'after shipment ' || v_reference, i.amount_minor - rel.amount_minor)) p(n, id, reference, minor)
            order by p.n;
        insert into splits (intent, part, rest) values (p_intent, part, v_rest);
        insert into deadlines as d (intent, expires_at, source)
            select p.id, v_told, 'provider' from unnest(array[part, v_rest]) p(id) where v_told is not null
            on conflict (intent) do update set expires_at = excluded.expires_at, source = excluded.source;
    exception
        -- In the database's own words: too small for the provider, too late, a reference that is taken …
        when check_violation or unique_violation then
            part := null;
            why := left(sqlerrm, 200);
            return;
    end;
    perform from waiting w where w.intent = part for update;
end $$;

-- Matches one release: frees what its account's rule says. Returns how many it freed; `why` and `waits` say what it waits
-- for, if something is held that it does not free.
-- Is any of the held intents that a release names in other hands?
create function held_is_busy(rel releases) returns boolean
    language plpgsql volatile set search_path from current
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
begin
    return exists (
        select from (
            select i.id from intents i
            where rel.payment_id is not null and i.provider = rel.provider and i.account = rel.account
              and i.payment_id = rel.payment_id and (rel.order_id is null or i.order_id = rel.order_id)
              and (rel.capture_ref is null or i.capture_ref = rel.capture_ref)
            union all
            select i.id from intents i
            where rel.payment_id is null and i.provider = rel.provider and i.account = rel.account
              and i.order_id = rel.order_id and i.hold is not null
              and (rel.capture_ref is null or i.capture_ref = rel.capture_ref)
            offset 0
        ) named
        cross join lateral (select w.intent from waiting w where w.intent = named.id and w.cause = 'held' limit 1) held
        left join lateral (
            select w.intent from waiting w where w.intent = held.intent and w.cause = 'held' limit 1 for update skip locked
        ) ours on true
        where ours.intent is null
        offset 0);
end $$;

create function match_release(rel releases, p_now timestamptz, out freed integer, out why text, out waits text)
    language plpgsql volatile set search_path from current set enable_seqscan = off set jit = off as $$
declare
    v_release_on text;
    v_rule text;
    v_intent uuid;
    v_more releases;
    -- As in cancel(): null in a history of the database that no worker has looked at yet.
    v_epoch integer := (select e.number from epoch e where e.system_identifier = server_identifier() and e.timeline = server_timeline());
begin
    freed := 0;
    select l.release_on, l.shipment_amount into v_release_on, v_rule from lanes l where l.provider = rel.provider and l.account = rel.account;
    if v_rule is null then
        return;
    elsif not rel.scanned and not rel.whole and v_release_on = 'first_scan' then
        why := 'waits for the first scan of the carrier';
        waits := 'scan';
        return;
    end if;
    -- Who calls release(), and a person, mean what is held, whole.
    if rel.shipment is null or rel.whole then
        v_rule := 'explicit';
    end if;
    -- Where a shipment takes a part, or everything, what somebody is at (a cancel, a deadline that is written) is not passed over
    -- for another one: which capture goes, and how many, would hang on the moment. The next round tries again.
    if v_rule <> 'explicit' and held_is_busy(rel) then
        return;
    end if;

    if v_rule in ('line_items', 'remaining_on_final') and not rel.is_final and rel.amount_minor is null then
        v_intent := held_for(rel, null);
        if v_intent is null then
            return;
        elsif v_rule = 'remaining_on_final' then
            why := 'says no amount: goes with the last shipment';
            waits := 'final';
        else
            why := 'says no amount, and the rule of the account is line_items';
            waits := 'person';
        end if;
        return;
    end if;
    v_intent := held_for(rel, case when v_rule in ('line_items', 'remaining_on_final') and not rel.is_final then rel.amount_minor end);
    if v_intent is null then
        if v_rule in ('line_items', 'remaining_on_final') and not rel.is_final and held_for(rel, null) is not null then
            why := format('takes %s, more than any capture that is held', rel.amount_minor);
            waits := 'person';
        elsif rel.payment_id is not null and rel.order_id is not null then
            -- Not that order's: a payment of several orders may get its intent of this one yet, so it is tried again all the same.
            select format('payment %s has captures of order %s, and none of order %s', rel.payment_id, min(i.order_id), rel.order_id), 'person'
                into why, waits
                from intents i where i.provider = rel.provider and i.account = rel.account and i.payment_id = rel.payment_id
                having count(*) > 0 and bool_and(i.order_id <> rel.order_id);
        end if;
        return;
    end if;
    -- The same parcel, told once by its order and once by its payment.
    if rel.parcel is not null and exists (
        select from releases r join intents i on i.id = r.intent join intents mine on mine.id = v_intent
        where r.parcel = rel.parcel and r.id <> rel.id
          and i.provider = mine.provider and i.account = mine.account and i.payment_id = mine.payment_id) then
        update releases r set told_at = p_now, covered = true where r.id = rel.id;
        why := 'the same parcel has released a capture of this payment';
        return;
    end if;

    -- Where shipments take parts, what is held from before a fail-over may have been parted in the commits that are lost, and a
    -- part of it captured: under an id that nobody knows any more, so no read would show it as ours. Neither a part of it nor
    -- the whole goes by itself.
    if v_rule in ('line_items', 'remaining_on_final')
       and not exists (select from waiting w where w.intent = v_intent and w.purpose < 2 and w.epoch = v_epoch) then
        why := 'what is held is from before a fail-over, and a part of it may have been captured: look at the provider, then release it whole, or cancel it';
        waits := 'person';
        return;
    end if;

    if v_rule in ('line_items', 'remaining_on_final') and not rel.is_final then
        if rel.currency <> (select i.currency from intents i where i.id = v_intent) then
            why := format('is in %s, and what is held is not', rel.currency);
            waits := 'person';
            return;
        elsif rel.amount_minor < (select i.amount_minor from intents i where i.id = v_intent) then
            select s.part, s.why into v_intent, why from split_held(v_intent, rel) s;
            if v_intent is null then
                waits := 'person';
                return;
            end if;
        end if;
    end if;
    perform free_held(v_intent, rel, p_now);
    freed := 1;
    if v_rule = 'full_on_first' or (v_rule in ('line_items', 'remaining_on_final') and rel.is_final) then
        -- Everything that is held of the payment, each with a release of its own: the shipping data goes along with each.
        loop
            v_intent := held_for(rel, null);
            exit when v_intent is null
                or v_rule <> 'full_on_first' and not exists (select from waiting w where w.intent = v_intent and w.purpose < 2 and w.epoch = v_epoch);
            insert into releases (provider, account, payment_id, order_id, capture_ref, company, method, tracking_number, released_by,
                                  created_at, next_try_at, shipment)
                values (rel.provider, rel.account, rel.payment_id, rel.order_id, rel.capture_ref, rel.company, rel.method, rel.tracking_number,
                        rel.released_by, p_now, p_now, rel.shipment)
                returning * into v_more;
            v_more.shipment_ref := rel.shipment_ref;
            perform free_held(v_intent, v_more, p_now);
            freed := freed + 1;
        end loop;
    end if;
end $$;

-- Matches releases with held intents, again and again: neither the release nor the intent needs to be first. Returns how
-- many intents were freed.
create function match_releases(p_limit integer) returns integer
    language plpgsql volatile security definer set search_path from current
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
declare
    v_now timestamptz := clock_now();
    rel releases;
    v_matched record;
    v_freed integer := 0;
begin
    -- Half of them the latest due, so that a new release is looked at in this very round however many wait that match
    -- nothing (parcels of payments that were never held come in for ever); half of them the longest due, so that those
    -- get their turn as well.
    for rel in
        select distinct on (x.id) x.* from (
            select * from (
                select * from releases r where r.intent is null and r.withdrawn_at is null and r.next_try_at <= v_now
                order by r.next_try_at desc limit (p_limit + 1) / 2 for update skip locked
            ) latest
            union all
            select * from (
                select * from releases r where r.intent is null and r.withdrawn_at is null and r.next_try_at <= v_now
                order by r.next_try_at limit p_limit / 2 for update skip locked
            ) longest
        ) x
        order by x.id
    loop
        select * into v_matched from match_release(rel, v_now);
        if v_matched.freed = 0 then
            -- Looks again after a tenth of its age: soon while it is fresh, every ten minutes when old.
            update releases r set next_try_at = v_now + greatest(interval '1 second', least(interval '10 minutes', (v_now - r.created_at) / 10)),
                   says = v_matched.why, waits_for = v_matched.waits
                where r.id = rel.id;
        end if;
        v_freed := v_freed + v_matched.freed;
    end loop;
    if v_freed > 0 then
        perform wake_sleepers();
    end if;
    return v_freed;
end $$;


-- Shipments that nothing comes of ---------------------------------------------------------------------------------------

-- Tells of goods that left and released nothing for p_after, once each, and removes bodies that are older than p_keep. A
-- payment that is captured without this shipment, or is on its way to it, is covered: nothing is missing. There is no
-- intent, so the event has the nil uuid, which no intent has, the amount 0 in XXX, and empty names where nothing is known:
-- the feed has no nulls there. Returns of how many it told.
create function watch_shipments(p_after interval, p_keep interval, p_limit integer) returns integer
    language plpgsql volatile security definer set search_path from current
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
declare
    v_now timestamptz := clock_now();
    v_told integer;
begin
    with late as materialized (
        select r.* from releases r
        where r.intent is null and r.withdrawn_at is null and r.told_at is null and r.created_at <= v_now - p_after
          and (r.waits_for is null or r.waits_for = 'person')
        order by r.created_at limit p_limit for update skip locked
    ), judged as materialized (
        select l.*, of_it.captured and not of_it.held as is_covered from late l
        cross join lateral (
            select coalesce(bool_or(w.intent is not null), false) as held,
                   coalesce(bool_or(w.intent is null and (o.state is null or o.state = 'captured')), false) as captured
            from (
                select i.id from intents i
                where l.payment_id is not null and i.provider = l.provider and i.account = l.account and i.payment_id = l.payment_id
                  and (l.order_id is null or i.order_id = l.order_id)
                union all
                -- Not held ones too: an order that was captured at once ships as well.
                select i.id from intents i
                where l.payment_id is null and i.order_id = l.order_id and i.provider = l.provider and i.account = l.account
            ) i
            left join lateral (select w.intent from waiting w where w.intent = i.id and w.cause = 'held' limit 1) w on true
            left join lateral (select o.state from outcomes o where o.intent = i.id limit 1) o on true
        ) of_it
    ), noted as (
        update releases r set told_at = v_now, covered = j.is_covered from judged j where r.id = j.id
    ), nameless as materialized (
        select e.* from shipment_events e
        where e.unmatched and e.told_at is null and e.received_at <= v_now - p_after
        order by e.seq limit p_limit for update skip locked
    ), noted_too as (
        update shipment_events e set told_at = v_now from nameless n where e.seq = n.seq
    ), told as (
        insert into events (type, intent_id, provider, account, order_id, payment_id, capture_ref, amount_minor, currency, data, occurred_at)
        select 'capture.shipment_unmatched', '00000000-0000-0000-0000-000000000000', u.provider, u.account, u.order_id, u.payment_id, u.capture_ref,
               0, 'XXX', jsonb_strip_nulls(u.data), v_now
        from (
            select j.provider, j.account, coalesce(j.order_id, '') as order_id, coalesce(j.payment_id, '') as payment_id,
                   coalesce(j.capture_ref, '') as capture_ref,
                   jsonb_build_object('shipment', coalesce(j.shipment::text, 'r' || j.id), 'shipment_ref', j.shipment_ref,
                       'tracking_number', j.parcel, 'says', coalesce(j.says, 'no capture of this payment is held'),
                       'shipped_minor', j.amount_minor, 'shipped_currency', j.currency) as data
            from judged j where not j.is_covered
            union all
            select left(coalesce(n.provider, ''), 255), left(coalesce(n.account, ''), 255), left(coalesce(n.order_id, ''), 255),
                   left(coalesce(n.payment_id, ''), 255), left(coalesce(n.capture_ref, ''), 255),
                   jsonb_build_object('shipment', n.seq::text, 'tracking_number', left(n.tracking_number, 255), 'says', n.handling)
            from nameless n
        ) u
        returning 1
    )
    select count(*) into v_told from told;
    update shipment_bodies b set body = null where b.id in (
        select x.id from shipment_bodies x where x.body is not null and x.received_at <= v_now - p_keep
        order by x.received_at limit p_limit for update skip locked);
    return v_told;
end $$;

-- A person says which payment or order a shipment belongs to, or (neither) that it belongs to none. p_shipment: the number of
-- the event, or r and the number of a release that a call made. Returns matched, dismissed, not_found, freed (it has released
-- a capture) or told_before (the same shipment of that payment is known).
create function match_shipment(
    p_shipment text, p_provider text, p_account text, p_order_id text, p_payment_id text, p_whole boolean, p_actor text, p_reason text
) returns text
    language plpgsql volatile security definer set search_path from current set enable_seqscan = off set jit = off as $$
declare
    v_now timestamptz := clock_now();
    v_dismissed boolean := p_order_id is null and p_payment_id is null;
    e shipment_events;
    r releases;
    v_release bigint;
    v_before jsonb;
begin
    if coalesce(btrim(p_reason), '') = '' then
        raise exception 'match_shipment: reason is empty' using errcode = '23514', constraint = 'audit_says_why', column = 'reason',
            hint = 'say in a few words why, for the people who read the audit';
    end if;
    if p_provider is not null and not exists (select from providers p where p.name = p_provider) then
        raise exception 'match_shipment: unknown provider %', quote_literal(left(p_provider, 60))
            using errcode = '23514', constraint = 'releases_provider_known', column = 'provider', table = 'releases', schema = current_schema(),
                  hint = (select 'use one of: ' || string_agg(p.name, ', ' order by p.name) from providers p);
    end if;
    perform from audit_head for update;
    if p_shipment ~ '^r[0-9]{1,18}$' then
        select x.* into r from releases x where x.id = substr(p_shipment, 2)::bigint for update;
    elsif p_shipment ~ '^[0-9]{1,18}$' then
        select x.* into e from shipment_events x where x.seq = p_shipment::bigint for update;
        select x.* into r from releases x where x.id = e.release for update;
    end if;
    if e.seq is null and r.id is null then
        return 'not_found';
    elsif r.intent is not null then
        return 'freed';
    end if;
    v_before := jsonb_strip_nulls(jsonb_build_object(
        'provider', coalesce(r.provider, e.provider), 'account', coalesce(r.account, e.account), 'order_id', coalesce(r.order_id, e.order_id),
        'payment_id', coalesce(r.payment_id, e.payment_id), 'handling', e.handling, 'says', r.says));
    if v_dismissed then
        update releases x set withdrawn_at = v_now where x.id = r.id;
        update shipment_events x set unmatched = false, handled_at = coalesce(x.handled_at, v_now), handling = 'dismissed' where x.seq = e.seq;
    else
        begin
            if r.id is null then
                e.provider := coalesce(p_provider, e.provider);
                e.account := coalesce(p_account, e.account);
                e.order_id := p_order_id;
                e.payment_id := p_payment_id;
                e.capture_ref := null;
                -- A person has seen that the goods left.
                if lower(btrim(coalesce(e.kind, 'shipped'))) not in ('in_transit', 'delivered') then
                    e.kind := 'shipped';
                end if;
                v_release := (select t.release from take_shipment(e) t);
                select x.* into r from releases x where x.id = v_release;
                if r.id is null then
                    raise exception 'match_shipment: nothing says whose payment it is' using errcode = '23514', column = 'provider',
                        constraint = 'releases_provider_known', hint = 'name the provider as well';
                elsif r.intent is not null then
                    return 'told_before';
                end if;
                update shipment_events x set unmatched = false, handling = 'released', release = r.id, handled_at = coalesce(x.handled_at, v_now) where x.seq = e.seq;
            end if;
            update releases x set provider = coalesce(p_provider, x.provider), account = coalesce(p_account, x.account), order_id = p_order_id,
                   payment_id = p_payment_id, capture_ref = null, whole = x.whole or p_whole, withdrawn_at = null, told_at = null, covered = false,
                   says = null, waits_for = null, next_try_at = v_now
                where x.id = r.id;
        exception
            when unique_violation then return 'told_before';
        end;
    end if;
    insert into audit (at, actor, action, reason, lane, detail)
        values (v_now, p_actor, case when v_dismissed then 'shipment dismiss' else 'shipment match' end, p_reason,
                (select l.id from lanes l where l.provider = coalesce(p_provider, r.provider, e.provider) and l.account = coalesce(p_account, r.account, e.account, 'default')),
                jsonb_strip_nulls(jsonb_build_object('shipment', p_shipment, 'release', r.id, 'order_id', p_order_id, 'payment_id', p_payment_id,
                    'provider', p_provider, 'account', p_account, 'whole', nullif(p_whole, false), 'before', v_before)));
    return case when v_dismissed then 'dismissed' else 'matched' end;
end $$;
comment on function match_shipment is 'A person says whose a shipment is; see capture shipment match.';


-- Pruning ---------------------------------------------------------------------------------------------------------------
--
-- What `capture prune` takes of shipments, beside prune_some(): with the row of `audit` that begin_prune() wrote, in steps,
-- behind which number to go on (null: that was all). A release or an event that is gone is no longer known when it is
-- repeated, so none goes before it is 90 days old, whatever span was asked for, and none while a capture of its payment or
-- order is open: a repeat then finds nothing to free.

-- Until when a prune takes; null: that row says nothing of a prune.
create function prunes_before(p_audit bigint) returns timestamptz
    language plpgsql stable set search_path from current as $$
declare
    v_before timestamptz := (select (a.detail ->> 'before')::timestamptz from audit a where a.id = p_audit and a.action = 'prune');
begin
    if v_before is null then
        raise exception 'prune: audit row % says nothing of a prune', p_audit
            using errcode = '22023', hint = 'call begin_prune first, and pass what it returns';
    end if;
    return v_before;
end $$;

-- The same for what tells a repeat.
create function forgets_before(p_before timestamptz) returns timestamptz
    language sql stable set search_path from current
    as $$ select least(p_before, clock_now() - interval '90 days') $$;

-- Has every capture of this payment, or (without one) of this order, ended before that? A dead letter that waits for a person
-- has not.
create function all_ended(p_provider text, p_account text, p_payment_id text, p_order_id text, p_before timestamptz) returns boolean
    language plpgsql stable set search_path from current
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
begin
    return not exists (
        select from (
            select i.id from intents i
            where p_payment_id is not null and i.provider = p_provider and i.account = p_account and i.payment_id = p_payment_id
            union all
            select i.id from intents i
            where p_payment_id is null and i.order_id = p_order_id and i.provider = p_provider and i.account = p_account
        ) i
        left join lateral (select o.* from outcomes o where o.intent = i.id limit 1) o on true
        where not coalesce(o.ended_at < p_before and (o.state <> 'dead' or o.last_code = 'resolved_not_captured'), false));
end $$;

-- Has this release done what it does? It freed a capture, which is captured or cancelled (a replay of a dead one sends its
-- shipping data again), or was withdrawn, or was of what needed none. One that may still free something stays.
create function release_is_settled(rel releases, p_before timestamptz) returns boolean
    language plpgsql stable set search_path from current set enable_seqscan = off set jit = off as $$
declare
    i intents;
begin
    if rel.created_at >= p_before or coalesce(rel.matched_at, rel.withdrawn_at, case when rel.covered then rel.told_at end, 'infinity') >= p_before then
        return false;
    elsif rel.intent is not null then
        select x.* into i from intents x where x.id = rel.intent;
        if not exists (select from outcomes o where o.intent = rel.intent and o.state <> 'dead' and o.ended_at < p_before)
           -- The same parcel may be told by the payment next.
           or not all_ended(i.provider, i.account, i.payment_id, null, p_before) then
            return false;
        end if;
    end if;
    return all_ended(rel.provider, rel.account, rel.payment_id, rel.order_id, p_before);
end $$;

-- Is this event worked off, and its release as well?
create function shipment_is_settled(e shipment_events, p_before timestamptz) returns boolean
    language plpgsql stable set search_path from current set enable_seqscan = off set jit = off as $$
declare
    r releases;
begin
    if e.unmatched or coalesce(e.handled_at, 'infinity') >= p_before then
        return false;
    end if;
    select x.* into r from releases x where x.id = e.release;
    if r.id is not null and not release_is_settled(r, p_before) then
        return false;
    end if;
    -- A label may say what is the last shipment, or whose a parcel is, long before the goods leave.
    return all_ended(btrim(e.provider), coalesce(nullif(btrim(e.account), ''), 'default'), nullif(btrim(e.payment_id), ''),
                     nullif(btrim(e.order_id), ''), p_before);
end $$;

-- Is this event of the feed about a shipment that nobody need look at any more? What is still unmatched stays.
create function unmatched_is_settled(p_event events) returns boolean
    language sql stable set search_path from current
    as $$
    select p_event.type = 'capture.shipment_unmatched'
       and not exists (select from shipment_events e where e.unmatched and e.seq::text = p_event.data ->> 'shipment')
       and not exists (select from releases r
                       where r.intent is null and r.withdrawn_at is null and r.told_at is not null and not r.covered
                         and p_event.data ->> 'shipment' in (r.shipment::text, 'r' || r.id))
    $$;

create function prune_releases(p_audit bigint, p_after bigint, p_batch integer, out gone bigint, out next bigint)
    language plpgsql volatile security definer set search_path from current
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
declare
    v_before timestamptz := forgets_before(prunes_before(p_audit));
    v_ids bigint[];
    v_old boolean;
begin
    select array_agg(x.id), max(x.id), bool_or(x.created_at < v_before) into v_ids, next, v_old from (
        select r.id, r.created_at from releases r where r.id > coalesce(p_after, 0) order by r.id limit least(greatest(p_batch, 1), 10000)) x;
    if cardinality(v_ids) < least(greatest(p_batch, 1), 10000) or not v_old then
        next := null;
    end if;
    -- Judged as it is once it is locked; what somebody works on is left for the next prune.
    with done as (
        delete from releases r where r.id in (
            select x.id from releases x where x.id = any (v_ids) and release_is_settled(x, v_before) for update skip locked)
        returning 1)
    select count(*) into gone from done;
end $$;

create function prune_shipment_events(p_audit bigint, p_after bigint, p_batch integer, out gone bigint, out next bigint)
    language plpgsql volatile security definer set search_path from current
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
declare
    v_before timestamptz := forgets_before(prunes_before(p_audit));
    v_seqs bigint[];
    v_old boolean;
begin
    select array_agg(x.seq), max(x.seq), bool_or(coalesce(x.handled_at < v_before, false)) into v_seqs, next, v_old from (
        select e.seq, e.handled_at from shipment_events e where e.seq > coalesce(p_after, 0) order by e.seq limit least(greatest(p_batch, 1), 10000)) x;
    if cardinality(v_seqs) < least(greatest(p_batch, 1), 10000) or not v_old then
        next := null;
    end if;
    with done as (
        delete from shipment_events e where e.seq in (
            select x.seq from shipment_events x where x.seq = any (v_seqs) and shipment_is_settled(x, v_before) for update skip locked)
        returning 1)
    select count(*) into gone from done;
end $$;

-- The digests of bodies whose event is gone, and of those that were never understood.
create function prune_shipment_bodies(p_audit bigint, p_after bigint, p_batch integer, out gone bigint, out next bigint)
    language plpgsql volatile security definer set search_path from current
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
declare
    v_before timestamptz := forgets_before(prunes_before(p_audit));
    v_ids bigint[];
    v_old boolean;
begin
    select array_agg(x.id), max(x.id), bool_or(x.received_at < v_before) into v_ids, next, v_old from (
        select b.id, b.received_at from shipment_bodies b where b.id > coalesce(p_after, 0) order by b.id limit least(greatest(p_batch, 1), 10000)) x;
    if cardinality(v_ids) < least(greatest(p_batch, 1), 10000) or not v_old then
        next := null;
    end if;
    with done as (
        delete from shipment_bodies b where b.id in (
            select x.id from shipment_bodies x where x.id = any (v_ids) and x.received_at < v_before
              and not exists (select from shipment_events e where e.seq = x.shipment) for update skip locked)
        returning 1)
    select count(*) into gone from done;
end $$;

-- Events of the feed; these tell no repeat, and go with the span that was asked for.
create function prune_unmatched(p_audit bigint, p_after bigint, p_batch integer, out gone bigint, out next bigint)
    language plpgsql volatile security definer set search_path from current
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
declare
    v_before timestamptz := prunes_before(p_audit);
    v_seqs bigint[];
    v_old boolean;
begin
    select array_agg(x.seq), max(x.seq), bool_or(x.occurred_at < v_before) into v_seqs, next, v_old from (
        select e.seq, e.occurred_at from events e
        where e.intent_id = '00000000-0000-0000-0000-000000000000' and e.seq > coalesce(p_after, 0)
        order by e.seq limit least(greatest(p_batch, 1), 10000)) x;
    if cardinality(v_seqs) < least(greatest(p_batch, 1), 10000) or not v_old then
        next := null;
    end if;
    insert into prunings values (pg_current_xact_id());
    with done as (
        delete from events e
        where e.intent_id = '00000000-0000-0000-0000-000000000000' and e.seq = any (v_seqs) and e.occurred_at < v_before
          and unmatched_is_settled(e)
        returning 1)
    select count(*) into gone from done;
    delete from prunings p where p.xid = pg_current_xact_id();
end $$;

-- What a prune of so long a span would take now.
create function would_prune_shipments(p_older interval, out releases bigint, out shipments bigint, out events bigint)
    language plpgsql stable security definer set search_path from current set jit = off as $$
declare
    v_before timestamptz := clock_now() - p_older;
begin
    select count(*) into releases from releases r where release_is_settled(r, forgets_before(v_before));
    select count(*) into shipments from shipment_events e where shipment_is_settled(e, forgets_before(v_before));
    select count(*) into events from events e
        where e.intent_id = '00000000-0000-0000-0000-000000000000' and e.occurred_at < v_before and unmatched_is_settled(e);
end $$;
