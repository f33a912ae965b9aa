//! What the shop sells, and how it is paid.

use rand::Rng;
use rand::rngs::StdRng;

use crate::intent::{Currency, Lane, Money};
use crate::simulator::ProviderName;

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
pub(super) const DECK: [(Fate, usize); 8] = [
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

impl Order {
    /// The order of that number.
    pub(super) fn draw(random: &mut StdRng, number: u64, fate: Fate) -> Order {
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
}
