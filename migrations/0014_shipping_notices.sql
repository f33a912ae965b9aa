-- Shipping data for the provider, as a follow-up: once a capture is on record, its parcel is told to those providers whose
-- capture takes no shipping data. Never on the way of the money: claim and settle know nothing of it, a failure ends nothing
-- but the notice, and it is told at least once, for what it costs to tell it twice is no money.

-- Is the shipping data of this account's captures told? Written by the workers from their configuration.
alter table lanes add column tell_shipments boolean not null default false;

-- One row for each capture whose release brought shipping data, written by free_held() (0011) where the account tells. The
-- data itself stays in the release.
create table shipping_notices (
    intent uuid primary key,
    lane integer not null,
    state text not null default 'due' constraint shipping_notices_state_known check (state in ('due', 'told', 'given_up')),
    -- Tries begun. Also the fence: who was slower than its lease records nothing.
    tries smallint not null default 0 constraint shipping_notices_tries_not_negative check (tries >= 0),
    -- While a try is under way: when it is taken for lost, and made again.
    due_at timestamptz,
    since timestamptz not null,
    ended_at timestamptz,
    -- Of the last failure.
    class text,
    code text,
    constraint shipping_notices_due_until_they_end check ((state = 'due') = (due_at is not null) and (state = 'due') = (ended_at is null))
) with (fillfactor = 80);
create index shipping_notices_due on shipping_notices (lane, due_at) where state = 'due';

-- Begins a try: of the notices of a lane that are due and whose capture is on record, the oldest. Those whose capture is not
-- are looked at again after a tenth of their age; where it has ended, for a week: what is dead may still be replayed. Captures go first: a lane
-- that is paused, limited or broken is left alone; where the rate is limited nothing is told while a capture is ready, nor
-- from the second half of what the budget holds. p_calls: the most calls that one capture costs here.
create function claim_shipping_notice(p_lane integer, p_calls integer, p_lease_ms bigint)
    returns table (intent uuid, tries smallint, payment_id text, provider_capture_id text, company text, method text,
                   tracking_number text, shipped_at timestamptz)
    language plpgsql volatile security definer set search_path from current
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
#variable_conflict use_column
declare
    v_now timestamptz := clock_now();
    l lanes;
    v_rate integer;
    v_burst integer;
    v_step interval;
    v_spent timestamptz;
    v_taken uuid;
begin
    if not exists (select from shipping_notices n where n.lane = p_lane and n.state = 'due' and n.due_at <= v_now) then
        return;
    end if;
    select x.* into l from lanes x where x.id = p_lane;
    if not l.tell_shipments or l.paused_at is not null or l.limited_until > v_now or l.open_until is not null then
        return;
    end if;
    v_rate := coalesce(l.rate_override, l.rate_per_minute);
    if v_rate > 0 then
        -- The lane's row is what claims wait for: one that a claim is at is passed over.
        select x.* into l from lanes x where x.id = p_lane for no key update skip locked;
        if not found or exists (select from ready r where r.lane = p_lane) then
            return;
        end if;
        -- The same budget as in claim().
        v_burst := greatest(p_calls, v_rate / 10);
        v_step := interval '60 seconds' / greatest(1, v_rate - v_burst);
        v_spent := greatest(l.budget_spent_until, v_now - v_step * v_burst);
        if (v_now - v_spent) * 2 < v_step * v_burst or v_now - v_spent < v_step then
            return;
        end if;
    end if;

    with looked as materialized (
        select n.intent, n.since from shipping_notices n
        where n.lane = p_lane and n.state = 'due' and n.due_at <= v_now
        order by n.due_at limit 200 for update skip locked
    ), judged as materialized (
        -- What a person has put on record says nothing of the provider's id: their evidence may be any words.
        select k.intent, coalesce(o.state = 'captured' and o.proof <> 'person', false) as captured,
               o.proof = 'person' or o.state is not null and k.since <= v_now - interval '7 days' as over, k.since
        from looked k left join lateral (select o.state, o.proof from outcomes o where o.intent = k.intent limit 1) o on true
    ), forgotten as (
        delete from shipping_notices n
        where n.intent = any (array(select j.intent from judged j where not j.captured and j.over))
    ), later as (
        update shipping_notices n
        set due_at = v_now + greatest(interval '5 seconds', least(interval '10 minutes', (v_now - n.since) / 10))
        where n.intent = any (array(select j.intent from judged j where not j.captured and j.over is not true))
    ), taken as (
        update shipping_notices n set tries = n.tries + 1, due_at = v_now + p_lease_ms * interval '1 millisecond'
        where n.intent = any (array(select j.intent from judged j where j.captured order by j.since, j.intent limit 1))
        returning n.intent
    )
    select t.intent into v_taken from taken t;
    if v_taken is null then
        return;
    end if;
    if v_rate > 0 then
        update lanes x set budget_spent_until = v_spent + v_step where x.id = p_lane;
    end if;
    return query
    select n.intent, n.tries, i.payment_id::text, o.provider_capture_id, r.company, r.method, r.tracking_number, r.created_at
    from shipping_notices n
    join intents i on i.id = n.intent
    join outcomes o on o.intent = n.intent
    join releases r on r.intent = n.intent
    where n.intent = v_taken;
end $$;

-- What came of a try: `told`, `given_up`, or `due` again after p_wait_ms. False: it was slower than its lease.
create function settle_shipping_notice(p_intent uuid, p_tries smallint, p_state text, p_wait_ms bigint, p_class text, p_code text) returns boolean
    language plpgsql volatile security definer set search_path from current set enable_seqscan = off set jit = off as $$
declare
    v_now timestamptz := clock_now();
begin
    update shipping_notices n set
        state = p_state, class = p_class, code = p_code,
        due_at = case when p_state = 'due' then v_now + p_wait_ms * interval '1 millisecond' end,
        ended_at = case when p_state <> 'due' then v_now end
        where n.intent = p_intent and n.tries = p_tries and n.state = 'due';
    return found;
end $$;
