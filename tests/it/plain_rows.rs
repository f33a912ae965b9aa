//! A row that is plainly good takes a short way through the door. It must be no other door: what the short way lets in, each
//! rule by itself lets in too, as the same row.

use crate::database::{Session, migrated_database};

/// The trigger's function without the short way, on a table beside; and rows that are tried on both.
const BESIDE: &str = r#"
do $$
declare
    whole text := pg_get_functiondef('capture.refuse_bad_intent'::regproc);
    closely text := regexp_replace(whole, '\n    -- Plainly good:.*?(?=\n    -- Null means)', '');
begin
    if closely = whole then raise 'the short way is not where it was'; end if;
    execute replace(closely, 'FUNCTION capture.refuse_bad_intent', 'FUNCTION capture.refuse_closely');
end $$;
create table capture.shortly (like capture.intents including defaults);
create table capture.closely (like capture.intents including defaults);
create trigger refuse_shortly before insert on capture.shortly for each row execute function capture.refuse_bad_intent();
create trigger refuse_closely before insert on capture.closely for each row execute function capture.refuse_closely();

insert into capture.intents (provider, order_id, payment_id, capture_ref, amount_minor, currency, authorized_minor)
values ('afterpay', 'o', '1001', 'c', 1000, 'USD', 1500);

-- What became of a row: itself, or the rule that it breaks and the words for it.
create function capture.tried(p_table text, p_row jsonb) returns jsonb language plpgsql as $$
declare
    v_row jsonb;
    v_rule text;
    v_why text;
    v_hint text;
begin
    execute format('insert into capture.%I as t select (jsonb_populate_record(null::capture.%I, $1)).* returning to_jsonb(t)',
                   p_table, p_table) into v_row using p_row;
    return case when p_row ->> 'id' is null then v_row - 'id' else v_row end;
exception when others then
    get stacked diagnostics v_rule = constraint_name, v_why = message_text, v_hint = pg_exception_hint;
    return jsonb_build_object('rule', v_rule, 'why', v_why, 'hint', v_hint);
end $$;

-- Each column is what most rows have, or now and then one of its edges.
create function capture.picked(p_usual text, p_edges text[]) returns text language sql volatile as $$
    select case when random() < 0.85 then p_usual else p_edges[1 + floor(random() * cardinality(p_edges))::integer] end
$$;
create function capture.some_row() returns jsonb language sql volatile as $$
    select jsonb_build_object(
        'id', capture.picked('00000000-0000-7000-8000-000000000001', array['00000000-0000-0000-0000-000000000000', null]),
        'provider', capture.picked('afterpay', array['optty', 'resolve', 'optty', 'resolve', 'nobody', '', null]),
        'account', capture.picked('default', array[repeat('a', 63), repeat('a', 64), 'Default', '-a', 'a b', '', E'a\n', null]),
        'order_id', capture.picked('order-1001', array['of two words', ' order', 'order ', E'order\n', E'o\u200br', 'Größe', repeat('o', 200),
                                                      repeat('o', 255), repeat('o', 256), '', ' ', null]),
        'payment_id', capture.picked('1002', array['1001', 'abc', '10 02', E'1002\n', '١٢', repeat('1', 255), repeat('1', 256), '', null]),
        'capture_ref', capture.picked('capture-0', array['capture 0', E'\u00a0c', repeat('c', 255), repeat('c', 256), '', null]),
        'amount_minor', capture.picked('1000', array['100', '99', '1', '0', '-1', '10.00', '10.5', '1e3', '999999999999999',
                                                    '1000000000000000', 'NaN', 'Infinity', null]),
        'currency', capture.picked('USD', array['EUR', 'JPY', 'KWD', 'CLF', 'XXX', 'usd', 'US', '', null]),
        'authorized_minor', capture.picked(null, array['1000', '5000', '999', '5000.00', '5000.5', '999999999999999', '1000000000000000',
                                                      'NaN', 'Infinity']),
        'authorization_expires_at', capture.picked(null, array[(now() + interval '1 hour')::text, now()::text,
                                                      (now() - interval '1 second')::text, '1999-12-31', '2199-12-31', '2200-01-01',
                                                      'infinity', '-infinity']),
        'not_before', capture.picked(null, array[now()::text, (now() + interval '1 hour')::text, (now() + interval '2 hours')::text,
                                                 '1999-12-31', '2200-01-01', 'infinity', '-infinity']),
        'hold', capture.picked(null, array['shipment', 'shipment', 'Shipment', 'parcel', '']),
        'priority', capture.picked('0', array['7', '-7', null]),
        'traceparent', capture.picked(null, array['00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', '00-bad', '',
                                                  'ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01']),
        'created_at', capture.picked(now()::text, array['1999-12-31', '2000-01-01', '2199-12-31', '2200-01-01', 'infinity', null]))
        || jsonb_build_object('details', capture.picked('{}', array['null', '[]', '{"description": "A"}', '{"description": null}',
                                                                   '{"colour": "red"}', '7'])::jsonb)
$$;
"#;

#[tokio::test]
async fn a_plainly_good_row_is_let_in_as_every_rule_would_let_it_in() {
    let mut db = Session::open(&migrated_database().await).await;
    db.run(BESIDE).await;
    db.run("select setseed(0.42)").await;
    let differ: Vec<String> = db
        .column(
            "select format('%s: shortly %s, closely %s', one, shortly, closely)
             from (select one, capture.tried('shortly', one) as shortly, capture.tried('closely', one) as closely
                   from (select capture.some_row() as one from generate_series(1, 6000) offset 0) rows offset 0) tried
             where shortly <> closely",
        )
        .await;
    assert!(differ.is_empty(), "{differ:#?}");
    // Rows of every kind were there: let in on the short way, let in on the long one, and refused by most of the rules.
    let let_in: i64 = db.scalar("select count(*) from capture.shortly").await;
    let mended: i64 = db
        .scalar("select count(*) from capture.shortly where details <> '{}' or order_id ~ '[^!-~]' or priority <> 0")
        .await;
    assert!(
        let_in > 400 && mended > 20,
        "{let_in} let in, {mended} of them not plain"
    );
    let rules: i64 = db
        .scalar(
            "select count(distinct capture.tried('shortly', one) ->> 'rule')
             from (select capture.some_row() as one from generate_series(1, 3000) offset 0) rows",
        )
        .await;
    assert!(rules >= 25, "{rules} rules were broken");
}

/// The trigger's function with nothing behind the short way but a refusal.
const PLAINLY: &str = r#"
do $$
declare
    whole text := pg_get_functiondef('capture.refuse_bad_intent'::regproc);
    plainly text := regexp_replace(whole, '\n    -- Null means.*', E'\n    raise exception ''not plain'';\nend $function$');
begin
    if plainly = whole then raise 'the short way does not end where it did'; end if;
    execute replace(plainly, 'FUNCTION capture.refuse_bad_intent', 'FUNCTION capture.refuse_unless_plain');
end $$;
create table capture.plainly (like capture.intents including defaults);
create trigger refuse_unless_plain before insert on capture.plainly for each row execute function capture.refuse_unless_plain();
"#;

#[tokio::test]
async fn what_order_systems_insert_every_day_takes_the_short_way() {
    let mut db = Session::open(&migrated_database().await).await;
    db.run(PLAINLY).await;
    for (provider, payment) in [("afterpay", "1001"), ("optty", "o-1001"), ("resolve", "r_1001")] {
        let columns = "provider, order_id, payment_id, capture_ref, amount_minor, currency";
        let values = format!("'{provider}', 'order-1001', '{payment}', 'capture-0', 1999, 'USD'");
        db.run(&format!("insert into capture.plainly ({columns}) values ({values})"))
            .await;
        db.run(&format!(
            "insert into capture.plainly ({columns}, authorized_minor, authorization_expires_at, hold, not_before, traceparent)
             values ({values}, 5000, now() + interval '7 days', 'shipment', now() + interval '1 hour',
                     '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01')"
        ))
        .await;
    }
    let below_the_least = db
        .try_run(
            "insert into capture.plainly (provider, order_id, payment_id, capture_ref, amount_minor, currency)
             values ('afterpay', 'o', '1', 'c', 99, 'USD')",
        )
        .await;
    assert_eq!(below_the_least.unwrap_err().message, "not plain");
}

/// On the short way a currency that a provider lists is not looked up.
#[tokio::test]
async fn a_currency_that_a_provider_lists_is_known_and_has_no_more_decimals_than_it_takes() {
    let mut db = Session::open(&migrated_database().await).await;
    let wrong: Vec<String> = db
        .column(
            "select p.name || ' ' || listed from capture.providers p, unnest(p.currencies) listed
             left join capture.currencies c on c.code = listed
             where c.exponent is null or c.exponent > p.most_decimals",
        )
        .await;
    assert!(wrong.is_empty(), "{wrong:?}");
}
