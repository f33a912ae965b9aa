//! A world for one test: its own database, simulator, clock and worker.

use std::collections::BTreeMap;
use std::time::Duration;

use capture::outbox::Outbox;
use capture::provider::AccountSettings;
use capture::retry::Policy;
use capture::shipment::Fulfilment;
use capture::simulator::{self, Authorization, Operation, Simulator};
use capture::worker::{ServedLane, Settings, Worker};
use uuid::Uuid;

use crate::database::{Session, connect, migrated_database};
use crate::kind::Kind;

/// What may differ from world to world.
pub struct Plan {
    pub settings: Settings,
    pub simulator: simulator::Settings,
    pub concurrency: u32,
    pub rate_per_minute: u32,
    /// What a shipment does to what is held, in every lane.
    pub fulfilment: Fulfilment,
    pub authorization_lifetime: Option<Duration>,
    /// Changes an account before its adapter is built.
    pub account: fn(&mut AccountSettings),
}

impl Default for Plan {
    fn default() -> Plan {
        let mut simulator = simulator::Settings::default();
        simulator.limits.resolve_per_minute = None;
        // Whether its details name our reference is not documented; where they do not is a test of its own.
        simulator.optty_shows_references = true;
        Plan {
            settings: Settings {
                settle_window: Duration::from_millis(1),
                policy: Policy {
                    deadline_margin: Duration::from_secs(60),
                    ..Policy::default()
                },
                // Tests that play many faults at once are not about the breaker.
                breaker_failures: 10_000,
                ..Settings::default()
            },
            simulator,
            concurrency: 8,
            rate_per_minute: 0,
            fulfilment: Fulfilment::default(),
            authorization_lifetime: None,
            account: |_| {},
        }
    }
}

impl Plan {
    pub fn lanes(&self, simulator: &Simulator) -> Vec<ServedLane> {
        Kind::ALL
            .into_iter()
            .map(|kind| {
                let mut account = kind.account(simulator);
                (self.account)(&mut account);
                ServedLane {
                    lane: kind.lane(),
                    provider: capture::provider::build(account).unwrap(),
                    concurrency: self.concurrency,
                    rate_per_minute: self.rate_per_minute,
                    fulfilment: self.fulfilment,
                    authorization_lifetime: self.authorization_lifetime,
                }
            })
            .collect()
    }
}

pub struct World {
    pub url: String,
    pub outbox: Outbox,
    pub simulator: Simulator,
    pub worker: Worker,
    pub plan: Plan,
    /// The order system's connection.
    pub db: Session,
    pub ahead: Duration,
}

impl World {
    pub async fn new() -> World {
        World::of(Plan::default()).await
    }

    pub async fn of(plan: Plan) -> World {
        let url = migrated_database().await;
        let outbox = connect(&url).await;
        let simulator = Simulator::start(plan.simulator.clone()).await.unwrap();
        let worker = Worker::new(outbox.clone(), plan.lanes(&simulator), plan.settings.clone())
            .await
            .unwrap();
        let db = Session::open(&url).await;
        World {
            url,
            outbox,
            simulator,
            worker,
            plan,
            db,
            ahead: Duration::ZERO,
        }
    }

    /// Another worker on the same outbox, with the same settings.
    pub async fn another_worker(&self) -> Worker {
        Worker::new(
            connect(&self.url).await,
            self.plan.lanes(&self.simulator),
            self.plan.settings.clone(),
        )
        .await
        .unwrap()
    }

    pub fn authorize(&self, kind: Kind, payment: &str, minor: i64) {
        self.simulator
            .create_authorization(Authorization::new(kind.provider_name(), payment, minor, "USD"));
    }

    /// An authorised payment of 50.00 USD and an intent to capture `minor` of it.
    pub async fn capture(&mut self, kind: Kind, n: u32, minor: i64) -> Uuid {
        let payment = kind.payment(n);
        self.authorize(kind, &payment, 5000);
        self.insert(kind, &payment, "c1", minor, "").await
    }

    /// Inserts an intent; `more`: further arguments of `enqueue` as SQL, like `, hold => 'shipment'`.
    pub async fn insert(&mut self, kind: Kind, payment: &str, reference: &str, minor: i64, more: &str) -> Uuid {
        let sql = enqueue(kind, payment, reference, minor, more);
        self.db.scalar(&sql).await
    }

    /// Works until nothing is ready.
    pub async fn drain(&self) -> usize {
        self.worker.drain().await.unwrap()
    }

    /// Lets time pass for the database and for the providers.
    pub async fn pass(&mut self, time: Duration) {
        self.ahead += time;
        self.outbox.set_clock_ahead(self.ahead).await.unwrap();
        self.simulator.advance(time).await.unwrap();
    }

    /// Lets time pass in steps, working after each, until all these intents have ended.
    pub async fn until_all_ended(&mut self, intents: &[Uuid], step: Duration) -> BTreeMap<Uuid, String> {
        let mut open = Vec::new();
        for _ in 0..150 {
            self.drain().await;
            open = self.open(intents).await;
            if open.is_empty() {
                let mut ends = BTreeMap::new();
                for intent in intents {
                    ends.insert(*intent, self.end(*intent).await);
                }
                return ends;
            }
            self.outbox.rescue(100).await.unwrap();
            self.pass(step).await;
        }
        let mut stories = Vec::new();
        for intent in open {
            stories.push(self.story(intent).await);
        }
        panic!("these have not ended: {stories:#?}");
    }

    async fn open(&mut self, intents: &[Uuid]) -> Vec<Uuid> {
        let ids = intents.iter().map(|id| format!("'{id}'")).collect::<Vec<_>>().join(",");
        self.db
            .column(&format!(
                "select id from capture.intents i where id in ({ids})
                 and not exists (select from capture.outcomes o where o.intent = i.id)"
            ))
            .await
    }

    /// As [`World::until_all_ended`], for one.
    pub async fn until_ended(&mut self, intent: Uuid, step: Duration) -> String {
        self.until_all_ended(&[intent], step).await.remove(&intent).unwrap()
    }

    /// The state, and why it is dead, and by which code: `captured`, `dead: rejected (invalid_state)`.
    pub async fn end(&self, intent: Uuid) -> String {
        let row = self.outbox.capture(intent).await.unwrap().unwrap();
        match row.dead_reason {
            Some(reason) => format!("dead: {reason} ({})", row.last_code.unwrap_or_default()),
            None => row.state,
        }
    }

    pub async fn state(&self, intent: Uuid) -> String {
        self.outbox.capture(intent).await.unwrap().unwrap().state
    }

    /// The whole story as data: one line per event, with its reason or code.
    pub async fn story(&self, intent: Uuid) -> Vec<String> {
        let entries = self.outbox.timeline(intent).await.unwrap();
        let entries = entries.into_iter().filter(|entry| entry.what != "attempt");
        entries
            .map(|entry| {
                let word = |name: &str| entry.data.get(name).and_then(|value| value.as_str());
                let detail = ["alarm", "reason", "code"].into_iter().find_map(word);
                match detail {
                    Some(detail) => format!("{} {detail}", entry.what),
                    None => entry.what,
                }
            })
            .collect()
    }

    /// The closed attempts as data: `send captured`, `verify lost`, `retry failed http_500 (not sent)`.
    pub async fn attempts(&self, intent: Uuid) -> Vec<String> {
        let rows = self.outbox.attempts(intent).await.unwrap();
        rows.into_iter()
            .map(|row| {
                let purpose = ["send", "retry", "verify"][usize::try_from(row.purpose).unwrap()];
                let code = row.code.map(|code| format!(" {code}")).unwrap_or_default();
                let unsent = if row.sent == Some(false) { " (not sent)" } else { "" };
                format!("{purpose} {}{code}{unsent}", row.outcome)
            })
            .collect()
    }

    /// What came over the wire for a payment: `capture 201`, `read 200`, in order; a capture that moved money ends in `!`.
    pub fn wire(&self, payment: &str) -> Vec<String> {
        let requests = self.simulator.requests();
        let ours = requests
            .iter()
            .filter(|request| request.payment_id.as_deref() == Some(payment));
        ours.map(|request| {
            let what = match request.operation {
                Operation::Capture => "capture",
                Operation::Read => "read",
                Operation::Update => "update",
                Operation::Token => "token",
                Operation::Unknown => "unknown",
            };
            let status = request
                .status
                .map_or_else(|| "-".to_owned(), |status| status.to_string());
            format!("{what} {status}{}", if request.money_moved { "!" } else { "" })
        })
        .collect()
    }

    /// How often the provider was asked to capture that payment.
    pub fn sends(&self, payment: &str) -> usize {
        let wire = self.wire(payment);
        wire.iter().filter(|line| line.starts_with("capture")).count()
    }

    /// The books agree, payment by payment: each captured intent has one capture of its amount in the ledger, and the
    /// ledger has no other of ours.
    pub async fn books_agree(&mut self) {
        let ledger = self.simulator.ledger();
        let counts = self.simulator.counts();
        assert!(ledger.doubled().is_empty(), "captured twice: {:#?}", ledger.doubled());
        assert_eq!(counts.key_reused_with_other_body, 0, "a key came with another body");
        assert_eq!(counts.redirects_followed, 0, "a redirect was followed");
        let mut theirs: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for entry in ledger.ours() {
            let amounts = theirs.entry(entry.payment_id.clone()).or_default();
            amounts.push(entry.amount_minor);
            amounts.sort_unstable();
        }
        let rows = self
            .db
            .rows(
                "select i.payment_id, array_agg(o.captured_minor order by o.captured_minor)
                 from capture.outcomes o join capture.intents i on i.id = o.intent
                 where o.state = 'captured' and o.proof <> 'person' group by i.payment_id",
            )
            .await;
        let ours: BTreeMap<String, Vec<i64>> = rows
            .iter()
            .map(|row| (sqlx::Row::get(row, 0), sqlx::Row::get(row, 1)))
            .collect();
        assert_eq!(
            ours, theirs,
            "what is recorded (left) is not what the providers' ledger holds"
        );
        let strangers: i64 = self
            .db
            .scalar(
                "select count(*) from capture.outcomes o join capture.intents i on i.id = o.intent
                 where o.state = 'dead' and (o.created_at, o.amount_minor, o.currency,
                                             case when o.expiry_source is null then o.expires_at else i.authorization_expires_at end)
                       is distinct from (i.created_at, i.amount_minor, i.currency, i.authorization_expires_at)",
            )
            .await;
        assert_eq!(strangers, 0, "a dead letter says of its intent what is not so");
        let facts = self.outbox.doctor_facts().await.unwrap();
        assert_eq!(facts.misplaced, 0, "an intent is in no place, or in two");
        assert_eq!(
            facts.unclaimed_receipts, 0,
            "a receipt lies about that nobody has claimed"
        );
    }
}

/// The order system's statement.
pub fn enqueue(kind: Kind, payment: &str, reference: &str, minor: i64, more: &str) -> String {
    let lane = kind.lane();
    format!(
        "select id from capture.enqueue(provider => '{}', account => '{}', order_id => 'order of {payment}',
             payment_id => '{payment}', capture_ref => '{reference}', amount_minor => {minor}, currency => 'USD' {more})",
        lane.provider, lane.account
    )
}
