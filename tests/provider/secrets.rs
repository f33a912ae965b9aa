//! Nothing secret and nothing personal comes out.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use capture::outcome::{Evidence, Observation, Outcome};
use capture::provider::{Model, SettingsError, build};

use crate::models::{Bench, CANARY, MERCHANT, MODELS, SECRET, TOKEN, adapter, intent, script, settings};
use crate::wire::{Step, json, with};

/// Fails if `text` holds a secret or a canary.
fn is_clean(text: &str, what: &str) {
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("{MERCHANT}:{SECRET}"));
    for leak in [SECRET, TOKEN, &basic, "CANARY", "canary"] {
        assert!(!text.contains(leak), "{what} leaks {leak}: {text}");
    }
}

fn evidence(outcome: &Outcome) -> Option<&Evidence> {
    match outcome {
        Outcome::Captured(receipt) => Some(&receipt.evidence),
        Outcome::Accepted { evidence, .. } => Some(evidence),
        Outcome::Failed(failure) => Some(&failure.evidence),
        Outcome::NotSent => None,
    }
}

/// Answers full of personal data and echoed secrets, in every form.
fn dirty(model: Model) -> Vec<Vec<u8>> {
    let echo = format!(r#""message":"CANARY {SECRET} {TOKEN}","details":[{CANARY}],"customer":{CANARY}"#);
    let errors = [
        format!(r#"{{"errorCode":"invalid_amount","errorId":"e1",{echo}}}"#),
        format!(r#"{{"statusCode":400,{echo}}}"#),
        format!(r#"{{"error":{{"type":"invalid_request",{echo}}}}}"#),
        format!("<html>CANARY {SECRET}</html>"),
        format!("CANARY {SECRET}"),
    ];
    let mut answers = Vec::new();
    for status in [
        200, 201, 302, 400, 401, 402, 403, 404, 409, 410, 412, 418, 422, 429, 500, 503,
    ] {
        for error in &errors {
            answers.push(with(
                status,
                &[("location", "http://127.0.0.1:1/CANARY"), ("x-secret", SECRET)],
                error,
            ));
        }
    }
    let good = String::from_utf8(crate::models::good_answer(model)).unwrap();
    assert!(
        model == Model::Optty || good.contains("CANARY"),
        "the good answer is dirty too"
    );
    answers.push(good.into_bytes());
    answers
}

#[tokio::test]
async fn no_answer_brings_secrets_or_personal_data_into_outcomes() {
    for model in MODELS {
        let answers = dirty(model);
        let steps = answers.iter().cloned().map(Step::Answer).collect();
        let bench = Bench::new(model, steps).await;
        for _ in answers {
            let outcome = bench.capture().await;
            is_clean(&format!("{outcome:?}"), "outcome");
            if let Some(evidence) = evidence(&outcome) {
                is_clean(&String::from_utf8_lossy(evidence.bytes()), "evidence");
                assert!(
                    evidence.bytes().is_empty()
                        || serde_json::from_slice::<serde_json::Value>(evidence.bytes()).is_ok(),
                    "evidence is whole JSON: {evidence:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn no_read_brings_secrets_or_personal_data_into_observations() {
    for model in MODELS {
        let answers = dirty(model);
        let mut script = script(model, vec![]);
        script.others = answers.iter().cloned().map(Step::Answer).collect();
        let bench = Bench::of(model, script, |_| {}).await;
        for _ in answers {
            let observed = bench.provider.read(&bench.call()).await;
            is_clean(&format!("{observed:?}"), "observation");
        }
        let bench = Bench::new(model, vec![]).await;
        match bench.provider.read(&bench.call()).await {
            Observation::Captured(receipt) => {
                let shown = String::from_utf8_lossy(receipt.evidence.bytes()).into_owned();
                is_clean(&shown, "evidence");
                assert!(shown.contains("10"), "and yet it shows the amount: {shown}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_refused_token_request_shows_no_secret() {
    for model in [Model::Optty, Model::ResolveCharge, Model::ResolveOrder] {
        for status in [200, 400, 401, 500] {
            let mut script = script(model, vec![]);
            script.tokens = vec![Step::Answer(json(status, &format!(r#"{{"echo":"{SECRET}"}}"#)))];
            let bench = Bench::of(model, script, |settings| settings.bearer = true).await;
            is_clean(&format!("{:?}", bench.capture().await), "outcome");
        }
    }
}

#[test]
fn settings_show_no_secret() {
    let address = "127.0.0.1:1".parse().unwrap();
    for model in MODELS {
        is_clean(&format!("{:?}", settings(model, address)), "settings");
    }
}

#[test]
fn wrong_settings_are_refused_in_plain_words_without_their_values() {
    let address = "127.0.0.1:1".parse().unwrap();
    type Change = fn(&mut capture::provider::AccountSettings);
    let wrong: [(Model, Change, &str); 14] = [
        (
            Model::Afterpay,
            |s| s.base_url = "http://example.com".into(),
            "must begin with https://",
        ),
        (
            Model::Afterpay,
            |s| s.base_url = "http://10.0.0.1".into(),
            "must begin with https://",
        ),
        (
            Model::Afterpay,
            |s| s.base_url = "http://localhost.example.com".into(),
            "must begin with https://",
        ),
        (
            Model::Afterpay,
            |s| s.base_url = "ftp://127.0.0.1".into(),
            "must begin with https://",
        ),
        (
            Model::Afterpay,
            |s| s.base_url = format!("https://u:{SECRET}@example.com"),
            "no user",
        ),
        (
            Model::Afterpay,
            |s| s.base_url = format!("https://example.com/?key={SECRET}"),
            "query",
        ),
        (Model::Afterpay, |s| s.base_url = SECRET.into(), "is not a URL"),
        (Model::Optty, |s| s.auth_url = None, "auth_url is missing"),
        (
            Model::Optty,
            |s| s.auth_url = Some("http://example.com/token".into()),
            "auth_url must begin",
        ),
        (Model::Afterpay, |s| s.merchant_id = "a b".into(), "merchant_id"),
        (Model::Afterpay, |s| s.merchant_id = "a:b".into(), "merchant_id"),
        (Model::Afterpay, |s| s.secret = String::new().into(), "secret is empty"),
        (
            Model::ResolveOrder,
            |s| s.api_version = Some("1\r\nx: y".into()),
            "api_version",
        ),
        (
            Model::Afterpay,
            |s| s.read_timeout = std::time::Duration::ZERO,
            "read_timeout",
        ),
    ];
    for (model, change, expected) in wrong {
        let mut settings = settings(model, address);
        change(&mut settings);
        let told: SettingsError = match build(settings) {
            Err(told) => told,
            Ok(_) => panic!("{expected}: was taken"),
        };
        assert!(told.to_string().contains(expected), "{told}");
        assert!(told.to_string().contains("account "), "{told}");
        is_clean(&format!("{told} {told:?}"), "error");
    }
    for fine in [
        "http://127.0.0.1:8080",
        "http://[::1]:1/x/",
        "http://localhost:9",
        "https://example.com/api/",
    ] {
        let mut settings = settings(Model::Afterpay, address);
        settings.base_url = fine.to_owned();
        let _ = adapter(settings);
    }
}

#[test]
fn the_host_is_told_without_user_or_path() {
    for (base, host) in [
        ("https://app.resolvepay.com/api/", "app.resolvepay.com"),
        ("http://127.0.0.1:8080/x", "127.0.0.1:8080"),
        ("http://[::1]:9", "[::1]:9"),
    ] {
        let mut settings = settings(Model::ResolveOrder, "127.0.0.1:1".parse().unwrap());
        settings.base_url = base.to_owned();
        assert_eq!(adapter(settings).host(), host);
    }
}

/// Everything that is logged while a capture runs, at the most talkative level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "current_thread")]
async fn the_most_talkative_log_shows_no_secret() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    for model in MODELS {
        let bench = Bench::of(model, script(model, vec![]), |settings| settings.bearer = true).await;
        let _ = bench.capture().await;
        let _ = bench.provider.read(&bench.call()).await;
        let _ = intent(model);
    }
    is_clean(&String::from_utf8_lossy(&log.0.lock().unwrap()), "log");
}
