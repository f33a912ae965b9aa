//! The three providers over HTTP, faults to play, and a ledger of what was truly captured.
//!
//! The simulator is the judge of the worker, so it shares nothing with it but the wire: it is
//! written from the providers' documents a second time, with its own amounts, and never imports the
//! adapters. Else both would make the same mistake and agree about it.
//!
//! # The protocol
//!
//! Loopback only. Each provider answers below its own prefix, on one common port and, unless
//! [`OwnPorts::None`], on a port of its own, which alone can truly refuse connections:
//!
//! | base URL | calls |
//! |---|---|
//! | `/afterpay` | `POST v2/payments/{id}/capture` · `GET v2/payments/{id}` · `PUT v2/payments/{id}/courier` |
//! | `/optty` | `POST token` · `POST orders/{ref}/capture` · `POST orders/{ref}/details` · `GET orders/{ref}` |
//! | `/resolve` | `POST access-keys/token` · `POST charges/{id}/capture` · `GET, PUT charges/{id}` · `GET invoices/{id}` · `POST orders/{id}/capture` · `GET orders/{id}` · `POST shipments` |
//!
//! A capture goes the same way in all four models: the key (a stored answer, or 409 while an earlier
//! call runs) → its turn on the payment → the decision → **the line in the ledger, synced** → memory →
//! the answer. A client that is gone, or a process that is killed, changes nothing behind it: a
//! restart with the same ledger file remembers authorisations, captures and keys. The ledger holds
//! one JSON document a line; [`read_ledger`] reads the captures from outside.
//!
//! A fault is chosen when the head of a request is read: first from scripts (this payment, then this
//! provider, then any), then by chance. Chance depends on the seed, the call and its ordinal on the
//! payment alone. Each fault says when the money moves: `before` never, `after` already, `late` after
//! [`Pace::late_after`]; [`Fault`] lists them.
//!
//! Not played, because plain HTTP on loopback has none of it: TLS failures, HTTP/2 refusals, time-outs
//! while connecting. A late request that was not yet executed ends with the process, as one in the
//! queue of a gateway would.
//!
//! The clock of the providers is real time and an offset. Moving it also brings about whatever is
//! late, slow or pending by then, before the move returns; so tests need no sleeps.
//!
//! # The control API, below `/_simulator` on the common port
//!
//! | request | document |
//! |---|---|
//! | `GET /_simulator` | base URLs, clock, limits, names of faults |
//! | `POST authorizations` | one or many: `{"provider":"afterpay","payment_id":"100101","amount":"50.00","currency":"USD"}`, or `amount_minor`; also `account`, `expires_at` or `expires_in_ms`, `surcharge_minor`, `requires_shipping`, `declined`, `merchant_reference`, `order_number`, `po_number` |
//! | `POST faults` | any of `{"clear":true,"script":{"provider":"afterpay","payment_id":"100101","operation":"capture","faults":["reset-after","none"]},"random":[{"per_mille":200,"set":"lossy"},{"per_mille":50,"faults":["html-502-after"],"operation":"read","provider":"resolve"}],"seed":7,"down":{"provider":"optty","for_ms":10000},"up":"resolve"}` |
//! | `POST foreign-captures` | `{"payment_id":"100101","amount_minor":500}`, `provider` if the id is not the only one |
//! | `POST voids` | `{"payment_id":"100101"}` |
//! | `POST clock` | `{"advance_ms":86400000}` or `{"offset_ms":0}` |
//! | `POST hurry` | nothing: what is late, slow or pending happens now, the clock stays |
//! | `POST token-expiry` | nothing: tokens minted so far are void |
//! | `POST pace` | any of `answer_after_ms`, `silence_ms`, `drip_ms`, `late_after_ms`, `running_for_ms`, `pending_for_ms`, `read_lag_ms`, `retry_after_ms` |
//! | `POST limits` | `{"resolve_per_minute":100,"afterpay_per_minute":null,"optty_per_minute":null}` |
//! | `GET ledger` | `?provider=&payment_id=`: `{"captures":[…]}`, see [`LedgerEntry`] |
//! | `GET requests` | `?from=&limit=&payment_id=`: `{"requests":[…],"total":n}`, see [`RequestRecord`] |
//! | `GET counts` | see [`Counts`]; `doubles` must be 0 |

mod access;
mod acts;
mod afterpay;
mod amount;
mod answer;
mod ask;
mod books;
mod capture;
mod clock;
mod connection;
mod control;
mod fault;
mod fault_plan;
mod json;
mod ledger;
mod ledger_file;
mod model;
mod optty;
mod payment;
mod person;
mod ports;
mod record;
mod refusal;
mod request;
mod resolve_charge;
mod resolve_order;
mod respond;
mod route;
mod settings;
mod shipped;
mod simulation;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};

pub use acts::ActError;
pub use fault::{Fault, Moment, UnknownFault};
pub use fault_plan::{FaultPlan, FaultRule, FaultSet, Target};
pub use ledger::{Ledger, LedgerEntry, LedgerReadError, Writer, read_ledger};
pub use ledger_file::NotWritten;
pub use model::{Model, Operation, ProviderName, UnknownProvider};
pub use payment::{Authorization, ToldParcel};
pub use person::CANARY;
pub use record::{Counts, RequestRecord};
pub use settings::{Credential, DuplicateReference, Limits, OwnPorts, Pace, Recapture, Settings};

use ports::Ports;
use simulation::Simulation;

/// Why a simulator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It takes any credentials and moves no real money, so nobody else may reach it.
    #[error("the simulator listens on loopback only, not on {0}")]
    NotLoopback(SocketAddr),
    /// A port cannot be had.
    #[error("the simulator cannot listen")]
    Listen(#[from] io::Error),
    /// The ledger is damaged or held by another simulator.
    #[error("the ledger cannot be opened")]
    Ledger(#[from] LedgerReadError),
}

/// Running providers. They stop when it is dropped.
pub struct Simulator {
    simulation: Arc<Simulation>,
}

impl Simulator {
    /// Opens the ports and the ledger and serves.
    ///
    /// # Errors
    /// If a port cannot be had, is not on loopback, or the ledger cannot be read back.
    pub async fn start(settings: Settings) -> Result<Simulator, StartError> {
        if !settings.listen.ip().is_loopback() {
            return Err(StartError::NotLoopback(settings.listen));
        }
        let (ports, listeners) = Ports::open(settings.listen, settings.own_ports).await?;
        let simulation = Simulation::open(settings, ports)?;
        ports::listen(&simulation, listeners);
        Ok(Simulator { simulation })
    }

    /// The common port, with the control API.
    pub fn addr(&self) -> SocketAddr {
        self.simulation.ports.common
    }

    /// Where to call a provider: `http://127.0.0.1:PORT/afterpay`, `/optty`, `/resolve`. Its own
    /// port if it has one.
    pub fn base_url(&self, provider: &str) -> String {
        let address = match provider.parse() {
            Ok(name) => self.simulation.ports.address(name),
            Err(_) => self.addr(),
        };
        format!("http://{address}/{provider}")
    }

    /// Where Optty's tokens come from.
    pub fn optty_auth_url(&self) -> String {
        format!("{}/token", self.base_url("optty"))
    }

    /// What was truly captured until now.
    pub fn ledger(&self) -> Ledger {
        self.simulation.ledger()
    }

    /// Requests in the order of their arrival, the last [`Settings::requests_kept`] of them.
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.simulation.requests(|_| true)
    }

    /// Totals.
    pub fn counts(&self) -> Counts {
        self.simulation.counts()
    }

    /// The goods of a payment as the provider was told of them, and keeps them.
    pub fn parcels(&self, provider: ProviderName, payment_id: &str) -> Vec<ToldParcel> {
        let books = self.simulation.books();
        let named = books.named(Some(provider), payment_id);
        let payments = named.iter().filter_map(|key| books.payment(key));
        payments.flat_map(|payment| payment.parcels.clone()).collect()
    }

    /// The providers' time.
    pub fn now(&self) -> DateTime<Utc> {
        self.simulation.clock.now()
    }

    /// Makes a payment that can be captured. One that exists is left as it is.
    pub fn create_authorization(&self, authorization: Authorization) {
        self.simulation.authorize_at_once(authorization);
    }

    /// The next calls that the target means play these faults in order; a payment id or a provider
    /// is a target and means its captures.
    pub fn script(&self, target: impl Into<Target>, faults: impl IntoIterator<Item = Fault>) {
        self.simulation.books().script.add(target.into(), faults);
    }

    /// Replaces the random faults.
    pub fn set_faults(&self, plan: FaultPlan) {
        self.simulation.books().plan = plan;
    }

    /// No more faults: scripts and chance end. What is late or pending still happens.
    pub fn heal(&self) {
        let mut books = self.simulation.books();
        books.script.clear();
        books.plan = FaultPlan::none();
    }

    /// Changes how long things take.
    pub fn set_pace(&self, pace: Pace) {
        self.simulation.books().pace = pace;
    }

    /// Changes the rate limits.
    pub fn set_limits(&self, limits: Limits) {
        self.simulation.books().limits = limits;
    }

    /// Captures as a dashboard or shop plugin would.
    ///
    /// # Errors
    /// If there is no such payment, or more than one, or not so much left.
    pub async fn foreign_capture(&self, payment_id: &str, amount_minor: i64) -> Result<LedgerEntry, ActError> {
        self.simulation.foreign_capture(None, payment_id, amount_minor).await
    }

    /// Voids what is not captured.
    ///
    /// # Errors
    /// If there is no such payment, or more than one.
    pub async fn void(&self, payment_id: &str) -> Result<(), ActError> {
        self.simulation.void(None, payment_id).await
    }

    /// Takes a provider down or brings it back, at once: its own port refuses connections and its
    /// open connections are reset; on the common port its requests are.
    ///
    /// # Errors
    /// If its port cannot be opened again.
    pub fn set_down(&self, provider: ProviderName, down: bool) -> Result<(), ActError> {
        self.simulation.set_down(provider, down)
    }

    /// Moves the providers' clock on, and returns when all that is due by then has happened.
    ///
    /// # Errors
    /// If the ledger cannot be written.
    pub async fn advance(&self, by: Duration) -> Result<(), ActError> {
        self.simulation.advance(by).await
    }

    /// Sets the providers' clock to real time plus this, else as [`Simulator::advance`].
    ///
    /// # Errors
    /// If the ledger cannot be written.
    pub async fn set_time_offset_ms(&self, offset_ms: i64) -> Result<(), ActError> {
        self.simulation.set_offset_ms(offset_ms).await
    }

    /// What is late, slow or pending happens now, the clock stays; returns when it has happened.
    pub async fn hurry(&self) {
        self.simulation.hurry().await;
    }

    /// Tokens minted so far are no longer taken.
    pub fn expire_tokens(&self) {
        self.simulation.expire_tokens();
    }

    /// Waits, without polling, until something is so: looked at now and at every change.
    pub async fn wait_until(&self, is_so: impl Fn(&Simulator) -> bool) {
        let mut changes = self.simulation.changes.subscribe();
        while !is_so(self) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Closes ports and connections and waits for the ledger's last line.
    pub async fn stop(self) {
        self.simulation.stop.cancel();
        self.simulation.tasks.close();
        self.simulation.tasks.wait().await;
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.simulation.stop.cancel();
    }
}
