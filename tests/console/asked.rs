//! What a provider says, beside ours: asked for by a person, and only ever read.

use std::sync::Arc;

use async_trait::async_trait;
use capture::http::ProxySettings;
use capture::intent::CaptureIntent;
use capture::operations::ProvidersByLane;
use capture::outcome::{Failure, Observation, Outcome};
use capture::provider::{Abilities, Call, Provider};

use crate::kind::Kind;
use crate::stand::Stand;
use crate::world::{Plan, World};

const CANNOT: &str = "this server has no provider credentials";

#[tokio::test]
async fn a_provider_is_asked_about_a_capture_and_what_it_says_stands_beside_ours() {
    let mut stand = Stand::new().await;
    let captured = stand.world.capture(Kind::Afterpay, 1, 500).await;
    stand
        .world
        .until_ended(captured, std::time::Duration::from_secs(60))
        .await;
    stand.world.authorize(Kind::Afterpay, &Kind::Afterpay.payment(2), 5_000);
    let held = stand
        .world
        .insert(
            Kind::Afterpay,
            &Kind::Afterpay.payment(2),
            "c1",
            700,
            ", hold => 'shipment'",
        )
        .await;
    let sends = |stand: &Stand| [1, 2].map(|n| stand.world.sends(&Kind::Afterpay.payment(n)));
    let before = sends(&stand);
    let mut operator = stand.operator().await;
    let token = operator.token().await;
    operator
        .get(&format!("/captures/{captured}"))
        .await
        .is(200)
        .says("Ask the provider");
    let form = [("form_token", token.as_str())];
    operator
        .post(&format!("/captures/{captured}/ask"), &form)
        .await
        .is(200)
        .says("agrees with ours")
        .says("captured 5.00 USD as")
        .says("Ask again");
    operator
        .post(&format!("/captures/{held}/ask"), &form)
        .await
        .is(200)
        .says("nothing of ours is captured");
    // Somebody restored an old copy of our books: now the two contradict each other.
    stand.world.db.run("set session_replication_role = replica").await;
    stand
        .world
        .db
        .run(&format!(
            "update capture.outcomes o set state = 'dead', dead_reason = 'rejected', captured_minor = null, lease = null, worker = null, purpose = null,
                    generation = null, request_format = null, sent = null, attempt_outcome = null, created_at = i.created_at,
                    amount_minor = i.amount_minor, currency = i.currency
             from capture.intents i where i.id = o.intent and o.intent = '{captured}'"
        ))
        .await;
    let order: String = stand
        .world
        .db
        .scalar(&format!("select order_id from capture.intents where id = '{captured}'"))
        .await;
    let order = order.replace(' ', "%20");
    let page = operator
        .post(&format!("/orders/{order}/ask?provider=afterpay"), &form)
        .await
        .is(200);
    page.says("The provider says").says("differs from ours");
    let back = operator
        .get(&format!("/orders/{order}/ask?provider=afterpay"))
        .await
        .is(303);
    assert_eq!(back.location(), format!("/orders/{order}?provider=afterpay"));
    assert_eq!(sends(&stand), before, "it was only read");
}

#[tokio::test]
async fn a_server_without_credentials_says_where_to_ask() {
    let mut world = World::new().await;
    let id = world.capture(Kind::Afterpay, 1, 500).await;
    let stand = Stand::asking(world, ProvidersByLane::new(), ProxySettings::default()).await;
    let mut operator = stand.operator().await;
    let token = operator.token().await;
    let page = operator.get(&format!("/captures/{id}")).await.is(200).says(CANNOT);
    assert!(!page.body.contains("Ask the provider"), "{}", page.body);
    operator
        .post(&format!("/captures/{id}/ask"), &[("form_token", &token)])
        .await
        .is(200)
        .says(CANNOT);
    let mut viewer = stand.viewer().await;
    let page = viewer.get(&format!("/captures/{id}")).await.is(200);
    assert!(!page.body.contains(CANNOT), "a viewer asks nobody anyway");
}

/// One that never answers.
struct Silent(Arc<dyn Provider>);

#[async_trait]
impl Provider for Silent {
    fn abilities(&self) -> Abilities {
        self.0.abilities()
    }

    fn host(&self) -> &str {
        self.0.host()
    }

    fn check(&self, intent: &CaptureIntent) -> Result<(), Failure> {
        self.0.check(intent)
    }

    async fn capture(&self, _: &Call<'_>) -> Outcome {
        panic!("a capture was sent to show a page");
    }

    async fn read(&self, _: &Call<'_>) -> Observation {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_provider_that_hangs_holds_neither_the_page_nor_the_database() {
    let mut world = World::new().await;
    let id = world.capture(Kind::Afterpay, 1, 500).await;
    let lanes = world.plan.lanes(&world.simulator).into_iter();
    let silent = lanes.map(|lane| (lane.lane, Arc::new(Silent(lane.provider)) as Arc<dyn Provider>));
    let providers = silent.collect();
    let stand = Stand::asking(world, providers, ProxySettings::default()).await;
    let mut operator = stand.operator().await;
    let token = operator.token().await;
    let path = format!("/captures/{id}/ask");
    // More than the server has connections to the database for looking; and one more is not even tried.
    let asking: Vec<_> = (0..5)
        .map(|_| {
            let mut person = stand.somebody();
            person.cookies = operator.cookies.clone();
            let (path, token) = (path.clone(), token.clone());
            tokio::spawn(async move { person.post(&path, &[("form_token", &token)]).await })
        })
        .collect();
    let mut looks = 0;
    while asking.iter().filter(|asks| asks.is_finished()).count() < 5 {
        operator.get(&format!("/captures/{id}")).await.is(200);
        looks += 1;
        tokio::task::yield_now().await;
    }
    assert!(looks > 20, "{looks} pages were shown meanwhile");
    let mut told = Vec::new();
    for asks in asking {
        let page = asks.await.unwrap().is(200);
        told.push(match page.body.contains("did not answer within 8 s") {
            true => "silent",
            false => "others ask",
        });
        assert!(
            page.body.contains("did not answer") || page.body.contains("others ask"),
            "{}",
            page.body
        );
    }
    told.sort_unstable();
    assert_eq!(told, ["others ask", "silent", "silent", "silent", "silent"]);
}

#[tokio::test]
async fn a_provider_is_asked_about_thirty_captures_a_minute_and_no_more() {
    let mut stand = Stand::of(Plan::default(), ProxySettings::default()).await;
    let id = stand.world.capture(Kind::Afterpay, 1, 500).await;
    let mut operator = stand.operator().await;
    let token = operator.token().await;
    let mut last = String::new();
    for _ in 0..40 {
        last = operator
            .post(&format!("/captures/{id}/ask"), &[("form_token", &token)])
            .await
            .is(200)
            .body;
        if last.contains("which is enough") {
            break;
        }
    }
    assert!(last.contains("which is enough"), "{last}");
}
