-- When an authorisation ends, if its producer did not say: as the provider told, else as the account's setting assumes.
--
-- `deadlines` holds one end for each intent that has not ended, with who said so:
--   producer  intents.authorization_expires_at.
--   provider  an answer or a read of the payment. Of two that are known the earlier one counts.
--   assumed   where neither has said anything: from the first intent of the payment (intents.created_at) so long as the
--             account's `authorization_lifetime` says. The authorisation is older than that.
-- All three warn, and make urgent. Only the producer's word stops a send or ends an intent. What a provider told may have been
-- extended or renewed since, and nobody would hear of it; it refuses what comes after the end, harmlessly. Neither that nor an
-- assumption may lose money that it would still have given.
--
-- Neither claim nor settle writes any of this, and an intent that is captured at once never has a row of it.

-- Written by the workers from their configuration; null: nothing is assumed.
alter table lanes add column authorization_lifetime interval
    constraint lanes_authorization_lifetime_positive check (authorization_lifetime > interval '0');

alter table deadlines add column source text not null default 'producer'
    constraint deadlines_source_known check (source in ('producer', 'provider', 'assumed'));
-- Are there any? Asked where no account has a lifetime any more.
create index deadlines_assumed on deadlines (intent) where source = 'assumed';
-- What is over by the producer's word is given up and leaves. What is over by another's stays until somebody acts: it was told,
-- and must not be read again and again.
drop index deadlines_expires_at;
create index deadlines_expires_at on deadlines (expires_at) where not (source <> 'producer' and warned = 3);

-- Of dead letters: who told of expires_at. Null: the producer.
alter table outcomes add column expiry_source text
    constraint outcomes_expiry_source_known check (expiry_source in ('provider', 'assumed'));

-- What was said at most of an end at that time (as in deadlines.warned): where it moves away, its warnings come again.
create function deadline_level(p_expires_at timestamptz, p_now timestamptz) returns smallint
    language sql immutable set search_path from current
    as $$ select case when p_expires_at <= p_now then 3 when p_expires_at <= p_now + interval '24 hours' then 2
                      when p_expires_at <= p_now + interval '48 hours' then 1 else 0 end::smallint $$;

-- What is shown: the end that counts, and who said so.
create view expiries as
    select i.id as intent, coalesce(d.expires_at, o.expires_at, i.authorization_expires_at) as expires_at,
           coalesce(d.source, o.expiry_source, case when coalesce(o.expires_at, i.authorization_expires_at) is not null then 'producer' end) as source
    from intents i
    left join deadlines d on d.intent = i.id
    left join outcomes o on o.intent = i.id and o.state = 'dead';
comment on view expiries is 'When the authorisation of an intent ends, as far as anybody knows, and who said so: producer, provider or assumed.';

-- Settle deletes the deadline of what has ended. A dead letter still has one; what its producer said settle writes itself.
-- The letter did not tell it, so it is told like any other (watch_dead_letters).
create function keep_deadline_of_the_dead() returns trigger
    language plpgsql security definer set search_path from current set enable_seqscan = off set jit = off as $$
begin
    update outcomes o set expires_at = old.expires_at, expiry_source = old.source,
           warned = case when o.dead_reason = 'expired' or old.warned = 3 then 3 else 0 end
        where o.intent = old.intent and o.state = 'dead';
    return null;
end $$;
create trigger deadlines_are_kept_of_the_dead after delete on deadlines
    for each row when (old.source <> 'producer') execute function keep_deadline_of_the_dead();

-- Writes what providers told of authorisations: for every capture of the payment that has not ended, held ones included, and
-- for its dead letters. What is over, or makes no sense, is passed over: whether a payment still takes a capture its own state
-- says. So is a row that somebody is at: the next read tells it again. Nothing here waits for an operator or a producer.
-- p_told: [{"intent", "expires_at"}]. Returns how many rows it changed.
create function tell_deadlines(p_told jsonb) returns integer
    language plpgsql volatile security definer set search_path from current
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
declare
    v_now timestamptz := clock_now();
    v_changed integer;
begin
    with told as materialized (
        select s.id as intent, least(s.authorization_expires_at, min(t.expires_at)) as expires_at,
               case when s.authorization_expires_at <= min(t.expires_at) then 'producer' else 'provider' end as source
        from jsonb_to_recordset(p_told) as t(intent uuid, expires_at timestamptz)
        cross join lateral (select i.provider, i.account, i.payment_id from intents i where i.id = t.intent limit 1) i
        cross join lateral (
            select s.id, s.authorization_expires_at from intents s
            where s.provider = i.provider and s.account = i.account and s.payment_id = i.payment_id offset 0
        ) s
        where t.expires_at > v_now and t.expires_at < '2200-01-01Z'
        group by s.id, s.authorization_expires_at
    ),
    -- Whoever ends an intent takes its row here first: a deadline is never left behind by what has ended.
    open as materialized (
        select t.* from told t
        cross join lateral (select from waiting w where w.intent = t.intent limit 1 for update skip locked) w
        union all
        select t.* from told t
        cross join lateral (select from ready r where r.intent = t.intent limit 1 for update skip locked) r
    ), put as (
        insert into deadlines as d (intent, expires_at, source)
        select o.intent, o.expires_at, o.source from open o
        on conflict (intent) do update set expires_at = excluded.expires_at, source = excluded.source,
                warned = least(d.warned, deadline_level(excluded.expires_at, v_now))
            where (d.expires_at, d.source) is distinct from (excluded.expires_at, excluded.source)
        returning 1
    ), letters as materialized (
        select o.row, t.expires_at, nullif(t.source, 'producer') as source
        from told t
        cross join lateral (
            select o.ctid as row, o.expires_at, o.expiry_source from outcomes o
            where o.intent = t.intent and o.state = 'dead' and o.last_code is distinct from 'resolved_not_captured'
            limit 1 for update skip locked
        ) o
        where (o.expires_at, o.expiry_source) is distinct from (t.expires_at, nullif(t.source, 'producer'))
    ), kept as (
        update outcomes o set expires_at = l.expires_at, expiry_source = l.source,
               warned = least(coalesce(o.warned, 0), deadline_level(l.expires_at, v_now))
            from letters l where o.ctid = l.row
        returning 1
    )
    select (select count(*) from put) + (select count(*) from kept) into v_changed;
    return v_changed;
end $$;

-- Walks what has not ended, so many rows from behind p_after on, and gives each that has no deadline the one its account's
-- lifetime assumes; where that was changed or taken back, so are they. A capture that stands for long is met here, one that
-- is captured at once is not, and pays nothing. Returns where to go on; null: at the beginning.
create function assume_deadlines(p_after uuid, p_limit integer) returns uuid
    language plpgsql volatile security definer set search_path from current
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
declare
    v_now timestamptz := clock_now();
    v_after uuid := coalesce(p_after, '00000000-0000-0000-0000-000000000000');
    v_next uuid;
begin
    if not exists (select from lanes l where l.authorization_lifetime is not null)
        and not exists (select from deadlines d where d.source = 'assumed') then
        return null;
    end if;
    with next as materialized (
        select s.intent, s.lane from (
            (select w.intent, w.lane from waiting w where w.intent > v_after order by w.intent limit p_limit)
            union all
            (select r.intent, r.lane from ready r where r.intent > v_after order by r.intent limit p_limit)
        ) s
        order by s.intent limit p_limit
    ), wanted as materialized (
        select s.intent, i.expires_at
        from next s
        left join lateral (select d.expires_at, d.source from deadlines d where d.intent = s.intent limit 1) d on true
        cross join lateral (select l.authorization_lifetime from lanes l where l.id = s.lane limit 1) l
        cross join lateral (select i.provider, i.account, i.payment_id from intents i where i.id = s.intent limit 1) p
        cross join lateral (
            select min(i.created_at) + l.authorization_lifetime as expires_at from intents i
            where i.provider = p.provider and i.account = p.account and i.payment_id = p.payment_id
        ) i
        where (d.source is null or d.source = 'assumed') and d.expires_at is distinct from i.expires_at
    ), open as materialized (
        select t.* from wanted t
        cross join lateral (select from waiting w where w.intent = t.intent limit 1 for update skip locked) w
        union all
        select t.* from wanted t
        cross join lateral (select from ready r where r.intent = t.intent limit 1 for update skip locked) r
    ), gone as (
        delete from deadlines d where d.source = 'assumed' and d.intent = any (array(select o.intent from open o where o.expires_at is null))
    ), put as (
        insert into deadlines as d (intent, expires_at, source)
        select o.intent, o.expires_at, 'assumed' from open o where o.expires_at is not null
        on conflict (intent) do update set expires_at = excluded.expires_at,
                warned = least(d.warned, deadline_level(excluded.expires_at, v_now))
            where d.source = 'assumed'
    )
    select n.intent into v_next from next n order by n.intent offset p_limit - 1 limit 1;
    return v_next;
end $$;
