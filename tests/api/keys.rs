//! Keys: rotated, expired, revoked, and held to their rate.

use std::time::Duration;

use capture::api_key::{FreshKey, Scope};
use capture::outbox::{NewKey, Revoked};
use reqwest::Method;
use secrecy::ExposeSecret;

use crate::database::Session;
use crate::world::{Plan, Server, World, answer, client, stamp};

async fn status(world: &World, key: &str) -> u16 {
    answer(world.ask_as(key, Method::GET, "/v1/version")).await.status
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_rotated_key_goes_on_for_its_grace_and_two_of_a_name_are_live_at_most() {
    let world = World::new().await;
    let old = world.key("shop", &[Scope::Read]).await;
    let fresh = FreshKey::make().unwrap();
    let rotate = NewKey::InPlaceOf(HOUR);
    let made = world
        .outbox
        .create_key(&fresh, "shop", &rotate, Some(HOUR * 48), &stamp())
        .await
        .unwrap();
    assert_eq!(made.scopes, ["read"]);
    let new = fresh.whole.expose_secret().to_owned();
    assert_eq!((status(&world, &old).await, status(&world, &new).await), (200, 200));
    let third = FreshKey::make().unwrap();
    let refused = world
        .outbox
        .create_key(&third, "shop", &rotate, None, &stamp())
        .await
        .unwrap_err();
    assert_eq!(
        refused.refusal().unwrap().constraint.unwrap(),
        "api_keys_two_live_at_most"
    );
    world
        .outbox
        .set_clock_ahead(HOUR + Duration::from_secs(1))
        .await
        .unwrap();
    assert_eq!((status(&world, &old).await, status(&world, &new).await), (401, 200));
    world.outbox.set_clock_ahead(HOUR * 49).await.unwrap();
    assert_eq!(status(&world, &new).await, 401);
}

#[tokio::test]
async fn a_revoked_key_opens_nothing_from_the_next_request_on_at_any_server() {
    let world = World::new().await;
    let second = Server::start(&world.url, &Plan::default()).await;
    let key = world.key("shop", &[Scope::Read]).await;
    let at_second = async || {
        let request = client().get(format!("{}/v1/version", second.base)).bearer_auth(&key);
        answer(request).await.status
    };
    assert_eq!((status(&world, &key).await, at_second().await), (200, 200));
    let prefix = &key[4..12];
    assert_eq!(
        world.outbox.revoke_key(prefix, &stamp()).await.unwrap(),
        Revoked::Revoked
    );
    assert_eq!((status(&world, &key).await, at_second().await), (401, 401));
    assert_eq!(world.outbox.revoke_key(prefix, &stamp()).await.unwrap(), Revoked::Ended);
    assert_eq!(
        world.outbox.revoke_key("00000000", &stamp()).await.unwrap(),
        Revoked::NotFound
    );
    let acts = world.get("/v1/audit").await.is(200);
    let acts: Vec<&str> = acts.json["acts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|act| act["action"].as_str().unwrap())
        .collect();
    assert_eq!(acts, ["key revoke", "key create", "key create"]);
}

#[tokio::test]
async fn no_key_takes_the_name_of_capture_itself_its_workers_or_a_proxy() {
    let world = World::new().await;
    for name in ["capture", "worker", "proxy", "Worker"] {
        let fresh = FreshKey::make().unwrap();
        let scopes = NewKey::First([Scope::Read].into_iter().collect());
        let refused = world
            .outbox
            .create_key(&fresh, name, &scopes, None, &stamp())
            .await
            .unwrap_err();
        assert_eq!(
            refused.refusal().unwrap().constraint.unwrap(),
            "api_keys_name_free",
            "{name}"
        );
    }
    world.key("workers", &[Scope::Read]).await;
}

#[tokio::test]
async fn a_key_with_one_letter_changed_opens_nothing_and_its_use_is_noted_once_a_minute() {
    let world = World::new().await;
    let key = world.key("shop", &[Scope::Read]).await;
    let last = if key.ends_with('0') { "1" } else { "0" };
    let other = format!("{}{last}", &key[..key.len() - 1]);
    assert_eq!(status(&world, &other).await, 401);
    let mut session = Session::open(&world.url).await;
    let used = "select last_used_at::text from capture.api_keys where name = 'shop'";
    assert_eq!(session.scalar::<Option<String>>(used).await, None);
    assert_eq!(status(&world, &key).await, 200);
    let first: Option<String> = session.scalar(used).await;
    assert!(first.is_some());
    assert_eq!(status(&world, &key).await, 200);
    assert_eq!(session.scalar::<Option<String>>(used).await, first);
    let kept: Vec<String> = session
        .column("select k::text || (select string_agg(a::text, '') from capture.audit a) from capture.api_keys k")
        .await;
    assert!(
        kept.iter().all(|row| !row.contains(&key[13..])),
        "the secret is kept nowhere"
    );
}

#[tokio::test]
async fn a_key_is_held_to_its_rate_and_others_are_not() {
    let plan = Plan {
        rate_per_second: 1,
        ..Plan::default()
    };
    let world = World::planned(&plan).await;
    let other = world.key("other", &[Scope::Read]).await;
    let mut told = Vec::new();
    for _ in 0..20 {
        told.push(world.get("/v1/version").await);
    }
    let limited = told.iter().find(|told| told.status == 429).unwrap();
    assert_eq!(limited.code(), "rate_limited");
    assert!(limited.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert!(told[0].status == 200 && told[1].status == 200, "twice as many at once");
    assert_eq!(status(&world, &other).await, 200);
}

#[tokio::test]
async fn who_shows_keys_that_open_nothing_is_soon_not_looked_at_and_known_keys_are() {
    let world = World::new().await;
    let known = world.key("shop", &[Scope::Read]).await;
    assert_eq!(status(&world, &known).await, 200);
    let wrong = |n: u32| format!("cap_{n:08x}_{}", "0".repeat(64));
    // Twenty at once; one in six seconds is looked at again, so on a slow day it takes some more.
    let mut refused = None;
    for n in 0..60 {
        let told = answer(world.ask_as(&wrong(n), Method::GET, "/v1/version")).await;
        if told.status == 429 {
            refused = Some((n, told));
            break;
        }
        assert_eq!(told.status, 401, "{n}");
    }
    let (after, told) = refused.unwrap();
    assert!(after >= 20, "{after}");
    assert_eq!(told.code(), "too_many_failed_attempts");
    assert!(
        (1..=7).contains(&told.header("retry-after").parse::<u64>().unwrap()),
        "{told:?}"
    );
    assert_eq!(status(&world, &known).await, 200);
    // Whoever shows nothing makes no work, and is told so as ever.
    answer(client().get(format!("{}/v1/version", world.server.base)))
        .await
        .is(401);
}
