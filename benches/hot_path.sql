-- What one capture costs the database: time, buffers and log of insert, claim and settle, in one run.
--
--   createdb scratch && DATABASE_URL=postgres:///scratch capture migrate up
--   psql -X postgres:///scratch -v batch=100 -v batches=50 -f benches/hot_path.sql
--
-- The provider is left out: every claim is settled as captured at once. Figures are of this machine; compare ratios, on the
-- same machine, in one run. The schema must be called `capture` and be empty.
\set QUIET on
\pset format unaligned
\pset tuples_only on
set search_path to capture, pg_temp;
set client_min_messages to notice;

create temp table figure (name text, value numeric, unit text);
create temp table mark (lsn pg_lsn, at timestamptz);

insert into mark values (pg_current_wal_insert_lsn(), clock_timestamp());
insert into intents (provider, order_id, payment_id, capture_ref, amount_minor, currency)
    select 'optty', 'o' || g, 'p' || g, 'c', 1000, 'USD' from generate_series(1, :batch * :batches) g;
insert into figure
    select 'insert (one statement), per intent', extract(epoch from clock_timestamp() - at) * 1000000 / (:batch * :batches), 'us' from mark
    union all
    select 'insert, log per intent', (pg_current_wal_insert_lsn() - lsn) / (:batch * :batches), 'bytes' from mark;
analyze;

create procedure pg_temp.run(p_batch integer, p_batches integer) language plpgsql as $$
declare
    v_lease uuid;
    v_slots integer[];
    v_intents uuid[];
    v_fences integer[];
    v_many integer[] := array[p_batch];
    v_claim interval := '0';
    v_settle interval := '0';
    v_claim_log numeric := 0;
    v_settle_log numeric := 0;
    v_at timestamptz;
    v_lsn pg_lsn;
begin
    for i in 1..p_batches loop
        v_lease := gen_random_uuid();
        v_at := clock_timestamp(); v_lsn := pg_current_wal_insert_lsn();
        select array_agg(c.slot), array_agg(c.id), array_agg(c.fence) into v_slots, v_intents, v_fences
        from claim(v_lease, v_lease, 120000, 1::smallint, p_batch, false,
                   jsonb_build_array(jsonb_build_object('lane', 1, 'free', p_batch, 'sending', 0, 'retrying', 0, 'verifying', 0,
                                                        'favour', 0, 'send_calls', 1, 'read_calls', 1))) c;
        commit;
        v_claim := v_claim + (clock_timestamp() - v_at); v_claim_log := v_claim_log + (pg_current_wal_insert_lsn() - v_lsn);
        v_at := clock_timestamp(); v_lsn := pg_current_wal_insert_lsn();
        -- One place in each array is one capture.
        perform settle(v_lease, v_slots, array_fill(v_lease, v_many), v_slots, v_intents, v_fences, array_fill(1::smallint, v_many),
                       array_fill(0::smallint, v_many), array_fill(true, v_many), array_fill('captured'::text, v_many),
                       array_fill(201::smallint, v_many), array_fill(20::bigint, v_many), array_fill(20, v_many),
                       array_fill('api.example.com'::text, v_many), array_fill(1000::bigint, v_many), array_fill('c'::text, v_many),
                       array_fill(null::text, v_many), array_fill('answer'::text, v_many),
                       array_fill(decode(repeat('00ff', 60), 'hex'), v_many), '[]', '[]', '{1}');
        commit;
        v_settle := v_settle + (clock_timestamp() - v_at); v_settle_log := v_settle_log + (pg_current_wal_insert_lsn() - v_lsn);
    end loop;
    insert into figure values
        ('claim, per capture', extract(epoch from v_claim) * 1000000 / (p_batch * p_batches), 'us'),
        ('claim, log per capture', v_claim_log / (p_batch * p_batches), 'bytes'),
        ('settle, per capture', extract(epoch from v_settle) * 1000000 / (p_batch * p_batches), 'us'),
        ('settle, log per capture', v_settle_log / (p_batch * p_batches), 'bytes'),
        ('commits per capture (claim and settle)', 2.0 / p_batch, '');
end $$;
call pg_temp.run(:batch, :batches);

select rpad(name, 42) || lpad(round(value, case when value < 1 then 3 else 0 end)::text, 10) || ' ' || unit from figure;
\echo
explain (analyze, buffers, costs off, timing off, summary off)
    select * from claim(gen_random_uuid(), gen_random_uuid(), 120000, 1::smallint, 100, false,
        '[{"lane": 1, "free": 100, "sending": 0, "retrying": 0, "verifying": 0, "favour": 0, "send_calls": 1, "read_calls": 1}]');
