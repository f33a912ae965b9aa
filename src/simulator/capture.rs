//! One capture, from its key to its line in the ledger. The order never varies: key, turn on the
//! payment, decision, ledger synced, memory, answer.

use std::sync::Arc;

use super::{
    answer::Answer,
    ask::{Ask, Verdict},
    books::{KeyScope, Pending, Remembered, Said},
    ledger::Writer,
    ledger_file::{Line, Movement, NotWritten, Standing},
    model::{Model, ProviderName},
    payment::{Payment, PaymentKey, Twist, View},
    refusal::Refusal,
    simulation::Simulation,
};

/// A capture call that has been read and let in.
#[derive(Clone, Debug)]
pub(super) struct CaptureCall {
    pub(super) model: Model,
    pub(super) account: String,
    pub(super) payment_id: String,
    pub(super) ask: Ask,
    pub(super) body_sha256: String,
    /// Of its record.
    pub(super) seq: u64,
    pub(super) play: Play,
}

/// What the fault of the call does to the business.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Play {
    /// `Declined` or `DeclinedWith402`.
    pub(super) declined: Option<Standing>,
    /// Pending first; whether it succeeds then.
    pub(super) pending: Option<bool>,
    pub(super) foreign_first: bool,
    pub(super) twist: Option<Twist>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(super) struct Done {
    pub(super) answer: Answer,
    pub(super) moved: bool,
    pub(super) replayed: bool,
}

impl Done {
    fn said(answer: Answer) -> Self {
        Self {
            answer,
            moved: false,
            replayed: false,
        }
    }
}

/// A key is in use; dropped when its call has ended.
pub(super) struct Running {
    simulation: Arc<Simulation>,
    scope: Option<KeyScope>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(scope) = &self.scope {
            self.simulation.books().running.remove(scope);
        }
    }
}

/// Takes the key, or tells what it already stands for. Boxed: the error is the rare, big case.
pub(super) fn begin(simulation: &Arc<Simulation>, call: &CaptureCall) -> Result<Running, Box<Done>> {
    let provider = call.model.provider();
    let scope = call.ask.key.as_ref().map(|key| {
        let (account, payment_id) = (call.account.clone(), call.payment_id.clone());
        (provider, account, payment_id, key.clone())
    });
    if let Some(scope) = &scope {
        let mut books = simulation.books();
        if books.running.contains(scope) {
            books.counts.in_progress += 1;
            drop(books);
            return Err(Box::new(Done::said(Refusal::usual(call.model, 409).answer(call.model))));
        }
        let known = books
            .remembered
            .get(scope)
            .filter(|known| is_alive(simulation, provider, known));
        if let Some(known) = known.cloned() {
            books.counts.replays += 1;
            if known.body_sha256.as_ref().is_some_and(|hash| *hash != call.body_sha256) {
                books.counts.key_reused_with_other_body += 1;
            }
            let answer = match &known.said {
                Said::Refusal(refusal) => Some(refusal.answer(call.model)),
                Said::Movement { payment, place } => {
                    books.payment(payment).and_then(|payment| shown(call, payment, *place))
                }
            };
            drop(books);
            let answer = answer.unwrap_or_else(|| Refusal::usual(call.model, 500).answer(call.model));
            return Err(Box::new(Done {
                answer,
                moved: false,
                replayed: true,
            }));
        }
        books.running.insert(scope.clone());
    }
    Ok(Running {
        simulation: Arc::clone(simulation),
        scope,
    })
}

/// Afterpay's keys live for the key window (24 h documented as the most), Resolve's for ever (unknown).
fn is_alive(simulation: &Simulation, provider: ProviderName, known: &Remembered) -> bool {
    let age = (simulation.clock.now() - known.at).to_std().unwrap_or_default();
    provider != ProviderName::Afterpay || age < simulation.settings.key_window
}

/// Decides, writes, moves. Runs to its end whether or not the client is still there.
pub(super) async fn execute(simulation: &Arc<Simulation>, call: &CaptureCall, running: Running) -> Done {
    let done = match decide(simulation, call).await {
        Ok(done) => done,
        Err(error) => {
            tracing::error!(%error, "a capture was not executed");
            Done::said(Refusal::usual(call.model, 500).answer(call.model))
        }
    };
    if done.moved {
        simulation.books().amend(call.seq, |record| record.money_moved = true);
    }
    drop(running);
    simulation.changed();
    done
}

async fn decide(simulation: &Arc<Simulation>, call: &CaptureCall) -> Result<Done, NotWritten> {
    let model = call.model;
    let found = {
        let books = simulation.books();
        let payment = books.find(model.provider(), &call.account, &call.payment_id);
        payment.map(|payment| (payment.key(), Arc::clone(&payment.turn)))
    };
    let Some((key, turn)) = found else {
        return Ok(Done::said(model.unknown_payment(&call.payment_id).answer(model)));
    };
    let _held = turn.lock().await;
    if call.play.foreign_first {
        capture_first(simulation, call, &key).await?;
    }
    let now = simulation.clock.now();
    let mut payment = match simulation.books().payment(&key) {
        Some(payment) => payment.clone(),
        None => return Ok(Done::said(Refusal::usual(model, 404).answer(model))),
    };
    if let Some(currency) = call
        .ask
        .currency
        .as_ref()
        .filter(|_| payment.authorization.any_currency)
    {
        payment.authorization.currency.clone_from(currency);
    }
    let refuses = call.play.declined.is_some() && model.provider() == ProviderName::Resolve;
    let verdict = match model.judge(&payment, &call.ask, now, &simulation.settings) {
        Ok(Verdict::Capture(_)) if refuses => Err(Refusal::new(400, "invalid_request", "Declined")),
        verdict => verdict,
    };
    match verdict {
        Ok(Verdict::Capture(amount_minor)) => {
            let standing = standing(simulation, call);
            let movement = movement(&payment, call, amount_minor, now, standing);
            move_money(simulation, call, payment, movement).await
        }
        Ok(Verdict::Repeat(place)) => {
            let answer = shown(call, &payment, place);
            simulation.books().counts.replays += 1;
            Ok(Done {
                answer: answer.unwrap_or_else(|| Refusal::usual(model, 500).answer(model)),
                moved: false,
                replayed: true,
            })
        }
        Err(refusal) => {
            remember_refusal(simulation, call, &refusal).await?;
            Ok(Done::said(refusal.answer(model)))
        }
    }
}

fn standing(simulation: &Simulation, call: &CaptureCall) -> Standing {
    match (call.play.declined, call.play.pending) {
        (Some(declined), _) => declined,
        (None, Some(succeeds)) => Standing::Pending {
            until: simulation.clock.after(simulation.books().pace.pending_for),
            succeeds,
        },
        (None, None) => Standing::Captured,
    }
}

async fn move_money(
    simulation: &Arc<Simulation>,
    call: &CaptureCall,
    mut payment: Payment,
    movement: Movement,
) -> Result<Done, NotWritten> {
    let line = match movement.standing {
        Standing::Pending { .. } => Line::Pending(movement.clone()),
        Standing::Declined | Standing::DeclinedWith402 | Standing::Failed => Line::Declined(movement.clone()),
        Standing::Captured => Line::Capture(movement.clone()),
    };
    simulation.commit(&[&line]).await?;
    if let Standing::Pending { until, succeeds } = movement.standing {
        let pending = Pending {
            payment: payment.key(),
            capture_id: movement.capture_id.clone(),
            until,
            succeeds,
        };
        simulation.settle_later(pending, Some(call.seq));
    }
    let moved = movement.standing == Standing::Captured;
    payment.movements.push(movement);
    let answer = shown(call, &payment, payment.movements.len() - 1);
    Ok(Done {
        answer: answer.unwrap_or_else(|| Refusal::usual(call.model, 500).answer(call.model)),
        moved,
        replayed: false,
    })
}

/// The answer to the movement at a place, as it was when it was the last.
fn shown(call: &CaptureCall, payment: &Payment, place: usize) -> Option<Answer> {
    let movement = payment.movements.get(place)?;
    let view = View {
        payment,
        upto: place + 1,
        as_of: movement.at,
        twist: call.play.twist,
    };
    Some(call.model.captured_answer(&view, movement))
}

fn movement(
    payment: &Payment,
    call: &CaptureCall,
    amount_minor: i64,
    at: chrono::DateTime<chrono::Utc>,
    standing: Standing,
) -> Movement {
    let ask = call.ask.clone();
    Movement {
        provider: call.model.provider(),
        model: Some(call.model),
        payment_account: payment.authorization.account.clone(),
        account: Some(call.account.clone()),
        payment_id: payment.id().to_owned(),
        capture_id: payment.next_capture_id(call.model.capture_prefix()),
        reference: ask.reference,
        key: ask.key,
        amount_minor,
        currency: payment.currency().to_owned(),
        at,
        writer: Writer::Ours,
        standing,
        merchant_reference: ask.merchant_reference,
        order_number: ask.order_number,
        po_number: ask.po_number,
        body_sha256: Some(call.body_sha256.clone()),
    }
}

/// Refusals of the business are replayed for their key, as the 24 h replay suggests (inference).
pub(super) async fn remember_refusal(
    simulation: &Arc<Simulation>,
    call: &CaptureCall,
    refusal: &Refusal,
) -> Result<(), NotWritten> {
    let Some(key) = call.ask.key.as_ref().filter(|_| simulation.settings.replay_refusals) else {
        return Ok(());
    };
    let line = Line::Refused {
        provider: call.model.provider(),
        account: call.account.clone(),
        payment_id: call.payment_id.clone(),
        key: key.clone(),
        status: refusal.status,
        code: refusal.code.clone(),
        message: refusal.message.clone(),
        at: simulation.clock.now(),
        body_sha256: call.body_sha256.clone(),
    };
    simulation.commit(&[&line]).await
}

/// Somebody else asks for the same, a moment earlier; if that cannot be had, for all that is left.
async fn capture_first(simulation: &Arc<Simulation>, call: &CaptureCall, key: &PaymentKey) -> Result<(), NotWritten> {
    let now = simulation.clock.now();
    let line = {
        let books = simulation.books();
        let Some(payment) = books.payment(key) else {
            return Ok(());
        };
        let asked = call.model.judge(payment, &call.ask, now, &simulation.settings);
        let amount_minor = match asked {
            Ok(Verdict::Capture(minor)) => minor.min(payment.remaining_minor()),
            Ok(Verdict::Repeat(_)) | Err(_) => payment.remaining_minor(),
        };
        if amount_minor == 0 {
            return Ok(());
        }
        Line::Capture(foreign_movement(payment, amount_minor, now))
    };
    simulation.commit(&[&line]).await
}

/// A capture by a dashboard or a shop plugin: no key, no reference of ours.
pub(super) fn foreign_movement(payment: &Payment, amount_minor: i64, at: chrono::DateTime<chrono::Utc>) -> Movement {
    Movement {
        provider: payment.authorization.provider,
        model: None,
        payment_account: payment.authorization.account.clone(),
        account: None,
        payment_id: payment.id().to_owned(),
        capture_id: payment.next_capture_id("oth_"),
        reference: None,
        key: None,
        amount_minor,
        currency: payment.currency().to_owned(),
        at,
        writer: Writer::Foreign,
        standing: Standing::Captured,
        merchant_reference: None,
        order_number: None,
        po_number: None,
        body_sha256: None,
    }
}
