//! A redirect is never followed, wherever it comes from: the place that it points to is not even connected to.

use capture::outcome::{Class, Observation, Outcome};
use capture::provider::Model;

use crate::models::{Bench, MODELS, charge, failure, intent, script};
use crate::wire::{Kind, Script, Step, Wire, with};

const STATUSES: [u16; 8] = [300, 301, 302, 303, 304, 305, 307, 308];
const BEARERS: [Model; 3] = [Model::Optty, Model::ResolveCharge, Model::ResolveOrder];

/// Ways to name the other place.
fn locations(elsewhere: &Wire) -> Vec<Vec<(&'static str, String)>> {
    let address = elsewhere.address;
    let port = address.port();
    vec![
        vec![("location", format!("http://{address}/base/capture"))],
        vec![("location", format!("//{address}/base/token"))],
        vec![("location", format!("http://user:pass@localhost:{port}/"))],
        vec![("refresh", format!("0; url=http://{address}/"))],
        vec![
            ("location", format!("http://{address}/a")),
            ("location", format!("http://{address}/b")),
        ],
        // Not a redirect, and yet an invitation.
        vec![
            ("alt-svc", format!("h2=\"{address}\"; ma=3600, h2c=\"{address}\"")),
            ("link", format!("<http://{address}/>; rel=preload")),
            ("location", format!("http://{address}/c")),
        ],
    ]
}

fn redirects(elsewhere: &Wire) -> Vec<Step> {
    let mut steps = Vec::new();
    for status in STATUSES {
        for headers in locations(elsewhere) {
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            steps.push(Step::Answer(with(status, &headers, "")));
        }
    }
    steps
}

fn is_redirect(class: Class, code: &str) -> bool {
    (class, code) == (Class::Misconfigured, "redirect")
}

#[tokio::test]
async fn a_capture_that_is_redirected_goes_nowhere_else() {
    for model in MODELS {
        let elsewhere = Wire::start(script(model, vec![])).await;
        let steps = redirects(&elsewhere);
        let count = steps.len();
        let bench = Bench::new(model, steps).await;
        for _ in 0..count {
            let failure = failure(bench.capture().await);
            assert!(
                is_redirect(failure.class, failure.code.as_str()),
                "{model:?} {failure:?}"
            );
        }
        assert_eq!(bench.wire.captures().len(), count, "{model:?}");
        assert_eq!(elsewhere.connections(), 0, "{model:?}");
    }
}

#[tokio::test]
async fn a_read_that_is_redirected_goes_nowhere_else_and_proves_nothing() {
    for model in MODELS {
        let elsewhere = Wire::start(script(model, vec![])).await;
        let steps = redirects(&elsewhere);
        let count = steps.len();
        let script = Script {
            others: steps,
            ..script(model, vec![])
        };
        let bench = Bench::of(model, script, |_| {}).await;
        for _ in 0..count {
            match bench.provider.read(&bench.call()).await {
                Observation::Failed(failure) => {
                    assert!(
                        is_redirect(failure.class, failure.code.as_str()),
                        "{model:?} {failure:?}"
                    );
                }
                other => panic!("{model:?} {other:?}"),
            }
        }
        assert_eq!(elsewhere.connections(), 0, "{model:?}");
    }
}

#[tokio::test]
async fn the_read_after_a_capture_is_not_led_away_and_leaves_the_capture_accepted() {
    for model in [Model::Optty, Model::ResolveCharge] {
        let elsewhere = Wire::start(script(model, vec![])).await;
        let steps = redirects(&elsewhere);
        let count = steps.len();
        let script = Script {
            others: steps,
            ..script(model, vec![])
        };
        let bench = Bench::of(model, script, |_| {}).await;
        for _ in 0..count {
            let outcome = bench.capture().await;
            assert!(matches!(outcome, Outcome::Accepted { .. }), "{model:?} {outcome:?}");
        }
        assert_eq!(elsewhere.connections(), 0, "{model:?}");
    }
}

#[tokio::test]
async fn a_marker_that_is_redirected_goes_nowhere_else() {
    let model = Model::ResolveCharge;
    let elsewhere = Wire::start(script(model, vec![])).await;
    let open = crate::wire::json(200, &charge(&intent(model).payment_id, false));
    // Every second of them is the read before the marker is written; the other, the marker itself.
    let steps = redirects(&elsewhere);
    let count = steps.len();
    let others = steps
        .into_iter()
        .flat_map(|step| [Step::Answer(open.clone()), step])
        .collect();
    let script = Script {
        others,
        ..script(model, vec![])
    };
    let bench = Bench::of(model, script, |settings| settings.other_writers = true).await;
    for _ in 0..count {
        let failure = bench.provider.mark(&bench.call()).await.expect_err("it was redirected");
        assert!(is_redirect(failure.class, failure.code.as_str()), "{failure:?}");
    }
    let put = bench
        .wire
        .seen()
        .into_iter()
        .filter(|seen| seen.method == "PUT")
        .count();
    assert_eq!(put, count);
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn a_token_endpoint_that_redirects_gets_no_capture_and_the_client_secret_goes_nowhere_else() {
    for model in BEARERS {
        let elsewhere = Wire::start(script(model, vec![])).await;
        let steps = redirects(&elsewhere);
        let count = steps.len();
        let script = Script {
            tokens: steps,
            ..script(model, vec![])
        };
        let bench = Bench::of(model, script, |settings| settings.bearer = true).await;
        for turn in 0..count {
            // Captures and reads alike need a token first.
            let (class, code) = if turn % 2 == 0 {
                let failure = failure(bench.capture().await);
                (failure.class, failure.code)
            } else {
                match bench.provider.read(&bench.call()).await {
                    Observation::Failed(failure) => (failure.class, failure.code),
                    other => panic!("{model:?} {other:?}"),
                }
            };
            assert!(is_redirect(class, code.as_str()), "{model:?} {class} {code}");
        }
        let tokens = bench
            .wire
            .seen()
            .into_iter()
            .filter(|seen| seen.kind == Kind::Token)
            .count();
        assert_eq!(
            tokens, count,
            "{model:?}: one request each, and nothing but tokens was asked for"
        );
        assert_eq!(bench.wire.seen().len(), count, "{model:?}");
        assert_eq!(elsewhere.connections(), 0, "{model:?}");
    }
}
