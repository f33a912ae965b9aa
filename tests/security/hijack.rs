//! A low role sets traps: tables, functions, operators and types of our names, wherever it can create anything. Whatever
//! runs with the owner's rights must not step into one.

use sqlx::Row;
use uuid::Uuid;

use crate::database::{Session, migrated_database};
use crate::matrix::{ROLES, may_call};

/// What a trap says when something steps into it.
const CAUGHT: &str = "ZZ666";

/// Lets the low roles create what they like outside our schema: the worst that an old server or a careless grant allows.
async fn careless(db: &mut Session) {
    db.run(
        "do $$ begin execute format('grant create, temporary on database %I to public', current_database()); end $$",
    )
    .await;
    db.run("grant create, usage on schema public to public").await;
}

/// The statements that set every trap, from the catalogue.
async fn traps(owner: &mut Session) -> Vec<String> {
    let body = format!(
        "language plpgsql as $$ begin raise exception 'caught %', current_user using errcode = '{CAUGHT}'; end $$"
    );
    let mut traps = vec![format!("create function pg_temp.trap() returns trigger {body}")];
    // Tables that look like ours to the last column, and bite when they are written to.
    let tables = owner
        .rows(
            "select c.relname::text, string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' order by a.attnum)
             from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
             where c.relnamespace = 'capture'::regnamespace and c.relkind in ('r', 'p', 'v') group by 1",
        )
        .await;
    for row in &tables {
        let (name, columns): (String, String) = (row.get(0), row.get(1));
        for place in ["pg_temp", "public"] {
            traps.push(format!("create table {place}.{name} ({columns})"));
            if place == "pg_temp" {
                traps.push(format!(
                    "create trigger bite before insert or update or delete on pg_temp.{name} for each statement execute function pg_temp.trap()"
                ));
            }
        }
    }
    // Functions of our names and arguments, and of the names that ours call.
    let functions: Vec<String> = owner
        .column(
            "select format('%I(%s) returns %s', p.proname, pg_get_function_identity_arguments(p.oid),
                           case when p.prorettype = 'trigger'::regtype then 'integer' else 'text' end)
             from pg_proc p where p.pronamespace = 'capture'::regnamespace and not (proargmodes is not null and proargmodes && array['o', 't']::\"char\"[])",
        )
        .await;
    let called = [
        "now() returns timestamptz",
        "clock_timestamp() returns timestamptz",
        "btrim(text) returns text",
        "lower(text) returns text",
        "length(text) returns integer",
        "left(text, integer) returns text",
        "jsonb_typeof(jsonb) returns text",
        "jsonb_array_elements(jsonb) returns jsonb",
        "pg_current_wal_lsn() returns pg_lsn",
        "pg_walfile_name(pg_lsn) returns text",
        "pg_notify(text, text) returns void",
        "current_schema() returns name",
        "floor(numeric) returns numeric",
        "trunc(numeric) returns numeric",
        "quote_literal(text) returns text",
    ];
    let all = functions.iter().map(String::as_str).chain(called);
    for function in all {
        for place in ["pg_temp", "public"] {
            traps.push(format!("create function {place}.{function} {body}"));
        }
    }
    for (name, left, right, returns) in [
        ("=", "text", "text", "boolean"),
        ("<>", "text", "text", "boolean"),
        ("||", "text", "text", "text"),
        ("~", "text", "text", "boolean"),
        ("=", "uuid", "uuid", "boolean"),
        ("=", "integer", "integer", "boolean"),
        (">", "numeric", "numeric", "boolean"),
        ("<=", "timestamptz", "timestamptz", "boolean"),
        ("->>", "jsonb", "text", "text"),
        ("?", "jsonb", "text", "boolean"),
    ] {
        for place in ["pg_temp", "public"] {
            let function = format!("{place}.sign_{}", traps.len());
            traps.push(format!(
                "create function {function}({left}, {right}) returns {returns} {body}"
            ));
            traps.push(format!(
                "create operator {place}.{name} (leftarg = {left}, rightarg = {right}, function = {function})"
            ));
        }
    }
    for name in ["uuid", "text", "jsonb", "timestamptz", "numeric", "bigint"] {
        for place in ["pg_temp", "public"] {
            traps.push(format!("create type {place}.\"{name}\" as (a integer)"));
        }
    }
    // The row types of our names are there already: a temporary table makes its own.
    traps.push("create type pg_temp.feed_event as (a integer)".to_owned());
    traps
}

/// A session of that role, behind its traps, which come first wherever the session itself looks.
async fn enemy(url: &str, role: &str, traps: &[String]) -> Session {
    let mut db = Session::open(url).await;
    db.run(&format!("set role {role}")).await;
    db.run("begin").await;
    for trap in traps {
        // What another enemy has put into `public` stands there already.
        let told = db.try_run(&format!("savepoint s; {trap}")).await;
        if let Err(refused) = told {
            assert!(
                matches!(refused.sqlstate.as_str(), "42723" | "42P07" | "42710"),
                "{refused:?}\n{trap}"
            );
            db.run("rollback to savepoint s").await;
        }
    }
    db.run("commit").await;
    db.run("set search_path = pg_temp, public, pg_catalog, capture").await;
    db
}

/// Calls with arguments that lead far into each function that a role may call.
fn calls(role: &str) -> Vec<(&'static str, String)> {
    let id = Uuid::new_v4();
    let all = [
        ("new_id", "select capture.new_id()".to_owned()),
        (
            "enqueue",
            "select capture.enqueue(provider => 'afterpay', order_id => 'o', payment_id => '1', capture_ref => 'f', amount_minor => 500, currency => 'USD', hold => 'shipment', details => '{\"description\":\"d\"}', authorized_minor => 1000)".to_owned(),
        ),
        (
            "enqueue_json",
            r#"select capture.enqueue_json('{"provider":"optty","order_id":"o","payment_id":"2","capture_ref":"j","amount_minor":500,"currency":"USD"}')"#.to_owned(),
        ),
        ("cancel", "select capture.cancel((select id from capture.intents where capture_ref = 'target'), 'why')".to_owned()),
        ("events_after", "select * from capture.events_after(null, 10)".to_owned()),
        ("release", "select capture.release(provider => 'afterpay', payment_id => '1', shipment_ref => 'p')".to_owned()),
        ("clock_now", "select capture.clock_now()".to_owned()),
        ("current_epoch", "select capture.current_epoch()".to_owned()),
        ("server_timeline", "select capture.server_timeline()".to_owned()),
        ("server_identifier", "select capture.server_identifier()".to_owned()),
        (
            "claim",
            format!("select * from capture.claim('{id}', '{id}', 60000, 1::smallint, 10, false, '[{{\"lane\":1,\"first\":5,\"retry\":5,\"verify\":5}}]')"),
        ),
        ("give_back", format!("select capture.give_back('{id}')")),
        (
            "settle",
            format!(
                "select * from capture.settle('{id}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '[]', '[]')"
            ),
        ),
        ("rescue", "select capture.rescue(10)".to_owned()),
        ("move_due", "select * from capture.move_due(10)".to_owned()),
        ("take_shipments", "select capture.take_shipments(10)".to_owned()),
        ("match_releases", "select capture.match_releases(10)".to_owned()),
        ("watch_dead_letters", "select capture.watch_dead_letters(10)".to_owned()),
        ("watch_deadlines", "select capture.watch_deadlines(0, 10)".to_owned()),
        ("assume_deadlines", "select capture.assume_deadlines(null, 10)".to_owned()),
        (
            "tell_deadlines",
            "select capture.tell_deadlines('[{\"intent\":\"00000000-0000-0000-0000-000000000001\",\"expires_at\":\"2199-01-01Z\"}]')".to_owned(),
        ),
        ("watch_shipments", "select capture.watch_shipments('0', '0', 10)".to_owned()),
        (
            "receive_shipment",
            r#"select capture.receive_shipment('s', 'h', '\x00', 'x', null, '{"provider":"afterpay","payment_id":"1"}')"#.to_owned(),
        ),
        ("count_shipment_requests", "select capture.count_shipment_requests('s', 'r', 1)".to_owned()),
        ("match_shipment", "select capture.match_shipment('1', null, null, null, '1', false, 'me', 'why')".to_owned()),
        ("replay", format!("select capture.replay('{id}', now(), false, 'me', 'why', '{{}}')")),
        ("resolve", format!("select capture.resolve('{id}', true, 'e', 'me', 'why')")),
        ("set_lane_pause", "select capture.set_lane_pause(1, false, 'me', 'why')".to_owned()),
    ];
    all.into_iter()
        .filter(|(name, _)| may_call(role, name) == Some(true))
        .collect()
}

#[tokio::test]
async fn no_trap_of_a_low_role_is_stepped_into() {
    for role in ROLES {
        let url = migrated_database().await;
        let mut owner = Session::open(&url).await;
        careless(&mut owner).await;
        owner
            .run("select capture.enqueue(provider => 'afterpay', order_id => 'o', payment_id => '9', capture_ref => 'target', amount_minor => 500, currency => 'USD')")
            .await;
        let traps = traps(&mut owner).await;
        assert!(traps.len() > 150, "{}", traps.len());
        let mut db = enemy(&url, role, &traps).await;
        // The traps bite: a function with its owner's rights that looks where its caller looks would step into one.
        owner
            .run("create function public.loose() returns void language plpgsql security definer as $$ begin perform lower('A'); end $$")
            .await;
        let caught = db
            .try_run("select public.loose()")
            .await
            .expect_err("the traps are set");
        assert_eq!(caught.sqlstate, CAUGHT);
        let calls = calls(role);
        let names: Vec<&str> = calls.iter().map(|(name, _)| *name).collect();
        for (name, call) in &calls {
            // The caller's own traps around a call are the caller's own business: they bite in the caller's text alone.
            let call = call
                .replace(" = 'target'", " operator(pg_catalog.=) 'target'")
                .replace("now()", "pg_catalog.now()");
            if let Err(refused) = db.try_run(&call).await {
                assert!(
                    refused.sqlstate != CAUGHT && refused.sqlstate != "42P01" && refused.sqlstate != "42703",
                    "{role} {name}: {refused:?}"
                );
            }
        }
        if role == "capture_producer" {
            db.run("insert into capture.intents (provider, order_id, payment_id, capture_ref, amount_minor, currency) values ('afterpay', 'o', '3', 'i', 500, 'USD')")
                .await;
        }
        if role == "capture_fulfilment" {
            db.run("insert into capture.shipment_events (source, event_id, kind) values ('s', 'e', 'shipped')")
                .await;
        }
        // Everything went where it belongs: the traps' tables are empty, ours are not.
        let fallen: Vec<String> = db
            .column("select c.relname::pg_catalog.text from pg_catalog.pg_class c where c.relnamespace operator(pg_catalog.=) pg_catalog.pg_my_temp_schema() and c.relkind operator(pg_catalog.=) 'r'")
            .await;
        for table in fallen {
            let rows: i64 = db
                .scalar(&format!("select pg_catalog.count(*) from pg_temp.{table}"))
                .await;
            assert_eq!(rows, 0, "{role}: {table}");
        }
        let intents: i64 = owner.scalar("select count(*) from capture.intents").await;
        let enqueues = i64::from(names.contains(&"enqueue")) * 2 + i64::from(role == "capture_producer");
        assert_eq!(intents, 1 + enqueues, "{role}");
        // An empty table of a trap would bite nobody who only reads it, and would hide what is to be cancelled.
        let target: String = owner
            .scalar("select state from capture.status where capture_ref = 'target'")
            .await;
        let cancels = names.contains(&"cancel");
        assert_eq!(target, if cancels { "cancelled" } else { "ready" }, "{role}");
        let told: i64 = owner
            .scalar("select count(distinct intent_id) from capture.events")
            .await;
        assert_eq!(told, 1 + enqueues, "{role}");
    }
}

#[tokio::test]
async fn every_function_looks_only_into_its_schema_belongs_to_its_owner_and_is_nobodys_by_default() {
    let mut db = Session::open(&migrated_database().await).await;
    let rows = db
        .rows(
            "select p.proname::text, p.prosecdef, l.lanname::text,
                    (select c from unnest(p.proconfig) c where c like 'search_path=%'),
                    p.proowner = n.nspowner,
                    p.proacl is null or exists (select from aclexplode(p.proacl) x where x.grantee = 0),
                    exists (select from aclexplode(p.proacl) x where x.is_grantable),
                    p.prosrc ~* '\\mexecute\\M'
             from pg_proc p join pg_language l on l.oid = p.prolang join pg_namespace n on n.oid = p.pronamespace
             where n.nspname = 'capture' order by 1",
        )
        .await;
    let mut definers = 0;
    for row in &rows {
        let name: String = row.get(0);
        let (definer, language, path): (bool, String, Option<String>) = (row.get(1), row.get(2), row.get(3));
        definers += usize::from(definer);
        // Only a body that is inlined, and names nothing of ours or each thing with its schema, may go without.
        if definer || !["urgency_of", "new_id"].contains(&name.as_str()) {
            assert_eq!(path.as_deref(), Some("search_path=capture,pg_temp"), "{name}");
        }
        assert!(
            matches!(language.as_str(), "sql" | "plpgsql"),
            "{name} is written in {language}"
        );
        let (owned, public, passed_on): (bool, bool, bool) = (row.get(4), row.get(5), row.get(6));
        assert!(owned, "{name} belongs to somebody else than its schema");
        assert!(!public, "{name} may be called by anybody");
        assert!(!passed_on, "the right to call {name} may be passed on");
        let builds_statements: bool = row.get(7);
        assert!(
            !builds_statements || (name == "grant_roles" && !definer),
            "{name} builds statements from text"
        );
    }
    assert!(definers > 10, "{definers}");
    let others: Vec<String> = db
        .column(
            "select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
             where n.nspname = 'capture' and (c.relowner <> n.nspowner or exists (select from aclexplode(c.relacl) x where x.grantee = 0))",
        )
        .await;
    assert_eq!(others, [""; 0], "relations of another owner, or of everybody");
}
