//! What is going to happen, and when: every order and every trouble, drawn from the seed before anything starts.
//!
//! The same seed and the same length give the same plan. How three processes then race through it is theirs: two runs of
//! one plan differ in who does what, and must not differ in what the books say.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crate::intent::{Currency, Lane, Money};
use crate::simulator::ProviderName;

/// Orders placed a second.
const ORDERS_PER_SECOND: u64 = 8;

/// The four ways of capturing that the worker knows, each with its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::cli) enum Way {
    Afterpay,
    Optty,
    ResolveCharge,
    ResolveOrder,
}

impl Way {
    pub(in crate::cli) const ALL: [Way; 4] = [Way::Afterpay, Way::Optty, Way::ResolveCharge, Way::ResolveOrder];

    pub(in crate::cli) fn lane(self) -> Lane {
        let (provider, account) = match self {
            Way::Afterpay => ("afterpay", "default"),
            Way::Optty => ("optty", "default"),
            Way::ResolveCharge => ("resolve", "charges"),
            Way::ResolveOrder => ("resolve", "orders"),
        };
        Lane {
            provider: provider.to_owned(),
            account: account.to_owned(),
        }
    }

    pub(in crate::cli) fn provider(self) -> ProviderName {
        match self {
            Way::Afterpay => ProviderName::Afterpay,
            Way::Optty => ProviderName::Optty,
            Way::ResolveCharge | Way::ResolveOrder => ProviderName::Resolve,
        }
    }

    /// How people call it.
    pub(in crate::cli) fn title(self) -> &'static str {
        match self {
            Way::Afterpay => "Afterpay",
            Way::Optty => "Optty",
            Way::ResolveCharge => "Resolve charge",
            Way::ResolveOrder => "Resolve order",
        }
    }

    /// What this merchant sells in there.
    pub(super) fn currency_code(self) -> &'static str {
        match self {
            Way::Optty => "AUD",
            Way::Afterpay | Way::ResolveCharge | Way::ResolveOrder => "USD",
        }
    }

    fn payment_id(self, number: u32) -> String {
        match self {
            Way::Afterpay => format!("40010{number}"),
            Way::Optty => format!("OPT-{number}"),
            Way::ResolveCharge => format!("ch_{number}"),
            Way::ResolveOrder => format!("ord_{number}"),
        }
    }
}

/// What becomes of an order beside being placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Placed, and captured at once.
    Plain,
    /// The order's transaction ends in ROLLBACK: nothing of it may be left.
    RolledBack,
    /// The same capture_ref is inserted twice.
    Repeated,
    /// Held until the goods have left.
    Shipped,
    /// One authorisation, three parcels, three captures.
    Parcels,
    /// Held, then the buyer changes their mind.
    Cancelled,
    /// The buyer's bank says no.
    Declined,
    /// Somebody captures the payment in the provider's dashboard first.
    Elsewhere,
}

/// Of every 40 orders.
const DECK: [(Fate, usize); 8] = [
    (Fate::Plain, 29),
    (Fate::RolledBack, 2),
    (Fate::Repeated, 2),
    (Fate::Shipped, 2),
    (Fate::Parcels, 2),
    (Fate::Cancelled, 1),
    (Fate::Declined, 1),
    (Fate::Elsewhere, 1),
];

/// An order of the shop.
#[derive(Debug, Clone)]
pub(super) struct Order {
    /// `A-1001`.
    pub(super) order_id: String,
    pub(super) way: Way,
    /// The authorised payment.
    pub(super) payment_id: String,
    pub(super) fate: Fate,
    /// What to capture: one amount, or one a parcel.
    pub(super) captures: Vec<Money>,
}

impl Order {
    /// What was authorised.
    pub(super) fn total_minor(&self) -> i64 {
        self.captures.iter().map(|amount| amount.minor).sum()
    }

    pub(super) fn is_held(&self) -> bool {
        matches!(self.fate, Fate::Shipped | Fate::Parcels | Fate::Cancelled)
    }

    pub(super) fn is_rolled_back(&self) -> bool {
        self.fate == Fate::RolledBack
    }

    /// The merchant's reference of a capture.
    pub(super) fn capture_ref(&self, index: usize) -> String {
        match self.fate {
            Fate::Parcels => format!("{}/parcel-{}", self.order_id, index + 1),
            _ => self.order_id.clone(),
        }
    }
}

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
        let order = draw_order(random, number, fate);
        let at = Duration::from_millis(number * step_ms + random.random_range(0..step_ms));
        let mut then = |at: Duration, deed| {
            deeds.push(At {
                at,
                what: (place, deed),
            })
        };
        then(at, Deed::Place);
        let later = |random: &mut StdRng, from_ms: u64, to_ms: u64| {
            at + Duration::from_millis(random.random_range(from_ms..to_ms))
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

fn draw_order(random: &mut StdRng, number: u64, fate: Fate) -> Order {
    let number = 1001 + u32::try_from(number).unwrap_or(u32::MAX / 2);
    let mut way = Way::ALL[random.random_range(0..Way::ALL.len())];
    way = match (fate, way) {
        // A charge can be captured once.
        (Fate::Parcels, Way::ResolveCharge) => Way::ResolveOrder,
        // Optty's details do not say whose a capture is. When our own answer is lost, an equal one by somebody else within
        // minutes looks like ours: the worker takes it that nobody else captures there.
        (Fate::Elsewhere, Way::Optty) => Way::Afterpay,
        (_, way) => way,
    };
    let parcels = if fate == Fate::Parcels { 3 } else { 1 };
    let captures = (0..parcels)
        .filter_map(|_| {
            Some(Money::new(
                random.random_range(500..20_000),
                Currency::from_code(way.currency_code())?,
            ))
        })
        .collect();
    Order {
        order_id: format!("A-{number}"),
        way,
        payment_id: way.payment_id(number),
        fate,
        captures,
    }
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
mod tests {
    use super::*;

    fn plan(seed: u64, seconds: u64) -> Plan {
        Plan::draw(seed, Duration::from_secs(seconds), Duration::from_secs(10))
    }

    #[test]
    fn the_same_seed_gives_the_same_plan_and_another_one_another() {
        let told = |plan: Plan| format!("{plan:?}");
        assert_eq!(told(plan(7, 20)), told(plan(7, 20)));
        assert_ne!(told(plan(7, 20)), told(plan(8, 20)));
    }

    #[test]
    fn even_a_short_run_has_every_fate_and_every_trouble_once() {
        let short = plan(3, 6);
        for (fate, _) in DECK {
            assert!(short.orders.iter().any(|order| order.fate == fate), "{fate:?}");
        }
        for provider in ProviderName::ALL {
            let lost = |what: &Trouble| matches!(what, Trouble::LoseAnswers(whose, ..) | Trouble::Down(whose) if *whose == provider);
            assert!(short.troubles.iter().any(|trouble| lost(&trouble.what)), "{provider}");
        }
        let at = |what: Trouble| short.troubles.iter().find(|trouble| trouble.what == what).unwrap().at;
        assert!(at(Trouble::KillWorker) < at(Trouble::StartWorker));
        assert_eq!(
            at(Trouble::ThawWorker) - at(Trouble::FreezeWorker),
            Duration::from_secs(10)
        );
    }

    #[test]
    fn what_is_held_is_shipped_parcel_by_parcel_or_cancelled() {
        let plan = plan(11, 30);
        for (place, order) in plan.orders.iter().enumerate() {
            let deeds: Vec<Deed> = plan
                .deeds
                .iter()
                .map(|deed| deed.what)
                .filter(|(of, _)| *of == place)
                .map(|(_, deed)| deed)
                .collect();
            let shipped = deeds.iter().filter(|deed| matches!(deed, Deed::Ship(_))).count();
            match order.fate {
                Fate::Shipped | Fate::Parcels => assert_eq!(shipped, order.captures.len()),
                Fate::Cancelled => assert!(shipped == 0 && deeds.contains(&Deed::Cancel)),
                _ => assert_eq!(shipped, 0),
            }
            assert!(order.way != Way::ResolveCharge || order.captures.len() == 1);
            assert!(order.way != Way::Optty || order.fate != Fate::Elsewhere);
        }
        let early = plan
            .deeds
            .iter()
            .position(|deed| matches!(deed.what.1, Deed::Ship(_)))
            .unwrap();
        let (order, _) = plan.deeds[early].what;
        let placed = plan
            .deeds
            .iter()
            .position(|deed| deed.what == (order, Deed::Place))
            .unwrap();
        assert!(early < placed || plan.orders[order].fate == Fate::Parcels);
    }
}
