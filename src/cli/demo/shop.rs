//! An order system and its warehouse, at work: each deed of the plan in its time. What it remembers is one side of the
//! comparison in the end.

use std::mem::{Discriminant, discriminant};

use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use crate::cli::output::Error;

use super::contract::Contract;
use super::control::Control;
use super::orders::{Fate, Order};
use super::plan::{At, Deed, Plan};
use super::story::{Story, Tone, amount};

/// How many deeds of a kind are told one by one; the rest is in the numbers.
const TOLD_EACH: usize = 2;

/// What the shop remembers.
#[derive(Debug, Default)]
pub(super) struct Sales {
    /// Captures that it asked for, in transactions whose COMMIT was answered.
    pub(super) asked: Vec<Asked>,
    /// Orders whose transaction it rolled back, by their place in the plan.
    pub(super) rolled_back: Vec<usize>,
    /// Intents inserted a second time.
    pub(super) repeated: usize,
    /// Transactions whose end it did not learn, and ran again.
    pub(super) run_again: usize,
    /// What the contract promises and did not hold.
    pub(super) broken: Vec<String>,
}

/// A capture that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    /// Its order's place in the plan.
    pub(super) order: usize,
    /// Which of the order's captures.
    pub(super) capture: usize,
    pub(super) intent: Uuid,
}

/// The shop.
pub(super) struct Shop {
    contract: Contract,
    control: Control,
    story: Story,
    sales: Sales,
    told: Vec<(Discriminant<Deed>, Fate)>,
}

impl Shop {
    pub(super) fn new(contract: Contract, control: Control, story: Story) -> Shop {
        Shop {
            contract,
            control,
            story,
            sales: Sales::default(),
            told: Vec::new(),
        }
    }

    /// Does all deeds of the plan, each in its time, or as soon as the database is back.
    pub(super) async fn run(mut self, plan: &Plan, start: Instant) -> Result<Sales, Error> {
        for At { at, what } in &plan.deeds {
            let (place, deed) = *what;
            tokio::time::sleep_until(start + *at).await;
            if let Some(order) = plan.orders.get(place) {
                self.deed(place, order, deed).await?;
            }
        }
        Ok(self.sales)
    }

    async fn deed(&mut self, place: usize, order: &Order, deed: Deed) -> Result<(), Error> {
        match deed {
            Deed::Place => self.place(place, order).await,
            Deed::PlaceAgain => self.place_again(place, order).await,
            Deed::Ship(parcel) => {
                let tracking = format!("TRK-{}-{}", order.order_id, parcel + 1);
                self.contract.ship(order, &tracking).await?;
                let what = match self.intents_of(place).is_empty() {
                    true => "its goods leave before the order is there: the release will find its capture",
                    false => "goods have left: the warehouse inserts a shipment event, which releases the capture",
                };
                self.tell(order, deed, what);
                Ok(())
            }
            Deed::Cancel => {
                for intent in self.intents_of(place) {
                    let said = self.contract.cancel(order, intent).await?;
                    self.tell(
                        order,
                        deed,
                        &format!("the buyer changes their mind, the shop cancels the capture: {said}"),
                    );
                }
                Ok(())
            }
            Deed::CaptureElsewhere => {
                let document = json!({
                    "provider": order.way.provider(), "payment_id": order.payment_id, "amount_minor": order.total_minor(),
                });
                self.control.post("foreign-captures", document).await?;
                self.tell(
                    order,
                    deed,
                    "somebody captures its payment in the provider's dashboard, before the shop asks",
                );
                Ok(())
            }
            Deed::Mistake => {
                if let Some(refusal) = self.contract.insert_a_mistake().await {
                    let line =
                        format!("a mistake in the shop: amount_minor 12.34, refused in its own transaction: {refusal}");
                    self.story.tell(Tone::Plain, line);
                }
                Ok(())
            }
        }
    }

    async fn place(&mut self, place: usize, order: &Order) -> Result<(), Error> {
        let placed = self.contract.place(order).await?;
        self.sales.run_again += usize::from(placed.run_again);
        let what = match order.fate {
            Fate::RolledBack => {
                self.sales.rolled_back.push(place);
                Some("its transaction ends in ROLLBACK: no trace of it may be left")
            }
            Fate::Parcels => {
                Some("one authorisation, three parcels, three captures, each held until its parcel leaves")
            }
            Fate::Shipped | Fate::Cancelled => Some("held until the goods have left (hold => 'shipment')"),
            Fate::Plain | Fate::Repeated | Fate::Declined | Fate::Elsewhere => None,
        };
        let asked = placed.intents.into_iter().enumerate();
        self.sales.asked.extend(asked.map(|(capture, intent)| Asked {
            order: place,
            capture,
            intent,
        }));
        if let Some(what) = what {
            self.tell(order, Deed::Place, what);
        }
        Ok(())
    }

    async fn place_again(&mut self, place: usize, order: &Order) -> Result<(), Error> {
        for (index, before) in self.intents_of(place).into_iter().enumerate() {
            match self.contract.enqueue_again(order, index).await? {
                Some((intent, false)) if intent == before => self.sales.repeated += 1,
                _ => self.sales.broken.push(format!(
                    "order {}: its capture_ref, inserted again, made a second intent",
                    order.order_id
                )),
            }
        }
        self.tell(
            order,
            Deed::PlaceAgain,
            "inserted again with the same capture_ref: the same intent, nothing new",
        );
        Ok(())
    }

    fn intents_of(&self, place: usize) -> Vec<Uuid> {
        self.sales
            .asked
            .iter()
            .filter(|asked| asked.order == place)
            .map(|asked| asked.intent)
            .collect()
    }

    fn tell(&mut self, order: &Order, deed: Deed, what: &str) {
        let kind = (discriminant(&deed), order.fate);
        if self.told.iter().filter(|told| **told == kind).count() < TOLD_EACH {
            self.told.push(kind);
            let total = amount(order.total_minor(), order.way.currency_code());
            let line = format!("order {} ({}, {total}): {what}", order.order_id, order.way.title());
            self.story.tell(Tone::Plain, line);
        }
    }
}
