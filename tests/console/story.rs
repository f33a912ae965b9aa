//! An operator's morning, in a real browser: two hundred dead letters, mended and sent again.

use capture::api_key::Scope;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::chromium::Chromium;
use crate::stand::Stand;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_replays_two_hundred_dead_letters_and_sees_them_captured_and_audited() {
    let Some(chromium) = Chromium::start().await else {
        return;
    };
    let mut stand = Stand::new().await;
    stand.dead_letters(200).await;
    stand.authorize_all(200);
    let (key, _) = stand.key("tess", &Scope::ALL).await;
    chromium.screen(1440, 900).await;
    chromium.log_in(&stand.base, &key).await;
    let stored = chromium
        .run("return location.href + document.cookie + JSON.stringify({ ...localStorage, ...sessionStorage })")
        .await;
    assert!(
        !stored.as_str().unwrap().contains("cap_") && !stored.as_str().unwrap().contains("capture_session"),
        "{stored}"
    );

    // From the figure to the class, and by the filter.
    chromium.click("a.figure[href='/dead']").await;
    chromium.wait_for_path("/dead").await;
    chromium.click("section.apart tbody a").await;
    chromium.until("return location.search.includes('class=')").await;
    chromium
        .until("return document.querySelectorAll('tr[data-row]').length === 50")
        .await;

    // Keys choose rows, the bar sums them in whole minor units, and updates wait meanwhile.
    chromium.type_keys("jjxkx").await;
    chromium
        .until("return document.querySelector('[data-count]').textContent === '2 selected'")
        .await;
    let sum = chromium
        .run("return document.querySelector('[data-sum]').textContent")
        .await;
    let minor = chromium
        .run("return [...document.querySelectorAll('tr[data-row]')].slice(0, 2).map((row) => Number(row.dataset.minor)).reduce((a, b) => a + b)")
        .await
        .as_i64()
        .unwrap();
    assert_eq!(sum, format!("{}.{:02} USD", minor / 100, minor % 100));
    let paused = chromium.run("return !document.getElementById('paused').hidden").await;
    assert_eq!(paused, true);
    chromium.run("document.getElementById('rows-title').textContent = 'kept'; document.getElementById('main').dataset.live = '2'").await;
    tokio::time::sleep(std::time::Duration::from_secs(7)).await;
    let kept = chromium
        .run("return document.getElementById('rows-title').textContent")
        .await;
    assert_eq!(kept, "kept", "an update came while rows were chosen");
    chromium.type_keys("?").await;
    chromium.until("return document.getElementById('keys').open").await;
    chromium.click("#keys button").await;
    chromium.type_keys("\u{e00c}").await;
    chromium.until("return document.getElementById('selection').hidden && document.getElementById('rows-title').textContent !== 'kept'").await;
    chromium.type_keys("/").await;
    chromium
        .until("return document.activeElement === document.querySelector('[data-search]')")
        .await;
    chromium.type_keys("\u{e00c}").await;
    chromium.run("document.activeElement.blur()").await;

    // All that match, not only this page.
    chromium.type_keys("jx").await;
    chromium.click("[data-select-all]").await;
    chromium
        .until("return document.querySelector('[data-count]').textContent === 'All that match'")
        .await;
    chromium.type_keys("r").await;
    chromium.wait_for_path("/operations/new").await;
    let will_act = chromium
        .run("return document.getElementById('will-act').textContent")
        .await;
    assert_eq!(will_act, "200");
    // No reason, no operation: the browser itself says so, and the server too (tests of the pages).
    chromium.click("#begin").await;
    let still = chromium
        .run("return location.pathname === '/operations/new' && !document.getElementById('reason').validity.valid")
        .await;
    assert_eq!(still, true);
    chromium.write("#reason", "the accounts were authorised late").await;
    chromium.click("#begin").await;
    chromium
        .until("return /^\\/operations\\/[0-9a-f-]{36}$/.test(location.pathname)")
        .await;

    // A real worker sends what the operation gives back; the page shows it by itself.
    let (worker, shutdown) = (stand.world.another_worker().await, CancellationToken::new());
    let working = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { worker.run(shutdown).await }
    });
    chromium
        .until("return document.getElementById('state').textContent === 'done'")
        .await;
    let said = chromium.run("return document.querySelector('progress').value").await;
    assert_eq!(said, Value::from(200));
    let mut captured: i64 = 0;
    for _ in 0..300 {
        captured = stand
            .world
            .db
            .scalar("select count(*) from capture.outcomes where state = 'captured'")
            .await;
        if captured == 200 {
            break;
        }
        stand.world.pass(std::time::Duration::from_secs(30)).await;
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    assert_eq!(captured, 200);
    shutdown.cancel();
    working.await.unwrap();
    stand.world.books_agree().await;

    // The audit names who and why, and its chain is whole.
    chromium.go(&format!("{}/audit", stand.base)).await;
    let text = chromium.run("return document.body.innerText").await;
    let text = text.as_str().unwrap();
    assert!(
        text.contains("The chain is whole")
            && text.contains("tess")
            && text.contains("the accounts were authorised late"),
        "{text}"
    );
    chromium.go(&format!("{}/dead", stand.base)).await;
    let text = chromium.run("return document.body.innerText").await;
    assert!(text.as_str().unwrap().contains("Nothing matches"), "{text}");
    chromium.end().await;
}
