//! Shopify's webhooks: `fulfillments/create` and `fulfillments/update`, and `orders/fulfilled`, which alone says that nothing
//! more comes. (Its documents: the resource Fulfillment of the REST Admin API, whose webhooks carry the same object.)

use serde_json::Value;

use super::mapping::Pointer;
use super::{DocumentFault, Shipment, ShipmentKind};

/// What a document says. `order`: where in a fulfilment the merchant's order stands; Shopify's own number of it is at
/// `/order_id`.
pub(super) fn read(topic: &str, document: &Value, order: &Pointer) -> Result<Shipment, DocumentFault> {
    let whole = match topic {
        "fulfillments/create" | "fulfillments/update" => return fulfilment("", document, order),
        "orders/fulfilled" => document,
        _ => {
            return Err(DocumentFault::new(
                "this topic tells of no shipment",
                "X-Shopify-Topic:",
                "subscribe to fulfillments/create, fulfillments/update and orders/fulfilled",
            ));
        }
    };
    let fulfilments = whole.pointer("/fulfillments").and_then(Value::as_array);
    // The newest that was not taken back is the one that made the order complete.
    let last = fulfilments.and_then(|all| {
        let mut all = all.iter().enumerate().rev();
        all.find(|(_, one)| one.get("status").and_then(Value::as_str) != Some("cancelled"))
    });
    let Some((at, last)) = last else {
        let fix = "this is no document of orders/fulfilled";
        return Err(DocumentFault::new("there is no fulfilment", "/fulfillments", fix));
    };
    let shipment = fulfilment(&format!("/fulfillments/{at}"), last, order)?;
    Ok(Shipment {
        is_final: Some("true".to_owned()),
        ..shipment
    })
}

fn fulfilment(place: &str, document: &Value, order: &Pointer) -> Result<Shipment, DocumentFault> {
    let text = |pointer: &str| match Pointer::parse(pointer) {
        Some(pointer) => pointer.text(document).map_err(|fault| DocumentFault {
            pointer: format!("{place}{}", fault.pointer),
            ..fault
        }),
        None => Ok(None),
    };
    let required = |pointer: &str| {
        text(pointer)?.ok_or_else(|| {
            let fix = "this is no document of Shopify's fulfilments";
            DocumentFault::new("it is missing", format!("{place}{pointer}"), fix)
        })
    };
    Ok(Shipment {
        order_id: Some(required(order.as_str())?),
        // Stands in the signed body, unlike X-Shopify-Webhook-Id: whoever repeats a body under another id repeats this.
        shipment_ref: Some(required("/id")?),
        kind: kind(text("/status")?.as_deref(), text("/shipment_status")?.as_deref())
            .name()
            .to_owned(),
        company: text("/tracking_company")?,
        method: text("/service")?,
        tracking_number: text("/tracking_number")?,
        occurred_at: text("/updated_at")?,
        ..Shipment::default()
    })
}

/// `status` is Shopify's own (`success`: fulfilled), `shipment_status` the carrier's. A label, printed or bought, or an
/// announcement to the carrier, is no shipment even of a fulfilment that is a success.
fn kind(status: Option<&str>, shipment_status: Option<&str>) -> ShipmentKind {
    match (status, shipment_status) {
        (Some("cancelled"), _) => ShipmentKind::Cancelled,
        (_, Some("delivered")) => ShipmentKind::Delivered,
        (_, Some("in_transit" | "out_for_delivery" | "attempted_delivery" | "ready_for_pickup")) => {
            ShipmentKind::InTransit
        }
        (Some("success"), None) => ShipmentKind::Shipped,
        (_, _) => ShipmentKind::LabelCreated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn order() -> Pointer {
        Pointer::parse("/order_id").unwrap()
    }

    fn sample() -> Value {
        json!({ "id": 255858046, "order_id": 450789469, "status": "success", "service": "manual", "tracking_company": "USPS",
            "shipment_status": null, "tracking_number": "1Z2345", "updated_at": "2026-11-22T10:00:00-05:00", "line_items": [] })
    }

    #[test]
    fn a_fulfilment_is_shipped_when_shopify_says_success_and_never_on_a_label() {
        for (status, carrier, means) in [
            ("success", None, "shipped"),
            ("success", Some("label_printed"), "label_created"),
            ("success", Some("label_purchased"), "label_created"),
            ("success", Some("confirmed"), "label_created"),
            ("pending", None, "label_created"),
            ("open", None, "label_created"),
            ("error", None, "label_created"),
            ("success", Some("in_transit"), "in_transit"),
            ("success", Some("out_for_delivery"), "in_transit"),
            ("success", Some("delivered"), "delivered"),
            ("cancelled", Some("delivered"), "cancelled"),
        ] {
            let mut document = sample();
            document["status"] = json!(status);
            document["shipment_status"] = json!(carrier);
            let read = read("fulfillments/update", &document, &order()).unwrap();
            assert_eq!(read.kind, means, "{status} {carrier:?}");
        }
    }

    #[test]
    fn a_fulfilment_names_its_order_its_parcel_and_itself() {
        let read = read("fulfillments/create", &sample(), &order()).unwrap();
        assert_eq!(read.order_id.as_deref(), Some("450789469"));
        assert_eq!(read.shipment_ref.as_deref(), Some("255858046"));
        assert_eq!(read.tracking_number.as_deref(), Some("1Z2345"));
        assert_eq!((read.company.as_deref(), read.is_final), (Some("USPS"), None));
    }

    #[test]
    fn only_an_order_that_is_fulfilled_says_which_was_the_last() {
        let mut cancelled = sample();
        cancelled["status"] = json!("cancelled");
        let whole = json!({ "id": 450789469, "fulfillments": [sample(), cancelled] });
        let last = read("orders/fulfilled", &whole, &order()).unwrap();
        assert_eq!(last.shipment_ref.as_deref(), Some("255858046"));
        assert_eq!(last.is_final.as_deref(), Some("true"));
        for (topic, document, pointer) in [
            ("orders/fulfilled", sample(), "/fulfillments"),
            ("fulfillments/create", whole, "/order_id"),
            ("orders/create", sample(), "X-Shopify-Topic:"),
        ] {
            assert_eq!(read(topic, &document, &order()).unwrap_err().pointer, pointer);
        }
    }
}
