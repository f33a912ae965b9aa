//! Shipments as warehouses, shops and carriers tell of them: who said it (`signature`), what it means (`document` for our own
//! words, `mapping` for those of others, `shopify`), and what an account does about it ([`Fulfilment`]).
//!
//! Pure: bytes and headers come in, a [`Shipment`] or the fault goes out. What follows for held captures is decided in the
//! database (`migrations/0011_shipments.sql`).

mod document;
mod mapping;
mod shopify;
mod signature;
mod source;

use serde::Serialize;

pub use document::{LineItem, ShipmentDocument, ShipmentKind};
pub use mapping::{Mapping, Pointer};
pub use signature::{Encoding, HmacScheme, SignatureFault, standard_secret};
pub use source::{Incoming, SecretBytes, Source, SourceKind, Verified};

/// When a shipment releases what is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReleaseOn {
    /// When the goods are told to have left.
    #[default]
    Shipped,
    /// When a carrier has seen them: in transit, or delivered.
    FirstScan,
}

impl ReleaseOn {
    /// Every one.
    pub const ALL: [ReleaseOn; 2] = [ReleaseOn::Shipped, ReleaseOn::FirstScan];

    /// The name in the settings and in SQL.
    pub fn name(self) -> &'static str {
        match self {
            ReleaseOn::Shipped => "shipped",
            ReleaseOn::FirstScan => "first_scan",
        }
    }
}

/// How much a shipment captures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ShipmentAmount {
    /// One held intent, as the order system asked for it.
    #[default]
    Explicit,
    /// What its document says, as an amount or as the sum of its line items; the last takes what is left.
    LineItems,
    /// What its document says, if it says anything; the last takes what is left.
    RemainingOnFinal,
    /// The first takes everything.
    FullOnFirst,
}

impl ShipmentAmount {
    /// Every one.
    pub const ALL: [ShipmentAmount; 4] = [
        ShipmentAmount::Explicit,
        ShipmentAmount::LineItems,
        ShipmentAmount::RemainingOnFinal,
        ShipmentAmount::FullOnFirst,
    ];

    /// The name in the settings and in SQL.
    pub fn name(self) -> &'static str {
        match self {
            ShipmentAmount::Explicit => "explicit",
            ShipmentAmount::LineItems => "line_items",
            ShipmentAmount::RemainingOnFinal => "remaining_on_final",
            ShipmentAmount::FullOnFirst => "full_on_first",
        }
    }
}

/// What a shipment does to the held captures of an account, and whether its provider is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fulfilment {
    /// When.
    pub release_on: ReleaseOn,
    /// How much.
    pub amount: ShipmentAmount,
    /// Is the provider told of the parcel once its capture is on record?
    pub tell: bool,
}

/// One event of one shipment. The fields are the columns of `shipment_events`, which are text: what they mean is decided
/// there, for all sources alike.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Shipment {
    /// Who authorised the payment.
    pub provider: Option<String>,
    /// The merchant account.
    pub account: Option<String>,
    /// The merchant's order.
    pub order_id: Option<String>,
    /// Or the payment.
    pub payment_id: Option<String>,
    /// Just this capture.
    pub capture_ref: Option<String>,
    /// What happened: `shipped`, `in_transit`, `delivered`, `cancelled`; anything else is kept and does nothing.
    pub kind: String,
    /// The carrier.
    pub company: Option<String>,
    /// Its service.
    pub method: Option<String>,
    /// The parcel.
    pub tracking_number: Option<String>,
    /// When, in the source's own words.
    pub occurred_at: Option<String>,
    /// What the source calls the shipment.
    pub shipment_ref: Option<String>,
    /// What it is worth, in whole minor units.
    pub amount_minor: Option<String>,
    /// Of which currency.
    pub currency: Option<String>,
    /// `true`: the last one of its payment.
    pub is_final: Option<String>,
}

/// Why a document that was signed well means nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentFault {
    /// What is wrong.
    pub says: String,
    /// Where: a JSON pointer.
    pub pointer: String,
    /// What to do.
    pub fix: String,
}

impl DocumentFault {
    fn new(says: impl Into<String>, pointer: impl Into<String>, fix: impl Into<String>) -> DocumentFault {
        DocumentFault {
            says: says.into(),
            pointer: pointer.into(),
            fix: fix.into(),
        }
    }
}

/// The most characters of a name: as many as an intent's may have.
const LONGEST: usize = 255;

/// A text that the database keeps: not empty, not too long, no NUL. Empty is not given.
fn kept(text: &str, pointer: &str) -> Result<Option<String>, DocumentFault> {
    let text = text.trim();
    let fault = |says: &str| {
        let fix = format!("send 1 to {LONGEST} printable characters, or leave it out");
        Err(DocumentFault::new(says, pointer, fix))
    };
    if text.is_empty() {
        Ok(None)
    } else if text.chars().count() > LONGEST {
        fault(&format!("the text has more than {LONGEST} characters"))
    } else if text.contains(char::is_control) {
        fault("the text has a control character")
    } else {
        Ok(Some(text.to_owned()))
    }
}
