//! Every route and every scope, from the document itself: a route that is added is in the matrix.

use capture::api_key::Scope;
use reqwest::Method;
use serde_json::{Value, json};

use crate::database::Session;
use crate::world::{World, answer, client};

/// Method, path with something in its places, and the scope that the document asks for.
fn routes() -> Vec<(Method, String, Scope)> {
    let document: Value = serde_json::from_str(&capture::http::openapi_document()).unwrap();
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let path = path
                .replace("{id}", "018f2f60-7a3c-7cc4-9a3e-1f0a6b1d2c3e")
                .replace("{order_id}", "o-1")
                .replace("{provider}", "afterpay")
                .replace("{account}", "default");
            // Who is known by a signature shows no key: tests/api/shipments.rs.
            if operation["security"][0].get("signature").is_some() {
                continue;
            }
            let scopes = operation["security"][0]["key"].as_array();
            let scopes = scopes.unwrap_or_else(|| panic!("{method} {path} says nothing of its scope"));
            assert_eq!(scopes.len(), 1, "{method} {path}");
            let scope = Scope::from_name(scopes[0].as_str().unwrap()).unwrap();
            routes.push((method, path, scope));
        }
    }
    assert!(routes.len() >= 29, "{routes:#?}");
    routes
}

#[tokio::test]
async fn every_route_is_open_to_its_scope_and_closed_to_all_others() {
    let world = World::new().await;
    let mut keys = Vec::new();
    for scope in Scope::ALL {
        let others: Vec<Scope> = Scope::ALL.into_iter().filter(|other| *other != scope).collect();
        let only = world.key(&format!("only-{}", scope.name()), &[scope]).await;
        let all_but = world.key(&format!("all-but-{}", scope.name()), &others).await;
        keys.push((scope, only, all_but));
    }
    let mut wrong = Vec::new();
    let mut asked = 0;
    for (method, path, needed) in routes() {
        let mut refused = async |key: &str| {
            asked += 1;
            let mut request = world.ask_as(key, method.clone(), &path);
            // A body that nothing is done with: who may is told what is wrong with it, who may not is told that.
            if method == Method::POST {
                request = request.json(&json!({ "no_such_field": 1 }));
            }
            let told = answer(request).await;
            let by_scope = told.status == 403 && told.json["scope"] == needed.name() && told.code() == "scope_missing";
            (told.status, by_scope)
        };
        for (scope, only, all_but) in &keys {
            let may = *scope == needed;
            let (status, by_scope) = refused(only).await;
            if by_scope == may || (may && matches!(status, 401 | 403)) || status >= 500 {
                wrong.push(format!("{method} {path} with only {}: {status}", scope.name()));
            }
            let (status, by_scope) = refused(all_but).await;
            if by_scope != may || status >= 500 {
                wrong.push(format!("{method} {path} with all but {}: {status}", scope.name()));
            }
        }
        let told = answer(client().request(method.clone(), format!("{}{path}", world.server.base))).await;
        if told.status != 401 || told.header("www-authenticate") != "Bearer realm=\"capture\"" {
            wrong.push(format!("{method} {path} without a key: {told:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(asked, routes().len() * 2 * Scope::ALL.len());
}

#[tokio::test]
async fn only_health_and_the_documentation_are_there_without_a_key() {
    let world = World::new().await;
    let asked = async |method: Method, path: &str| {
        answer(client().request(method, format!("{}{path}", world.server.base))).await
    };
    for path in ["/health/live", "/health/ready", "/openapi.json", "/docs/", "/login"] {
        asked(Method::GET, path).await.is(200);
    }
    for (method, path, _) in routes() {
        asked(method, &path).await.is(401);
    }
    // The console asks who one is, and its forms do nothing.
    let id = "018f2f60-7a3c-7cc4-9a3e-1f0a6b1d2c3e";
    for path in ["/", "/captures", "/dead", "/risk", "/operations", "/audit"]
        .map(str::to_owned)
        .into_iter()
        .chain([
            format!("/captures/{id}"),
            format!("/operations/{id}"),
            "/orders/o-1".to_owned(),
        ])
    {
        let told = asked(Method::GET, &path).await.is(303);
        assert!(told.header("location").starts_with("/login"), "{path}: {told:?}");
    }
    for path in [
        "/logout".to_owned(),
        "/operations".to_owned(),
        "/operations/new".to_owned(),
        "/lanes/1/pause".to_owned(),
        format!("/operations/{id}/cancel"),
        format!("/captures/{id}/release"),
    ] {
        let told = asked(Method::POST, &path).await.is(303);
        assert_eq!(told.header("location"), "/login", "{path}");
    }
}

#[tokio::test]
async fn who_may_not_cancel_one_capture_may_not_cancel_many() {
    let world = World::new().await;
    let operator = world.key("operator", &[Scope::Operate]).await;
    let body = json!({ "act": "cancel", "filter": { "provider": "afterpay" }, "dry_run": true });
    let told = answer(world.ask_as(&operator, Method::POST, "/v1/operations").json(&body))
        .await
        .is(403);
    assert_eq!(told.json["scope"], "cancel");
    let both = world.key("both", &[Scope::Operate, Scope::Cancel]).await;
    answer(world.ask_as(&both, Method::POST, "/v1/operations").json(&body))
        .await
        .is(200);
    // Nor let one go on that somebody else has begun.
    let mut session = Session::open(&world.url).await;
    let operation: String = session
        .scalar("select capture.begin_operation('cancel', '{}', null, array[gen_random_uuid()], 1, 20::smallint, 'ada', 'x')::text")
        .await;
    session
        .run("update capture.operations set state = 'paused', ended_at = null")
        .await;
    let path = format!("/v1/operations/{operation}/resume");
    let why = json!({ "reason": "go on" });
    let told = answer(world.ask_as(&operator, Method::POST, &path).json(&why))
        .await
        .is(403);
    assert_eq!(told.json["scope"], "cancel");
    answer(world.ask_as(&both, Method::POST, &path).json(&why))
        .await
        .is(200);
}
