//! One seed decides kinds, victims and times. The same seed, seconds and workers give the same schedule.

use std::fmt;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::kind::{Kind, Track};

/// One piece of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Not before this, counted from the beginning of the trouble.
    pub at_ms: u64,
    pub kind: Kind,
    /// Which worker, where one is meant.
    pub worker: usize,
    /// How long it lasts or delays.
    pub for_ms: u64,
    /// How often a trap springs, at most.
    pub times: u32,
    /// Chance for what else must be chosen: how many bytes, which lane.
    pub draw: u64,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, tenths) = (self.at_ms / 1000, self.at_ms % 1000 / 100);
        write!(
            f,
            "{seconds:>4}.{tenths}s  {:<22} worker {}",
            self.kind.name(),
            self.worker
        )?;
        write!(f, "  {} ms  x{}", self.for_ms, self.times)
    }
}

/// The lease of the workers under test: what "past the lease" means.
pub const LEASE_MS: u64 = 10_000;

/// Two fail-overs of an hour are so far apart, those of a shorter run less. Everything that is asked for in the five leases after
/// one, and all that waited before, is read until it has been quiet for a while before it is sent: where the next fail-over
/// comes sooner, nothing is ever sent, and all other faults find nothing to spoil.
const HISTORIES_APART_MS: u64 = 120_000;

/// Is it a fail-over?
fn loses_a_history(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::PromotedWithLoss | Kind::PromotedInSync | Kind::SyncWaitCancelled
    )
}

/// Draws the steps of one track, in the order of their times. Kinds come from a shuffled deck, so that none is forgotten.
pub fn of(track: Track, kinds: &[Kind], seed: u64, seconds: u64, workers: usize) -> Vec<Step> {
    let place = match track {
        Track::Wire => 1,
        Track::Process => 2,
        Track::Server => 3,
        Track::World => 4,
    };
    let mut dice = StdRng::seed_from_u64(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(place));
    let kinds: Vec<Kind> = kinds.iter().copied().filter(|kind| kind.track() == track).collect();
    let others = kinds.iter().any(|kind| !loses_a_history(*kind));
    let mut next_history_ms = 0;
    let mut deck: Vec<Kind> = Vec::new();
    let mut steps = Vec::new();
    let mut at_ms = match track {
        Track::Wire => 500,
        Track::Process => 2000,
        Track::Server => 3000,
        Track::World => 2500,
    };
    while at_ms < seconds * 1000 && !kinds.is_empty() {
        if deck.is_empty() {
            deck.clone_from(&kinds);
            deck.shuffle(&mut dice);
        }
        let Some(kind) = deck.pop() else { break };
        if loses_a_history(kind) && others {
            if at_ms < next_history_ms {
                continue;
            }
            next_history_ms = at_ms + HISTORIES_APART_MS.min(seconds * 1000 / 25);
        }
        let for_ms = lasts(kind, &mut dice);
        steps.push(Step {
            at_ms,
            kind,
            worker: dice.random_range(0..workers.max(1)),
            for_ms,
            times: times(kind, &mut dice),
            draw: dice.random(),
        });
        at_ms += match track {
            Track::Wire => dice.random_range(100..600),
            Track::Process => dice.random_range(1500..4000),
            Track::Server => for_ms + dice.random_range(4000..9000),
            Track::World => for_ms + dice.random_range(300..1500),
        };
    }
    steps
}

/// Whoever is frozen or killed is out for long; of the rest more fit into a run.
fn times(kind: Kind, dice: &mut StdRng) -> u32 {
    use Kind::*;
    match (kind.track(), kind) {
        (Track::Wire, FrozenAfterClaim | FrozenAfterRead) => 1,
        (Track::Wire, KilledAfterClaim | KilledAfterPost | KilledBeforeSettle | KilledAfterSettle) => {
            dice.random_range(1..=2)
        }
        // Once: a worker whose claims fail claims seldom, a settle holds many results, and more traps than claims and settles
        // would let nothing come through to spring the others.
        (Track::Wire, ClaimSwallowed | ClaimReset | ClaimCut | ClaimStalled | GiveBackSwallowed | StatementReset) => 1,
        (Track::Wire, SettleSwallowed | SettleReset | SettleCut | SettleStalled) => 1,
        (Track::Wire, _) => dice.random_range(2..=6),
        (Track::Process | Track::Server | Track::World, _) => 1,
    }
}

fn lasts(kind: Kind, dice: &mut StdRng) -> u64 {
    use Kind::*;
    match kind {
        // A quarter of them outlast the lease.
        ClaimStalled | SettleStalled => match dice.random_ratio(1, 4) {
            true => dice.random_range(LEASE_MS..LEASE_MS + 3000),
            false => dice.random_range(200..2500),
        },
        // Longer than the worker's patience (3 s), shorter than what a call is given in all (8 s): see the documents.
        PostDeliveredLate => dice.random_range(3000..7000),
        PostDeliveredTwice => dice.random_range(0..2000),
        FrozenAfterClaim | FrozenAfterRead | FrozenPastLease => dice.random_range(LEASE_MS + 500..LEASE_MS + 4000),
        Frozen => dice.random_range(600..1500),
        Killed | RollingRestart | Reconfigured => 0,
        PostgresStopped | PostgresKilled | BackendKilled | BackendsTerminated => dice.random_range(0..1000),
        PromotedWithLoss | PromotedInSync | SyncWaitCancelled => dice.random_range(1000..3000),
        DiskFull | ConnectionsExhausted => dice.random_range(1500..3500),
        ProviderDown | ProviderLimits | LanePaused => dice.random_range(1000..3500),
        DatabasePartition | ProviderPartition => dice.random_range(1500..7000),
        DatabaseRefused => dice.random_range(500..4000),
        ClockShifted => dice.random_range(4000..9000),
        ClaimSwallowed | ClaimReset | ClaimCut | SettleSwallowed | SettleReset | SettleCut | GiveBackSwallowed
        | StatementReset | PostReset | PostCut | PostAnswerReset | AnswerSwallowed | AnswerCut | AnswerStalled
        | ReadSwallowed | KilledAfterClaim | KilledAfterPost | KilledBeforeSettle | KilledAfterSettle => 0,
    }
}
