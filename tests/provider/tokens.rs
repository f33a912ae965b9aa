//! Bearer tokens, seen from the wire.

use std::sync::Arc;
use std::time::Duration;

use capture::outcome::{Class, Outcome};
use capture::provider::{AccountSettings, Model};

use crate::models::{Bench, MERCHANT, SECRET, TOKEN, call, failure, script, token};
use crate::wire::{End, Kind, Script, Step, json};

const BEARERS: [Model; 3] = [Model::Optty, Model::ResolveCharge, Model::ResolveOrder];

async fn bench(model: Model, change: impl FnOnce(&mut Script)) -> Bench {
    let mut script = script(model, vec![]);
    change(&mut script);
    Bench::of(model, script, |settings: &mut AccountSettings| settings.bearer = true).await
}

fn minted(bench: &Bench) -> usize {
    bench.wire.seen().iter().filter(|seen| seen.kind == Kind::Token).count()
}

#[tokio::test]
async fn a_token_is_asked_for_as_documented_and_used_for_every_call() {
    for model in BEARERS {
        let bench = bench(model, |_| {}).await;
        for _ in 0..3 {
            assert!(matches!(bench.capture().await, Outcome::Captured(_)), "{model:?}");
        }
        assert_eq!(minted(&bench), 1, "{model:?}");
        let seen = bench.wire.seen();
        let asked = String::from_utf8(seen[0].body.clone()).unwrap();
        assert_eq!(seen[0].header("authorization"), None, "{model:?}");
        let escaped = MERCHANT.replace('-', "%2D");
        match model {
            Model::Optty => {
                assert!(
                    asked.starts_with(&format!("client_id={escaped}&client_secret=SECRET")),
                    "{asked}"
                );
                assert!(
                    asked.ends_with("&grant_type=client_credentials&scope=api-user"),
                    "{asked}"
                );
                assert_eq!(seen[0].target, "/auth/token");
            }
            _ => {
                assert_eq!(
                    asked,
                    format!(r#"{{"client_id":"{MERCHANT}","client_secret":"{SECRET}"}}"#)
                );
                assert_eq!(seen[0].target, "/base/access-keys/token");
            }
        }
        assert!(
            seen[1..]
                .iter()
                .all(|seen| seen.header("authorization") == Some(format!("Bearer {TOKEN}")))
        );
    }
}

#[tokio::test]
async fn a_refused_token_is_dropped_and_the_next_call_mints_anew() {
    for model in BEARERS {
        let bench = bench(model, |script| {
            script.captures = vec![Step::Answer(json(401, ""))];
            script.tokens = vec![
                Step::Answer(json(200, &token("first", 86400))),
                Step::Answer(json(200, &token("second", 86400))),
            ];
        })
        .await;
        let failure = failure(bench.capture().await);
        assert_eq!(
            (failure.class, failure.code.as_str()),
            (Class::Transient, "token_not_taken"),
            "{model:?}: it was minted for this very call"
        );
        assert_eq!(bench.wire.captures().len(), 1, "one call is one POST");
        assert!(matches!(bench.capture().await, Outcome::Captured(_)), "{model:?}");
        let used: Vec<_> = bench
            .wire
            .captures()
            .iter()
            .filter_map(|seen| seen.header("authorization"))
            .collect();
        assert_eq!(used, ["Bearer first", "Bearer second"], "{model:?}");
    }
}

#[tokio::test]
async fn with_a_password_instead_of_a_token_401_is_ours_to_mend() {
    for model in [Model::Afterpay, Model::ResolveCharge, Model::ResolveOrder] {
        let bench = Bench::new(model, vec![Step::Answer(json(401, ""))]).await;
        assert_eq!(failure(bench.capture().await).class, Class::Misconfigured, "{model:?}");
    }
}

#[tokio::test]
async fn a_token_is_renewed_before_its_end() {
    for model in BEARERS {
        let bench = bench(model, |script| {
            script.tokens = vec![
                Step::Answer(json(200, &token("short", 1))),
                Step::Answer(json(200, &token("long", 86400))),
            ];
        })
        .await;
        let _ = bench.capture().await;
        tokio::time::sleep(Duration::from_millis(950)).await;
        let _ = bench.capture().await;
        let used: Vec<_> = bench
            .wire
            .captures()
            .iter()
            .filter_map(|seen| seen.header("authorization"))
            .collect();
        assert_eq!(used, ["Bearer short", "Bearer long"], "{model:?}");
    }
}

#[tokio::test]
async fn many_calls_at_once_mint_one_token() {
    for model in BEARERS {
        let bench = Arc::new(
            bench(model, |script| {
                script.tokens = vec![Step::Late(Duration::from_millis(50), json(200, &token(TOKEN, 86400)))];
            })
            .await,
        );
        let calls = (0..20).map(|_| {
            let bench = bench.clone();
            tokio::spawn(async move { bench.provider.capture(&call(&bench.intent)).await })
        });
        for outcome in futures_util::future::join_all(calls).await {
            assert!(matches!(outcome.unwrap(), Outcome::Captured(_)), "{model:?}");
        }
        assert_eq!(minted(&bench), 1, "{model:?}");
    }
}

#[tokio::test]
async fn many_calls_at_once_share_one_failed_flight() {
    for model in BEARERS {
        let bench = Arc::new(
            bench(model, |script| {
                script.tokens = vec![Step::Late(Duration::from_millis(200), json(500, "")); 20];
            })
            .await,
        );
        let calls = (0..20).map(|_| {
            let bench = bench.clone();
            tokio::spawn(async move { bench.provider.capture(&call(&bench.intent)).await })
        });
        for outcome in futures_util::future::join_all(calls).await {
            assert_eq!(failure(outcome.unwrap()).class, Class::Transient, "{model:?}");
        }
        assert_eq!(minted(&bench), 1, "{model:?}");
        assert_eq!(bench.wire.captures().len(), 0, "{model:?}");
    }
}

#[tokio::test]
async fn a_token_that_cannot_be_minted_is_never_ambiguous_and_nothing_is_captured() {
    for model in BEARERS {
        for (step, class) in [
            (
                Step::Answer(json(400, r#"{"error":"invalid_client"}"#)),
                Class::Misconfigured,
            ),
            (Step::Answer(json(401, "")), Class::Misconfigured),
            (Step::Answer(json(403, "")), Class::Misconfigured),
            (Step::Answer(json(302, "")), Class::Misconfigured),
            (Step::Answer(json(429, "")), Class::RateLimited),
            (Step::Answer(json(500, "")), Class::Transient),
            (Step::Answer(json(502, "<html>")), Class::Transient),
            (Step::Answer(json(200, "{}")), Class::Transient),
            (Step::Answer(json(200, "<html>")), Class::Transient),
            (Step::Answer(json(200, &token("line\\nbreak", 1))), Class::Transient),
            (Step::Answer(json(200, &token("", 1))), Class::Transient),
            (Step::Then(vec![], End::Close), Class::Transient),
            (Step::Then(vec![], End::Reset), Class::Transient),
            (Step::Then(vec![], End::Silence), Class::Transient),
            (Step::Bomb, Class::Transient),
        ] {
            let bench = bench(model, |script| script.tokens = vec![step.clone()]).await;
            let failure = failure(bench.capture().await);
            assert_eq!(failure.class, class, "{model:?} {step:?} {failure:?}");
            assert_eq!(bench.wire.captures().len(), 0, "{model:?} {step:?}");
        }
    }
}

#[tokio::test]
async fn a_lease_that_lapses_while_a_token_is_minted_sends_nothing() {
    for model in BEARERS {
        let bench = bench(model, |script| {
            script.tokens = vec![Step::Late(Duration::from_millis(200), json(200, &token(TOKEN, 86400)))];
        })
        .await;
        let mut call = bench.call();
        call.guard = crate::models::guard(Duration::from_millis(100));
        assert_eq!(bench.provider.capture(&call).await, Outcome::NotSent, "{model:?}");
        assert_eq!(bench.wire.captures().len(), 0, "{model:?}");
    }
}
