-- The private tables: where an intent is while it has not ended, what was tried, how it ended, and the event feed.
--
-- An intent that has not ended is in exactly one of `ready`, `waiting` and `leases`. Rows are moved by delete and insert
-- in one statement, never by an update of a state column: no update chain grows under an old snapshot, and the claim's
-- index holds only what may be claimed now.

-- The database's clock, which a test may set ahead, or stop. Everything that asks "is it due?" asks this one.
create table clock (
    only_row boolean primary key default true constraint clock_has_one_row check (only_row),
    ahead interval not null default interval '0',
    stands_at timestamptz
);
insert into clock default values;
comment on table clock is 'Tests only: how far clock_now() is ahead of the server''s clock (zero in production), or where it stands (null); `capture doctor` says so if not.';

create function clock_now() returns timestamptz
    language plpgsql volatile set search_path from current
    as $$ begin return (select coalesce(stands_at, clock_timestamp() + ahead) from clock); end $$;

-- Which history of the database this is. After a fail-over or a restore (other timeline or other system identifier)
-- commits that were acknowledged may be gone, so every row written before is verified before it is sent.
create table epoch (
    only_row boolean primary key default true constraint epoch_has_one_row check (only_row),
    number integer not null,
    system_identifier text not null,
    timeline text not null,
    began_at timestamptz not null,
    -- Since when the server runs that was last seen to be of this history. As long as it runs its system identifier stays what it
    -- is, and need not be read from its control file for each claim.
    server_started_at timestamptz not null,
    -- No event from after it has been pruned: one that a reader has seen and that is not there is of a lost history.
    events_pruned_before timestamptz not null default '-infinity'
);

-- pg_control_checkpoint() still tells the old timeline for a while after a promotion; the WAL file's name does not lag.
-- (plpgsql keeps its plans; a function in SQL is parsed and planned anew by every statement that calls it.)
create function server_timeline() returns text
    language plpgsql volatile set search_path from current as $$
begin
    return case when pg_is_in_recovery() then 'recovery' else substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) end;
end $$;

create function server_identifier() returns text
    language plpgsql stable set search_path from current as $$
begin
    return (pg_control_system()).system_identifier::text;
end $$;

insert into epoch (number, system_identifier, timeline, began_at, server_started_at)
    select 1, server_identifier(), server_timeline(), now(), pg_postmaster_start_time();

-- The epoch, where nothing speaks for another history; no row: current_epoch() must look. For claim and settle, which ask each
-- time: as a function it would take a tenth of what they take. (The timeline as in server_timeline().)
create view present_epoch as
    select e.number, e.began_at, c.ahead, c.stands_at
    from epoch e cross join clock c
    where e.server_started_at = pg_postmaster_start_time()
      and e.timeline = case when pg_is_in_recovery() then 'recovery' else substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) end;

-- Begins a new epoch if the server's history is another one; returns the present epoch's number.
create function current_epoch() returns integer
    language plpgsql volatile security definer set search_path from current as $$
declare
    e epoch;
    v_identifier text;
    v_timeline text;
begin
    select p.number into e.number from present_epoch p;
    if found then
        return e.number;
    end if;
    v_identifier := server_identifier();
    v_timeline := server_timeline();
    -- The where clauses make the second of two racing callers find nothing left to do.
    update epoch set number = number + 1, system_identifier = v_identifier, timeline = v_timeline, began_at = clock_now()
        where system_identifier <> v_identifier or timeline <> v_timeline;
    -- It has been started again, and is the same.
    update epoch set server_started_at = pg_postmaster_start_time() where server_started_at <> pg_postmaster_start_time();
    select * into strict e from epoch;
    return e.number;
end $$;

-- One lane per (provider, account): pause, rate budget and breaker, shared by all workers.
create table lanes (
    id integer generated always as identity primary key,
    provider text not null,
    account text not null,
    paused_at timestamptz,
    paused_by text,
    pause_reason text,
    -- Calls a minute over all workers; 0 is no limit. Written by the workers from their configuration.
    rate_per_minute integer not null default 0 constraint lanes_rate_not_negative check (rate_per_minute >= 0),
    -- Until when the budget is spent (the theoretical arrival time of a leaky bucket).
    budget_spent_until timestamptz not null default '-infinity',
    -- What a shipment does to the held captures of this account: written by the workers from their configuration. Null:
    -- none has said it yet, and until then nothing is released, for nobody knows by which rule.
    release_on text constraint lanes_release_on_known check (release_on in ('shipped', 'first_scan')),
    shipment_amount text constraint lanes_shipment_amount_known
        check (shipment_amount in ('explicit', 'line_items', 'remaining_on_final', 'full_on_first')),
    -- The provider asked us to wait until then.
    limited_until timestamptz,
    -- Breaker: calls in a row without an answer of the provider; open until; for how long it was opened last.
    unanswered integer not null default 0 constraint lanes_unanswered_not_negative check (unanswered >= 0),
    open_until timestamptz,
    -- Since when it has been open without a closure; says nothing while open_until is null.
    open_since timestamptz,
    open_ms bigint not null default 0,
    -- One capture was let through to test.
    testing boolean not null default false,
    constraint lanes_provider_account_once unique (provider, account),
    constraint lanes_pause_has_who_and_why check ((paused_at is null) = (paused_by is null) and (paused_at is null) = (pause_reason is null))
);

-- Purposes: 0 first send, 1 retry of what was surely not processed, 2 verification of an unknown outcome.

-- What may be claimed now. The primary key is the claim's order.
create table ready (
    lane integer not null,
    purpose smallint not null constraint ready_purpose_known check (purpose in (0, 1, 2)),
    urgency smallint not null,
    -- Drawn only by a transaction that has inserted, deleted or locked a row before, and anew when the urgency changes: claims that
    -- begin behind the front of a class rely on it (0003_claim.sql).
    seq bigint generated always as identity,
    intent uuid not null constraint ready_intent_once unique,
    fence integer not null constraint ready_fence_not_negative check (fence >= 0),
    epoch integer not null,
    -- Its last two leases were lost: claimed with nothing else in flight, so that a row that kills workers is found out.
    alone boolean not null default false,
    since timestamptz not null,
    primary key (lane, purpose, alone, urgency, seq)
) with (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
create index ready_alone on ready (lane) where alone;

-- Where a class of ready rows begins: below this seq nothing is there, or can come. Under an old snapshot (a report, a dump)
-- nothing that was claimed since goes away, and a claim that began at the front of the index would step over all of it, for
-- each capture anew. So a claim that had to step over many lets the fronts of its lanes follow, one step each time:
--   1. it notes which seq was drawn last;
--   2. another, that saw this note before it had an id, notes its id as the bound: whoever drew a seq until then has a lesser one,
--      because it has its id before it draws (it has inserted, deleted or locked a row);
--   3. another, when no transaction older than the bound runs any more, moves the front to the least seq that is there, and not
--      behind the one noted: what is not visible now will never be.
-- (The xmax of a snapshot would not do as a bound: it is one more than the last id that has *ended*, and greater ones may run.)
-- A read-only transaction has no id, and holds nothing up; while one that writes stays open for long, fronts stay where they are.
-- A row whose urgency changes draws a new seq. A front holds for ten minutes, and then is found anew: so that even a sequence that
-- somebody has set back hides nothing for longer.
create table fronts (
    lane integer not null,
    purpose smallint not null constraint fronts_purpose_known check (purpose in (0, 1, 2)),
    urgency smallint not null,
    seq bigint not null,
    drawn bigint not null,
    bound xid8,
    -- Who has noted what was drawn.
    noted_by xid8 not null,
    begun_at timestamptz not null,
    primary key (lane, purpose, urgency),
    constraint fronts_not_behind_what_was_drawn check (seq between 0 and drawn + 1)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- What waits for a time or for a release.
create table waiting (
    intent uuid primary key,
    lane integer not null,
    purpose smallint not null constraint waiting_purpose_known check (purpose in (0, 1, 2)),
    urgency smallint not null,
    fence integer not null constraint waiting_fence_not_negative check (fence >= 0),
    epoch integer not null,
    cause text not null constraint waiting_cause_known check (cause in ('scheduled', 'held', 'backoff', 'verify', 'sibling')),
    due_at timestamptz,
    since timestamptz not null,
    constraint waiting_held_iff_no_due_time check ((cause = 'held') = (due_at is null)),
    constraint waiting_held_was_never_sent check (cause <> 'held' or purpose = 0)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
create index waiting_due on waiting (due_at) where due_at is not null;
create index waiting_sibling on waiting (lane) where cause = 'sibling';

-- One row per claimed batch: the durable record, before any send, that these attempts are open. Arrays are written
-- once; settling sets bits, and the full row is deleted. Whoever cannot set a bit has lost its fence.
create table leases (
    id uuid primary key,
    worker uuid not null,
    epoch integer not null,
    claimed_at timestamptz not null,
    until timestamptz not null,
    -- Which layout of requests this worker writes, so that a repeat can be byte-identical after an upgrade.
    request_format smallint not null,
    intents uuid[] not null,
    lanes integer[] not null,
    fences integer[] not null,
    generations smallint[] not null,
    purposes smallint[] not null,
    -- Of the rows as they were claimed: what was written in another history stays so if it is given back.
    epochs integer[] not null,
    settled bit varying not null,
    constraint leases_arrays_agree check (
        cardinality(intents) > 0
        and cardinality(intents) = cardinality(lanes) and cardinality(intents) = cardinality(fences)
        and cardinality(intents) = cardinality(generations) and cardinality(intents) = cardinality(purposes)
        and cardinality(intents) = cardinality(epochs) and cardinality(intents) = length(settled)
    ),
    constraint leases_end_after_they_begin check (until > claimed_at)
);
create index leases_until on leases (until);

-- What an intent that did not pass at once has behind it. Travels with it from place to place; kept for dead letters.
create table progress (
    intent uuid primary key,
    -- Capture POSTs that count.
    attempts smallint not null default 0 constraint progress_attempts_not_negative check (attempts >= 0),
    generation smallint not null default 0 constraint progress_generation_not_negative check (generation >= 0),
    request_format smallint not null default 1,
    -- Once an attempt was ambiguous, a later refusal may be the echo of its success.
    tainted boolean not null default false,
    -- The provider once took it with our reference and our amount: never sent again.
    accepted boolean not null default false,
    -- The provider's id of what it took, where its answer gave one.
    accepted_id text,
    -- The provider's id of the capture that a read took for ours while it was not final, where nothing but its fitting said so.
    pending_id text,
    -- Of this generation.
    first_sent_at timestamptz,
    -- No read counts as quiet before this: something of ours may still be in flight.
    quiet_after timestamptz,
    quiet_reads smallint not null default 0 constraint progress_quiet_reads_not_negative check (quiet_reads >= 0),
    last_quiet_at timestamptz,
    in_progress_since timestamptz,
    unknown_since timestamptz,
    -- A refusal that our own earlier success would explain, kept until a read decides.
    refusal_class text,
    refusal_code text,
    -- A replay after a definite, untainted refusal may use a new key once a read shows nothing.
    fresh_key boolean not null default false,
    -- Nothing is sent, not even a repeat of the key, before a read: after a replay, a pause, a lost history.
    read_first boolean not null default false,
    -- Came back from a dead letter and was not claimed since: it does not hold its authorisation, a sibling may.
    replayed boolean not null default false,
    -- Verifications so far, and failures in a row that are ours to fix.
    looks smallint not null default 0,
    own_faults smallint not null default 0,
    lost_leases smallint not null default 0,
    last_class text,
    last_code text,
    constraint progress_quiet_reads_have_a_time check (quiet_reads = 0 or last_quiet_at is not null),
    constraint progress_tainted_was_sent check (not tainted or first_sent_at is not null)
);

-- Closed attempts, and the reads that settled an unknown outcome. Append-only. Not here: the attempt of a capture that passed
-- at once, as most do. It stands in its outcome (the view `attempts` has both).
create table attempts_apart (
    intent uuid not null,
    fence integer not null,
    lease uuid not null,
    worker uuid not null,
    purpose smallint not null,
    generation smallint not null,
    request_format smallint not null,
    -- Was a capture POST put on the wire? Null: the worker was lost, nobody knows.
    sent boolean,
    outcome text not null constraint attempts_outcome_known
        check (outcome in ('captured', 'accepted', 'failed', 'not_sent', 'observed', 'lost')),
    class text,
    code text,
    http_status smallint,
    began_at timestamptz,
    ended_at timestamptz not null,
    duration_ms integer,
    request_sha256 bytea,
    host text,
    evidence bytea,
    constraint attempts_pkey primary key (intent, fence),
    constraint attempts_fence_starts_at_1 check (fence >= 1),
    constraint attempts_lost_iff_unknown_whether_sent check ((outcome = 'lost') = (sent is null))
);

-- How an intent ended. A dead letter is a row with state 'dead'.
create table outcomes (
    intent uuid primary key,
    lane integer not null,
    state text not null constraint outcomes_state_known check (state in ('captured', 'dead', 'cancelled')),
    fence integer not null,
    attempts smallint not null,
    ended_at timestamptz not null,
    captured_minor bigint,
    provider_capture_id text,
    captured_at timestamptz,
    proof text,
    dead_reason text constraint outcomes_dead_reason_known
        check (dead_reason in ('rejected', 'exhausted', 'expired', 'undecided', 'captured_elsewhere', 'poison')),
    last_class text,
    last_code text,
    evidence bytea,
    -- Of dead letters only: when the authorisation ends, if that is known, and what was said of it (as in deadlines, where
    -- those stand that have not ended).
    expires_at timestamptz,
    warned smallint,
    -- Of what died, and copies of its intent's, which never change: lists and sums over dead letters read this table alone.
    created_at timestamptz,
    amount_minor bigint,
    currency text,
    -- The attempt of what passed at once, which `attempts` shows among the others; null: attempts stand in `attempts_apart`. As a
    -- row with an index entry it would take three times the log, for every capture. It stays for ever, as its outcome does.
    began_at timestamptz,
    duration_ms integer,
    purpose smallint,
    generation smallint,
    request_format smallint,
    http_status smallint,
    sent boolean,
    lease uuid,
    worker uuid,
    attempt_outcome text,
    host text,
    constraint outcomes_attempt_whole_and_of_a_capture
        check (num_nulls(lease, worker, purpose, generation, request_format, sent, attempt_outcome) = case when lease is null then 7 else 0 end
               and (lease is null or state = 'captured')),
    constraint outcomes_dead_know_their_intent
        check (state <> 'dead' or (created_at is not null and amount_minor is not null and currency is not null)),
    constraint outcomes_warned_iff_it_expires check ((warned is null) = (expires_at is null)),
    constraint outcomes_captured_iff_receipt
        check ((state = 'captured') = (captured_minor is not null and provider_capture_id is not null and proof is not null)),
    constraint outcomes_dead_iff_reason check ((state = 'dead') = (dead_reason is not null))
);
create view attempts as
    select intent, fence, lease, worker, purpose, generation, request_format, sent, outcome, class, code, http_status, began_at,
           ended_at, duration_ms, request_sha256, host, evidence
    from attempts_apart
    union all
    -- (what shows a capture is read in its outcome)
    select intent, fence, lease, worker, purpose, generation, request_format, sent, attempt_outcome, null, null, http_status, began_at,
           ended_at, duration_ms, null, host, null
    from outcomes where lease is not null;
comment on view attempts is 'Every attempt that is over, and the reads that settled an unknown outcome: one row for each claim of an intent.';

-- Lists of dead letters in their order, and every sum over them, out of this index alone. Whoever ends otherwise pays nothing.
create index outcomes_dead on outcomes (created_at, intent)
    include (lane, ended_at, dead_reason, last_class, last_code, amount_minor, currency, expires_at) where state = 'dead';

-- Results that came after their lease was lost. Never dropped: a late "captured" is real money. A receipt among them ends
-- its intent as captured if it is the answer to our own POST (proof answer) or a read showed our reference (reference).
-- What a read only inferred does not: nothing keeps a worker that lost its lease from reading, and what it sees may be a
-- sibling's capture, made since.
create table late_results (
    intent uuid not null,
    fence integer not null,
    lease uuid not null,
    worker uuid not null,
    outcome text not null,
    class text,
    code text,
    captured_minor bigint,
    provider_capture_id text,
    captured_at timestamptz,
    proof text,
    evidence bytea,
    recorded_at timestamptz not null,
    -- The lease too: in the history after a fail-over the same fence is given once more.
    primary key (intent, fence, lease)
);

-- Authorisations with a known end, of intents that have not ended.
create table deadlines (
    intent uuid primary key,
    expires_at timestamptz not null,
    -- 0 nothing said, 1 said at 48 h, 2 said at 24 h, 3 given up.
    warned smallint not null default 0
);
create index deadlines_expires_at on deadlines (expires_at);

create table cancel_requests (
    intent uuid primary key,
    reason text not null,
    requested_by text not null,
    requested_at timestamptz not null
);

-- Releases of held intents, valid before the intent arrives.
create table releases (
    id bigint generated always as identity primary key,
    provider text not null,
    account text not null,
    payment_id text,
    order_id text,
    capture_ref text,
    shipment_ref text,
    company text,
    method text,
    tracking_number text,
    released_by text not null,
    created_at timestamptz not null,
    next_try_at timestamptz not null,
    intent uuid constraint releases_free_an_intent_once unique,
    matched_at timestamptz,

    -- What a shipment brings along; a release by a call has none of it, and frees what it names, whole.
    -- Which row of shipment_events made it.
    shipment bigint,
    -- The number that the carrier gave the parcel, and what its source calls the shipment: by either its later events are
    -- known.
    parcel text,
    told_as text,
    -- Has a carrier seen it?
    scanned boolean not null default true,
    amount_minor numeric constraint releases_amount_whole_and_positive check (amount_minor = trunc(amount_minor) and amount_minor > 0),
    currency text,
    -- The last of its payment: takes what is left.
    is_final boolean not null default false,
    -- A person said: what is held, whole, whatever the rule of the account.
    whole boolean not null default false,
    -- Why it has freed nothing though something is held, in words and as what it waits for.
    says text,
    waits_for text constraint releases_waits_for_known check (waits_for in ('scan', 'final', 'person')),
    -- The shipment was cancelled, or a person has said that it belongs to no payment.
    withdrawn_at timestamptz,
    -- When it was told that nothing is there for it to free; covered: nothing need be, the payment is captured without it.
    told_at timestamptz,
    covered boolean not null default false,

    constraint releases_name_a_payment_or_an_order check (payment_id is not null or order_id is not null),
    constraint releases_matched_iff_intent check ((intent is null) = (matched_at is null)),
    constraint releases_withdrawn_free_nothing check (withdrawn_at is null or intent is null)
);
create unique index releases_shipment_once on releases
    (provider, account, coalesce(payment_id, ''), coalesce(order_id, ''), coalesce(capture_ref, ''), shipment_ref) where shipment_ref is not null;
create index releases_unmatched on releases (next_try_at) where intent is null and withdrawn_at is null;
create index releases_untold on releases (created_at) where intent is null and withdrawn_at is null and told_at is null;
create index releases_told on releases (created_at) where intent is null and withdrawn_at is null and told_at is not null and not covered;
create index releases_parcel on releases (parcel) where parcel is not null;
create index releases_of_shipment on releases (shipment) where shipment is not null;

-- Inbox for a warehouse trigger, and for what comes over HTTP. Text only and no checks, so that a warehouse's write never
-- fails because of us.
create table shipment_events (
    source text, event_id text, provider text, account text, order_id text, payment_id text, capture_ref text,
    kind text, company text, method text, tracking_number text, occurred_at text, body text,
    received_at timestamptz default now(),
    handled_at timestamptz,
    handling text,
    seq bigint generated always as identity,
    -- What the source calls the shipment, where the parcel has no number yet; what it is worth in minor units, and whether
    -- it is the last one (true), where the account's rule asks for it.
    shipment_ref text, amount_minor text, currency text, is_final text,
    -- The release that it made or changed.
    release bigint,
    -- Goods left, and nobody can tell for which payment: a person must. Told at that time.
    unmatched boolean not null default false,
    told_at timestamptz,
    constraint shipment_events_once unique (source, event_id)
);
create unique index shipment_events_seq on shipment_events (seq);
create index shipment_events_open on shipment_events (seq) where handled_at is null;
create index shipment_events_unmatched on shipment_events (seq) where unmatched;
create index shipment_events_of_parcel on shipment_events (tracking_number, seq) where tracking_number is not null and octet_length(tracking_number) <= 255;
create index shipment_events_final on shipment_events (source, shipment_ref) where is_final is not null and octet_length(shipment_ref) <= 255;
comment on table shipment_events is 'Insert a row for each shipment event; a row of kind shipped, in_transit or delivered releases held captures of its payment or order.';

create table events (
    seq bigint generated always as identity,
    xid xid8 not null default pg_current_xact_id(),
    id uuid not null default new_id(),
    type text not null constraint events_type_has_prefix check (type like 'capture.%'),
    intent_id uuid not null,
    provider text not null,
    account text not null,
    order_id text not null,
    payment_id text not null,
    capture_ref text not null,
    amount_minor numeric not null,
    currency text not null,
    data jsonb not null default '{}',
    occurred_at timestamptz not null default now(),
    primary key (xid, seq)
);
create index events_intent on events (intent_id, seq);
comment on table events is 'What happened, append-only. Read it with events_after(cursor, max_rows), which misses nothing that commits late.';

create table workers (
    id uuid primary key,
    version text not null,
    pid integer not null,
    listen text,
    lanes integer[] not null,
    -- How long its claims last: for five of them what was made since a fail-over may have been sent before it.
    lease_ms bigint not null constraint workers_lease_is_positive check (lease_ms > 0),
    started_at timestamptz not null,
    heartbeat_at timestamptz not null
);

-- A row here means: somebody sleeps, and wants a notification of the next insert.
create table waiters (worker uuid primary key, since timestamptz not null);

-- What operators did: who, when, why, and what it was before and after. Append-only.
create table audit (
    id bigint generated always as identity primary key,
    at timestamptz not null,
    actor text not null constraint audit_names_who check (actor <> ''),
    action text not null,
    reason text not null constraint audit_says_why check (reason <> ''),
    intent uuid,
    lane integer,
    detail jsonb not null default '{}'
);
create index audit_intent on audit (intent) where intent is not null;

create function refuse_change() returns trigger
    language plpgsql set search_path from current as $$
begin
    raise exception '% is append-only: % is refused', coalesce(tg_argv[0], tg_table_name), lower(tg_op)
        using errcode = '55000', table = tg_table_name, schema = tg_table_schema,
              hint = 'what happened stays; insert a new row that corrects it';
end $$;
create trigger events_are_append_only before update or delete or truncate on events
    for each statement execute function refuse_change();
create trigger audit_is_append_only before update or delete or truncate on audit
    for each statement execute function refuse_change();
create trigger attempts_are_append_only before update or delete or truncate on attempts_apart
    for each statement execute function refuse_change();
-- What was captured stays so, with its attempt: only what comes of a dead letter changes.
create trigger captured_outcomes_stay before update or delete on outcomes
    for each row when (old.state = 'captured') execute function refuse_change('the outcome of a capture');
create trigger outcomes_are_not_truncated before truncate on outcomes
    for each statement execute function refuse_change();

-- The least version of a worker that this schema can be served by; a migration raises it when it must.
create table requirements (
    only_row boolean primary key default true constraint requirements_have_one_row check (only_row),
    least_worker_version text not null
);
insert into requirements (least_worker_version) values ('0.1.0');

-- Urgency: the producer's priority, but first of all once the authorisation ends within a day. Stable, as adding to a time
-- is: called immutable, the planner would not put its body in place, and each statement that calls it would parse and plan
-- it anew (100 µs).
create function urgency_of(p_priority smallint, p_expires_at timestamptz, p_now timestamptz) returns smallint
    language sql stable
    as $$ select case when p_expires_at is not null and p_expires_at < p_now + interval '24 hours' then (-32768)::smallint else p_priority end $$;

-- Tells sleeping workers that there is something to look at, if any sleeps: a notification takes a cluster-wide lock at
-- commit, so a busy system must never send one.
create function wake_sleepers() returns void
    language plpgsql volatile set search_path from current as $$
begin
    if exists (select from waiters) then
        perform pg_notify(current_schema() || '.ready', '');
    end if;
end $$;

-- Puts inserted intents where they belong, with their first event, in the producer's own transaction. No advisory lock,
-- and a notification only if a sleeping worker asked for one: NOTIFY takes a cluster-wide lock at commit. One look tells
-- what there is to do: to begin a statement costs more than what it writes, and most inserts are of one row.
--
-- enable_seqscan: a session keeps the plan that it made when there were two lanes. Without jit, because what the planner may
-- only read in whole looks dear enough to be compiled, for 0.3 s each time.
create function intents_placed() returns trigger
    language plpgsql security definer set search_path from current set enable_seqscan = off set jit = off as $$
declare
    v record;
    v_now timestamptz := clock_now();
begin
    select (select e.number from epoch e) as epoch,
           bool_or(n.hold is null and (n.not_before is null or n.not_before <= v_now)) as some_are_ready,
           bool_or(n.hold is not null or n.not_before > v_now) as some_wait,
           bool_or(n.authorization_expires_at is not null) as some_will_end,
           bool_or(not exists (select from lanes l where l.provider = n.provider and l.account = n.account offset 0)) as a_lane_is_new
        into v
        from inserted n;

    if v.a_lane_is_new then
        insert into lanes (provider, account)
            select distinct n.provider, n.account from inserted n
            where not exists (select from lanes l where l.provider = n.provider and l.account = n.account)
            on conflict do nothing;
    end if;
    if v.some_are_ready then
        insert into ready (lane, purpose, urgency, intent, fence, epoch, since)
            select l.id, 0, urgency_of(n.priority, n.authorization_expires_at, v_now), n.id, 0, v.epoch, v_now
            from inserted n
            cross join lateral (select l.id from lanes l where l.provider = n.provider and l.account = n.account limit 1) l
            where n.hold is null and (n.not_before is null or n.not_before <= v_now);
    end if;
    if v.some_wait then
        insert into waiting (intent, lane, purpose, urgency, fence, epoch, cause, due_at, since)
            select n.id, l.id, 0, urgency_of(n.priority, n.authorization_expires_at, v_now), 0, v.epoch,
                   case when n.hold is null then 'scheduled' else 'held' end,
                   case when n.hold is null then n.not_before end, v_now
            from inserted n
            cross join lateral (select l.id from lanes l where l.provider = n.provider and l.account = n.account limit 1) l
            where n.hold is not null or n.not_before > v_now;
    end if;
    if v.some_will_end then
        insert into deadlines (intent, expires_at)
            select n.id, n.authorization_expires_at from inserted n where n.authorization_expires_at is not null;
    end if;
    insert into events (type, intent_id, provider, account, order_id, payment_id, capture_ref, amount_minor, currency, data)
        select case when n.hold is null then 'capture.enqueued' else 'capture.held' end,
               n.id, n.provider, n.account, n.order_id, n.payment_id, n.capture_ref, n.amount_minor, n.currency,
               case when n.hold is not null then jsonb_build_object('hold', n.hold)
                    when n.not_before is not null then jsonb_build_object('not_before', n.not_before)
                    else '{}' end
        from inserted n;
    -- As wake_sleepers() does, without a call; at the end, because a large insert takes its time.
    if exists (select from waiters) then
        perform pg_notify(current_schema() || '.ready', '');
    end if;
    return null;
end $$;
create trigger intents_placed after insert on intents
    referencing new table as inserted for each statement execute function intents_placed();

-- Siblings that ended without money leave room; one left to a person keeps its amount reserved. Same signature as before.
-- (plpgsql keeps its plan; a function in SQL is parsed and planned anew by every statement that calls it.)
create or replace function captures_beside(
    of_provider text, of_account text, of_payment text, of_currency text, but_for text,
    out asked_minor numeric, out authorized_minor numeric)
language plpgsql volatile
set search_path from current
set enable_seqscan = off set jit = off
as $$
begin
    select coalesce(sum(i.amount_minor) filter (where o.intent is null or o.state = 'captured' or o.dead_reason = 'undecided'), 0),
           (array_agg(i.authorized_minor order by i.created_at desc, i.id desc)
               filter (where i.authorized_minor is not null))[1]
        into asked_minor, authorized_minor
        from intents i
        left join lateral (select o.intent, o.state, o.dead_reason from outcomes o where o.intent = i.id limit 1) o on true
        where i.provider = of_provider and i.account = of_account and i.payment_id = of_payment
          and i.capture_ref <> but_for and i.currency = of_currency;
end
$$;
