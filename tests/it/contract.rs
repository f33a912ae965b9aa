//! The laws of a provider, for each adapter that comes with the crate: against the simulator, which is written from the
//! providers' documents and not from the adapters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use capture::intent::{Currency, Lane, Money};
use capture::provider::Provider;
use capture::provider::contract::{Stand, Trouble, try_all};
use capture::simulator::{Authorization, Fault, Moment, Operation, Simulator, Target};

use crate::kind::Kind;

struct Simulated {
    kind: Kind,
    simulator: Simulator,
    payments: AtomicU32,
}

#[async_trait]
impl Stand for Simulated {
    fn provider(&self) -> Arc<dyn Provider> {
        self.kind.adapter(&self.simulator)
    }

    fn lane(&self) -> Lane {
        self.kind.lane()
    }

    fn amount(&self) -> Money {
        Money::new(1000, Currency::from_code("USD").unwrap())
    }

    async fn authorize(&self, amount: Money) -> String {
        let payment = self.kind.payment(self.payments.fetch_add(1, Ordering::Relaxed));
        self.simulator.create_authorization(Authorization::new(
            self.kind.provider_name(),
            &payment,
            amount.minor,
            "USD",
        ));
        payment
    }

    async fn next(&self, trouble: Trouble) {
        let fault = match trouble {
            Trouble::AnswerLost => Fault::Reset(Moment::After),
            Trouble::GatewayAfterwards => Fault::Html(502, Moment::After),
            Trouble::Broken => Fault::Reset(Moment::Before),
            Trouble::Nonsense => Fault::Html(200, Moment::Before),
            Trouble::Refused => Fault::Declined,
        };
        self.simulator.script(Target::any(), [fault]);
    }

    async fn captured(&self, payment_id: &str) -> Vec<i64> {
        let ledger = self.simulator.ledger();
        ledger
            .of_payment(payment_id)
            .iter()
            .map(|entry| entry.amount_minor)
            .collect()
    }

    async fn posts(&self) -> usize {
        let requests = self.simulator.requests();
        requests
            .iter()
            .filter(|request| request.operation == Operation::Capture)
            .count()
    }
}

#[tokio::test]
async fn every_adapter_holds_the_laws_that_the_worker_relies_on() {
    for (kind, optty_shows_references) in Kind::ALL
        .map(|kind| (kind, true))
        .into_iter()
        .chain([(Kind::Optty, false)])
    {
        let settings = capture::simulator::Settings {
            optty_shows_references,
            ..Default::default()
        };
        let stand = Simulated {
            kind,
            simulator: Simulator::start(settings).await.unwrap(),
            payments: AtomicU32::new(1),
        };
        let broken = try_all(&stand).await;
        assert!(broken.is_empty(), "{kind:?}: {broken:#?}");
        stand.simulator.stop().await;
    }
}
