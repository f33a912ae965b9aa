//! The schema: migrated once or many times, by one or by several, under any name, beside newer and older programs.

use std::time::Duration;

use capture::outbox::{ConnectSettings, Outbox, OutboxError, SchemaFault};
use capture::simulator::{Authorization, Fault, Moment, Simulator};
use capture::worker::Worker;
use tokio::time::timeout;
use uuid::Uuid;

use crate::database::{Session, connect, migrated_database, new_database, new_database_for_any_schema};
use crate::kind::Kind;
use crate::world::{Plan, enqueue};

/// Far more than a migration waits for a lock, in all its tries.
const PATIENCE: Duration = Duration::from_secs(60);

async fn connect_to(url: &str, schema: &str) -> Outbox {
    Outbox::connect(&ConnectSettings {
        schema: schema.to_owned(),
        ..ConnectSettings::new(url)
    })
    .await
    .unwrap()
}

/// Everything that a migration could change in that schema, as text.
async fn shape(db: &mut Session, schema: &str) -> Vec<String> {
    let shape: Vec<String> = db
        .column(&format!(
            "select 'column ' || table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || ' ' || coalesce(column_default, '')
                 from information_schema.columns where table_schema = '{schema}'
             union all select 'function ' || p.oid::regprocedure || ' ' || md5(p.prosrc) || ' ' || p.prosecdef || ' ' || p.provolatile::text || ' ' || coalesce(p.proacl::text, '')
                 from pg_proc p where p.pronamespace = '{schema}'::regnamespace
             union all select 'constraint ' || conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) from pg_constraint where connamespace = '{schema}'::regnamespace
             union all select 'index ' || indexdef from pg_indexes where schemaname = '{schema}'
             union all select 'trigger ' || pg_get_triggerdef(t.oid) from pg_trigger t join pg_class c on c.oid = t.tgrelid
                 where c.relnamespace = '{schema}'::regnamespace and not t.tgisinternal
             union all select 'view ' || viewname || ' ' || definition from pg_views where schemaname = '{schema}'
             union all select 'grant ' || relname || ' ' || coalesce(relacl::text, '') from pg_class where relnamespace = '{schema}'::regnamespace
             union all select 'applied ' || version || ' ' || encode(checksum, 'hex') || ' ' || success from {schema}._sqlx_migrations
             order by 1"
        ))
        .await;
    assert!(shape.len() > 100, "{shape:#?}");
    shape
}

fn fault(told: Result<(), OutboxError>) -> SchemaFault {
    match told.expect_err("it is not refused") {
        OutboxError::Schema(fault) => fault,
        other => panic!("{other}"),
    }
}

fn all_migrations() -> Vec<i64> {
    Outbox::embedded_migrations()
        .into_iter()
        .map(|(number, _)| number)
        .collect()
}

/// Leaves a schema as a version would that held only the first of the migrations.
async fn apply_the_first_only(db: &mut Session) {
    let script = Outbox::migration_sql("capture", 0);
    let (first, _) = script.split_once("\n-- 2 ").unwrap();
    db.run(&format!("{first}\ncommit; reset search_path")).await;
}

#[tokio::test]
async fn migrating_twice_changes_nothing() {
    let url = new_database().await;
    let outbox = connect(&url).await;
    assert_eq!(outbox.migrate().await.unwrap(), all_migrations());
    let mut db = Session::open(&url).await;
    let before = shape(&mut db, "capture").await;
    assert_eq!(outbox.migrate().await.unwrap(), [0; 0]);
    assert_eq!(shape(&mut db, "capture").await, before);
    assert!(outbox.migrations().await.unwrap().iter().all(|one| one.applied));
    outbox.verify_schema().await.unwrap();
}

#[tokio::test]
async fn the_script_of_all_migrations_makes_the_same_schema_and_the_same_record() {
    let (by_script, by_us) = (new_database().await, migrated_database().await);
    let mut theirs = Session::open(&by_script).await;
    theirs
        .run(&format!("{}; reset search_path", Outbox::migration_sql("capture", 0)))
        .await;
    let outbox = connect(&by_script).await;
    outbox.verify_schema().await.unwrap();
    assert_eq!(outbox.migrate().await.unwrap(), [0; 0]);
    let mut ours = Session::open(&by_us).await;
    assert_eq!(shape(&mut theirs, "capture").await, shape(&mut ours, "capture").await);
}

#[tokio::test]
async fn of_several_that_migrate_at_once_one_does_it_and_none_fails() {
    for _ in 0..5 {
        let url = new_database().await;
        let [a, b, c, d] = [
            connect(&url).await,
            connect(&url).await,
            connect(&url).await,
            connect(&url).await,
        ];
        let told = tokio::join!(a.migrate(), b.migrate(), c.migrate(), d.migrate());
        let mut applied = [told.0, told.1, told.2, told.3].map(|applied| applied.unwrap());
        applied.sort_by_key(Vec::len);
        assert_eq!(applied, [vec![], vec![], vec![], all_migrations()]);
        a.verify_schema().await.unwrap();
    }
}

#[tokio::test]
async fn a_migration_that_finds_a_lock_gives_way_and_comes_back() {
    let url = new_database().await;
    let mut db = Session::open(&url).await;
    apply_the_first_only(&mut db).await;
    // What any transaction holds that has inserted an intent and is still open. The second migration adds a trigger.
    let as_an_insert = "begin; lock table capture.intents in row exclusive mode";
    db.run(as_an_insert).await;
    let outbox = connect(&url).await;
    let mut other = Session::open(&url).await;
    let in_the_way = async {
        while !other.somebody_is_blocked().await {}
        // Another insert stands in line behind the migration. It passes only if that gives up: the first is still open.
        other.run(as_an_insert).await;
        other.run("commit").await;
        // And it has left nothing of what it began.
        let there: Vec<String> = other
            .column("select tablename::text from pg_tables where schemaname = 'capture' and tablename in ('intents', 'ready', 'leases')")
            .await;
        assert_eq!(there, ["intents"]);
        let last: i64 = other.scalar("select max(version) from capture._sqlx_migrations").await;
        assert_eq!(last, 1);
        db.run("commit").await;
    };
    let both = async { tokio::join!(outbox.migrate(), in_the_way) };
    let (applied, ()) = timeout(PATIENCE, both)
        .await
        .expect("it waits without end, and every insert behind it");
    assert_eq!(applied.unwrap(), all_migrations()[1..]);
    outbox.verify_schema().await.unwrap();
}

#[tokio::test]
#[ignore = "takes half a minute: a migration tries ten times before it gives up"]
async fn a_migration_that_never_gets_its_lock_says_so_and_leaves_the_schema_as_it_was() {
    let url = new_database().await;
    let mut db = Session::open(&url).await;
    apply_the_first_only(&mut db).await;
    let mut holder = Session::open(&url).await;
    holder
        .run("begin; lock table capture.intents in row exclusive mode")
        .await;
    let told = connect(&url).await.migrate().await.map(|_| ());
    assert_eq!(
        fault(told),
        SchemaFault::Locked {
            schema: "capture".to_owned(),
            tries: 10
        }
    );
    let applied: Vec<i64> = db.column("select version from capture._sqlx_migrations").await;
    assert_eq!(applied, [1]);
    let half: Option<String> = db.scalar("select to_regclass('capture.ready')::text").await;
    assert_eq!(half, None);
}

/// An authorised payment of each kind, and an intent in that schema to capture some of it.
async fn enqueue_one_of_each_kind(db: &mut Session, simulator: &Simulator, schema: &str, n: u32) -> Vec<Uuid> {
    let mut intents = Vec::new();
    for kind in Kind::ALL {
        let payment = kind.payment(n);
        simulator.create_authorization(Authorization::new(kind.provider_name(), &payment, 5000, "USD"));
        let sql = enqueue(kind, &payment, "c", 1000, "").replace("capture.enqueue", &format!("{schema}.enqueue"));
        intents.push(db.scalar(&sql).await);
    }
    intents
}

async fn worker(outbox: &Outbox, simulator: &Simulator) -> Worker {
    let plan = Plan::default();
    Worker::new(outbox.clone(), plan.lanes(simulator), plan.settings.clone())
        .await
        .unwrap()
}

async fn states(outbox: &Outbox, intents: &[Uuid]) -> Vec<String> {
    let mut states = Vec::new();
    for intent in intents {
        states.push(outbox.capture(*intent).await.unwrap().unwrap().state);
    }
    states
}

#[tokio::test]
async fn a_schema_of_another_name_works_from_end_to_end_and_needs_none_named_capture() {
    let url = new_database_for_any_schema().await;
    let simulator = Simulator::start(Plan::default().simulator).await.unwrap();
    connect_to(&url, "tenant_a").await.migrate().await.unwrap();

    let mut producer = Session::open(&url).await;
    producer.run("set role capture_producer").await;
    let intents = enqueue_one_of_each_kind(&mut producer, &simulator, "tenant_a", 1).await;

    let as_worker = format!("{url}&options=-c%20role%3Dcapture_worker");
    let outbox = connect_to(&as_worker, "tenant_a").await;
    outbox.check_schema().await.unwrap();
    outbox.verify_schema().await.unwrap();
    let worker = worker(&outbox, &simulator).await;
    assert_eq!(worker.drain().await.unwrap(), 4);
    assert_eq!(states(&outbox, &intents).await, ["captured"; 4]);
    assert_eq!(outbox.doctor_facts().await.unwrap().misplaced, 0);
    outbox.listen().await.unwrap();

    let mut db = Session::open(&url).await;
    let pinned: Vec<String> = db
        .column(
            "select distinct array_to_string(p.proconfig, '; ') from pg_proc p
             where p.pronamespace = 'tenant_a'::regnamespace and p.prosecdef",
        )
        .await;
    assert!(!pinned.is_empty());
    for pinned in pinned {
        assert!(pinned.starts_with("search_path=tenant_a,pg_temp"), "{pinned}");
    }
    let elsewhere: Vec<String> = db
        .column(
            "select nspname::text from pg_namespace where nspname = 'capture'
             union all select relname::text from pg_class where relnamespace = 'public'::regnamespace
             union all select proname::text from pg_proc where pronamespace = 'public'::regnamespace",
        )
        .await;
    assert_eq!(elsewhere, [""; 0]);
    assert!(simulator.ledger().doubled().is_empty());
}

#[tokio::test]
async fn two_schemas_of_one_database_do_not_see_each_other() {
    let url = new_database_for_any_schema().await;
    let simulator = Simulator::start(Plan::default().simulator).await.unwrap();
    let (ours, theirs) = (connect_to(&url, "capture").await, connect_to(&url, "tenant_a").await);
    // At once: the roles belong to the server, and both want to create them.
    let (a, b) = tokio::join!(ours.migrate(), theirs.migrate());
    assert_eq!((a.unwrap(), b.unwrap()), (all_migrations(), all_migrations()));
    let mut db = Session::open(&url).await;
    let in_ours = enqueue_one_of_each_kind(&mut db, &simulator, "capture", 1).await;
    let in_theirs = enqueue_one_of_each_kind(&mut db, &simulator, "tenant_a", 2).await;

    assert_eq!(worker(&theirs, &simulator).await.drain().await.unwrap(), 4);
    assert_eq!(states(&theirs, &in_theirs).await, ["captured"; 4]);
    assert_eq!(states(&ours, &in_ours).await, ["ready"; 4]);
    assert!(theirs.capture(in_ours[0]).await.unwrap().is_none());
    assert_eq!(ours.workers().await.unwrap().len(), 0);

    assert_eq!(worker(&ours, &simulator).await.drain().await.unwrap(), 4);
    assert_eq!(states(&ours, &in_ours).await, ["captured"; 4]);
    for schema in ["capture", "tenant_a"] {
        // The table, not the feed: that shows nothing newer than the oldest transaction of the whole server.
        let events: i64 = db.scalar(&format!("select count(*) from {schema}.events")).await;
        assert_eq!(events, 8, "{schema}");
    }
    assert_eq!(simulator.ledger().ours().len(), 8);
    assert!(simulator.ledger().doubled().is_empty());
}

/// As behind a pooler that drops the `search_path`. The settings allow no such name; Postgres folds it.
#[tokio::test]
async fn nothing_is_migrated_into_a_schema_that_was_not_meant() {
    let url = new_database_for_any_schema().await;
    let mut db = Session::open(&url).await;
    db.run("create schema tenanta").await;
    let outbox = connect_to(&url, "TenantA").await;
    let told = fault(outbox.migrate().await.map(|_| ()));
    assert_eq!(
        told,
        SchemaFault::Elsewhere {
            schema: "TenantA".to_owned(),
            instead: "tenanta".to_owned()
        }
    );
    assert_eq!(fault(outbox.check_schema().await), told);
    let touched: i64 = db
        .scalar("select count(*) from pg_class where relnamespace in ('tenanta'::regnamespace, 'public'::regnamespace)")
        .await;
    assert_eq!(touched, 0);
}

#[tokio::test]
async fn a_program_refuses_a_schema_that_is_missing_or_behind() {
    let url = new_database().await;
    let outbox = connect(&url).await;
    let missing = SchemaFault::Missing {
        schema: "capture".to_owned(),
    };
    assert_eq!(fault(outbox.check_schema().await), missing);
    outbox.migrate().await.unwrap();
    outbox.check_schema().await.unwrap();
    let mut db = Session::open(&url).await;
    db.run("delete from capture._sqlx_migrations where version = 3").await;
    let behind = fault(outbox.check_schema().await);
    assert_eq!(
        behind.to_string(),
        "schema \"capture\" lacks migration 0003 (claim) that this version needs; run `capture migrate up`"
    );
}

#[tokio::test]
async fn an_old_program_goes_on_beside_a_newer_schema_until_the_schema_says_no() {
    let url = migrated_database().await;
    let outbox = connect(&url).await;
    let mut db = Session::open(&url).await;
    db.run(
        "insert into capture._sqlx_migrations (version, description, success, checksum, execution_time) values (9999, 'from the future', true, '', 0);
         alter table capture.intents add column colour text; alter table capture.progress add column mood text default 'calm';
         alter table capture.lanes add column shade text; alter table capture.leases add column note text",
    )
    .await;
    outbox.check_schema().await.unwrap();
    outbox.verify_schema().await.unwrap();
    assert_eq!(outbox.migrate().await.unwrap(), [0; 0]);

    let simulator = Simulator::start(Plan::default().simulator).await.unwrap();
    let worker = worker(&outbox, &simulator).await;
    // An answer that is lost after the money moved: the intent also goes through `progress` and `waiting`.
    let payment = Kind::Afterpay.payment(1);
    simulator.script(payment.as_str(), [Fault::Empty(500, Moment::After)]);
    let intents = enqueue_one_of_each_kind(&mut db, &simulator, "capture", 1).await;
    worker.drain().await.unwrap();
    outbox
        .set_clock_ahead(std::time::Duration::from_secs(60))
        .await
        .unwrap();
    worker.drain().await.unwrap();
    assert_eq!(states(&outbox, &intents).await, ["captured"; 4]);
    assert!(simulator.ledger().doubled().is_empty());

    db.run("update capture.requirements set least_worker_version = '99.0.0'")
        .await;
    let SchemaFault::WorkerTooOld { least, ours, .. } = fault(outbox.check_schema().await) else {
        panic!("it is too old");
    };
    assert_eq!((least.as_str(), ours.as_str()), ("99.0.0", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn a_migration_that_somebody_altered_is_named_and_nothing_is_applied_over_it() {
    let url = new_database().await;
    let mut db = Session::open(&url).await;
    apply_the_first_only(&mut db).await;
    db.run("update capture._sqlx_migrations set checksum = '\\x00' where version = 1")
        .await;
    let outbox = connect(&url).await;
    let altered = SchemaFault::Altered {
        schema: "capture".to_owned(),
        number: 1,
    };
    assert_eq!(fault(outbox.verify_schema().await), altered);
    assert_eq!(fault(outbox.migrate().await.map(|_| ())), altered);
    let applied: Vec<i64> = db.column("select version from capture._sqlx_migrations").await;
    assert_eq!(applied, [1]);
}

#[tokio::test]
async fn a_server_that_loses_acknowledged_commits_is_refused() {
    let url = migrated_database().await;
    // The server of these tests runs without fsync, as no other should.
    let told = connect(&url).await.check_durability().await;
    let SchemaFault::LosesCommits { setting, value } = fault(told) else {
        panic!("it is not refused");
    };
    assert_eq!((setting.as_str(), value.as_str()), ("fsync", "off"));
}
