//! Documents of others: where in them the words stand that we need.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{DocumentFault, Shipment, ShipmentKind, kept};

/// A JSON pointer (RFC 6901).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer(String);

impl Pointer {
    /// One that begins with a slash.
    pub fn parse(text: &str) -> Option<Pointer> {
        let escapes_are_whole = text
            .split('~')
            .skip(1)
            .all(|rest| rest.starts_with('0') || rest.starts_with('1'));
        (text.starts_with('/') && escapes_are_whole).then(|| Pointer(text.to_owned()))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text or the whole number that stands there; nothing and null are none.
    pub(super) fn text(&self, document: &Value) -> Result<Option<String>, DocumentFault> {
        match document.pointer(&self.0) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => kept(text, &self.0),
            Some(Value::Number(number)) if number.is_i64() || number.is_u64() => Ok(Some(number.to_string())),
            Some(Value::Bool(value)) => Ok(Some(value.to_string())),
            Some(Value::Number(_) | Value::Array(_) | Value::Object(_)) => Err(DocumentFault::new(
                "this is neither a text nor a whole number",
                &self.0,
                "let the source's settings point at a text or a whole number",
            )),
        }
    }
}

/// Where the words stand in the documents of a source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mapping {
    /// The merchant's order.
    pub order: Option<Pointer>,
    /// The payment.
    pub payment: Option<Pointer>,
    /// The parcel.
    pub tracking: Option<Pointer>,
    /// The carrier.
    pub company: Option<Pointer>,
    /// Its service.
    pub method: Option<Pointer>,
    /// What the source calls the shipment.
    pub shipment_ref: Option<Pointer>,
    /// What it is worth, in whole minor units.
    pub amount_minor: Option<Pointer>,
    /// Of which currency.
    pub currency: Option<Pointer>,
    /// Is it the last one of its payment?
    pub is_final: Option<Pointer>,
    /// What happened, in the source's word.
    pub status: Option<Pointer>,
    /// The source's words, in lower case, in ours. A word that is not there, and not ours, is kept and does nothing.
    pub statuses: BTreeMap<String, ShipmentKind>,
}

impl Mapping {
    /// What a document says.
    pub(super) fn read(&self, document: &Value) -> Result<Shipment, DocumentFault> {
        let text = |pointer: &Option<Pointer>| match pointer {
            Some(pointer) => pointer.text(document),
            None => Ok(None),
        };
        if !document.is_object() {
            return Err(DocumentFault::new(
                "the document is no object",
                "",
                "send a JSON object",
            ));
        }
        let kind = match &self.status {
            None => ShipmentKind::Shipped.name().to_owned(),
            Some(pointer) => {
                let said = pointer.text(document)?.ok_or_else(|| {
                    let fix = "send what happened there, or point status at where it stands";
                    DocumentFault::new("there is no status", pointer.as_str(), fix)
                })?;
                let said = said.to_lowercase();
                match self.statuses.get(&said) {
                    Some(kind) => kind.name().to_owned(),
                    None => said,
                }
            }
        };
        let shipment = Shipment {
            order_id: text(&self.order)?,
            payment_id: text(&self.payment)?,
            kind,
            company: text(&self.company)?,
            method: text(&self.method)?,
            tracking_number: text(&self.tracking)?,
            shipment_ref: text(&self.shipment_ref)?,
            amount_minor: text(&self.amount_minor)?,
            currency: text(&self.currency)?,
            is_final: text(&self.is_final)?,
            ..Shipment::default()
        };
        if shipment.order_id.is_none() && shipment.payment_id.is_none() && shipment.tracking_number.is_none() {
            let nearest = [&self.order, &self.payment, &self.tracking]
                .into_iter()
                .flatten()
                .next();
            return Err(DocumentFault::new(
                "there is neither an order nor a payment nor a parcel",
                nearest.map_or("", Pointer::as_str),
                "send it there, or point order, payment or tracking at where it stands",
            ));
        }
        Ok(shipment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(text: &str) -> Option<Pointer> {
        Some(Pointer::parse(text).unwrap())
    }

    /// As docs/fulfilment.md sets it for EasyPost.
    fn easypost() -> Mapping {
        Mapping {
            tracking: at("/result/tracking_code"),
            company: at("/result/carrier"),
            status: at("/result/status"),
            ..Mapping::default()
        }
    }

    #[test]
    fn the_words_of_a_carrier_are_found_where_the_settings_point() {
        let event = json!({ "id": "evt_1", "description": "tracker.updated", "result": {
            "tracking_code": "EZ1000000001", "status": "in_transit", "carrier": "USPS" } });
        let shipment = easypost().read(&event).unwrap();
        assert_eq!(shipment.tracking_number.as_deref(), Some("EZ1000000001"));
        assert_eq!(
            (shipment.kind.as_str(), shipment.company.as_deref()),
            ("in_transit", Some("USPS"))
        );
        let missing = easypost()
            .read(&json!({ "result": { "status": "in_transit" } }))
            .unwrap_err();
        assert_eq!(missing.pointer, "/result/tracking_code");
        let no_status = easypost()
            .read(&json!({ "result": { "tracking_code": "EZ1" } }))
            .unwrap_err();
        assert_eq!(no_status.pointer, "/result/status");
    }

    #[test]
    fn a_status_is_translated_and_one_that_nobody_knows_stays_what_it_is() {
        let mapping = Mapping {
            order: at("/order"),
            status: at("/status"),
            statuses: BTreeMap::from([("transit".to_owned(), ShipmentKind::InTransit)]),
            ..Mapping::default()
        };
        for (said, means) in [("TRANSIT", "in_transit"), ("DELIVERED", "delivered"), ("Lost", "lost")] {
            let read = mapping.read(&json!({ "order": 17, "status": said })).unwrap();
            assert_eq!((read.kind.as_str(), read.order_id.as_deref()), (means, Some("17")));
        }
    }

    #[test]
    fn a_number_that_is_not_whole_is_no_name() {
        let mapping = Mapping {
            order: at("/order"),
            ..Mapping::default()
        };
        for wrong in [
            json!({ "order": 1.5 }),
            json!({ "order": [] }),
            json!({ "order": {} }),
            json!([]),
            json!(7),
        ] {
            assert!(mapping.read(&wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "order", "/a~2"] {
            assert_eq!(Pointer::parse(wrong), None, "{wrong}");
        }
    }
}
