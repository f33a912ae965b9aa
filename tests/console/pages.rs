//! What the pages say.

use sqlx::Connection;

use capture::http::ProxySettings;
use capture::operations::{AbilitiesByLane, ProvidersByLane};

use crate::stand::{Person, Stand, serve};

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
    let with = |more: &[(&'static str, &'static str)]| [all.as_slice(), more].concat();
    operator
        .post("/operations/new", &all)
        .await
        .is(200)
        .says("all of them are meant")
        .says(">2</span>");
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
