//! The load: what each order asks for, and what the order system believes of it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use super::stage::locked;

/// What happens to an order's intents beside being inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Nothing.
    Plain,
    /// The transaction is rolled back: nobody asked for anything.
    RolledBack,
    /// Held, and released when the goods leave.
    Held,
    /// Held, and cancelled instead.
    HeldThenCancelled,
    /// Cancelled while it is on its way.
    Cancelled,
    /// Two captures of one payment that fit what was authorised.
    Pair,
    /// Two captures of one payment, inserted side by side, that together exceed what was authorised.
    Greedy,
}

/// One capture that is asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub id: Uuid,
    pub provider: &'static str,
    pub account: &'static str,
    pub order_id: String,
    pub payment_id: String,
    pub capture_ref: String,
    pub amount_minor: i64,
    pub authorized_minor: Option<i64>,
    pub held: bool,
}

#[derive(Debug, Clone)]
pub struct Order {
    pub plan: Plan,
    pub wanted: Vec<Wanted>,
    /// Until the release or the cancel.
    pub later_ms: u64,
}

/// Order number `n` of a run. Amounts of one payment differ, so that a line of the ledger names its intent.
pub fn order(seed: u64, n: u64) -> Order {
    let mut dice = StdRng::seed_from_u64(seed.rotate_left(32) ^ n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let (provider, account, payment_id) = match n % 4 {
        0 => ("afterpay", "default", format!("10{n:06}")),
        1 => ("optty", "default", format!("ref-{n}")),
        2 => ("resolve", "charges", format!("ch_{n}")),
        _ => ("resolve", "orders", format!("ord_{n}")),
    };
    // A charge is captured once.
    let many = account != "charges";
    let plan = match dice.random_range(0..100) {
        0..6 => Plan::RolledBack,
        6..14 => Plan::Held,
        14..17 => Plan::HeldThenCancelled,
        17..25 => Plan::Cancelled,
        25..33 if many => Plan::Pair,
        33..38 if many => Plan::Greedy,
        _ => Plan::Plain,
    };
    let amount_minor = 500 + i64::try_from(n % 100_000).unwrap_or(0);
    let one = |place: i64, authorized_minor| Wanted {
        id: new_id(seed, n, place),
        provider,
        account,
        order_id: format!("order {n}"),
        payment_id: payment_id.clone(),
        capture_ref: format!("c{place}"),
        amount_minor: amount_minor + place,
        authorized_minor,
        held: matches!(plan, Plan::Held | Plan::HeldThenCancelled),
    };
    let wanted = match plan {
        Plan::Plain | Plan::RolledBack | Plan::Held | Plan::HeldThenCancelled | Plan::Cancelled => vec![one(0, None)],
        Plan::Pair => {
            let sum = Some(2 * amount_minor + 1);
            vec![one(0, sum), one(1, sum)]
        }
        Plan::Greedy => {
            let less = Some(2 * amount_minor - 100);
            vec![one(0, less), one(1, less)]
        }
    };
    let later_ms = match plan {
        Plan::Cancelled => dice.random_range(0..400),
        _ => dice.random_range(200..4000),
    };
    Order { plan, wanted, later_ms }
}

/// The same order has the same ids, so that a transaction that is repeated asks for nothing new.
fn new_id(seed: u64, n: u64, place: i64) -> Uuid {
    Uuid::new_v5(
        &Uuid::NAMESPACE_OID,
        format!("capture-chaos {seed} {n} {place}").as_bytes(),
    )
}

/// What the order system believes of one intent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Belief {
    /// Its transaction was committed, as far as the answer goes.
    pub committed: bool,
    /// It was refused, and never asked for.
    pub refused: bool,
    /// Cancelled, it was told; in which history of the database.
    pub cancelled_in: Option<u64>,
    /// It was committed, and gone after a fail-over; inserted again since.
    pub lost_with_history: bool,
}

/// All that was asked for.
#[derive(Debug, Default)]
pub struct Book {
    entries: Mutex<BTreeMap<Uuid, (Wanted, Plan, Belief)>>,
}

impl Book {
    /// Notes that a capture is about to be asked for.
    pub fn open(&self, wanted: &Wanted, plan: Plan) {
        let fresh = || (wanted.clone(), plan, Belief::default());
        locked(&self.entries).entry(wanted.id).or_insert_with(fresh);
    }

    pub fn believe(&self, id: Uuid, change: impl FnOnce(&mut Belief)) {
        if let Some((_, _, belief)) = locked(&self.entries).get_mut(&id) {
            change(belief);
        }
    }

    pub fn all(&self) -> Vec<(Wanted, Plan, Belief)> {
        locked(&self.entries).values().cloned().collect()
    }
}
