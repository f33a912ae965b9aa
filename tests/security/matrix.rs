//! Roles and rights, from the catalogue: whatever is in the schema stands in the tables below, or the test fails.

use std::collections::BTreeMap;

use sqlx::Row;

use crate::database::{Session, migrated_database};

pub const ROLES: [&str; 6] = [
    "capture_producer",
    "capture_fulfilment",
    "capture_worker",
    "capture_readonly",
    "capture_operator",
    "capture_metrics",
];

/// What each role, in the order of `ROLES`, may do to a relation: r(ead), i(nsert), u(pdate), d(elete). Nothing else.
const RELATIONS: [(&str, [&str; 6]); 43] = [
    ("_sqlx_migrations", ["", "", "r", "r", "r", "r"]),
    ("api_keys", ["", "", "r", "r", "r", "r"]),
    ("attempts", ["", "", "r", "r", "r", "r"]),
    ("attempts_apart", ["", "", "r", "r", "r", "r"]),
    ("audit", ["", "", "r", "r", "r", "r"]),
    ("audit_head", ["", "", "r", "r", "r", "r"]),
    ("cancel_requests", ["", "", "r", "r", "r", "r"]),
    ("clock", ["", "", "r", "r", "r", "r"]),
    ("console_sessions", ["", "", "r", "r", "r", "r"]),
    ("currencies", ["", "", "r", "r", "r", "r"]),
    ("deadlines", ["", "", "r", "r", "r", "r"]),
    ("epoch", ["r", "", "r", "r", "r", "r"]),
    ("events", ["r", "", "r", "r", "r", "r"]),
    ("expiries", ["", "", "r", "r", "r", "r"]),
    ("fronts", ["", "", "r", "r", "r", "r"]),
    ("intents", ["ri", "", "r", "r", "ri", "r"]),
    ("lanes", ["", "", "ri", "r", "r", "r"]),
    ("late_results", ["", "", "r", "r", "r", "r"]),
    ("leases", ["", "", "r", "r", "r", "r"]),
    ("operation_items", ["", "", "r", "r", "r", "r"]),
    ("operations", ["", "", "r", "r", "r", "r"]),
    ("outcomes", ["", "", "r", "r", "r", "r"]),
    ("present_epoch", ["", "", "r", "r", "r", "r"]),
    ("progress", ["", "", "r", "r", "r", "r"]),
    ("providers", ["", "", "r", "r", "r", "r"]),
    ("prunings", ["", "", "r", "r", "r", "r"]),
    ("ready", ["", "", "r", "r", "r", "r"]),
    ("releases", ["", "", "r", "r", "r", "r"]),
    ("requirements", ["", "", "r", "r", "r", "r"]),
    // The bytes may hold names and addresses of customers.
    ("shipment_bodies", ["", "", "", "", "r", ""]),
    ("shipment_events", ["", "i", "r", "r", "r", "r"]),
    ("shipment_requests", ["", "", "r", "r", "r", "r"]),
    ("shipping_notices", ["", "", "r", "r", "r", "r"]),
    ("splits", ["", "", "r", "r", "r", "r"]),
    ("status", ["r", "", "r", "r", "r", "r"]),
    ("waiters", ["", "", "riud", "r", "r", "r"]),
    ("waiting", ["", "", "r", "r", "r", "r"]),
    ("webhook_cursor", ["", "", "r", "r", "r", "r"]),
    ("webhook_deliveries", ["", "", "r", "r", "r", "r"]),
    ("webhook_endpoints", ["", "", "r", "r", "r", "r"]),
    ("webhook_secrets", ["", "", "", "", "", ""]),
    ("webhook_state", ["", "", "r", "r", "r", "r"]),
    ("workers", ["", "", "riud", "r", "r", "r"]),
];

/// The rights on a column alone: on these columns of this relation for this role.
const COLUMN_RIGHTS: (&str, &str, [&str; 5]) = (
    "capture_worker",
    "lanes",
    [
        "authorization_lifetime",
        "rate_per_minute",
        "release_on",
        "shipment_amount",
        "tell_shipments",
    ],
);

/// Who may call what, by the letters p(roducer), f(ulfilment), w(orker), r(eadonly), o(perator), m(etrics).
const FUNCTIONS: [(&str, &str); 108] = [
    ("all_ended", ""),
    ("assume_deadlines", "w"),
    ("audit_chained", ""),
    ("audit_hash", ""),
    ("audit_operation", ""),
    ("audit_webhook", ""),
    ("begin_console_session", "o"),
    ("begin_operation", "o"),
    ("begin_prune", "o"),
    ("begin_webhook_redelivery", "o"),
    ("cancel", "po"),
    ("cancel_by", "o"),
    ("cancel_for", ""),
    ("cancel_one", ""),
    ("cancel_what_is_left", ""),
    ("captures_beside", ""),
    ("change_webhook_endpoint", "o"),
    ("claim", "w"),
    ("claim_shipping_notice", "w"),
    ("claim_webhook_deliveries", "w"),
    ("clock_now", "wrom"),
    ("count_shipment_requests", "o"),
    ("create_api_key", "o"),
    ("create_webhook_endpoint", "o"),
    ("current_epoch", "w"),
    ("deadline_level", ""),
    ("end_cancelled", ""),
    ("end_console_session", "o"),
    ("enqueue", "po"),
    ("enqueue_json", "po"),
    ("events_after", "pro"),
    ("fan_out_webhooks", "w"),
    ("fault_of_details", ""),
    ("forgets_before", ""),
    ("free_held", ""),
    ("give_back", "w"),
    ("grant_roles", ""),
    ("hear_of_lanes", ""),
    ("held_for", ""),
    ("held_is_busy", ""),
    ("intents_placed", ""),
    ("keep_deadline_of_the_dead", ""),
    ("left_of_split", "wro"),
    ("match_release", ""),
    ("match_releases", "w"),
    ("match_shipment", "o"),
    ("minor_units_hint", ""),
    ("move_due", "w"),
    ("moved_by", ""),
    ("new_id", "po"),
    ("note_api_key_use", "o"),
    ("operation_step", "wo"),
    ("operation_tokens", "wo"),
    ("prune_releases", "o"),
    ("prune_shipment_bodies", "o"),
    ("prune_shipment_events", "o"),
    ("prune_some", "o"),
    ("prune_unmatched", "o"),
    ("prune_webhook_deliveries", "w"),
    ("prunes_before", ""),
    ("put_off_item", "wo"),
    ("receive_shipment", "o"),
    ("redeliver_webhooks", "o"),
    ("redeliver_webhooks_step", "o"),
    ("refuse_bad_intent", ""),
    ("refuse_change", ""),
    ("refuse_change_but_prune", ""),
    ("refuse_change_of_intent", ""),
    ("release", "fo"),
    ("release_by", "o"),
    ("release_is_settled", ""),
    ("remove_webhook_endpoint", "o"),
    ("replay", "o"),
    ("replay_letter", ""),
    ("rescue", "w"),
    ("resolve", "o"),
    ("resolve_letter", ""),
    ("revoke_api_key", "o"),
    ("rotate_webhook_secret", "o"),
    ("server_identifier", "w"),
    ("server_timeline", "w"),
    ("set_lane_pause", "o"),
    ("set_lane_rate", "o"),
    ("set_operation_state", "o"),
    ("set_webhook_endpoint_state", "o"),
    ("settle", "w"),
    ("settle_each", ""),
    ("settle_shipping_notice", "w"),
    ("settle_webhook_deliveries", "w"),
    ("shipment_is_settled", ""),
    ("short_name", ""),
    ("split_held", ""),
    ("take_shipment", ""),
    ("take_shipments", "w"),
    ("tell_deadlines", "w"),
    ("test_lane", "o"),
    ("unmatched_is_settled", ""),
    ("urgency_of", ""),
    ("use_console_session", "o"),
    ("verify_audit", "ro"),
    ("wake_siblings", ""),
    ("wake_sleepers", ""),
    ("watch_dead_letters", "w"),
    ("watch_deadlines", "w"),
    ("watch_replayed", "wo"),
    ("watch_shipments", "w"),
    ("watched", ""),
    ("would_prune_shipments", "ro"),
];

const PRIVILEGES: [(&str, char); 7] = [
    ("select", 'r'),
    ("insert", 'i'),
    ("update", 'u'),
    ("delete", 'd'),
    ("truncate", 't'),
    ("references", 'x'),
    ("trigger", 'g'),
];

/// What that role may do to that relation, as letters; `None` if nobody has declared it.
fn declared(role: &str, relation: &str) -> Option<&'static str> {
    let at = ROLES.iter().position(|other| *other == role)?;
    let (_, rights) = RELATIONS.iter().find(|(name, _)| *name == relation)?;
    Some(rights[at])
}

/// May that role call that function? `None` if nobody has declared it.
pub fn may_call(role: &str, function: &str) -> Option<bool> {
    let letter = role.strip_prefix("capture_")?.chars().next()?;
    let (_, who) = FUNCTIONS.iter().find(|(name, _)| *name == function)?;
    Some(who.contains(letter))
}

/// A role that nobody has granted anything but the way into the schema: what PUBLIC may do.
async fn anybody(db: &mut Session) {
    db.run("do $$ begin create role capture_test_anybody; exception when duplicate_object or unique_violation then null; end $$")
        .await;
    db.run("grant usage on schema capture to capture_test_anybody").await;
}

struct Relation {
    name: String,
    kind: String,
    columns: Vec<String>,
}

async fn relations(db: &mut Session) -> Vec<Relation> {
    let rows = db
        .rows(
            "select c.relname::text, c.relkind::text,
                    array(select a.attname::text from pg_attribute a
                          where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum)
             from pg_class c where c.relnamespace = 'capture'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f') order by 1",
        )
        .await;
    let relation = |row: &sqlx::postgres::PgRow| Relation {
        name: row.get(0),
        kind: row.get(1),
        columns: row.get(2),
    };
    rows.iter().map(relation).collect()
}

#[tokio::test]
async fn every_relation_and_function_of_the_schema_is_declared_and_every_declared_one_is_there() {
    let mut db = Session::open(&migrated_database().await).await;
    let there: Vec<String> = relations(&mut db)
        .await
        .into_iter()
        .map(|relation| relation.name)
        .collect();
    let declared: Vec<&str> = RELATIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(there, declared, "give a new relation its row in RELATIONS");
    let there: Vec<String> = db
        .column("select proname::text from pg_proc where pronamespace = 'capture'::regnamespace order by 1")
        .await;
    let declared: Vec<&str> = FUNCTIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        there, declared,
        "give a new function its row in FUNCTIONS; an overload is not allowed"
    );
}

#[tokio::test]
async fn the_catalogue_grants_each_role_what_is_declared_and_nothing_else() {
    let mut db = Session::open(&migrated_database().await).await;
    anybody(&mut db).await;
    let mut wrong = Vec::new();
    let mut asked = 0;
    for relation in relations(&mut db).await {
        for role in ROLES.into_iter().chain(["capture_test_anybody"]) {
            let letters = declared(role, &relation.name).unwrap_or_default();
            for (privilege, letter) in PRIVILEGES {
                let name = &relation.name;
                let sql = format!(
                    "select array[has_table_privilege('{role}', 'capture.{name}', '{privilege}'),
                                  has_table_privilege('{role}', 'capture.{name}', '{privilege} with grant option')]"
                );
                let told: Vec<bool> = db.scalar(&sql).await;
                asked += 1;
                if told != [letters.contains(letter), false] {
                    wrong.push(format!("{role} {privilege} {name}: {told:?}"));
                }
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
    assert_eq!(asked, RELATIONS.len() * 7 * PRIVILEGES.len());
    let columns: Vec<String> = db
        .column(
            "select r.rolname || ' ' || c.relname || ' ' || a.attname || ' ' || x.privilege_type || ' ' || x.is_grantable
             from pg_attribute a join pg_class c on c.oid = a.attrelid, aclexplode(a.attacl) x left join pg_roles r on r.oid = x.grantee
             where c.relnamespace = 'capture'::regnamespace order by 1",
        )
        .await;
    let (role, relation, names) = COLUMN_RIGHTS;
    assert_eq!(
        columns,
        names.map(|column| format!("{role} {relation} {column} UPDATE false"))
    );
    let sequences: i64 = db
        .scalar(
            "select count(*) from pg_class c, unnest(array['capture_producer', 'capture_fulfilment', 'capture_worker', 'capture_readonly',
                 'capture_operator', 'capture_metrics', 'capture_test_anybody']) r
             where c.relnamespace = 'capture'::regnamespace and c.relkind = 'S' and has_sequence_privilege(r, c.oid, 'usage, select, update')",
        )
        .await;
    assert_eq!(sequences, 0, "nobody draws numbers by hand");
}

/// A statement that does nothing, and needs just that right.
fn harmless(relation: &str, verb: &str, column: &str) -> String {
    match verb {
        "select" => format!("select {column} from capture.{relation} limit 0"),
        "insert" => {
            format!("insert into capture.{relation} ({column}) overriding system value select null where false")
        }
        "update" => format!("update capture.{relation} set {column} = default where false"),
        "delete" => format!("delete from capture.{relation} where false"),
        "lock" => format!("select from capture.{relation} limit 0 for update"),
        other => format!("{other} capture.{relation}"),
    }
}

#[tokio::test]
async fn what_is_not_declared_is_refused_when_it_is_tried_column_by_column() {
    let url = migrated_database().await;
    let mut owner = Session::open(&url).await;
    anybody(&mut owner).await;
    let relations = relations(&mut owner).await;
    let mut wrong = Vec::new();
    let mut tried: BTreeMap<&str, u32> = BTreeMap::new();
    for role in ROLES.into_iter().chain(["capture_test_anybody"]) {
        let mut db = Session::open(&url).await;
        db.run(&format!("set role {role}; set lock_timeout = '10s'")).await;
        for relation in &relations {
            let letters = declared(role, &relation.name).unwrap_or_default();
            for (verb, letter) in [
                ("select", 'r'),
                ("insert", 'i'),
                ("update", 'u'),
                ("delete", 'd'),
                ("truncate", 't'),
                ("lock", 'l'),
                ("drop table", 'o'),
            ] {
                if relation.kind == "v" && verb != "select" {
                    continue;
                }
                let each_column = matches!(verb, "select" | "insert" | "update");
                let columns = if each_column { relation.columns.len() } else { 1 };
                for column in relation.columns.iter().take(columns) {
                    let on_this_column = (role, relation.name.as_str()) == (COLUMN_RIGHTS.0, COLUMN_RIGHTS.1)
                        && COLUMN_RIGHTS.2.contains(&column.as_str());
                    let may = match verb {
                        "update" => letters.contains('u') || on_this_column,
                        "lock" => {
                            letters.contains(['u', 'd'])
                                || (role, relation.name.as_str()) == (COLUMN_RIGHTS.0, COLUMN_RIGHTS.1)
                        }
                        _ => letters.contains(letter),
                    };
                    *tried.entry(verb).or_default() += 1;
                    let told = db.try_run(&harmless(&relation.name, verb, column)).await;
                    let refused = told.as_ref().is_err_and(|refused| refused.sqlstate == "42501");
                    if refused == may {
                        wrong.push(format!("{role} {verb} {}.{column}: {told:?}", relation.name));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(tried["update"] > 1000 && tried["truncate"] == 7 * 38, "{tried:?}");
}

#[tokio::test]
async fn each_function_is_called_by_those_who_may_and_refused_to_all_others() {
    let url = migrated_database().await;
    let mut owner = Session::open(&url).await;
    anybody(&mut owner).await;
    let functions = owner
        .rows(
            "select p.proname::text, coalesce((select string_agg('null::' || format_type(t, null), ', ' order by n)
                        from unnest(p.proargtypes) with ordinality as a(t, n)), '')
             from pg_proc p where p.pronamespace = 'capture'::regnamespace order by 1",
        )
        .await;
    let mut wrong = Vec::new();
    for role in ROLES.into_iter().chain(["capture_test_anybody"]) {
        let mut db = Session::open(&url).await;
        db.run(&format!("set role {role}")).await;
        for row in &functions {
            let (name, nulls): (String, String) = (row.get(0), row.get(1));
            // What a role may call is called in a transaction that is taken back.
            db.run("begin").await;
            let told = db.try_run(&format!("select capture.{name}({nulls})")).await;
            db.run("rollback").await;
            let refused = told.as_ref().is_err_and(|refused| refused.sqlstate == "42501");
            if refused == may_call(role, &name).unwrap_or(false) {
                wrong.push(format!("{role} {name}({nulls}): {told:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn the_roles_are_roles_and_nothing_more() {
    let mut db = Session::open(&migrated_database().await).await;
    let powers: Vec<String> = db
        .column(
            "select rolname::text from pg_roles where rolname ~ '^capture_' and rolname <> 'capture_test_anybody'
             and (rolsuper or rolcreaterole or rolcreatedb or rolcanlogin or rolreplication or rolbypassrls)",
        )
        .await;
    assert_eq!(powers, [""; 0]);
    let members: i64 = db
        .scalar(
            "select count(*) from pg_auth_members m join pg_roles r on r.oid = m.member where r.rolname ~ '^capture_'",
        )
        .await;
    assert_eq!(members, 0, "no role is a member of another");
    let owned: i64 = db
        .scalar("select count(*) from pg_shdepend d join pg_roles r on r.oid = d.refobjid where d.deptype = 'o' and r.rolname ~ '^capture_'
             and d.dbid = (select oid from pg_database where datname = current_database())")
        .await;
    assert_eq!(owned, 0, "no role owns anything");
    for role in ROLES {
        let may_create: bool = db
            .scalar(&format!("select has_schema_privilege('{role}', 'capture', 'create')"))
            .await;
        assert!(!may_create, "{role}");
    }
    let public: bool = db
        .scalar("select has_schema_privilege('public', 'capture', 'usage')")
        .await;
    assert!(!public, "the schema is nobody's who was not let in");
}
