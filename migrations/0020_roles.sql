-- The last migration, whatever comes before it: it grants what is there by then.
--
-- Roles are created where that is allowed; where not, an administrator creates them and runs `select grant_roles()`.
do $$
declare
    r text;
begin
    foreach r in array array['capture_producer', 'capture_fulfilment', 'capture_worker', 'capture_readonly', 'capture_operator', 'capture_metrics'] loop
        begin
            if not exists (select from pg_roles where rolname = r) then
                execute format('create role %I nologin', r);
            end if;
        exception
            when insufficient_privilege then raise notice 'role % was not created: not allowed', r;
            when duplicate_object or unique_violation then null; -- another schema of this server was migrated at the same time
        end;
    end loop;
end $$;

-- Grants what each role needs and nothing else. Roles that do not exist are passed over.
create function grant_roles() returns void
    language plpgsql set search_path from current as $$
declare
    s text := current_schema();
    g record;
    verb text;
begin
    execute format('revoke all on all functions in schema %I from public', s);
    execute format('revoke all on all tables in schema %I from public', s);
    for g in
        select * from (values
            ('capture_producer', array[
                'insert, select on intents', 'select on status', 'select on events', 'select on epoch',
                'execute on function new_id', 'execute on function enqueue', 'execute on function enqueue_json',
                'execute on function cancel', 'execute on function events_after']),
            ('capture_fulfilment', array[
                'insert on shipment_events', 'execute on function release']),
            ('capture_worker', array[
                'select on all tables in schema %1$I', 'insert, delete, update on workers', 'insert, delete, update on waiters',
                'insert on lanes', 'update (rate_per_minute, release_on, shipment_amount, tell_shipments, authorization_lifetime) on lanes', 'execute on function clock_now', 'execute on function current_epoch',
                'execute on function server_timeline', 'execute on function server_identifier',
                'execute on function claim', 'execute on function give_back', 'execute on function settle', 'execute on function rescue', 'execute on function move_due',
                'execute on function take_shipments', 'execute on function match_releases', 'execute on function watch_shipments',
                'execute on function watch_deadlines', 'execute on function watch_dead_letters',
                'execute on function tell_deadlines', 'execute on function assume_deadlines',
                'execute on function operation_step', 'execute on function operation_tokens',
                'execute on function put_off_item', 'execute on function watch_replayed',
                'execute on function claim_shipping_notice', 'execute on function settle_shipping_notice', 'execute on function left_of_split',
                'execute on function fan_out_webhooks', 'execute on function claim_webhook_deliveries',
                'execute on function settle_webhook_deliveries', 'execute on function prune_webhook_deliveries']),
            ('capture_readonly', array['select on all tables in schema %1$I', 'execute on function events_after', 'execute on function clock_now',
                'execute on function verify_audit', 'execute on function would_prune_shipments', 'execute on function left_of_split']),
            ('capture_operator', array[
                'select on all tables in schema %1$I', 'insert on intents', 'execute on function clock_now',
                'execute on function new_id', 'execute on function enqueue', 'execute on function enqueue_json',
                'execute on function events_after', 'execute on function cancel', 'execute on function release',
                'execute on function replay', 'execute on function resolve', 'execute on function set_lane_pause',
                'execute on function create_api_key', 'execute on function revoke_api_key', 'execute on function note_api_key_use',
                'execute on function begin_console_session', 'execute on function use_console_session', 'execute on function end_console_session',
                'execute on function cancel_by', 'execute on function release_by', 'execute on function begin_operation', 'execute on function set_operation_state',
                'execute on function operation_step', 'execute on function operation_tokens',
                'execute on function put_off_item', 'execute on function watch_replayed', 'execute on function verify_audit',
                'execute on function set_lane_rate', 'execute on function test_lane', 'execute on function begin_prune', 'execute on function prune_some',
                'execute on function prune_releases', 'execute on function prune_shipment_events', 'execute on function prune_shipment_bodies',
                'execute on function prune_unmatched', 'execute on function would_prune_shipments',
                'execute on function receive_shipment', 'execute on function count_shipment_requests', 'execute on function match_shipment',
                'execute on function create_webhook_endpoint', 'execute on function change_webhook_endpoint',
                'execute on function set_webhook_endpoint_state', 'execute on function remove_webhook_endpoint',
                'execute on function rotate_webhook_secret', 'execute on function redeliver_webhooks',
                'execute on function begin_webhook_redelivery', 'execute on function redeliver_webhooks_step',
                'execute on function left_of_split']),
            ('capture_metrics', array['select on all tables in schema %1$I', 'execute on function clock_now'])
        ) as t(role, verbs)
    loop
        continue when not exists (select from pg_roles where rolname = g.role);
        execute format('grant usage on schema %I to %I', s, g.role);
        foreach verb in array g.verbs loop
            execute format('grant ' || verb || ' to %2$I', s, g.role);
        end loop;
    end loop;
    -- What came over HTTP may hold names and addresses of customers: for operators only. A webhook's secret is for nobody: what
    -- hands it out to workers runs with its owner's rights.
    for g in
        select r.rolname as role, t.name from (values
            ('shipment_bodies', array['capture_worker', 'capture_readonly', 'capture_metrics']),
            ('webhook_secrets', array['capture_producer', 'capture_fulfilment', 'capture_worker', 'capture_readonly', 'capture_operator', 'capture_metrics'])
        ) as t(name, roles) join pg_roles r on r.rolname = any (t.roles)
    loop
        execute format('revoke all on %I.%I from %I', s, g.name, g.role);
    end loop;
end $$;
select grant_roles();
