//! The feed over HTTP.

use futures_util::future::join_all;
use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn the_feed_is_read_by_its_cursor_and_tells_nothing_twice() {
    let world = World::new().await;
    let mut asked = Vec::new();
    for n in 0..5 {
        asked.push(world.enqueue(&format!("r{n}")).await);
    }
    let mut seen = Vec::new();
    let mut path = "/v1/events?limit=2&wait=30".to_owned();
    // An event is told when every transaction of the server that began before it has ended, also those of other tests.
    while seen.len() < 5 {
        let page = world.get(&path).await.is(200);
        let events = page.json["events"].as_array().unwrap().clone();
        assert!(!events.is_empty(), "{seen:?} of {asked:?}");
        assert!(events.iter().all(|event| event["type"] == "capture.enqueued"));
        seen.extend(
            events
                .iter()
                .map(|event| event["intent_id"].as_str().unwrap().to_owned()),
        );
        path = format!(
            "/v1/events?limit=2&wait=30&cursor={}",
            page.json["cursor"].as_str().unwrap()
        );
    }
    assert_eq!(seen, asked, "each once, in their order");
    // What comes later, and none of these, stands behind the cursor.
    let later = world.enqueue("r5").await;
    let page = world.get(&path).await.is(200);
    let events = page.json["events"].as_array().unwrap();
    assert_eq!(events.len(), 1, "{events:#?}");
    assert_eq!(events[0]["intent_id"], json!(later));
}

#[tokio::test]
async fn who_waits_gets_an_event_that_is_committed_meanwhile_and_many_may_wait() {
    let world = World::new().await;
    // More than there are connections: nobody holds one while waiting.
    let paths: Vec<String> = (0..12).map(|_| "/v1/events?wait=30".to_owned()).collect();
    let waiting = join_all(paths.iter().map(|path| world.get(path)));
    let then = async {
        world.get("/v1/version").await.is(200);
        world.enqueue("r1").await
    };
    let began = std::time::Instant::now();
    let (answers, id) = tokio::join!(waiting, then);
    assert!(began.elapsed().as_secs() < 25, "it was the event that ended the wait");
    for told in answers {
        assert_eq!(told.is(200).json["events"][0]["intent_id"], json!(id));
    }
}

#[tokio::test]
async fn a_wait_without_an_event_ends_with_an_empty_page() {
    let world = World::new().await;
    let page = world.get("/v1/events?wait=1").await.is(200);
    assert_eq!(page.json["events"], json!([]));
}

#[tokio::test]
async fn a_server_that_drains_answers_who_waits() {
    let world = World::new().await;
    let waiting = world.get("/v1/events?wait=30");
    let then = async {
        // Once this is answered the other request is on its way; if it is not, it is refused, which this would show.
        world.get("/v1/version").await.is(200);
        tokio::task::yield_now().await;
        world.get("/v1/version").await.is(200);
        world.server.draining.cancel();
    };
    let (page, ()) = tokio::join!(waiting, then);
    assert_eq!(page.is(200).json["events"], json!([]));
}
