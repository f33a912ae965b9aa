//! The OpenAPI document that is checked in is the one that is served.

use std::path::Path;

use crate::world::{World, answer, client};

#[test]
fn the_checked_in_document_is_what_the_program_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let made = capture::http::openapi_document();
    if std::env::var_os("RENEW").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == made,
        "docs/openapi.json is old; renew it: RENEW=1 cargo test --test api document"
    );
}

#[tokio::test]
async fn the_documentation_is_served_from_here_and_asks_nobody_else() {
    let world = World::new().await;
    let base = &world.server.base;
    let served = client().get(format!("{base}/openapi.json")).send().await.unwrap();
    assert_eq!(served.text().await.unwrap(), capture::http::openapi_document());
    let page = client().get(format!("{base}/docs/")).send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("default-src 'none'; script-src 'self';"), "{policy}");
    let page = page.text().await.unwrap();
    assert!(page.contains("swagger-ui") && !page.contains("https://"), "{page}");
    assert!(!page.contains("<script>"), "an inline script would not run: {page}");
    for file in ["swagger-ui-bundle.js", "swagger-ui.css", "swagger-initializer.js"] {
        let told = answer(client().get(format!("{base}/docs/{file}"))).await.is(200);
        assert_eq!(told.header("x-content-type-options"), "nosniff");
    }
    let started = answer(client().get(format!("{base}/docs/swagger-initializer.js"))).await;
    let started = started.json.as_str().unwrap().to_owned();
    assert!(started.contains("/openapi.json"), "{started}");
    // Else the page would send the document to a validator elsewhere.
    assert!(started.contains(r#""validatorUrl": "none""#), "{started}");
}
