//! From a request and its fault to an answer and the way it is delivered.

use std::sync::Arc;

use chrono::TimeDelta;
use serde::Deserialize;

use super::{
    access, afterpay,
    answer::{Answer, Breakage, Delivery},
    ask::Ask,
    books::Window,
    capture::{self, CaptureCall, Play},
    fault::{Fault, Moment},
    ledger_file::{Line, Standing},
    model::{Model, ProviderName},
    optty,
    payment::{Authorization, Twist, View},
    refusal::Refusal,
    request::Request,
    resolve_charge, resolve_order,
    route::{Action, Call, invoiced},
    shipped,
    simulation::Simulation,
};

/// A whole request at a provider.
pub(super) struct Arrived {
    pub(super) call: Call,
    pub(super) request: Request,
    pub(super) fault: Fault,
    pub(super) body_sha256: String,
    pub(super) seq: u64,
}

/// Plays the fault, does the business before, after or later, and says what is to be sent.
pub(super) async fn respond(simulation: &Arc<Simulation>, arrived: &Arrived) -> (Answer, Delivery) {
    let model = arrived.call.model;
    let answer = match arrived.fault.moment() {
        Moment::Before => {
            if let Fault::Refuse(status, code) = arrived.fault {
                refuse_for_good(simulation, arrived, &Refusal::new(status, code, "Refused")).await;
            }
            Answer::json(200, "{\"message\":\"never sent\"}".to_owned())
        }
        Moment::After | Moment::Late => match admit(simulation, arrived) {
            Ok(admitted) => {
                let answer = business(simulation, arrived, &admitted.account).await;
                access::with_window(answer, model.provider(), admitted.window)
            }
            Err(refused) => *refused,
        },
    };
    let (answer, delivery) = strike(simulation, arrived, answer);
    let mut books = simulation.books();
    *books.counts.answers.entry(answer.status).or_default() += 1;
    books.amend(arrived.seq, |record| record.status = Some(answer.status));
    drop(books);
    simulation.changed();
    (answer, delivery)
}

/// What is refused under a key stays refused under it, unless the key stands for something already: else a copy of the request
/// that a box on the way made would be taken after the first was refused.
async fn refuse_for_good(simulation: &Arc<Simulation>, arrived: &Arrived, refusal: &Refusal) {
    let model = arrived.call.model;
    let (Action::Capture, Ok(account), Ok(ask)) = (
        arrived.call.action,
        access::account_of(simulation, model, &arrived.request.head),
        model.ask(&arrived.request),
    ) else {
        return;
    };
    let call = CaptureCall {
        model,
        account,
        payment_id: arrived.call.payment_id.clone().unwrap_or_default(),
        ask,
        body_sha256: arrived.body_sha256.clone(),
        seq: arrived.seq,
        play: Play::default(),
    };
    let Ok(running) = capture::begin(simulation, &call) else {
        return;
    };
    if let Err(error) = capture::remember_refusal(simulation, &call, refusal).await {
        tracing::error!(%error, "a refusal was not remembered");
    }
    drop(running);
}

struct Admitted {
    account: String,
    window: Option<Window>,
}

/// Path, headers, credentials, limit: in this order.
fn admit(simulation: &Simulation, arrived: &Arrived) -> Result<Admitted, Box<Answer>> {
    let model = arrived.call.model;
    let refused = |refusal: Refusal| Box::new(refusal.answer(model));
    match arrived.call.action {
        Action::NoSuchPath => return Err(refused(Refusal::usual(model, 404))),
        Action::WrongMethod => return Err(refused(Refusal::usual(model, 405))),
        _ => {}
    }
    model.check_headers(&arrived.request).map_err(refused)?;
    if arrived.call.action == Action::Token {
        return Ok(Admitted {
            account: String::new(),
            window: None,
        });
    }
    let account = access::account_of(simulation, model, &arrived.request.head).map_err(refused)?;
    let provider = model.provider();
    let now = simulation.clock.now();
    let mut books = simulation.books();
    books.amend(arrived.seq, |record| record.account = Some(account.clone()));
    let window = books.count_against_limit(provider, &account, now);
    if window.is_some_and(|window| window.refused) {
        books.counts.rate_limited += 1;
        drop(books);
        let answer = Refusal::usual(model, 429).answer(model);
        return Err(Box::new(access::with_window(answer, provider, window)));
    }
    Ok(Admitted { account, window })
}

async fn business(simulation: &Arc<Simulation>, arrived: &Arrived, account: &str) -> Answer {
    let call = &arrived.call;
    if let Some(payment_id) = call.payment_id.as_deref() {
        authorize_on_first_use(simulation, call.model.provider(), account, payment_id);
    }
    match call.action {
        Action::Token => access::token_answer(simulation, call.model, &arrived.request),
        Action::Capture => capture_answer(simulation, arrived, account, None).await,
        Action::Update => update_answer(simulation, arrived, account).await,
        Action::Courier | Action::Shipment => shipped::told(simulation, arrived, account).await,
        _ => read_answer(simulation, arrived, account),
    }
}

/// Captures, now or later. `ask` is given where the capture hides in another call.
async fn capture_answer(simulation: &Arc<Simulation>, arrived: &Arrived, account: &str, ask: Option<Ask>) -> Answer {
    let model = arrived.call.model;
    let ask = match ask.map_or_else(|| model.ask(&arrived.request), Ok) {
        Ok(ask) => ask,
        Err(refusal) => return refusal.answer(model),
    };
    simulation.books().amend(arrived.seq, |record| {
        record.key.clone_from(&ask.key);
        record.reference.clone_from(&ask.reference);
    });
    let capture_call = CaptureCall {
        model,
        account: account.to_owned(),
        payment_id: arrived.call.payment_id.clone().unwrap_or_default(),
        ask,
        body_sha256: arrived.body_sha256.clone(),
        seq: arrived.seq,
        play: play(arrived.fault),
    };
    let running = match capture::begin(simulation, &capture_call) {
        Ok(running) => running,
        Err(done) => {
            simulation
                .books()
                .amend(arrived.seq, |record| record.replayed = done.replayed);
            return done.answer;
        }
    };
    let pace = simulation.books().pace;
    let wait = match arrived.fault {
        Fault::Slow | Fault::InProgress => pace.running_for,
        fault if fault.moment() == Moment::Late => pace.late_after,
        _ => {
            let done = capture::execute(simulation, &capture_call, running).await;
            simulation
                .books()
                .amend(arrived.seq, |record| record.replayed = done.replayed);
            return done.answer;
        }
    };
    let due = simulation.clock.announce(simulation.clock.after(wait));
    let (tell, told) = tokio::sync::oneshot::channel();
    let simulation_later = Arc::clone(simulation);
    simulation.spawn(async move {
        due.arrives().await;
        let done = capture::execute(&simulation_later, &capture_call, running).await;
        drop(due);
        let _ = tell.send(done.answer);
    });
    match arrived.fault {
        Fault::Slow => told.await.unwrap_or_else(|_| Answer::empty(500)),
        _ => Answer::empty(504),
    }
}

fn play(fault: Fault) -> Play {
    Play {
        declined: match fault {
            Fault::Declined => Some(Standing::Declined),
            Fault::DeclinedWith402 => Some(Standing::DeclinedWith402),
            _ => None,
        },
        pending: match fault {
            Fault::PendingThenSuccessful => Some(true),
            Fault::PendingThenFailed => Some(false),
            _ => None,
        },
        foreign_first: fault == Fault::ForeignCaptureFirst,
        twist: twist(fault),
    }
}

fn twist(fault: Fault) -> Option<Twist> {
    match fault {
        Fault::OtherAmount => Some(Twist::Amount),
        Fault::OtherCurrency => Some(Twist::Currency),
        Fault::OtherReference => Some(Twist::Reference),
        Fault::OtherPayment => Some(Twist::Payment),
        Fault::Nul | Fault::LoneSurrogate | Fault::InvalidUtf8 => Some(Twist::BrokenId),
        Fault::HugeNumber => Some(Twist::Number),
        _ => None,
    }
}

/// For trying out: whatever is asked for exists. A million of the currency, or of the first capture's.
fn authorize_on_first_use(simulation: &Simulation, provider: ProviderName, account: &str, payment_id: &str) {
    const GENEROUS_MINOR: i64 = 100_000_000;
    let well_formed = match provider {
        ProviderName::Afterpay => afterpay::is_order_id(payment_id),
        ProviderName::Optty | ProviderName::Resolve => !payment_id.is_empty(),
    };
    let wanted = simulation.settings.auto_authorize && well_formed;
    if wanted && simulation.books().find(provider, account, payment_id).is_none() {
        let mut authorization = Authorization::new(provider, payment_id, GENEROUS_MINOR, "USD");
        authorization.any_currency = true;
        simulation.authorize_at_once(authorization);
    }
}

fn read_answer(simulation: &Simulation, arrived: &Arrived, account: &str) -> Answer {
    let call = &arrived.call;
    let payment_id = call.payment_id.as_deref().unwrap_or_default();
    let missing = || Refusal::usual(call.model, 404).answer(call.model);
    let now = simulation.clock.now();
    let books = simulation.books();
    let lag = TimeDelta::from_std(books.pace.read_lag).unwrap_or_default();
    let Some(payment) = books.find(call.model.provider(), account, payment_id) else {
        return missing();
    };
    let all = payment.movements.len();
    let view = View {
        payment,
        upto: match arrived.fault {
            Fault::LaggingRead => all.saturating_sub(1),
            _ => all,
        },
        as_of: now.checked_sub_signed(lag).unwrap_or(now),
        twist: twist(arrived.fault),
    };
    match (call.model, call.action) {
        (Model::Afterpay, _) => Answer::json(200, afterpay::payment_json(&view)),
        (Model::Optty, Action::Details) => optty::details_answer(&view, simulation.settings.optty_shows_references),
        (Model::Optty, _) => optty::order_answer(&view),
        (Model::ResolveCharge, Action::Invoice) => {
            let id = arrived.request.head.segments().pop().unwrap_or_default();
            resolve_charge::invoice_answer(&view, invoiced(&id).1).unwrap_or_else(missing)
        }
        (Model::ResolveCharge, _) => resolve_charge::charge_answer(&view),
        (Model::ResolveOrder, _) => resolve_order::order_answer(&view),
    }
}

/// `PUT /charges/{id}`: metadata is merged (merge or replace is unknown), but `captured` and
/// `canceled` act on the money, as the documents warn.
async fn update_answer(simulation: &Arc<Simulation>, arrived: &Arrived, account: &str) -> Answer {
    #[derive(Deserialize)]
    struct Change {
        metadata: Option<serde_json::Map<String, serde_json::Value>>,
        captured: Option<bool>,
        canceled: Option<bool>,
    }
    let model = arrived.call.model;
    let payment_id = arrived.call.payment_id.clone().unwrap_or_default();
    let Ok(change) = serde_json::from_slice::<Change>(&arrived.request.body) else {
        return Refusal::new(400, "validation_error", "The body is no charge").answer(model);
    };
    let found = simulation
        .books()
        .find(model.provider(), account, &payment_id)
        .map(|payment| payment.key());
    let Some((provider, payment_account, payment_id)) = found else {
        return Refusal::usual(model, 404).answer(model);
    };
    if change.captured == Some(true) {
        return capture_answer(simulation, arrived, account, Some(Ask::default())).await;
    }
    let mut lines = Vec::new();
    if change.canceled == Some(true) {
        lines.push(Line::Voided {
            provider,
            payment_account: payment_account.clone(),
            payment_id: payment_id.clone(),
            at: simulation.clock.now(),
        });
    }
    if let Some(metadata) = change.metadata {
        lines.push(Line::Marked {
            provider,
            payment_account,
            payment_id,
            metadata,
        });
    }
    let lines: Vec<&Line> = lines.iter().collect();
    match simulation.commit(&lines).await {
        Ok(()) => read_answer(simulation, arrived, account),
        Err(error) => {
            tracing::error!(%error, "a charge was not updated");
            Refusal::usual(model, 500).answer(model)
        }
    }
}

/// What the fault makes of the answer.
fn strike(simulation: &Simulation, arrived: &Arrived, answer: Answer) -> (Answer, Delivery) {
    let model = arrived.call.model;
    let refusal = |status| Refusal::usual(model, status).answer(model);
    let answer = match arrived.fault {
        Fault::Status(status, _) => refusal(status),
        Fault::Html(status, _) => Answer::page(status),
        Fault::Empty(status, _) => Answer::empty(status),
        Fault::Refuse(status, code) => Refusal::new(status, code, "Refused").answer(model),
        Fault::Redirect(status) => {
            let place = format!("http://{}{}", simulation.ports.elsewhere, arrived.request.head.target);
            Answer::empty(status).with("Location", place)
        }
        Fault::NotJson => Answer::of(answer.status, "text/plain", "OK".to_owned()),
        Fault::MissingFields => Answer::json(answer.status, "{\"message\":\"OK\"}".to_owned()),
        Fault::InvalidJson => {
            let mut answer = answer;
            answer.body.truncate(answer.body.len() / 2);
            answer
        }
        Fault::Nul => answer.broken_by(Breakage::Nul),
        Fault::LoneSurrogate => answer.broken_by(Breakage::LoneSurrogate),
        Fault::InvalidUtf8 => answer.broken_by(Breakage::InvalidUtf8),
        Fault::Gzip => answer.gzipped(),
        Fault::InProgress => refusal(409),
        Fault::TokenExpired => refusal(401),
        Fault::Forbidden => refusal(403),
        Fault::RateLimited => too_many(simulation, model),
        Fault::RateLimitedRetryAfter => {
            let wait = simulation.books().pace.retry_after.as_secs();
            too_many(simulation, model).with("Retry-After", wait.to_string())
        }
        _ => answer,
    };
    let delivery = match arrived.fault {
        Fault::Reset(_) => Delivery::Reset,
        Fault::Close(_) => Delivery::Close,
        Fault::Silence(_) => Delivery::Silence,
        Fault::Stall(_) => Delivery::Stall,
        Fault::Drip => Delivery::Drip,
        Fault::CloseAfterAnswer => Delivery::WholeThenClose,
        Fault::Truncated => Delivery::Truncated,
        Fault::WrongLength => Delivery::WrongLength,
        Fault::ChunkCut => Delivery::ChunkCut,
        Fault::CutAt(bytes) => Delivery::CutAt(bytes),
        Fault::HugeBody => Delivery::Huge(simulation.settings.huge_body_bytes),
        _ => Delivery::Whole,
    };
    (answer, delivery)
}

fn too_many(simulation: &Simulation, model: Model) -> Answer {
    let wait = simulation.books().pace.retry_after;
    let window = Window {
        limit: 100,
        remaining: 0,
        resets_at: simulation.clock.after(wait),
        refused: true,
    };
    access::with_window(Refusal::usual(model, 429).answer(model), model.provider(), Some(window))
}
