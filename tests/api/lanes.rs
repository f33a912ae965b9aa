//! Lanes over HTTP: paused with who and why, and shown with what is in force.

use serde_json::json;

use crate::world::{World, stamp};

#[tokio::test]
async fn a_lane_that_is_paused_says_by_whom_and_why_to_who_pauses_it_too() {
    let world = World::new().await;
    world.enqueue("r1").await;
    let path = "/v1/lanes/afterpay/default";
    let why = |reason: &str| json!({ "reason": reason });
    let paused = world
        .post(&format!("{path}/pause"), &why("their maintenance"))
        .await
        .is(200);
    assert_eq!(paused.json, json!({ "changed": true, "paused": true }));
    let told = world
        .post(&format!("{path}/pause"), &why("keys are changed"))
        .await
        .is(409);
    assert_eq!(told.code(), "lane_paused_already");
    let detail = told.json["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("afterpay/default is paused already: by all since ")
            && detail.ends_with(": their maintenance"),
        "{detail}"
    );
    for changed in [true, false] {
        let resumed = world.post(&format!("{path}/resume"), &why("over")).await.is(200);
        assert_eq!(resumed.json, json!({ "changed": changed, "paused": false }));
    }
}

#[tokio::test]
async fn the_rate_that_an_operator_set_is_told_beside_that_of_the_settings() {
    let world = World::new().await;
    world.enqueue("r1").await;
    let lane = world.outbox.lanes().await.unwrap()[0].id;
    world.outbox.set_lane_rate(lane, Some(20), &stamp()).await.unwrap();
    let lanes = world.get("/v1/lanes").await.is(200);
    let lane = &lanes.json["lanes"][0];
    assert_eq!(
        (&lane["rate_per_minute"], &lane["rate_override"]),
        (&json!(0), &json!(20))
    );
}
