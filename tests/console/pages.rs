//! What the pages say.

use sqlx::Connection;

use capture::api_key::Scope;
use capture::http::ProxySettings;
use capture::operations::{AbilitiesByLane, ProvidersByLane};

use crate::kind::Kind;
use crate::stand::{Person, Stand, serve, stamp};

#[tokio::test]
async fn a_wrong_filter_is_told_beside_its_field_and_nothing_is_lost() {
    let stand = Stand::new().await;
    let mut viewer = stand.viewer().await;
    let page = viewer
        .get("/captures?class=rejcted&order=o-17&since=soon")
        .await
        .is(422);
    let page = page
        .says("did you mean rejected?")
        .says("value=\"o-17\"")
        .says("value=\"soon\"")
        .says("is no time");
    assert!(page.body.contains("id=\"w-class\"") && !page.body.contains("id=\"w-order\""));
    viewer
        .get("/captures?nonsense=1")
        .await
        .is(422)
        .says("nonsense: is no filter");
    viewer.get("/captures?after=elsewhere").await.is(422).says("no cursor");
    // A form sends what is empty too.
    let short = viewer.get("/captures?provider=&class=rejected&order=").await.is(303);
    assert_eq!(short.location(), "/captures?class=rejected");
    viewer
        .get("/dead?class=rejected")
        .await
        .is(200)
        .says("capture list --state dead --class rejected");
}

#[tokio::test]
async fn a_list_is_walked_page_by_page_and_each_row_is_met_once() {
    let mut stand = Stand::new().await;
    let ids = stand.dead_letters(7).await;
    let mut viewer = stand.viewer().await;
    let mut path = "/dead?limit=3".to_owned();
    let mut met = Vec::new();
    for _ in 0..3 {
        let page = viewer.get(&path).await.is(200);
        met.extend(
            ids.iter()
                .filter(|id| page.body.contains(&format!("<a href=\"/captures/{id}\"")))
                .copied(),
        );
        let Some((before, _)) = page.body.split_once("\" rel=\"next\">Older") else {
            break;
        };
        path = before
            .rsplit("href=\"")
            .next()
            .unwrap()
            .replace("&#38;", "&")
            .replace("&amp;", "&");
    }
    met.sort_unstable();
    let mut all = ids.clone();
    all.sort_unstable();
    assert_eq!(met, all);
    let page = viewer.get("/dead?order=order-3").await.is(200).says("10.03 USD");
    assert!(!page.body.contains("order-4<"), "{}", page.body);
    viewer
        .get("/orders/order-3")
        .await
        .is(200)
        .says("Authorised")
        .says("10.03 USD");
}

#[tokio::test]
async fn a_panel_that_takes_too_long_says_so_and_the_rest_of_the_page_stands() {
    let mut stand = Stand::new().await;
    stand.dead_letters(1).await;
    let mut viewer = stand.viewer().await;
    let mut lock = sqlx::PgConnection::connect(&stand.world.url).await.unwrap();
    sqlx::raw_sql("begin; lock table capture.progress in access exclusive mode; lock table capture.leases in access exclusive mode")
        .execute(&mut lock)
        .await
        .unwrap();
    let page = viewer.get("/").await.is(200).says("took too long");
    assert!(
        page.body.contains("Workers") && page.body.contains("1 capture<"),
        "{}",
        page.body
    );
    sqlx::raw_sql("rollback").execute(&mut lock).await.unwrap();
    let page = viewer.get("/").await.is(200);
    assert!(!page.body.contains("took too long"));
}

#[tokio::test]
async fn a_database_that_is_gone_is_a_page_that_says_so() {
    // So that a client can be made.
    drop(Stand::new().await);
    let (base, draining) = serve(
        "postgres://nobody@127.0.0.1:1/nowhere",
        AbilitiesByLane::new(),
        ProvidersByLane::new(),
        ProxySettings::default(),
    )
    .await;
    let mut person = Person::at(&base);
    person.cookies.insert("capture_session".to_owned(), "0".repeat(64));
    let page = person.get("/").await.is(503).says("The database does not answer");
    assert!(page.headers.contains_key("retry-after"));
    assert!(page.headers["content-security-policy"].contains("script-src 'self'"));
    draining.cancel();
}

#[tokio::test]
async fn what_pages_load_is_kept_for_ever_under_an_address_of_its_content() {
    let stand = Stand::new().await;
    let mut nobody = stand.somebody();
    let page = nobody.get("/login").await.is(200);
    let (_, rest) = page.body.split_once("rel=\"stylesheet\" href=\"").unwrap();
    let path = rest.split('"').next().unwrap().to_owned();
    let sheet = nobody.get(&path).await.is(200);
    assert_eq!(sheet.headers["cache-control"], "public, max-age=31536000, immutable");
    assert_eq!(sheet.headers["content-type"], "text/css; charset=utf-8");
    let old = nobody.get("/assets/0000000000000000/console.css").await.is(200);
    assert_eq!(old.headers["cache-control"], "no-store");
    nobody.get("/assets/x/..%2F..%2FCargo.toml").await.is(404);
}

#[tokio::test]
async fn an_operation_without_a_reason_or_over_everything_begins_only_when_that_is_said() {
    let mut stand = Stand::new().await;
    stand.dead_letters(2).await;
    let mut operator = stand.operator().await;
    let token = operator.token().await;
    let all = [
        ("form_token", token.as_str()),
        ("act", "replay"),
        ("everything", "1"),
        ("filter", "state=dead"),
    ];
    let looked = operator
        .post("/operations/new", &all)
        .await
        .is(200)
        .says("all of them are meant")
        .says(">2</span>");
    let digest = looked.hidden("digest");
    let all = [all.as_slice(), &[("digest", digest.as_str())]].concat();
    let with = |more: &[(&'static str, &'static str)]| [all.as_slice(), more].concat();
    operator
        .post("/operations", &with(&[("mean_all", "1"), ("reason", "  ")]))
        .await
        .is(422)
        .says("reason is empty");
    operator
        .post("/operations", &with(&[("reason", "x")]))
        .await
        .is(422)
        .says("all are meant");
    operator
        .post(
            "/operations",
            &with(&[("mean_all", "1"), ("reason", "x"), ("rate", "0")]),
        )
        .await
        .is(400);
    let held = [
        ("form_token", token.as_str()),
        ("act", "replay"),
        ("everything", "1"),
        ("filter", "state=held"),
    ];
    operator
        .post("/operations/new", &held)
        .await
        .is(422)
        .says("does nothing to what is held");
    let begun: i64 = stand.world.db.scalar("select count(*) from capture.operations").await;
    assert_eq!(begun, 0);
    let begun = operator
        .post("/operations", &with(&[("mean_all", "1"), ("reason", "mended")]))
        .await
        .is(303);
    operator
        .get(begun.location())
        .await
        .is(200)
        .says("Replay of 2 captures")
        .says("mended");
}

#[tokio::test]
async fn what_came_to_match_after_the_preview_is_shown_and_not_acted_on() {
    let mut stand = Stand::new().await;
    stand.dead_letters(2).await;
    let mut operator = stand.operator().await;
    let token = operator.token().await;
    let filter = [
        ("form_token", token.as_str()),
        ("act", "replay"),
        ("everything", "1"),
        ("filter", "state=dead&provider=afterpay"),
        ("reason", "mended"),
    ];
    let seen = operator.post("/operations/new", &filter).await.is(200).hidden("digest");
    stand
        .world
        .db
        .run(
            "insert into capture.intents (provider, order_id, payment_id, capture_ref, amount_minor, currency) values ('afterpay', 'o-late', '777', 'c1', 900, 'USD');
             with gone as (delete from capture.ready returning *)
             insert into capture.outcomes (intent, lane, state, fence, attempts, ended_at, dead_reason, last_class, last_code, created_at, amount_minor, currency)
             select intent, gone.lane, 'dead', fence, 0, capture.clock_now(), 'exhausted', 'transient', 'http_500', i.created_at, i.amount_minor, i.currency
             from gone join capture.intents i on i.id = intent",
        )
        .await;
    let with = |digest: &str| {
        let digest = ("digest", digest.to_owned());
        let fields = filter.iter().map(|(name, value)| (*name, (*value).to_owned()));
        fields.chain([digest]).collect::<Vec<_>>()
    };
    for (digest, says) in [
        (seen.as_str(), "3 captures match now"),
        // A form that was made up, or of a page that showed nothing.
        ("", "3 captures match now"),
    ] {
        let fields = with(digest);
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        operator
            .post("/operations", &fields)
            .await
            .is(422)
            .says(says)
            .says("o-late");
    }
    let begun: i64 = stand.world.db.scalar("select count(*) from capture.operations").await;
    assert_eq!(begun, 0);
    let seen = operator.post("/operations/new", &filter).await.is(200).hidden("digest");
    let fields = with(&seen);
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    operator.post("/operations", &fields).await.is(303);
}

#[tokio::test]
async fn what_was_seen_is_said_by_the_person_and_by_nobody_else() {
    let mut stand = Stand::new().await;
    let dead = stand.dead_letters(1).await[0].to_string();
    let mut operator = stand.operator().await;
    let token = operator.token().await;
    let fields = [
        ("form_token", token.as_str()),
        ("act", "resolve"),
        ("id", dead.as_str()),
        ("evidence", "statement 7"),
        ("reason", "seen there"),
    ];
    let with = |seen: &'static str| [fields.as_slice(), &[("as", seen)]].concat();
    let looked = operator.post("/operations/new", &fields).await.is(200);
    assert!(!looked.body.contains(" checked"), "{}", looked.body);
    let looked = looked.says("is settled by your word");
    assert!(!looked.body.contains("stays dead"), "{}", looked.body);
    let looked = operator.post("/operations/new", &with("not-captured")).await.is(200);
    looked.says("value=\"not-captured\" checked").says("stays dead");
    let told = operator.post("/operations", &fields).await.is(422);
    let told = told.says("were they captured, or not?");
    assert!(!told.body.contains(" checked"), "{}", told.body);
    operator.post("/operations", &with("perhaps")).await.is(422);
    let begun: i64 = stand.world.db.scalar("select count(*) from capture.operations").await;
    assert_eq!(begun, 0);
    operator.post("/operations", &with("captured")).await.is(303);
}

#[tokio::test]
async fn an_authorisation_that_has_run_out_is_the_first_thing_that_is_seen() {
    let mut stand = Stand::new().await;
    let mut viewer = stand.viewer().await;
    let calm = viewer.get("/").await.is(200);
    calm.says("class=\"figure good\" href=\"/captures?expires-within=24h\"");
    let more = ", hold => 'shipment', authorization_expires_at => capture.clock_now() + interval '1 hour'";
    stand.world.insert(Kind::Afterpay, "10020001", "c1", 500, more).await;
    stand.world.pass(std::time::Duration::from_secs(2 * 3600)).await;
    let mut viewer = stand.enter(&stand.key("later", &[Scope::Read]).await.0).await;
    let page = viewer.get("/").await.is(200);
    page.says("class=\"figure bad\" href=\"/risk\"")
        .says("1 capture over, 0 within 24 h")
        .says("5.00 USD");
    viewer.get("/risk").await.is(200).says(">over<");
}

#[tokio::test]
async fn a_capture_says_whether_its_provider_was_told_of_the_parcel() {
    let mut stand = Stand::new().await;
    let mut viewer = stand.viewer().await;
    let id = stand.world.insert(Kind::Afterpay, "10020001", "c1", 500, "").await;
    stand
        .world
        .db
        .run(&format!(
            "insert into capture.shipping_notices (intent, lane, state, due_at, since, code)
                 values ('{id}', 1, 'due', now(), now(), 'http_500')"
        ))
        .await;
    let page = viewer.get(&format!("/captures/{id}")).await.is(200);
    page.says("<dt>Shipping data at the provider</dt><dd>not yet: http_500</dd>");
}

#[tokio::test]
async fn a_second_reason_to_pause_a_lane_is_not_dropped_without_a_word() {
    let mut stand = Stand::new().await;
    let mut operator = stand.operator().await;
    let token = operator.token().await;
    let lane: i32 = stand
        .world
        .db
        .scalar("select id from capture.lanes where provider = 'afterpay'")
        .await;
    let why = |reason: &'static str| [("form_token", token.as_str()), ("reason", reason)];
    let pause = format!("/lanes/{lane}/pause");
    operator.post(&pause, &why("their maintenance")).await.is(303);
    operator
        .post(&pause, &why("keys are being changed"))
        .await
        .is(409)
        .says("is paused already: by ops since")
        .says("their maintenance")
        .says("your reason was not kept");
    let acts = "select count(*) from capture.audit where action = 'lane pause'";
    assert_eq!(stand.world.db.scalar::<i64>(acts).await, 1);
    operator
        .post(&format!("/lanes/{lane}/resume"), &why("over"))
        .await
        .is(303);
    operator.post(&pause, &why("keys are being changed")).await.is(303);
    // What is in force, and that it is a person's.
    stand
        .world
        .outbox
        .set_lane_rate(capture::outbox::LaneId(lane), Some(20), &stamp())
        .await
        .unwrap();
    operator.get("/").await.is(200).says("20 a minute (operator)");
}

#[tokio::test]
async fn a_held_capture_is_released_once_however_often_the_button_is_pressed() {
    let mut stand = Stand::new().await;
    let payment = "10020001";
    stand.world.authorize(Kind::Afterpay, payment, 5_000);
    let first = stand
        .world
        .insert(Kind::Afterpay, payment, "c1", 500, ", hold => 'shipment'")
        .await;
    stand
        .world
        .insert(Kind::Afterpay, payment, "c2", 500, ", hold => 'shipment'")
        .await;
    let mut operator = stand.operator().await;
    let token = operator.token().await;
    for _ in 0..2 {
        let fields = [("form_token", token.as_str()), ("shipment", "")];
        operator
            .post(&format!("/captures/{first}/release"), &fields)
            .await
            .is(303);
    }
    let rows: Vec<String> = stand
        .world
        .db
        .column("select released_by || ' ' || capture_ref || ' ' || shipment_ref from capture.releases")
        .await;
    assert_eq!(rows, ["ops c1 c1"]);
    let acts: Vec<String> = stand
        .world
        .db
        .column("select action || ' ' || actor || ' ' || intent from capture.audit where action = 'release'")
        .await;
    assert_eq!(acts, [format!("release ops {first}")]);
}
