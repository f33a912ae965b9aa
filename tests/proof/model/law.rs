//! What must always hold, and what must be possible.

use std::collections::BTreeSet;

use capture::intent::IntentId;
use capture::outbox::memory::End;
use capture::outcome::Proof;
use capture::retry::{DeadReason, Disposition};

use super::World;
use super::scope::AUTHORISED;
use super::state::{Stage, State, Worker, intent_id};

/// A law. The first that a state breaks is noted in it, and nothing follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Law {
    CapturedOnce,
    CapturedIsTrue,
    EndedIsTrue,
    InOnePlace,
    OneAtATime,
    WithinAuthorised,
    SentInTime,
    LeasedBeforeSent,
    Fenced,
    ToldOnce,
    ReceiptCounts,
    Ends,
}

impl Law {
    pub const ALL: [Law; 12] = [
        Law::CapturedOnce,
        Law::CapturedIsTrue,
        Law::EndedIsTrue,
        Law::InOnePlace,
        Law::OneAtATime,
        Law::WithinAuthorised,
        Law::SentInTime,
        Law::LeasedBeforeSent,
        Law::Fenced,
        Law::ToldOnce,
        Law::ReceiptCounts,
        Law::Ends,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Law::CapturedOnce => "I1 money moves at most once for an intent",
            Law::CapturedIsTrue => "I3 what is captured here is captured there, with our amount",
            Law::EndedIsTrue => "I2 what ended without money, and is not undecided, moved none",
            Law::InOnePlace => "I13 an intent is in one place, and the rows fit together",
            Law::OneAtATime => "I5 one money movement at a time on a payment",
            Law::WithinAuthorised => "I7 captured, in flight and undecided are within what is authorised",
            Law::SentInTime => "I8 nothing is sent at the deadline's margin or later",
            Law::LeasedBeforeSent => "I4 a send has its open attempt committed before it",
            Law::Fenced => "I6 a result without its lease changes nothing but late results",
            Law::ToldOnce => "I9 one event tells of each captured intent",
            Law::ReceiptCounts => "I3 whatever ends after its receipt came ends captured",
            Law::Ends => "I2 if nothing more goes wrong, every intent ends",
        }
    }
}

impl World {
    /// Is this law looked at in this scope?
    pub fn counts(&self, law: Law) -> bool {
        self.scope.only.is_none_or(|only| only == law)
    }

    pub fn judge(&self, before: &State, state: &State) -> Option<Law> {
        let asked = (0..self.scope.asked.len()).flat_map(|number| self.judge_intent(number, before, state));
        let first = asked.into_iter().find(|law| self.counts(*law));
        if first.is_some() {
            return first;
        }
        if self.counts(Law::WithinAuthorised) && self.takes_too_much(state) {
            return Some(Law::WithinAuthorised);
        }
        // A result of a history that is gone comes late, and the attempt that it was of is gone too.
        let expected = |fault: &String| state.failed_over && fault.contains("has a late result");
        let tables = &state.book.tables;
        let moved = *tables != before.book.tables;
        if self.counts(Law::InOnePlace) && moved && tables.faults().iter().any(|fault| !expected(fault)) {
            return Some(Law::InOnePlace);
        }
        let quiet = state.wire.is_empty() && state.workers.iter().all(|worker| *worker == Worker::Idle);
        let stuck = self.counts(Law::Ends) && quiet && !state.is_over() && !self.ends_well(state);
        stuck.then_some(Law::Ends)
    }

    /// The laws that this intent breaks.
    fn judge_intent(&self, number: usize, before: &State, state: &State) -> Vec<Law> {
        let (tables, bank) = (&state.book.tables, &state.bank);
        let intent = intent_id(number);
        let mut broken = Vec::new();
        let times = bank.times_captured(intent);
        if times > 1 {
            broken.push(Law::CapturedOnce);
        }
        let end = tables.outcomes.get(&intent).map(|row| &row.end);
        match end {
            Some(End::Captured { id, minor, proof, .. }) => {
                let moved = bank.payments.values().flat_map(|payment| &payment.captures);
                let mut ours = moved.filter(|moved| moved.intent == intent && !moved.by_hand);
                let same = |id_there: u32| *proof == Proof::Person || id_there.to_string() == **id;
                let is_there = ours.any(|moved| moved.minor == *minor && same(moved.id));
                if !is_there || *minor != self.scope.asked[number].minor {
                    broken.push(Law::CapturedIsTrue);
                }
            }
            Some(End::Dead(DeadReason::Undecided)) | None => {}
            Some(End::Dead(_) | End::Cancelled) if times > 0 => broken.push(Law::EndedIsTrue),
            Some(End::Dead(_) | End::Cancelled) => {}
        }
        let told = state.book.told.get(&intent).copied().unwrap_or(0);
        let by_us = matches!(end, Some(End::Captured { proof, .. }) if *proof != Proof::Person);
        if told != u8::from(by_us) {
            broken.push(Law::ToldOnce);
        }
        // A fail-over goes back to an end of before.
        let ends = end.is_some() && !before.book.tables.outcomes.contains_key(&intent);
        let without = !matches!(end, Some(End::Captured { .. }));
        if ends && without && before.book.receipts.contains(&intent) && state.failed_over == before.failed_over {
            broken.push(Law::ReceiptCounts);
        }
        broken
    }

    /// Captured, on the wire, or left to a person: together more than was authorised?
    fn takes_too_much(&self, state: &State) -> bool {
        state.bank.payments.iter().any(|(name, payment)| {
            let captured = payment.captures.iter().filter(|moved| !moved.by_hand);
            let mut taking: BTreeSet<IntentId> = captured.map(|moved| moved.intent).collect();
            let wire = state.wire.iter().filter(|posted| posted.request.payment == *name);
            taking.extend(wire.map(|posted| posted.request.intent));
            let tables = &state.book.tables;
            taking.extend(tables.outcomes.iter().filter_map(|(intent, row)| {
                let here = tables.intents.get(intent)?.capture.payment_id == *name;
                (here && row.end == End::Dead(DeadReason::Undecided)).then_some(*intent)
            }));
            let minor: i64 = (taking.iter().filter_map(|intent| tables.intents.get(intent)))
                .map(|row| row.capture.amount.minor)
                .sum();
            minor > AUTHORISED
        })
    }
}

/// What must be reachable, somewhere: else the model would prove nothing about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    CapturedByAnswer,
    CapturedByRead,
    CapturedByPerson,
    Cancelled,
    Rejected,
    Exhausted,
    Expired,
    Undecided,
    CapturedElsewhere,
    LateReceipt,
    LateReceiptUsed,
    NewKey,
    NewHistory,
}

impl Sight {
    pub const ALL: [Sight; 13] = [
        Sight::CapturedByAnswer,
        Sight::CapturedByRead,
        Sight::CapturedByPerson,
        Sight::Cancelled,
        Sight::Rejected,
        Sight::Exhausted,
        Sight::Expired,
        Sight::Undecided,
        Sight::CapturedElsewhere,
        Sight::LateReceipt,
        Sight::LateReceiptUsed,
        Sight::NewKey,
        Sight::NewHistory,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Sight::CapturedByAnswer => "captured, by the answer",
            Sight::CapturedByRead => "captured, by a read",
            Sight::CapturedByPerson => "captured, as a person says",
            Sight::Cancelled => "cancelled",
            Sight::Rejected => "dead: rejected",
            Sight::Exhausted => "dead: exhausted",
            Sight::Expired => "dead: expired",
            Sight::Undecided => "dead: undecided",
            Sight::CapturedElsewhere => "dead: captured elsewhere",
            Sight::LateReceipt => "a receipt comes late",
            Sight::LateReceiptUsed => "a late receipt ends a verification",
            Sight::NewKey => "a new key is sent",
            Sight::NewHistory => "a new history is noticed",
        }
    }

    pub fn is_in(self, state: &State) -> bool {
        let tables = &state.book.tables;
        let ended = |is: &dyn Fn(&End) -> bool| tables.outcomes.values().any(|row| is(&row.end));
        let dead = |reason| ended(&|end| *end == End::Dead(reason));
        let captured = |wanted: &[Proof]| {
            ended(&|end| match end {
                End::Captured { proof, .. } => wanted.contains(proof),
                End::Dead(_) | End::Cancelled => false,
            })
        };
        match self {
            Sight::CapturedByAnswer => captured(&[Proof::Answer]),
            Sight::CapturedByRead => captured(&[Proof::Reference, Proof::SoleWriter]),
            Sight::CapturedByPerson => captured(&[Proof::Person]),
            Sight::Cancelled => ended(&|end| *end == End::Cancelled),
            Sight::Rejected => dead(DeadReason::Rejected),
            Sight::Exhausted => dead(DeadReason::Exhausted),
            Sight::Expired => dead(DeadReason::Expired),
            Sight::Undecided => dead(DeadReason::Undecided),
            Sight::CapturedElsewhere => dead(DeadReason::CapturedElsewhere),
            Sight::LateReceipt => tables.late_results.values().any(|late| late.receipt.is_some()),
            Sight::LateReceiptUsed => state.workers.iter().any(|worker| match worker {
                Worker::Busy {
                    errand,
                    stage: Stage::Settling(settlement),
                    ..
                } => {
                    errand.claim.late_receipt.is_some() && matches!(settlement.disposition(), Disposition::Captured(_))
                }
                Worker::Busy { .. } | Worker::Idle | Worker::InTheDark(_) => false,
            }),
            Sight::NewKey => state.wire.iter().any(|posted| posted.request.generation.0 > 0),
            Sight::NewHistory => tables.epoch.number > 1,
        }
    }
}
