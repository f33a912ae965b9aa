//! Every page as it is seen: nothing cut off, narrow and wide; nothing runs that should be shown; nothing from elsewhere.

use capture::api_key::Scope;

use crate::chromium::Chromium;
use crate::kind::Kind;
use crate::stand::Stand;

const HOSTILE: &str = "<img src=x onerror=\"window.pwned=1\"><script>window.pwned=1</script>";

/// What a shop's console shows on some day; and the pages.
async fn furnished() -> (Stand, Vec<(&'static str, String)>) {
    let mut stand = Stand::new().await;
    let letters = stand.dead_letters(60).await;
    let world = &mut stand.world;
    for n in 1..=12 {
        let hold = if n % 3 == 0 { ", hold => 'shipment'" } else { "" };
        let more = format!(
            "{hold}, authorized_minor => 5000, authorization_expires_at => capture.clock_now() + interval '{n} hours'"
        );
        let payment = Kind::Optty.payment(n);
        world.authorize(Kind::Optty, &payment, 5_000);
        world.insert(Kind::Optty, &payment, "c1", 4_950, &more).await;
    }
    world.drain().await;
    for n in 20..=24 {
        let payment = Kind::ResolveCharge.payment(n);
        world
            .insert(
                Kind::ResolveCharge,
                &payment,
                "c1",
                125_000,
                ", authorization_expires_at => capture.clock_now() + interval '30 hours'",
            )
            .await;
    }
    world.db.run("set session_replication_role = replica").await;
    let hostile = HOSTILE.replace('\'', "''");
    world
        .db
        .run(&format!(
            "update capture.intents set order_id = '{hostile}' where id = '{}'",
            letters[3]
        ))
        .await;
    world.db.run("set session_replication_role = default").await;
    world
        .db
        .run(&format!(
            "insert into capture.attempts_apart (intent, fence, lease, worker, purpose, generation, request_format, sent, outcome, class, code, ended_at, host)
             values ('{0}', 99, '{0}', '{0}', 0, 0, 1, true, 'failed', 'rejected', 'unclassified', capture.clock_now(), 'api.example')",
            letters[5]
        ))
        .await;
    world
        .outbox
        .heartbeat(uuid::Uuid::new_v4(), None, &[], std::time::Duration::from_secs(120))
        .await
        .unwrap();
    let mut operator = stand.operator().await;
    let token = operator.token().await;
    let lane: i32 = stand
        .world
        .db
        .scalar("select id from capture.lanes where provider = 'resolve' and account = 'orders'")
        .await;
    let reason = [("form_token", token.as_str()), ("reason", "their maintenance window")];
    operator.post(&format!("/lanes/{lane}/pause"), &reason).await.is(303);
    let ids: Vec<String> = letters[40..60].iter().map(uuid::Uuid::to_string).collect();
    let mut fields = vec![
        ("form_token", token.as_str()),
        ("act", "replay"),
        ("reason", "mended at the provider"),
        ("rate", "5"),
    ];
    fields.extend(ids.iter().map(|id| ("id", id.as_str())));
    let begun = operator.post("/operations", &fields).await.is(303);
    let pages = vec![
        ("overview", "/".to_owned()),
        ("captures", "/captures".to_owned()),
        ("dead", "/dead?class=rejected".to_owned()),
        ("dead-all", "/dead".to_owned()),
        ("wrong", "/captures?class=rejcted&since=soon".to_owned()),
        ("capture", format!("/captures/{}", letters[0])),
        ("capture-hostile", format!("/captures/{}", letters[3])),
        ("order", "/orders/order-2".to_owned()),
        ("risk", "/risk".to_owned()),
        ("operations", "/operations".to_owned()),
        ("operation", begun.location().to_owned()),
        ("audit", "/audit".to_owned()),
        ("nothing", "/captures/nothing".to_owned()),
    ];
    (stand, pages)
}

/// Scrolls to what has that id, if it is there.
async fn show(chromium: &Chromium, id: &str) {
    chromium
        .run(&format!(
            "document.getElementById('{id}')?.scrollIntoView({{ block: 'center' }})"
        ))
        .await;
}

async fn keep(chromium: &Chromium, name: &str) {
    let Some(directory) = std::env::var_os("CAPTURE_SCREENSHOTS") else {
        return;
    };
    std::fs::create_dir_all(&directory).unwrap();
    let picture = chromium.client.screenshot().await.unwrap();
    std::fs::write(std::path::Path::new(&directory).join(format!("{name}.png")), picture).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_page_is_cut_off_runs_what_it_shows_or_asks_another_host() {
    let Some(chromium) = Chromium::start().await else {
        return;
    };
    let (stand, pages) = furnished().await;
    let (key, _) = stand.key("tess", &Scope::ALL).await;
    for (width, height) in [(375, 812), (1440, 900)] {
        chromium.screen(width, height).await;
        chromium.client.delete_all_cookies().await.unwrap();
        chromium.go(&format!("{}/login", stand.base)).await;
        chromium.is_sound(&stand.base, width).await;
        keep(&chromium, &format!("login-{width}")).await;
        chromium.log_in(&stand.base, &key).await;
        for (name, path) in &pages {
            chromium.go(&format!("{}{path}", stand.base)).await;
            chromium.is_sound(&stand.base, width).await;
            keep(&chromium, &format!("{name}-{width}")).await;
        }
        // A preview, and the bar of a selection.
        chromium.go(&format!("{}/dead", stand.base)).await;
        chromium.click("tr[data-row] input[name=id]").await;
        chromium.is_sound(&stand.base, width).await;
        keep(&chromium, &format!("selection-{width}")).await;
        chromium.type_keys("r").await;
        chromium.wait_for_path("/operations/new").await;
        chromium.is_sound(&stand.base, width).await;
        keep(&chromium, &format!("preview-{width}")).await;
        // What the provider says, beside ours.
        for name in ["capture", "order"] {
            let (_, path) = pages.iter().find(|(other, _)| *other == name).unwrap();
            chromium.go(&format!("{}{path}", stand.base)).await;
            chromium.click("form[action*='/ask'] button").await;
            chromium.wait_for_path(&format!("{path}/ask")).await;
            chromium.is_sound(&stand.base, width).await;
            show(&chromium, "provider-title").await;
            keep(&chromium, &format!("{name}-asked-{width}")).await;
        }
        chromium.go(&format!("{}/risk", stand.base)).await;
        for title in ["late-title", "codes-title"] {
            show(&chromium, title).await;
            keep(&chromium, &format!("risk-{title}-{width}")).await;
        }
        chromium.prefer("dark").await;
        for (name, path) in [&pages[0], &pages[5], &pages[8]] {
            chromium.go(&format!("{}{path}", stand.base)).await;
            chromium.is_sound(&stand.base, width).await;
            if *name == "risk" {
                show(&chromium, "codes-title").await;
            }
            keep(&chromium, &format!("{name}-{width}-dark")).await;
        }
        chromium.prefer("light").await;
    }
    chromium.end().await;
}
