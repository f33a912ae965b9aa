//! What order systems, providers and people write is shown and never run.

use capture::api_key::Scope;

use crate::stand::{Answer, Stand};

const CORPUS: [&str; 7] = [
    "<script>window.pwned=1</script>",
    "\"><img src=x onerror=window.pwned=1>",
    "' onmouseover='window.pwned=1",
    "</title></textarea><svg/onload=window.pwned=1>",
    "javascript:window.pwned=1//<",
    "{{7*7}}<%= 7*7 %>&lt;b&gt;",
    "<a href=\"https://evil.example\">x</a>",
];

/// The policy is there, nothing of the corpus came through whole, and no tag has a handler, a style or a foreign address.
#[track_caller]
fn is_inert(page: &Answer) {
    let policy = &page.headers["content-security-policy"];
    assert!(
        policy.contains("script-src 'self'") && !policy.contains("unsafe"),
        "{}: {policy}",
        page.path
    );
    assert_eq!(page.headers["x-content-type-options"], "nosniff");
    assert_eq!(page.headers["cache-control"], "no-store");
    for text in CORPUS {
        assert!(!page.body.contains(text), "{} shows {text} whole", page.path);
    }
    for tag in page.body.split('<').skip(1) {
        let tag = tag.split('>').next().unwrap();
        let name = tag
            .split(|c: char| c.is_whitespace() || c == '/')
            .find(|word| !word.is_empty())
            .unwrap_or_default();
        assert!(
            !matches!(name, "style" | "iframe" | "object" | "embed" | "base" | "img" | "svg"),
            "{}: <{tag}>",
            page.path
        );
        // Outside the quoted values.
        let bare: String = tag.split('"').step_by(2).collect();
        for word in bare.split_whitespace().skip(1) {
            assert!(
                !word.starts_with("on") && !word.starts_with("style="),
                "{}: <{tag}>",
                page.path
            );
        }
        for address in ["href=\"", "src=\"", "action=\""] {
            if let Some((_, value)) = tag.split_once(address) {
                assert!(
                    value.starts_with('/') && !value.starts_with("//") || value.starts_with('#'),
                    "{}: <{tag}>",
                    page.path
                );
            }
        }
    }
    let scripts = page.body.matches("<script").count();
    assert!(
        scripts <= 1 && page.body.matches("<script src=\"/assets/").count() == scripts,
        "{}",
        page.path
    );
}

#[tokio::test]
async fn what_others_write_is_shown_as_text_on_every_page() {
    let mut stand = Stand::new().await;
    let ids = stand.dead_letters(u32::try_from(CORPUS.len()).unwrap()).await;
    // As the database's owner, past every rule and trigger: whatever may ever stand in a column.
    stand.world.db.run("set session_replication_role = replica").await;
    for (id, text) in ids.iter().zip(CORPUS) {
        let text = text.replace('\'', "''");
        stand
            .world
            .db
            .run(&format!(
                "update capture.intents set order_id = '{text}', payment_id = '{text}', capture_ref = '{text}' where id = '{id}';
                 update capture.outcomes set last_code = '{text}' where intent = '{id}';
                 update capture.attempts_apart set code = '{text}', host = '{text}', evidence = convert_to('{text}', 'UTF8') where intent = '{id}';
                 update capture.events set data = jsonb_build_object('code', '{text}', '{text}', '{text}') where intent_id = '{id}'"
            ))
            .await;
    }
    stand.world.db.run("set session_replication_role = default").await;
    let (mut operator, mut viewer) = (stand.operator().await, stand.viewer().await);
    let token = operator.token().await;
    let mut paths: Vec<String> = ["/", "/captures", "/dead", "/dead?by=code", "/dead?by=account", "/risk"]
        .map(str::to_owned)
        .to_vec();
    let lane: i32 = stand
        .world
        .db
        .scalar("select id from capture.lanes where provider = 'afterpay'")
        .await;
    for (id, text) in ids.iter().zip(CORPUS) {
        let id = id.to_string();
        paths.push(format!("/captures/{id}"));
        let mut url = url::Url::parse("http://x").unwrap();
        url.path_segments_mut().unwrap().clear().extend(["orders", text]);
        paths.push(url.path().to_owned());
        for name in [
            "order",
            "payment",
            "state",
            "class",
            "code",
            "provider",
            "account",
            "amount",
            "since",
            "until",
            "expires-within",
            "limit",
            "after",
            "by",
            text,
        ] {
            url.query_pairs_mut().clear().append_pair(name, text);
            paths.push(format!("/captures?{}", url.query().unwrap()));
            paths.push(format!("/dead?{}", url.query().unwrap()));
        }
        url.query_pairs_mut().clear().append_pair("to", text);
        paths.push(format!("/login?{}", url.query().unwrap()));
        // Reasons and evidence of people, on the way through the preview and in the audit.
        let fields = [
            ("form_token", token.as_str()),
            ("act", "resolve"),
            ("as", "not-captured"),
            ("evidence", text),
            ("reason", text),
            ("id", &id),
        ];
        is_inert(&operator.post("/operations/new", &fields).await.is(200));
        let begun = operator.post("/operations", &fields).await.is(303);
        paths.push(begun.location().to_owned());
        let reason = [("form_token", token.as_str()), ("reason", text)];
        operator.post(&format!("/lanes/{lane}/pause"), &reason).await.is(303);
        is_inert(&operator.get("/").await.is(200));
        operator.post(&format!("/lanes/{lane}/resume"), &reason).await.is(303);
        is_inert(
            &operator
                .post("/operations/new", &[("form_token", &token), ("act", text)])
                .await
                .is(400),
        );
        is_inert(
            &operator
                .post(
                    "/operations/new",
                    &[
                        ("form_token", &token),
                        ("act", "replay"),
                        ("everything", "1"),
                        ("filter", text),
                    ],
                )
                .await,
        );
    }
    paths.extend(["/audit", "/operations", "/audit?verify=1"].map(str::to_owned));
    for path in &paths {
        let page = operator.get(path).await;
        assert!(page.status < 500, "{path}: {page:?}");
        is_inert(&page);
        is_inert(&viewer.get(path).await);
    }
    // It is shown, so that this test looks at something.
    let page = operator.get(&format!("/captures/{}", ids[0])).await.is(200);
    assert!(
        page.body.contains("&#60;script&#62;window.pwned=1&#60;/script&#62;"),
        "{}",
        page.body
    );
    operator.get("/audit").await.is(200).says("&#60;script&#62;");
}

#[tokio::test]
async fn a_name_from_a_key_or_an_unknown_address_runs_nothing_either() {
    let stand = Stand::new().await;
    let (key, _) = stand.key("a.b_c@d-e", &[Scope::Read]).await;
    let mut person = stand.enter(&key).await;
    is_inert(
        &person
            .get("/captures/%3Cscript%3Ewindow.pwned=1%3C%2Fscript%3E")
            .await
            .is(404),
    );
    is_inert(
        &person
            .get("/operations/%22%3E%3Cimg%20src=x%20onerror=window.pwned=1%3E")
            .await
            .is(404),
    );
    person.headers = vec![("accept".to_owned(), "text/html".to_owned())];
    is_inert(
        &person
            .get("/nowhere/%3Cscript%3E")
            .await
            .is(404)
            .says("There is nothing here"),
    );
}
