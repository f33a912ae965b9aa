//! Every adapter against every fault of the simulated providers: no outcome and no read may say more than the ledger of
//! what was truly captured.

use std::time::Duration;

use capture::outcome::{Class, Observation, Outcome};
use capture::provider::{Call, Model};
use capture::simulator::{Authorization, Fault, Limits, Operation, Pace, ProviderName, Settings, Simulator, Target};
use chrono::{TimeDelta, Utc};
use uuid::Uuid;

use crate::models::{self, MODELS, adapter, call};

async fn simulator() -> Simulator {
    let pace = Pace {
        silence: Duration::from_millis(400),
        drip: Duration::from_millis(20),
        running_for: Duration::from_millis(20),
        ..Pace::default()
    };
    let limits = Limits {
        resolve_per_minute: None,
        ..Limits::default()
    };
    let settings = Settings {
        pace,
        limits,
        huge_body_bytes: 1024 * 1024,
        ..Settings::default()
    };
    Simulator::start(settings).await.unwrap()
}

fn provider_of(model: Model) -> ProviderName {
    match model {
        Model::Afterpay => ProviderName::Afterpay,
        Model::Optty => ProviderName::Optty,
        Model::ResolveCharge | Model::ResolveOrder => ProviderName::Resolve,
    }
}

async fn play(model: Model, operation: Operation) {
    let simulator = simulator().await;
    let name = provider_of(model);
    let mut settings = models::settings(model, simulator.addr());
    settings.base_url = simulator.base_url(name.as_str());
    settings.auth_url = (model == Model::Optty).then(|| simulator.optty_auth_url());
    settings.connect_timeout = Duration::from_millis(100);
    settings.read_timeout = Duration::from_millis(200);
    let provider = adapter(settings);
    for (at, fault) in Fault::all().into_iter().enumerate() {
        let mut intent = models::intent(model);
        intent.id = capture::intent::IntentId(Uuid::now_v7());
        intent.payment_id = (100_000 + at).to_string();
        let payment = intent.payment_id.clone();
        simulator.create_authorization(Authorization::new(name, &payment, 1000, "USD"));
        simulator.script(Target::payment(&payment).on(operation), [fault]);
        let call = Call {
            first_sent_at: Some(Utc::now() - TimeDelta::milliseconds(50)),
            ..call(&intent)
        };
        let outcome = provider.capture(&call).await;
        let in_time = simulator.ledger().captured_minor(&payment);
        simulator.heal();
        simulator.hurry().await;
        let in_the_end = simulator.ledger().captured_minor(&payment);
        let said = format!("{model:?} {fault} on {operation:?}: {outcome:?}, ledger {in_time} then {in_the_end}");
        match &outcome {
            Outcome::Captured(receipt) => assert_eq!((in_time, receipt.amount.minor), (1000, 1000), "{said}"),
            Outcome::Failed(failure) if failure.class == Class::Rejected => assert_eq!(in_the_end, 0, "{said}"),
            Outcome::Failed(_) | Outcome::Accepted { .. } => {}
            Outcome::NotSent => panic!("{said}"),
        }
        let mut observed = provider.read(&call).await;
        if matches!(observed, Observation::Failed(_)) {
            // On a connection that a stalled answer left behind. It is gone now.
            observed = provider.read(&call).await;
        }
        match observed {
            Observation::Captured(receipt) => assert_eq!((in_the_end, receipt.amount.minor), (1000, 1000), "{said}"),
            Observation::NotCaptured { .. } | Observation::Declined { .. } | Observation::Closed { .. } => {
                assert_eq!(in_the_end, 0, "{said} but then {observed:?}");
            }
            // Somebody else captured by hand while ours was under way.
            Observation::Foreign { .. } | Observation::Contradicts { .. } => {
                assert_eq!(
                    fault.to_string(),
                    "foreign-capture-first",
                    "{said} but then {observed:?}"
                );
            }
            Observation::Pending { .. } | Observation::Failed(_) => panic!("{said} but then {observed:?}"),
        }
    }
    assert_eq!(simulator.counts().doubles, 0, "{model:?}");
}

#[tokio::test]
async fn no_fault_of_a_capture_makes_an_outcome_say_more_than_the_ledger() {
    futures_util::future::join_all(MODELS.map(|model| play(model, Operation::Capture))).await;
}

#[tokio::test]
async fn no_fault_of_a_read_makes_an_outcome_say_more_than_the_ledger() {
    futures_util::future::join_all(MODELS.map(|model| play(model, Operation::Read))).await;
}
