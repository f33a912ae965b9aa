//! Live updates, in a real browser: what is old is told, and so is that updates wait.

use capture::api_key::Scope;

use crate::chromium::Chromium;
use crate::kind::Kind;
use crate::stand::Stand;

const HIDDEN: [&str; 2] = [
    "return document.getElementById('lost').hidden",
    "return document.getElementById('paused').hidden",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_never_answers_is_told_and_so_is_that_it_is_back() {
    let Some(chromium) = Chromium::start().await else {
        return;
    };
    let stand = Stand::new().await;
    let (key, _) = stand.key("tess", &[Scope::Read]).await;
    chromium.log_in(&stand.base, &key).await;
    chromium.until(HIDDEN[0]).await;
    // As a server that takes the request and is never heard of again.
    chromium
        .run(
            "window.asked = window.fetch;
             window.fetch = (_, how) => new Promise((_, fails) => how.signal?.addEventListener('abort', () => fails(how.signal.reason)));",
        )
        .await;
    chromium.until("return !document.getElementById('lost').hidden").await;
    chromium.run("window.fetch = window.asked").await;
    chromium.until(HIDDEN[0]).await;
    chromium.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_updates_wait_the_page_says_so() {
    let Some(chromium) = Chromium::start().await else {
        return;
    };
    let mut stand = Stand::new().await;
    stand.world.authorize(Kind::Afterpay, "10020001", 5_000);
    let held = stand
        .world
        .insert(Kind::Afterpay, "10020001", "c1", 500, ", hold => 'shipment'")
        .await;
    let (key, _) = stand.key("tess", &Scope::ALL).await;
    chromium.log_in(&stand.base, &key).await;
    for (path, open, field) in [
        (
            "/".to_owned(),
            Some("details.ask summary"),
            "details.ask input[name=reason]",
        ),
        (format!("/captures/{held}"), None, "#shipment"),
        ("/captures".to_owned(), Some("details.filters summary"), "[data-search]"),
    ] {
        chromium.go(&format!("{}{path}", stand.base)).await;
        chromium.until(HIDDEN[1]).await;
        if let Some(open) = open {
            chromium.click(open).await;
        }
        chromium.click(field).await;
        chromium.until("return !document.getElementById('paused').hidden").await;
        chromium.run("document.activeElement.blur()").await;
        chromium.until(HIDDEN[1]).await;
    }
    // What is written waits to be sent, wherever the focus is.
    chromium.go(&format!("{}/captures/{held}", stand.base)).await;
    chromium.write("#shipment", "parcel-1").await;
    chromium.run("document.activeElement.blur()").await;
    chromium.until("return !document.getElementById('paused').hidden").await;
    chromium.end().await;
}
