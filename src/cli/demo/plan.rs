//! What is going to happen, and when: every order and every trouble, drawn from the seed before anything starts.
//!
//! The same seed and the same length give the same plan. How three processes then race through it is theirs: two runs of
//! one plan differ in who does what, and must not differ in what the books say.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crate::simulator::ProviderName;

use super::orders::{DECK, Fate, Order};

/// Orders placed a second.
const ORDERS_PER_SECOND: u64 = 8;

/// Something that the shop, its warehouse or somebody at a dashboard does to the order of that number in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    /// Insert the order and its intents in one transaction.
    Place,
    /// The same once more.
    PlaceAgain,
    /// The warehouse inserts a shipment event for that parcel.
    Ship(usize),
    /// The shop calls `capture.cancel`.
    Cancel,
    /// Somebody else captures the whole payment.
    CaptureElsewhere,
    /// The shop inserts an amount in whole dollars and cents: refused.
    Mistake,
}

/// A trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// A provider moves the money and the next so many answers are lost.
    LoseAnswers(ProviderName, Loss, usize),
    /// A worker gets SIGKILL while it talks to providers.
    KillWorker,
    /// A new worker takes its place.
    StartWorker,
    /// A provider refuses connections.
    Down(ProviderName),
    /// It takes them again.
    Up(ProviderName),
    /// A worker gets SIGSTOP while it talks to providers.
    FreezeWorker,
    /// It gets SIGCONT, its lease long over.
    ThawWorker,
    /// Optty no longer takes its tokens.
    VoidTokens,
    /// Resolve answers 429 so many times.
    LimitRate(usize),
    /// Postgres is stopped at once, as a crash would, and starts again.
    CrashPostgres,
}

/// How an answer is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// The connection is reset.
    Reset,
    /// A proxy in front says 502.
    BadGateway,
    /// Nothing comes.
    Silence,
}

/// At an instant counted from the first order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At<T> {
    pub(super) at: Duration,
    pub(super) what: T,
}

/// All of it.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) length: Duration,
    pub(super) orders: Vec<Order>,
    /// Deeds, each with the place of its order in `orders`, in time order.
    pub(super) deeds: Vec<At<(usize, Deed)>>,
    /// In time order.
    pub(super) troubles: Vec<At<Trouble>>,
}

impl Plan {
    /// Draws a plan. `beyond_lease`: how long a frozen worker stays frozen.
    pub(super) fn draw(seed: u64, length: Duration, beyond_lease: Duration) -> Plan {
        let mut random = StdRng::seed_from_u64(seed);
        let (orders, deeds) = draw_orders(&mut random, length);
        let troubles = draw_troubles(&mut random, length, beyond_lease);
        Plan {
            length,
            orders,
            deeds,
            troubles,
        }
    }
}

fn draw_orders(random: &mut StdRng, length: Duration) -> (Vec<Order>, Vec<At<(usize, Deed)>>) {
    let step_ms = 1000 / ORDERS_PER_SECOND;
    let count = length.as_secs().max(1) * ORDERS_PER_SECOND;
    let mut orders = Vec::new();
    let mut deeds = Vec::new();
    let mut deck = Vec::new();
    let mut early_release = true;
    for number in 0..count {
        if deck.is_empty() {
            deck.extend(DECK.into_iter().flat_map(|(fate, of)| std::iter::repeat_n(fate, of)));
            deck.shuffle(random);
        }
        let fate = deck.pop().unwrap_or(Fate::Plain);
        let place = orders.len();
        let order = Order::draw(random, number, fate);
        let at = Duration::from_millis(number * step_ms + random.random_range(0..step_ms));
        let mut then = |at: Duration, deed| {
            deeds.push(At {
                at,
                what: (place, deed),
            })
        };
        then(at, Deed::Place);
        // Within the run, so that it does not last longer than it was asked to; but never before the order.
        let later = |random: &mut StdRng, from_ms: u64, to_ms: u64| {
            let then = at + Duration::from_millis(random.random_range(from_ms..to_ms));
            then.min(length).max(at + Duration::from_millis(from_ms))
        };
        // Goods leave within a quarter of the run.
        let shipping_ms = u64::try_from(length.as_millis() / 4).unwrap_or(u64::MAX).max(500);
        match fate {
            Fate::Repeated => then(later(random, 200, 2000), Deed::PlaceAgain),
            Fate::Cancelled => then(later(random, 300, 1500), Deed::Cancel),
            // Just before, so that it is there when the first call comes.
            Fate::Elsewhere => then(at.saturating_sub(Duration::from_millis(1)), Deed::CaptureElsewhere),
            Fate::Shipped if early_release && at > Duration::from_secs(1) => {
                early_release = false;
                then(at - Duration::from_secs(1), Deed::Ship(0));
            }
            Fate::Shipped | Fate::Parcels => {
                for parcel in 0..order.captures.len() {
                    then(later(random, 100, shipping_ms), Deed::Ship(parcel));
                }
            }
            Fate::Plain | Fate::RolledBack | Fate::Declined => {}
        }
        orders.push(order);
    }
    deeds.push(At {
        at: length / 20,
        what: (0, Deed::Mistake),
    });
    deeds.sort_by_key(|deed| deed.at);
    (orders, deeds)
}

fn draw_troubles(random: &mut StdRng, length: Duration, beyond_lease: Duration) -> Vec<At<Trouble>> {
    let mut providers = ProviderName::ALL.to_vec();
    providers.shuffle(random);
    let provider = |place: usize| {
        providers
            .get(place % providers.len())
            .copied()
            .unwrap_or(ProviderName::Afterpay)
    };
    // Thousandths of the run, moved a little by the seed.
    let mut troubles: Vec<At<Trouble>> = [
        (80, Trouble::LoseAnswers(provider(0), Loss::Reset, 5)),
        (200, Trouble::KillWorker),
        (280, Trouble::Down(provider(1))),
        (380, Trouble::StartWorker),
        (520, Trouble::FreezeWorker),
        (560, Trouble::LoseAnswers(provider(2), Loss::BadGateway, 5)),
        (620, Trouble::VoidTokens),
        (680, Trouble::CrashPostgres),
        (780, Trouble::LimitRate(3)),
        (850, Trouble::LoseAnswers(provider(0), Loss::Silence, 4)),
    ]
    .into_iter()
    .map(|(thousandths, what)| At {
        at: length * (thousandths + random.random_range(0..40)) / 1000,
        what,
    })
    .collect();
    let ends: Vec<At<Trouble>> = troubles
        .iter()
        .filter_map(|trouble| {
            let (after, what) = match trouble.what {
                Trouble::Down(provider) => (length / 6, Trouble::Up(provider)),
                Trouble::FreezeWorker => (beyond_lease, Trouble::ThawWorker),
                _ => return None,
            };
            let at = trouble.at + after;
            Some(At { at, what })
        })
        .collect();
    troubles.extend(ends);
    troubles.sort_by_key(|trouble| trouble.at);
    troubles
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
