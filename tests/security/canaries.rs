//! A whole story told with marked secrets and marked people; then every byte that came out is searched for the mark.
//!
//! Personal data is stored where its owner has put it, and nowhere else: `DECLARED`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use capture::provider::Model;
use serde_json::json;

use crate::ground::Ground;
use crate::leaks::{MARK, dump, leaks, marked_columns};
use crate::merchant::Merchant;
use crate::models::token;
use crate::wire::{self, End, Kind, Script, Seen, Step, Wire};

/// Columns that hold what their owners have written there: the order system's own text, and fulfilment's parcels. (The number of
/// a parcel in `shipment_events` is the reference of its shipment, too, and is told as such in `capture.released`.)
const DECLARED: [&str; 7] = [
    "intents.details",
    "releases.company",
    "releases.method",
    "releases.tracking_number",
    "shipment_events.body",
    "shipment_events.company",
    "shipment_events.method",
];

pub const ACCOUNTS: [(&str, &str, Model); 4] = [
    ("afterpay", "afterpay", Model::Afterpay),
    ("optty", "optty", Model::Optty),
    ("resolve", "charge", Model::ResolveCharge),
    ("resolve", "order", Model::ResolveOrder),
];

pub fn secret(account: &str) -> String {
    format!("CNRY-secret-of-{account}")
}

fn person() -> serde_json::Value {
    json!({
        "name": "CNRY-name Doe", "givenNames": "CNRY-given", "email": "CNRY-mail@example.com", "phoneNumber": "+1 CNRY-phone",
        "line1": "1 CNRY-street", "postcode": "CNRY-code",
    })
}

/// What becomes of a payment, by the last digit of its id.
fn step(merchant: &Merchant, seen: &Seen, turns: &Mutex<HashMap<String, usize>>) -> Step {
    let payment = Merchant::payment(seen).to_owned();
    let is_capture = seen.kind == Kind::Capture;
    let turn = {
        let mut turns = turns.lock().unwrap();
        let turn = turns.entry(format!("{payment} {is_capture}")).or_default();
        *turn += 1;
        *turn
    };
    // Errors repeat whatever they were sent, and more.
    let dirty = format!(
        r#""message":"CNRY-name {} {}","customer":{}"#,
        secret("afterpay"),
        String::from_utf8_lossy(&seen.body).replace(['"', '\\'], ""),
        person()
    );
    let error = |status: u16, code: &str| {
        let body = format!(
            r#"{{"errorCode":"{code}","errorId":"e1","statusCode":{status},"error":{{"type":"{code}",{dirty}}},{dirty}}}"#
        );
        Step::Answer(wire::with(
            status,
            &[("content-type", "application/json"), ("x-customer", "CNRY-header")],
            &body,
        ))
    };
    match (payment.chars().last(), is_capture) {
        // Declined, and not there.
        (Some('2'), true) => error(422, "invalid_amount"),
        (Some('3'), true) => error(404, "not_found"),
        // Captured, and nobody said so.
        (Some('4'), true) if turn == 1 => {
            let _ = merchant.answer(seen);
            Step::Then(vec![], End::Reset)
        }
        // Pages, text and another amount instead of an answer.
        (Some('5'), true) if turn == 1 => Step::Answer(wire::with(
            502,
            &[("content-type", "text/html")],
            "<html><title>CNRY-name</title>CNRY-mail@example.com</html>",
        )),
        (Some('6'), true) if turn == 1 => Step::Answer(wire::with(200, &[], "CNRY-name was charged on CNRY-card")),
        (Some('7'), true) => {
            let good = String::from_utf8(merchant.answer(seen)).unwrap();
            let body = good
                .split_once("\r\n\r\n")
                .unwrap()
                .1
                .replace("10.00", "99.00")
                .replace("10.0", "99.0");
            Step::Answer(wire::json(200, &body))
        }
        (Some('8'), _) => error(403, "forbidden_error"),
        _ => Step::Answer(merchant.answer(seen)),
    }
}

async fn provider(model: Model) -> Wire {
    let merchant = Merchant::new(model, person());
    let turns = Mutex::default();
    Wire::start(Script {
        captures: vec![],
        others: vec![],
        tokens: vec![],
        accepts: vec![],
        usual: Box::new(move |seen| match seen.kind {
            Kind::Token => Step::Answer(wire::json(200, &token("CNRY-token.eyJhbGciOi", 86400))),
            Kind::Capture | Kind::Other => step(&merchant, seen, &turns),
        }),
    })
    .await
}

struct Story {
    ground: Ground,
    /// What came out, under the name of where.
    told: Vec<(String, String)>,
    wires: Vec<Arc<Wire>>,
}

impl Story {
    async fn begin(format: &str) -> Story {
        let mut ground = Ground::new().await;
        let url = format!("{}&password=CNRY-password", ground.url);
        ground.set("DATABASE_URL", &url);
        ground.set("RUST_LOG", "trace");
        ground.set("RUST_BACKTRACE", "full");
        let mut settings = format!(
            "[worker]\nallow_lost_commits = true\nlease = \"10s\"\nconnect_timeout = \"2s\"\nread_timeout = \"2s\"\npoll_max = \"50ms\"\n\
             deadline_margin = \"1s\"\n\
             [retry]\ninitial = \"10ms\"\nmax = \"50ms\"\nattempts = 4\nverify_quiet = \"50ms\"\n[breaker]\nfailures = 10000\n\
             [telemetry]\nlisten = \"127.0.0.1:0\"\nformat = \"{format}\"\n"
        );
        let mut wires = Vec::new();
        for (provider_name, name, model) in ACCOUNTS {
            let wire = provider(model).await;
            let address = wire.address;
            settings.push_str(&format!(
                "[[account]]\nprovider = \"{provider_name}\"\nname = \"{name}\"\nbase_url = \"http://{address}/base\"\n\
                 merchant_id = \"merchant\"\nrate_per_minute = 0\nconcurrency = 4\n"
            ));
            // Secrets from variables and from files.
            if name == "charge" {
                let path = ground.write("secret-of-charge", &secret(name));
                settings.push_str(&format!(
                    "secret_file = \"{path}\"\nmodel = \"charge\"\nother_writers = true\n"
                ));
            } else {
                let variable = format!("SECRET_{}", name.to_ascii_uppercase());
                ground.set(&variable, &secret(name));
                settings.push_str(&format!("secret_env = \"{variable}\"\n"));
            }
            match name {
                "order" => settings.push_str("model = \"order\"\nbearer = true\n"),
                "optty" => settings.push_str(&format!("auth_url = \"http://{address}/auth/token\"\n")),
                "afterpay" => settings.push_str("platform_url = \"https://shop.example\"\n"),
                _ => {}
            }
            wires.push(Arc::new(wire));
        }
        ground.write("capture.toml", &settings);
        Story {
            ground,
            told: Vec::new(),
            wires,
        }
    }

    async fn run(&mut self, arguments: &[&str]) -> crate::ground::Run {
        let run = self.ground.run(arguments).await;
        self.told.push((
            format!("capture {}", arguments.join(" ")),
            format!("{}\n{}", run.stdout, run.stderr),
        ));
        run
    }

    /// The order system and fulfilment write what they know of people.
    async fn ask(&mut self) {
        let details = "{\"description\":\"CNRY-description\",\"shipping\":{\"company\":\"CNRY-carrier\",\"method\":\"CNRY-method\",\
                       \"tracking_number\":\"CNRY-parcel\"},\"order_number\":\"CNRY-order\",\"po_number\":\"CNRY-po\",\
                       \"merchant_reference\":\"CNRY-reference\"}";
        for (provider, account, _) in ACCOUNTS {
            self.ground
                .db
                .run(&format!(
                    "select capture.enqueue(provider => '{provider}', account => '{account}', order_id => 'o' || n, payment_id => (1000 + n)::text,
                         capture_ref => 'r', amount_minor => 1000, currency => 'USD', details => '{details}',
                         authorized_minor => 5000, hold => case when n = 9 then 'shipment' end)
                     from generate_series(1, 9) n where n <> 8"
                ))
                .await;
        }
        self.ground
            .db
            .run(
                "insert into capture.shipment_events (source, event_id, provider, account, payment_id, kind, company, method, tracking_number, body)
                 values ('wms', 'e1', 'afterpay', 'afterpay', '1009', 'shipped', 'CNRY-carrier', 'CNRY-method', 'P-77', 'CNRY-body');
                 select capture.release(provider => 'optty', account => 'optty', payment_id => '1009', shipment_ref => 'p',
                     company => 'CNRY-carrier', method => 'CNRY-method', tracking_number => 'CNRY-parcel')",
            )
            .await;
    }

    async fn ids(&mut self, condition: &str) -> Vec<String> {
        self.ground
            .db
            .column(&format!(
                "select id::text from capture.status where {condition} order by id"
            ))
            .await
    }

    /// Everything that a person could ask.
    async fn look(&mut self, forms: &[&str]) {
        for form in forms {
            for verb in [
                &["list"][..],
                &["status"],
                &["dead"],
                &["dead", "--resolved"],
                &["lane", "list"],
                &["events", "tail", "--after", "0-0"],
                &["doctor"],
                &["config", "show"],
                &["config", "check"],
                &["replay", "--state", "dead", "-n"],
                &["replay", "--state", "dead", "--reason", "x", "--yes", "-n"],
                &["migrate", "status"],
                &["migrate", "verify"],
                &["version"],
            ] {
                let arguments: Vec<&str> = verb.iter().copied().chain(["-o", form]).collect();
                self.run(&arguments).await;
            }
        }
        for class in [
            "transient",
            "ambiguous",
            "maybe_done",
            "rejected",
            "misconfigured",
            "in_progress",
            "rate_limited",
        ] {
            self.run(&["dead", "explain", class]).await;
        }
        for id in self.ids("payment_id in ('1001', '1002', '1004', '1006', '1007')").await {
            self.run(&["get", &id, "-o", "json"]).await;
            self.run(&["get", &id]).await;
            self.run(&["timeline", &id, "-o", "json"]).await;
            self.run(&["timeline", &id]).await;
        }
    }
}

async fn tell_and_search(format: &str, looks: bool) {
    let mut story = Story::begin(format).await;
    story.ask().await;
    let worker = story.ground.work().await;
    story
        .ground
        .until_sql("select count(*) = 0 from capture.status where state not in ('captured', 'dead') and payment_id <> '1007' and not (payment_id = '1009' and provider = 'resolve')")
        .await;
    // A lane whose credentials are refused, an outcome that is left to a person, a replay, a resolve.
    story
        .ground
        .db
        .run("select capture.enqueue(provider => 'resolve', account => 'order', order_id => 'o8', payment_id => '1008', capture_ref => 'r', amount_minor => 1000, currency => 'USD')")
        .await;
    story
        .ground
        .until_sql("select count(*) = 1 from capture.lanes where paused_at is not null")
        .await;
    if looks {
        story.look(&["table", "json", "ndjson", "csv", "id"]).await;
    }
    let dead = story.ids("state = 'dead'").await;
    assert!(dead.len() >= 8, "{}", dead.len());
    let resolved = story
        .run(&[
            "resolve",
            &dead[0],
            "--as",
            "not-captured",
            "--evidence",
            "dashboard 7",
            "--reason",
            "asked them",
            "-o",
            "json",
        ])
        .await;
    assert_eq!(resolved.code, Some(0), "{resolved:?}");
    let replayed = story
        .run(&[
            "replay",
            "--state",
            "dead",
            "--account",
            "afterpay",
            "--reason",
            "they are back",
            "--yes",
            "-o",
            "json",
        ])
        .await;
    assert_eq!(replayed.code, Some(0), "{replayed:?}");
    story.run(&["lane", "probe", "resolve/order"]).await;
    story
        .run(&["lane", "resume", "resolve/order", "--reason", "mended"])
        .await;
    let (other, held) = ("resolve", "charge");
    let held = story
        .ids(&format!(
            "provider = '{other}' and account = '{held}' and payment_id = '1009'"
        ))
        .await;
    story
        .run(&["cancel", &held[0], "--reason", "not wanted", "-o", "json"])
        .await;
    story.ground.until_sql("select not exists (select from capture.status where state = 'verifying' and account = 'afterpay' and payment_id <> '1007')").await;
    if looks {
        story.look(&["table", "json"]).await;
    }
    for page in ["/metrics", "/health/live", "/health/ready", "/CNRY-no-such-page?CNRY"] {
        let answer = worker.page(page).await;
        story.told.push((format!("GET {page}"), answer));
    }
    story
        .told
        .push(("/proc/PID/cmdline".to_owned(), worker.proc("cmdline")));
    let (said, code) = worker.stop().await;
    assert_eq!(
        code,
        Some(0),
        "{}",
        said.lines().rev().take(20).collect::<Vec<_>>().join("\n")
    );
    assert!(said.len() > 100_000, "the log is a talkative one: {} bytes", said.len());
    assert!(!said.contains("panicked"));
    story.told.push(("the worker's log".to_owned(), said));

    // The story was told: the canaries were sent where they had to be, and the answers were full of them.
    for wire in &story.wires {
        let sent = wire
            .seen()
            .iter()
            .any(|seen| String::from_utf8_lossy(&seen.raw).to_ascii_lowercase().contains(MARK));
        assert!(sent || wire.seen().iter().any(|seen| seen.header("authorization").is_some()));
    }
    let ends: Vec<String> = story
        .ground
        .db
        .column("select distinct coalesce(dead_reason, state) from capture.status order by 1")
        .await;
    for end in ["captured", "rejected", "undecided", "cancelled"] {
        assert!(ends.iter().any(|there| there == end), "no intent ended {end}: {ends:?}");
    }

    let mut found = Vec::new();
    let mut bytes = 0;
    for (place, text) in &story.told {
        bytes += text.len();
        for leak in leaks(text) {
            found.push(format!("{place}: …{leak}"));
        }
    }
    eprintln!("{} outputs, {bytes} bytes searched ({format})", story.told.len());
    assert!(
        found.is_empty(),
        "{} leaks, such as {:#?}",
        found.len(),
        &found[..found.len().min(5)]
    );

    let marked = marked_columns(&mut story.ground).await;
    assert_eq!(marked, DECLARED, "columns that hold what only their owners write");
    let dump = dump(&mut story.ground).await;
    assert!(leaks(&dump).is_empty(), "pg_dump: {:?}", leaks(&dump).first());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_and_nobodys_data_comes_out_of_a_story_that_is_full_of_them() {
    tell_and_search("json", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_does_it_come_out_of_logs_that_are_text() {
    tell_and_search("text", false).await;
}

/// Settings that are wrong are told in plain words, and a secret that stands where it does not belong is not repeated.
#[tokio::test]
async fn no_fault_of_the_settings_repeats_a_secret() {
    let account = "[[account]]\nprovider = \"optty\"\nbase_url = \"https://api.optty.com\"\nauth_url = \"https://auth.optty.com/token\"\nmerchant_id = \"m\"\n";
    let good = format!("{account}secret_env = \"GOOD\"\n");
    for (what, wrong) in [
        ("a secret in the file", format!("{account}secret = \"CNRY-secret\"\n")),
        (
            "a secret as a number of characters",
            format!("{account}secret_env = [\"CNRY-secret\"]\n"),
        ),
        (
            "a secret as a variable's name",
            format!("{account}secret_env = \"CNRY-secret with spaces\"\n"),
        ),
        (
            "a password in the address",
            good.replace("https://api", "https://user:CNRY-secret@api"),
        ),
        (
            "a password in a broken address",
            good.replace("https://api", "https://user:CNRY-secret@[api"),
        ),
        (
            "a key in the address",
            good.replace("optty.com/token", "optty.com/token?key=CNRY-secret"),
        ),
        ("a merchant with its secret", good.replace("\"m\"", "\"m:CNRY-secret\"")),
        (
            "a database with a password",
            format!("database_url = \"postgres://u:CNRY-secret@[broken/db\"\n{good}"),
        ),
        (
            "a database that is a number",
            format!("database_url = {{ url = \"CNRY-secret\" }}\n{good}"),
        ),
    ] {
        let mut ground = Ground::new().await;
        ground.set("GOOD", "CNRY-good");
        ground.set("DATABASE_URL", "");
        ground.set("RUST_LOG", "trace");
        ground.write("capture.toml", &wrong);
        for arguments in [
            &["config", "check"][..],
            &["config", "show", "-o", "json"],
            &["work"],
            &["status"],
            &["doctor"],
        ] {
            let run = ground.run(arguments).await;
            let said = format!("{}{}", run.stdout, run.stderr);
            assert!(
                leaks(&said).is_empty(),
                "{what}: capture {}: {said}",
                arguments.join(" ")
            );
        }
    }
}
