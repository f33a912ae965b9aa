//! Our own document of a shipment, the body of `POST /v1/shipments`.

use serde::Deserialize;
use utoipa::ToSchema;

use super::{DocumentFault, Shipment, kept};

/// What happened to the goods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShipmentKind {
    /// A label was printed: they have not left. Releases nothing.
    LabelCreated,
    /// They left.
    #[default]
    Shipped,
    /// A carrier has scanned them.
    InTransit,
    /// They are there.
    Delivered,
    /// They came back. Releases nothing, and takes nothing back.
    Returned,
    /// They did not leave after all: withdraws the shipment if it has released nothing yet.
    Cancelled,
}

impl ShipmentKind {
    /// Every one.
    pub const ALL: [ShipmentKind; 6] = [
        ShipmentKind::LabelCreated,
        ShipmentKind::Shipped,
        ShipmentKind::InTransit,
        ShipmentKind::Delivered,
        ShipmentKind::Returned,
        ShipmentKind::Cancelled,
    ];

    /// The name in SQL, HTTP and the settings.
    pub fn name(self) -> &'static str {
        match self {
            ShipmentKind::LabelCreated => "label_created",
            ShipmentKind::Shipped => "shipped",
            ShipmentKind::InTransit => "in_transit",
            ShipmentKind::Delivered => "delivered",
            ShipmentKind::Returned => "returned",
            ShipmentKind::Cancelled => "cancelled",
        }
    }
}

/// Something that was shipped.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LineItem {
    /// What it is, for people.
    pub sku: Option<String>,
    /// How many, for people.
    pub quantity: Option<u32>,
    /// What this line is worth in all, taxes and its share of shipping and discounts included, in whole minor units.
    #[schema(minimum = 0, maximum = 999_999_999_999_999_i64)]
    pub amount_minor: u64,
}

/// An event of a shipment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShipmentDocument {
    /// The event's own id: the same one again changes nothing. Needed with a key; a signed request has `webhook-id` instead.
    #[schema(min_length = 1, max_length = 255)]
    pub event_id: Option<String>,
    /// Who authorised the payment.
    #[schema(pattern = "^(afterpay|optty|resolve)$")]
    pub provider: String,
    /// The merchant account; else `default`.
    pub account: Option<String>,
    /// The payment; or
    pub payment_id: Option<String>,
    /// the order.
    pub order_id: Option<String>,
    /// Just this capture; else the oldest held one.
    pub capture_ref: Option<String>,
    /// What happened; else `shipped`.
    pub kind: Option<ShipmentKind>,
    /// What you call the shipment: its later events free nothing more.
    pub shipment_ref: Option<String>,
    /// The carrier; sent along with the capture if all three are given.
    pub company: Option<String>,
    /// Its service.
    pub method: Option<String>,
    /// The parcel: its later events free nothing more, whoever tells of them.
    pub tracking_number: Option<String>,
    /// When it happened.
    pub occurred_at: Option<String>,
    /// What this shipment is worth in whole minor units, where the account's rule asks for it.
    #[schema(minimum = 1, maximum = 999_999_999_999_999_i64)]
    pub amount_minor: Option<u64>,
    /// Of which currency.
    pub currency: Option<String>,
    /// The last shipment of its payment: takes what is left, where the account's rule says so.
    #[serde(rename = "final")]
    pub is_final: Option<bool>,
    /// What was shipped: the amounts are added up if `amount_minor` is not given.
    pub line_items: Option<Vec<LineItem>>,
}

/// The largest amount that an intent may have.
const MOST_MINOR: u64 = 999_999_999_999_999;

impl ShipmentDocument {
    /// What it says, if it says enough.
    pub fn shipment(&self) -> Result<Shipment, DocumentFault> {
        let text = |value: &Option<String>, pointer: &str| match value {
            Some(text) => kept(text, pointer),
            None => Ok(None),
        };
        let shipment = Shipment {
            provider: kept(&self.provider, "/provider")?,
            account: text(&self.account, "/account")?,
            order_id: text(&self.order_id, "/order_id")?,
            payment_id: text(&self.payment_id, "/payment_id")?,
            capture_ref: text(&self.capture_ref, "/capture_ref")?,
            kind: self.kind.unwrap_or_default().name().to_owned(),
            company: text(&self.company, "/company")?,
            method: text(&self.method, "/method")?,
            tracking_number: text(&self.tracking_number, "/tracking_number")?,
            occurred_at: text(&self.occurred_at, "/occurred_at")?,
            shipment_ref: text(&self.shipment_ref, "/shipment_ref")?,
            amount_minor: self.amount()?.map(|minor| minor.to_string()),
            currency: text(&self.currency, "/currency")?,
            is_final: self.is_final.map(|is_final| is_final.to_string()),
        };
        // A carrier knows the parcel alone: who told of the order told of the parcel as well.
        if shipment.order_id.is_none() && shipment.payment_id.is_none() && shipment.tracking_number.is_none() {
            return Err(DocumentFault::new(
                "neither order_id nor payment_id nor tracking_number is given",
                "/order_id",
                "say which order or payment it is for, or which parcel it is",
            ));
        }
        Ok(shipment)
    }

    fn amount(&self) -> Result<Option<u64>, DocumentFault> {
        let out_of_bounds = |pointer: &str| {
            DocumentFault::new(
                format!("the amount is not 1 to {MOST_MINOR}"),
                pointer,
                "pass whole minor units: 1234 for 12.34 USD",
            )
        };
        let lines = self.line_items.as_deref().map(|items| {
            let sum = |sum: u64, item: &LineItem| sum.checked_add(item.amount_minor);
            items.iter().try_fold(0, sum)
        });
        let sum = match lines {
            None => None,
            Some(Some(sum @ 1..=MOST_MINOR)) => Some(sum),
            Some(_) => return Err(out_of_bounds("/line_items")),
        };
        match (self.amount_minor, sum) {
            (Some(0), _) => Err(out_of_bounds("/amount_minor")),
            (Some(minor), _) if minor > MOST_MINOR => Err(out_of_bounds("/amount_minor")),
            (Some(minor), Some(sum)) if minor != sum => Err(DocumentFault::new(
                format!("amount_minor is {minor}, and the line items come to {sum}"),
                "/amount_minor",
                "send one of the two, or let them agree",
            )),
            (given, sum) => Ok(given.or(sum)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(document: serde_json::Value) -> Result<Shipment, String> {
        let document: ShipmentDocument = serde_json::from_value(document).map_err(|error| error.to_string())?;
        document
            .shipment()
            .map_err(|fault| format!("{}: {}", fault.pointer, fault.says))
    }

    #[test]
    fn amounts_are_whole_minor_units_or_the_sum_of_the_lines_and_never_both_unlike() {
        let of = |more: serde_json::Value| {
            let mut document = json!({ "provider": "afterpay", "order_id": "o-1" });
            document
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            read(document).map(|shipment| shipment.amount_minor.unwrap_or_default())
        };
        assert_eq!(of(json!({})), Ok(String::new()));
        assert_eq!(of(json!({ "amount_minor": 1234 })), Ok("1234".to_owned()));
        let lines = json!([{ "sku": "chair", "quantity": 2, "amount_minor": 1000 }, { "amount_minor": 1 }]);
        assert_eq!(of(json!({ "line_items": lines })), Ok("1001".to_owned()));
        assert_eq!(
            of(json!({ "line_items": lines, "amount_minor": 1001 })),
            Ok("1001".to_owned())
        );
        for wrong in [
            json!({ "line_items": lines, "amount_minor": 1000 }),
            json!({ "line_items": [] }),
            json!({ "line_items": [{ "amount_minor": u64::MAX }, { "amount_minor": 1 }] }),
            json!({ "amount_minor": 0 }),
            json!({ "amount_minor": -1 }),
            json!({ "amount_minor": 12.34 }),
            json!({ "amount_minor": "1234" }),
            json!({ "amount_minor": 1_000_000_000_000_000_u64 }),
        ] {
            assert!(of(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_document_names_an_order_a_payment_or_a_parcel_and_nothing_that_is_not_known() {
        for fits in ["order_id", "payment_id", "tracking_number"] {
            let read = read(json!({ "provider": "afterpay", fits: " x " })).unwrap();
            let names = [read.order_id, read.payment_id, read.tracking_number];
            assert_eq!(names.iter().flatten().collect::<Vec<_>>(), ["x"]);
            assert_eq!(read.kind, "shipped");
        }
        for wrong in [
            json!({ "provider": "afterpay" }),
            json!({ "provider": "afterpay", "order_id": " " }),
            json!({ "order_id": "o-1" }),
            json!({ "provider": "afterpay", "order": "o-1" }),
            json!({ "provider": "afterpay", "order_id": "o\u{0}1" }),
            json!({ "provider": "afterpay", "order_id": "o".repeat(256) }),
            json!({ "provider": "afterpay", "order_id": "o-1", "kind": "flown" }),
        ] {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
