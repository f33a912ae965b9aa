//! Random operations, one after another.

use std::collections::BTreeMap;

use capture::outbox::{Settled, memory::Told};

use crate::draw::{Draw, Hands};
use crate::operation::{Answer, Operation};
use crate::twins::Twins;

const CASES: u64 = 60;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// What was met at all: a proof by sequences in which nothing happens is none.
#[derive(Default)]
struct Met(BTreeMap<String, u32>);

impl Met {
    fn note(&mut self, what: impl Into<String>) {
        *self.0.entry(what.into()).or_default() += 1;
    }
}

async fn run(twins: &mut Twins, seed: u64, met: &mut Met) {
    twins.clear().await;
    let mut draw = Draw::new(seed);
    let mut hands = Hands::default();
    for _ in 0..rand::Rng::random_range(&mut draw.rng, 30..=60) {
        let time = draw.time(&twins.tables, twins.now);
        twins.pass(time).await;
        let operation = draw.operation(&twins.tables, &mut hands, twins.now);
        let answer = twins.both(&operation).await;
        match (&operation, answer) {
            (Operation::Claim(ask), Answer::Claimed(claimed)) => {
                for claim in &claimed.claims {
                    met.note(format!("claimed to {}", claim.ticket.purpose().name()));
                    for (flag, name) in [
                        (claim.history_changed, "history changed"),
                        (claim.cancel_requested, "cancel requested"),
                        (claim.late_receipt.is_some(), "late receipt"),
                        (claim.siblings.undecided, "undecided sibling"),
                        (!claim.siblings.capture_ids.is_empty(), "captured sibling"),
                        (ask.alone, "alone"),
                    ] {
                        if flag {
                            met.note(name);
                        }
                    }
                }
                // Now and then the answer is lost on its way.
                if rand::Rng::random_ratio(&mut draw.rng, 1, 8) {
                    hands.lost.push(ask.lease);
                } else {
                    hands.claims.extend(claimed.claims);
                }
            }
            (Operation::Settle(batch, _), Answer::Settled(settled)) => {
                for said in &settled {
                    met.note(format!("{said:?}"));
                }
                if batch.len() > 1 && settled.contains(&Settled::LeaseLost) && settled.contains(&Settled::Recorded) {
                    met.note("a late one and a recorded one in a batch");
                }
            }
            (Operation::GiveBack(_), Answer::Said(said)) if said != "0" => met.note("given back"),
            (Operation::Enqueue(..), Answer::Said(said)) => met.note(said),
            (_, _) => {}
        }
    }
    for event in &twins.tables.events {
        met.note(event.told.name());
        if let Told::LateResult { alarm: Some(alarm), .. } = &event.told {
            met.note(*alarm);
        }
    }
}

#[tokio::test]
async fn memory_and_postgres_agree_after_every_step_of_random_sequences() {
    let mut twins = Twins::new().await;
    let mut met = Met::default();
    if let Some(seed) = number("CAPTURE_CONFORMANCE_SEED") {
        return run(&mut twins, seed, &mut met).await;
    }
    let cases = number("CAPTURE_CONFORMANCE_CASES").unwrap_or(CASES);
    // The same ones each time: what nobody has seen yet is looked for on purpose, with another first seed and more cases.
    let first = number("CAPTURE_CONFORMANCE_FIRST").unwrap_or(0);
    for seed in first..first + cases {
        // Shown if the test fails.
        println!("CAPTURE_CONFORMANCE_SEED={seed}");
        run(&mut twins, seed, &mut met).await;
    }
    println!("{:#?}", met.0);
    for what in [
        "claimed to send",
        "claimed to retry",
        "claimed to verify",
        "history changed",
        "cancel requested",
        "late receipt",
        "captured sibling",
        "Recorded",
        "AlreadyRecorded",
        "LeaseLost",
        "given back",
        "released",
        "replayed",
        "auth_expiring",
        "cancelled",
    ] {
        assert!(met.0.contains_key(what), "no sequence came to: {what} ({:?})", met.0);
    }
}
