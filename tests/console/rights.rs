//! Who may see and do what; and that a form comes from a page of ours.

use std::time::Duration;

use capture::api_key::Scope;
use capture::http::ProxySettings;
use uuid::Uuid;

use crate::kind::Kind;
use crate::stand::{Person, Stand, stamp};
use crate::world::Plan;

const PAGES: [&str; 8] = [
    "/",
    "/captures",
    "/dead",
    "/dead?by=code",
    "/risk",
    "/operations",
    "/audit",
    "/captures?state=dead",
];

/// What the pages offer to those who may.
const OFFERS: [&str; 8] = [
    "Ask the",
    "formaction",
    "Replay…",
    "Resolve…",
    "Cancel…",
    "Pause…",
    "Release<",
    "type=\"checkbox\"",
];

/// Where it goes, the scope that is missed first, its fields, and how it is answered.
type Form = (String, Scope, Vec<(&'static str, String)>, u16);

/// Every form, in an order in which each of them does something.
fn forms(dead: &str, held: &str, operation: &str, lane: i32) -> Vec<Form> {
    let text = str::to_owned;
    let reason = ("reason", text("because"));
    vec![
        (
            text("/operations/new"),
            Scope::Operate,
            vec![("act", text("replay")), ("id", text(dead))],
            200,
        ),
        (
            text("/operations/new"),
            Scope::Operate,
            vec![("act", text("resolve")), ("id", text(dead))],
            200,
        ),
        (
            text("/operations/new"),
            Scope::Operate,
            vec![("act", text("cancel")), ("id", text(held))],
            200,
        ),
        (
            text("/operations"),
            Scope::Operate,
            vec![("act", text("replay")), ("id", text(dead)), reason.clone()],
            303,
        ),
        (
            text("/operations"),
            Scope::Operate,
            vec![("act", text("cancel")), ("id", text(held)), reason.clone()],
            303,
        ),
        (
            format!("/operations/{operation}/pause"),
            Scope::Operate,
            vec![reason.clone()],
            303,
        ),
        (
            format!("/operations/{operation}/resume"),
            Scope::Operate,
            vec![reason.clone()],
            303,
        ),
        (
            format!("/operations/{operation}/cancel"),
            Scope::Operate,
            vec![reason.clone()],
            303,
        ),
        (
            format!("/captures/{held}/release"),
            Scope::Release,
            vec![("shipment", text("s1"))],
            303,
        ),
        (format!("/captures/{held}/ask"), Scope::Operate, vec![], 200),
        (
            text("/orders/order-1/ask?provider=afterpay"),
            Scope::Operate,
            vec![],
            200,
        ),
        (format!("/lanes/{lane}/pause"), Scope::Lanes, vec![reason.clone()], 303),
        (format!("/lanes/{lane}/resume"), Scope::Lanes, vec![reason], 303),
    ]
}

/// An operation that stays where it is: no driver has settings for the account of its letter.
async fn resting_operation(stand: &mut Stand, operator: &mut Person) -> String {
    let letter: Uuid = stand
        .world
        .db
        .scalar(
            "insert into capture.intents (provider, account, order_id, payment_id, capture_ref, amount_minor, currency)
             values ('afterpay', 'elsewhere', 'o-else', '4711', 'c1', 700, 'USD') returning id",
        )
        .await;
    stand
        .world
        .db
        .run(&format!(
            "with gone as (delete from capture.ready where intent = '{letter}' returning *)
             insert into capture.outcomes (intent, lane, state, fence, attempts, ended_at, dead_reason, last_class, last_code, created_at, amount_minor, currency)
             select intent, gone.lane, 'dead', fence, 0, capture.clock_now(), 'exhausted', 'transient', 'http_500', i.created_at, i.amount_minor, i.currency
             from gone join capture.intents i on i.id = intent"
        ))
        .await;
    let token = operator.token().await;
    let letter = letter.to_string();
    let fields = [
        ("form_token", token.as_str()),
        ("act", "replay"),
        ("id", letter.as_str()),
        ("reason", "x"),
    ];
    let begun = operator.post("/operations", &fields).await.is(303);
    begun.location().rsplit('/').next().unwrap().to_owned()
}

#[tokio::test]
async fn every_page_and_form_is_for_those_who_may_and_for_nobody_else() {
    let mut stand = Stand::new().await;
    let dead = stand.dead_letters(2).await;
    stand.world.authorize(Kind::Afterpay, "10020001", 5_000);
    let held = stand
        .world
        .insert(Kind::Afterpay, "10020001", "c1", 500, ", hold => 'shipment'")
        .await;
    let (mut operator, mut viewer, mut nobody) = (stand.operator().await, stand.viewer().await, stand.somebody());
    let token = operator.token().await;
    let operation = resting_operation(&mut stand, &mut operator).await;
    let lane: i32 = stand
        .world
        .db
        .scalar("select id from capture.lanes where provider = 'afterpay' and account = 'default'")
        .await;
    let (dead, held) = (dead[0].to_string(), held.to_string());
    let more = [
        format!("/captures/{dead}"),
        format!("/captures/{held}"),
        "/orders/order-1".to_owned(),
        format!("/operations/{operation}"),
        format!("/audit?operation={operation}"),
    ];
    let mut offered = Vec::new();
    for path in PAGES.into_iter().map(str::to_owned).chain(more) {
        let page = operator.get(&path).await.is(200);
        offered.extend(OFFERS.into_iter().filter(|offer| page.body.contains(offer)));
        let page = viewer.get(&path).await.is(200);
        for offer in OFFERS {
            assert!(!page.body.contains(offer), "{path} offers a viewer {offer}");
        }
        let away = nobody.get(&path).await.is(303);
        assert!(away.location().starts_with("/login"), "{path}: {}", away.location());
    }
    for offer in OFFERS {
        assert!(offered.contains(&offer), "no page offers an operator {offer}");
    }
    let theirs = viewer.token().await;
    for (path, scope, fields, answered) in forms(&dead, &held, &operation, lane) {
        let with = |token: &str| {
            let mut all: Vec<(String, String)> = vec![("form_token".to_owned(), token.to_owned())];
            all.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
            all
        };
        let send = |all: &[(String, String)]| {
            all.iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect::<Vec<_>>()
        };
        let refused = with(&theirs);
        let refused: Vec<(&str, &str)> = refused
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        viewer
            .post(&path, &refused)
            .await
            .is(403)
            .says(&format!("lacks the scope {}", scope.name()));
        let away = nobody.post(&path, &refused).await.is(303);
        assert_eq!(away.location(), "/login");
        let granted = send(&with(&token));
        let granted: Vec<(&str, &str)> = granted
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        operator.post(&path, &granted).await.is(answered);
    }
}

#[tokio::test]
async fn an_operation_that_cancels_needs_both_rights_to_begin_and_to_go_on() {
    let mut stand = Stand::new().await;
    stand.world.authorize(Kind::Afterpay, "10020001", 5_000);
    let held = stand
        .world
        .insert(Kind::Afterpay, "10020001", "c1", 500, ", hold => 'shipment'")
        .await
        .to_string();
    let (canceller, _) = stand.key("canceller", &[Scope::Read, Scope::Cancel]).await;
    let (replayer, _) = stand.key("replayer", &[Scope::Read, Scope::Operate]).await;
    for (key, lacks) in [(canceller, "operate"), (replayer.clone(), "cancel")] {
        let mut person = stand.enter(&key).await;
        let token = person.token().await;
        let fields = [
            ("form_token", token.as_str()),
            ("act", "cancel"),
            ("id", held.as_str()),
            ("reason", "x"),
        ];
        for path in ["/operations/new", "/operations"] {
            let told = person.post(path, &fields).await.is(403);
            told.says(&format!("lacks the scope {lacks}"));
        }
        let page = person.get(&format!("/captures/{held}")).await.is(200);
        assert!(!page.body.contains("Cancel…"), "{}", page.body);
    }
    // One that rests, as somebody with both rights has left it.
    let operation: Uuid = stand
        .world
        .db
        .scalar(&format!(
            "select capture.begin_operation('cancel', '{{}}', null, array['{held}']::uuid[], 1, 20::smallint, 'ada', 'x')"
        ))
        .await;
    stand
        .world
        .db
        .run(&format!(
            "update capture.operations set state = 'paused', ended_at = null, done = 0 where id = '{operation}'"
        ))
        .await;
    let mut person = stand.enter(&replayer).await;
    let token = person.token().await;
    let why = [("form_token", token.as_str()), ("reason", "x")];
    let resume = format!("/operations/{operation}/resume");
    person.post(&resume, &why).await.is(403).says("lacks the scope cancel");
    let page = person.get(&format!("/operations/{operation}")).await.is(200);
    assert!(
        page.body.contains("Cancel the rest") && !page.body.contains(">Resume<"),
        "{}",
        page.body
    );
    let mut operator = stand.operator().await;
    let token = operator.token().await;
    operator
        .get(&format!("/operations/{operation}"))
        .await
        .is(200)
        .says(">Resume<");
    operator
        .post(&resume, &[("form_token", token.as_str()), ("reason", "x")])
        .await
        .is(303);
}

#[tokio::test]
async fn the_cookie_of_a_session_that_was_begun_over_tls_is_sent_over_nothing_else() {
    let stand = Stand::new().await;
    let (key, _) = stand.key("alice", &[Scope::Read]).await;
    let host = stand.base.trim_start_matches("http://").to_owned();
    for (origin, secure) in [(format!("https://{host}"), true), (format!("http://{host}"), false)] {
        let mut alice = stand.somebody();
        let token = alice.get("/login").await.is(200).token();
        alice.headers = vec![("origin".to_owned(), origin.clone())];
        let entered = alice
            .post("/login", &[("form_token", &token), ("key", &key)])
            .await
            .is(303);
        let cookie = &entered.headers["set-cookie"];
        assert!(cookie.starts_with("capture_session="), "{cookie}");
        assert_eq!(cookie.ends_with("; Secure"), secure, "{origin}: {cookie}");
    }
}

#[tokio::test]
async fn a_form_without_the_token_of_its_session_does_nothing() {
    let mut stand = Stand::new().await;
    let dead = stand.dead_letters(1).await[0].to_string();
    let (mut one, mut other) = (stand.operator().await, stand.viewer().await);
    let (mine, theirs) = (one.token().await, other.token().await);
    assert_ne!(mine, theirs);
    let fields = |token| {
        [
            ("form_token", token),
            ("act", "replay"),
            ("id", dead.as_str()),
            ("reason", "x"),
        ]
    };
    let loud = mine.to_uppercase();
    for wrong in ["", "0", theirs.as_str(), &mine[1..], &loud] {
        one.post("/operations", &fields(wrong))
            .await
            .is(403)
            .says("does not belong to your session");
    }
    one.post("/operations", &fields(&mine)[1..]).await.is(403);
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        one.headers = vec![(name.to_owned(), value.to_owned())];
        one.post("/operations", &fields(&mine))
            .await
            .is(403)
            .says("another site");
    }
    one.headers.clear();
    // The log-in's form is bound too, by a cookie of its own.
    let (key, _) = stand.key("third", &[Scope::Read]).await;
    let mut third = stand.somebody();
    third
        .post("/login", &[("key", &key)])
        .await
        .is(401)
        .says("send it again");
    let token = third.get("/login").await.is(200).token();
    third.cookies.clear();
    third
        .post("/login", &[("key", &key), ("form_token", &token)])
        .await
        .is(401);
    let begun: i64 = stand.world.db.scalar("select count(*) from capture.operations").await;
    assert_eq!(begun, 0);
    one.headers = vec![
        ("origin".to_owned(), stand.base.clone()),
        ("sec-fetch-site".to_owned(), "same-origin".to_owned()),
    ];
    one.post("/operations", &fields(&mine)).await.is(303);
}

#[tokio::test]
async fn a_session_ends_with_its_key_after_rest_and_at_its_time() {
    let mut stand = Stand::new().await;
    let (key, prefix) = stand.key("alice", &[Scope::Read]).await;
    let mut alice = stand.enter(&key).await;
    // The cookie holds no key, and the database no cookie.
    let cookie = alice.cookies["capture_session"].clone();
    assert!(!key.contains(&cookie));
    let kept: i64 = stand
        .world
        .db
        .scalar(&format!(
            "select count(*) from capture.console_sessions where encode(digest, 'hex') = '{cookie}'"
        ))
        .await;
    assert_eq!(kept, 0);
    stand.world.pass(Duration::from_secs(59 * 60)).await;
    alice.get("/").await.is(200);
    stand.world.pass(Duration::from_secs(59 * 60)).await;
    // A page that asks again by itself is nobody's presence.
    alice.headers = vec![("x-console-live".to_owned(), "1".to_owned())];
    alice.get("/").await.is(200);
    alice.headers.clear();
    stand.world.pass(Duration::from_secs(2 * 60)).await;
    alice.get("/").await.is(303);
    let mut alice = stand.enter(&key).await;
    for _ in 0..14 {
        stand.world.pass(Duration::from_secs(50 * 60)).await;
        alice.get("/").await.is(200);
    }
    stand.world.pass(Duration::from_secs(25 * 60)).await;
    alice.get("/").await.is(303);
    let mut alice = stand.enter(&key).await;
    alice.get("/").await.is(200);
    stand.world.outbox.revoke_key(&prefix, &stamp()).await.unwrap();
    let away = alice.get("/dead?class=rejected").await.is(303);
    assert_eq!(away.location(), "/login?to=%2Fdead%3Fclass%3Drejected");
    let token = alice.get("/login").await.is(200).token();
    alice
        .post("/login", &[("form_token", &token), ("key", &key)])
        .await
        .is(401)
        .says("opens nothing");
    // Who leaves is gone, though the cookie were kept.
    let mut bob = stand.operator().await;
    let (kept, token) = (bob.cookies.clone(), bob.token().await);
    bob.post("/logout", &[("form_token", &token)]).await.is(303);
    bob.cookies = kept;
    bob.get("/").await.is(303);
}

#[tokio::test]
async fn a_proxys_word_is_taken_only_from_its_address() {
    let proxy = ProxySettings {
        addresses: vec!["127.0.0.1".parse().unwrap()],
        user_header: Some("x-user".to_owned()),
        roles_header: Some("x-roles".to_owned()),
    };
    let elsewhere = ProxySettings {
        addresses: vec!["10.1.2.3".parse().unwrap()],
        ..proxy.clone()
    };
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut stand = Stand::of(Plan::default(), proxy).await;
    let dead = stand.dead_letters(1).await[0].to_string();
    let mut alice = stand.somebody();
    alice.headers = vec![header("x-user", "alice"), header("x-roles", "staff, viewer")];
    alice.get("/").await.is(200).says("proxy:alice · viewer");
    let fields = |token: &str| {
        [
            ("form_token", token.to_owned()),
            ("act", "replay".to_owned()),
            ("id", dead.clone()),
            ("reason", "x".to_owned()),
        ]
    };
    let mut bob = stand.somebody();
    bob.headers = vec![header("x-user", "bob"), header("x-roles", "operator")];
    let token = fields(&bob.token().await);
    let given: Vec<(&str, &str)> = token.iter().map(|(name, value)| (*name, value.as_str())).collect();
    // Another person's token: with their own cookie, and even with his.
    alice.post("/operations", &given).await.is(403).says("does not belong");
    alice.cookies = bob.cookies.clone();
    alice.post("/operations", &given).await.is(403).says("does not belong");
    bob.post("/operations", &given).await.is(303);
    let actor: String = stand.world.db.scalar("select actor from capture.operations").await;
    assert_eq!(actor, "proxy:bob");
    alice.headers = vec![header("x-user", "eve"), header("x-roles", "staff")];
    alice.get("/").await.is(403).says("neither viewer nor operator");
    let stand = Stand::of(Plan::default(), elsewhere).await;
    let mut eve = stand.somebody();
    eve.headers = vec![header("x-user", "eve"), header("x-roles", "operator")];
    eve.get("/").await.is(303);
}

#[tokio::test]
async fn wrong_keys_at_the_log_in_are_counted_by_the_address_that_a_proxy_saw() {
    let proxy = ProxySettings {
        addresses: vec!["127.0.0.1".parse().unwrap()],
        ..ProxySettings::default()
    };
    let stand = Stand::of(Plan::default(), proxy).await;
    let (key, _) = stand.key("alice", &[Scope::Read]).await;
    let at = |address: &str| vec![("x-forwarded-for".to_owned(), format!("6.6.6.6, {address}"))];
    let mut eve = stand.somebody();
    eve.headers = at("10.0.0.1");
    let token = eve.get("/login").await.is(200).token();
    // One in six seconds is looked at again, so on a slow day it takes some more than twenty.
    let mut told = None;
    for n in 0..60 {
        let wrong = format!("cap_{n:08x}_{}", "0".repeat(64));
        let page = eve.post("/login", &[("form_token", &token), ("key", &wrong)]).await;
        if page.status == 429 {
            told = Some(page);
            break;
        }
        page.is(401);
    }
    let told = told.unwrap().says("not looked at");
    assert!(told.headers.contains_key("retry-after"), "{told:?}");
    eve.headers = at("10.0.0.2");
    eve.post("/login", &[("form_token", &token), ("key", &key)])
        .await
        .is(303);
    // Without a proxy before it, what somebody writes into that header means nothing.
    let stand = Stand::new().await;
    let mut mallory = stand.somebody();
    let token = mallory.get("/login").await.is(200).token();
    let mut told = 401;
    for n in 0..60 {
        mallory.headers = at(&format!("10.0.0.{n}"));
        told = mallory
            .post("/login", &[("form_token", &token), ("key", "x")])
            .await
            .status;
        if told == 429 {
            break;
        }
    }
    assert_eq!(told, 429);
}
