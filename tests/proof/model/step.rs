//! What may happen next, and doing it: the database, the network, the clock. (`errand.rs` is a worker's part, `people.rs`
//! everybody else's.)

use std::sync::Arc;

use capture::outbox::memory::{Lease, Tables};
use capture::outbox::{ClaimRequest, Claimed, LaneId, LaneRequest};
use uuid::Uuid;

use super::World;
use super::scope::{Design, Fault, LEASE};
use super::state::{Book, Errand, Reply, Stage, State, Worker, at};
use crate::bank::Kind;

/// One atomic step of one party. Numbers are places in [`State::workers`], [`State::wire`] or the order of intents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// An idle slot claims, or as many as are idle; `favour`: whose turn it is.
    Claim {
        favour: i16,
        batch: u32,
    },
    ClaimButTheAnswerIsLost,
    GiveBack(usize),
    Begin(usize),
    BeginButTheReadIsLost(usize),
    Weigh(usize),
    Send(usize),
    SendButNobodyIsThere(usize),
    Receive(usize),
    ReceiveNotFinal(usize),
    TimeOut(usize),
    FrontSays503(usize),
    Settle(usize),
    SettleButTheAnswerIsLost(usize),
    Crash(usize),
    Execute(usize),
    Double(usize),
    RefuseAsAConflict(usize),
    RefuseForTooLittleLeft(usize),
    Rescue,
    Tick,
    StandbyFallsBehind,
    FailOver,
    Cancel(usize),
    Release(usize),
    Replay(usize),
    Resolve(usize),
    Enqueue(usize),
    CaptureByHand(usize),
}

impl World {
    pub fn possible(&self, state: &State, actions: &mut Vec<Action>) {
        let scope = &self.scope;
        let fails = |fault| state.faults > 0 && scope.may_fail(fault);
        if state.workers.contains(&Worker::Idle) && !state.book.tables.ready.is_empty() {
            let several = scope.asked.len() > 1;
            for favour in 0..if several { 3 } else { 1 } {
                actions.push(Action::Claim { favour, batch: 1 });
            }
            if several {
                actions.push(Action::Claim { favour: 0, batch: 2 });
            }
            if fails(Fault::ClaimLost) {
                actions.push(Action::ClaimButTheAnswerIsLost);
            }
        }
        for (n, worker) in state.workers.iter().enumerate() {
            let stage = match worker {
                Worker::Idle => continue,
                Worker::InTheDark(_) => {
                    actions.push(Action::GiveBack(n));
                    None
                }
                Worker::Busy { stage, .. } => Some(stage),
            };
            if fails(Fault::Crash) {
                actions.push(Action::Crash(n));
            }
            match stage {
                None => {}
                Some(Stage::Claimed) => {
                    actions.push(Action::Begin(n));
                    if fails(Fault::ReadLost) {
                        actions.push(Action::BeginButTheReadIsLost(n));
                    }
                }
                Some(Stage::Read { .. }) => actions.push(Action::Weigh(n)),
                Some(Stage::Sending(_)) => {
                    actions.push(Action::Send(n));
                    if fails(Fault::Unreachable) {
                        actions.push(Action::SendButNobodyIsThere(n));
                    }
                }
                Some(Stage::Awaiting { reply, .. }) => {
                    if reply.is_some() {
                        actions.push(Action::Receive(n));
                        if fails(Fault::Accepted) {
                            actions.push(Action::ReceiveNotFinal(n));
                        }
                    }
                    if fails(Fault::Unanswered) {
                        actions.push(Action::TimeOut(n));
                    }
                    if fails(Fault::Front) {
                        actions.push(Action::FrontSays503(n));
                    }
                }
                Some(Stage::Settling(_)) => {
                    actions.push(Action::Settle(n));
                    if fails(Fault::SettleLost) {
                        actions.push(Action::SettleButTheAnswerIsLost(n));
                    }
                }
            }
        }
        for n in 0..state.wire.len() {
            actions.extend([
                Action::Execute(n),
                Action::RefuseAsAConflict(n),
                Action::RefuseForTooLittleLeft(n),
            ]);
            if fails(Fault::Doubled) {
                actions.push(Action::Double(n));
            }
        }
        let (now, epoch) = (at(state.now), state.book.tables.epoch);
        let lapsed = |lease: &Lease| lease.until < now || lease.epoch != epoch.number || epoch.unnoticed;
        if epoch.unnoticed || state.book.tables.leases.values().any(lapsed) {
            actions.push(Action::Rescue);
        }
        actions.push(Action::Tick);
        if state.standby.is_some() {
            actions.push(Action::FailOver);
        } else if fails(Fault::FailOver) && !state.failed_over {
            actions.push(Action::StandbyFallsBehind);
        }
        self.possible_acts(state, actions);
    }

    /// The state after it; `None`: it cannot be done, or changes nothing.
    pub fn step(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        let done = match action {
            Action::Claim { favour, batch } => self.claim(&mut next, favour, batch),
            Action::ClaimButTheAnswerIsLost => pay(&mut next) && self.claim_in_vain(&mut next),
            Action::GiveBack(n) => give_back(&mut next, n),
            Action::Begin(n) => self.begin(&mut next, n, false),
            Action::BeginButTheReadIsLost(n) => pay(&mut next) && self.begin(&mut next, n, true),
            Action::Weigh(n) => self.weigh(&mut next, n),
            Action::Send(n) => self.send(&mut next, n, true),
            Action::SendButNobodyIsThere(n) => pay(&mut next) && self.send(&mut next, n, false),
            Action::Receive(n) => self.receive(&mut next, n, true),
            Action::ReceiveNotFinal(n) => pay(&mut next) && self.receive(&mut next, n, false),
            Action::TimeOut(n) => pay(&mut next) && self.time_out(&mut next, n),
            Action::FrontSays503(n) => pay(&mut next) && self.front_says_503(&mut next, n),
            Action::Settle(n) => self.settle(&mut next, n, true),
            Action::SettleButTheAnswerIsLost(n) => pay(&mut next) && self.settle(&mut next, n, false),
            Action::Crash(n) => {
                next.workers[n] = Worker::Idle;
                pay(&mut next)
            }
            Action::Execute(n) => execute(&mut next, n),
            Action::Double(n) => pay(&mut next) && double(&mut next, n),
            Action::RefuseAsAConflict(n) => refuse_as_a_conflict(&mut next, n),
            Action::RefuseForTooLittleLeft(n) => refuse_for_too_little_left(&mut next, n),
            Action::Rescue => self.rescue(&mut next),
            Action::Tick => self.tick(&mut next),
            Action::StandbyFallsBehind => {
                next.standby = Some(Arc::new(next.book.clone()));
                pay(&mut next)
            }
            Action::FailOver => self.fail_over(&mut next),
            Action::Cancel(_)
            | Action::Release(_)
            | Action::Replay(_)
            | Action::Resolve(_)
            | Action::Enqueue(_)
            | Action::CaptureByHand(_) => self.act(&mut next, action),
        };
        let changed = action != Action::Rescue || next.book.tables != state.book.tables;
        (done && changed).then_some(next)
    }

    fn claim(&self, state: &mut State, favour: i16, batch: u32) -> bool {
        let idle: Vec<usize> = places(state, |worker| *worker == Worker::Idle);
        if idle.len() < batch as usize {
            return false;
        }
        let before = state.book.tables.clone();
        let Some((lease, claimed)) = self.claim_rows(state, favour, batch) else {
            return state.book.tables != before;
        };
        if claimed.claims.len() < batch as usize && batch > 1 {
            return false;
        }
        for (n, claim) in idle.into_iter().zip(claimed.claims) {
            state.workers[n] = Worker::Busy {
                errand: Arc::new(Errand {
                    claim,
                    lease,
                    claimed_from: state.now,
                }),
                stage: Stage::Claimed,
                frozen: false,
            };
        }
        true
    }

    fn claim_in_vain(&self, state: &mut State) -> bool {
        let Some(n) = state.workers.iter().position(|worker| *worker == Worker::Idle) else {
            return false;
        };
        let Some((lease, _)) = self.claim_rows(state, 0, 1) else {
            return false;
        };
        state.workers[n] = Worker::InTheDark(lease);
        true
    }

    /// The id of a lease is random; here it follows from what it is for, so that equal worlds are equal.
    fn claim_rows(&self, state: &mut State, favour: i16, batch: u32) -> Option<(Uuid, Claimed)> {
        let now = at(state.now);
        let take = |tables: &mut Tables, lease: Uuid, alone: bool| {
            let lanes = [LaneRequest {
                lane: LaneId(1),
                free: batch,
                sending: 0,
                retrying: 0,
                verifying: 0,
                favour,
                send_calls: 1,
                read_calls: 1,
            }];
            let request = ClaimRequest {
                lease,
                worker: Uuid::nil(),
                lease_for: LEASE,
                batch,
                alone,
                lanes: &lanes,
            };
            if self.scope.design == Design::SiblingsClaimedAtOnce {
                return blindly(tables, now, &request);
            }
            tables.claim(now, &request)
        };
        for alone in [false, true] {
            let mut probe = state.book.tables.clone();
            let claimed = take(&mut probe, Uuid::nil(), alone);
            let Some(first) = claimed.claims.first() else {
                if probe != state.book.tables {
                    state.book.tables = probe;
                    return None;
                }
                continue;
            };
            let (intent, fence) = (first.ticket.intent().0.as_u128(), first.ticket.fence());
            let epoch = probe.epoch.number;
            let lease = Uuid::from_u128(
                intent << 64 | u128::from(epoch.unsigned_abs()) << 32 | u128::from(fence.unsigned_abs()),
            );
            let mut committed = state.book.tables.clone();
            let claimed = take(&mut committed, lease, alone);
            if self.scope.design != Design::LeaseAfterTheSend {
                state.book.tables = committed;
            }
            return Some((lease, claimed));
        }
        None
    }

    fn rescue(&self, state: &mut State) -> bool {
        let tables = &mut state.book.tables;
        let before = tables.clone();
        tables.rescue(at(state.now), 10);
        if self.scope.design == Design::RescueAsRetry {
            for (intent, row) in &mut tables.waiting {
                if !before.waiting.contains_key(intent) {
                    row.purpose = capture::outbox::Purpose::Retry;
                    row.cause = capture::outbox::memory::Cause::Backoff;
                    match before.progress.get(intent) {
                        Some(progress) => tables.progress.insert(*intent, progress.clone()),
                        None => tables.progress.remove(intent),
                    };
                }
            }
        }
        true
    }

    /// The standby takes over with what it has. Workers, the provider and the network go on as they were.
    fn fail_over(&self, state: &mut State) -> bool {
        let Some(standby) = state.standby.take() else {
            return false;
        };
        state.book = Book::clone(&standby);
        if self.scope.design != Design::EpochIgnored {
            state.book.tables.change_history();
        }
        state.failed_over = true;
        true
    }
}

/// A claim that does not look at what siblings do.
fn blindly(tables: &mut Tables, now: chrono::DateTime<chrono::Utc>, request: &ClaimRequest<'_>) -> Claimed {
    for intent in tables.intents.keys().copied().collect::<Vec<_>>() {
        let mut alone = tables.clone();
        alone.intents.retain(|id, _| *id == intent);
        alone.ready.retain(|_, row| row.intent == intent);
        let claimed = alone.claim(now, request);
        if !claimed.claims.is_empty() {
            tables.ready.retain(|_, row| row.intent != intent);
            tables.leases = alone.leases;
            return claimed;
        }
    }
    Claimed::default()
}

fn places(state: &State, wanted: impl Fn(&Worker) -> bool) -> Vec<usize> {
    let all = state.workers.iter().enumerate();
    all.filter(|(_, worker)| wanted(worker)).map(|(n, _)| n).collect()
}

/// Something goes wrong: one less may.
pub fn pay(state: &mut State) -> bool {
    let rest = state.faults.checked_sub(1);
    state.faults = rest.unwrap_or(0);
    rest.is_some()
}

fn give_back(state: &mut State, n: usize) -> bool {
    let Worker::InTheDark(lease) = state.workers[n] else {
        return false;
    };
    state.book.tables.give_back(at(state.now), lease);
    state.workers[n] = Worker::Idle;
    true
}

/// The provider executes a request; whoever waits for it has its answer.
fn execute(state: &mut State, n: usize) -> bool {
    let posted = state.wire.remove(n);
    let answer = state.bank.execute(&posted.request, at(state.now));
    reply(state, posted.lease, Reply::Bank(answer));
    true
}

fn reply(state: &mut State, lease: Option<Uuid>, with: Reply) {
    for worker in &mut state.workers {
        if let Worker::Busy { errand, stage, .. } = worker
            && lease == Some(errand.lease)
            && let Stage::Awaiting { reply, .. } = stage
        {
            *reply = Some(with);
        }
    }
}

/// Only where a key, or a unique reference, is there to tell the copy: elsewhere a middlebox that repeats a POST captures
/// twice whatever we do.
fn double(state: &mut State, n: usize) -> bool {
    let keyed = match state.bank.kind {
        Kind::KeyWithWindow | Kind::KeyForEver => true,
        Kind::UniqueReference | Kind::Nothing => false,
    };
    state.wire[n].doubled = true;
    let mut copy = state.wire[n].clone();
    copy.lease = None;
    state.wire.push(copy);
    keyed
}

/// Another one like it is at work. Keyed providers say so; others may.
fn refuse_as_a_conflict(state: &mut State, n: usize) -> bool {
    let posted = state.wire.remove(n);
    let another = state
        .wire
        .iter()
        .any(|other| other.request.intent == posted.request.intent);
    reply(state, posted.lease, Reply::Conflict);
    another && posted.lease.is_some()
}

/// A check in front of the keys: the echo of our own success, if that took what was left. Not of the twin of a request that a
/// box sent twice: whoever knows a key is taken to look it up before that.
fn refuse_for_too_little_left(state: &mut State, n: usize) -> bool {
    let posted = state.wire.remove(n);
    let taken = state.bank.payments.get(&posted.request.payment).is_some_and(|payment| {
        let moved: i64 = payment.captures.iter().map(|moved| moved.minor).sum();
        moved + posted.request.minor > payment.authorised_minor
    });
    reply(state, posted.lease, Reply::TooLittleLeft);
    taken && !posted.doubled && posted.lease.is_some() && state.bank.kind != Kind::Nothing
}
