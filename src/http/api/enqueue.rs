//! `POST /v1/captures`: asks for a capture. The rules are the database's; a document reaches it in its own digits.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::http::body::{MOST_BYTES, json_bytes, parse};
use crate::http::caller::{Allowed, ToEnqueue};
use crate::http::problem::Problem;
use crate::http::query::Parameters;
use crate::http::serve::Office;
use crate::outbox::Enqueued;

/// The header that stands for the reference.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// What is asked: the columns of the table intents. For the document only: the database reads it, and refuses by name what a
/// schema cannot say.
#[derive(Debug, ToSchema)]
#[schema(as = NewCapture)]
#[expect(dead_code, reason = "describes what the database reads")]
pub struct NewCapture {
    /// afterpay, optty or resolve.
    #[schema(pattern = "^(afterpay|optty|resolve)$")]
    provider: String,
    /// The merchant's own order number: printable, no blank at either end.
    #[schema(min_length = 1, max_length = 255, pattern = r"^[^\x00]*$")]
    order_id: String,
    /// The authorised payment at the provider.
    #[schema(min_length = 1, max_length = 255, pattern = r"^[^\x00]*$")]
    payment_id: String,
    /// The merchant's unique reference of this capture; else the header Idempotency-Key is it.
    #[schema(min_length = 1, max_length = 255, pattern = r"^[^\x00]*$")]
    capture_ref: Option<String>,
    /// How much, in whole minor units: 4990 is 49.90 USD.
    #[schema(minimum = 1, maximum = 999_999_999_999_999_i64)]
    amount_minor: i64,
    /// ISO 4217.
    #[schema(pattern = "^[A-Z]{3}$", example = "USD")]
    currency: String,
    /// Which merchant account; else `default`.
    #[schema(pattern = "^[a-z0-9][a-z0-9_-]{0,62}$")]
    account: Option<String>,
    /// What was authorised in all, in minor units, if known.
    #[schema(minimum = 1, maximum = 999_999_999_999_999_i64)]
    authorized_minor: Option<i64>,
    /// When the authorisation ends: RFC 3339.
    #[schema(value_type = Option<String>, pattern = r"^2[01][0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[Tt ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?([Zz]|[+-](0[0-9]|1[0-3]):[0-5][0-9])$")]
    authorization_expires_at: Option<String>,
    /// Wait for a release: `shipment`.
    #[schema(pattern = "^shipment$")]
    hold: Option<String>,
    /// Not before this time: RFC 3339.
    #[schema(value_type = Option<String>, pattern = r"^2[01][0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[Tt ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?([Zz]|[+-](0[0-9]|1[0-3]):[0-5][0-9])$")]
    not_before: Option<String>,
    /// Smaller goes first.
    #[schema(minimum = -32768, maximum = 32767)]
    priority: Option<i16>,
    /// What goes along: description, shipping {company, method, tracking_number}, merchant_reference, order_number, po_number.
    #[schema(value_type = Option<Object>)]
    details: Option<serde_json::Value>,
    /// W3C trace context.
    traceparent: Option<String>,
    /// The capture's id, if the caller chooses it.
    #[schema(value_type = Option<String>, pattern = "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$")]
    id: Option<uuid::Uuid>,
}

/// The fields of a document in their order, doubled ones too, each value as it was written.
struct Fields(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Fields, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("one JSON object whose keys are the columns of intents")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        from.deserialize_map(Object)
    }
}

/// Asks for a capture.
///
/// The same reference with the same content again gives the same id, 200 and `created: false`; with other content it is
/// refused with 409.
#[utoipa::path(post, path = "/v1/captures", tag = "captures", operation_id = "create_capture", security(("key" = ["enqueue"])),
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[!#-~]([ -~]*[!-~])?$",
        description = "The capture_ref, bare or as a quoted string; if the document has one too, they must be equal")),
    request_body = NewCapture, responses(
        (status = 201, description = "It was not there before", body = Enqueued, headers(("Location" = String))),
        (status = 200, description = "It was there, with the same content", body = Enqueued)))]
pub async fn create(
    _: Allowed<ToEnqueue>,
    State(office): State<Arc<Office>>,
    parameters: Parameters,
    request: Request,
) -> Result<Response, Problem> {
    parameters.none_left(&[])?;
    let key = idempotency_key(request.headers())?;
    let body = json_bytes(request, MOST_BYTES, office.patience).await?;
    let Fields(fields) = parse(&body)?;
    let enqueued = office.acts.enqueue_json(&document(fields, key)?).await;
    let enqueued = enqueued.map_err(|error| Problem::from(error).repeatable())?;
    Ok(match enqueued.created {
        true => {
            let location = format!("/v1/captures/{}", enqueued.id);
            (StatusCode::CREATED, [(header::LOCATION, location)], Json(enqueued)).into_response()
        }
        false => Json(enqueued).into_response(),
    })
}

/// The document with the reference in it.
fn document(mut fields: Vec<(String, Box<RawValue>)>, key: Option<String>) -> Result<String, Problem> {
    for (name, value) in &fields {
        // In SQL a string of digits is an amount too, for drivers that have nothing else. Here JSON has its integers.
        let amount = matches!(name.as_str(), "amount_minor" | "authorized_minor");
        if amount && value.get().starts_with('"') {
            let detail = format!("{name} is a string");
            return Err(Problem::unfit("intents_document_types", detail)
                .hint("pass whole minor units as a JSON integer, such as 1234 for 12.34 USD")
                .at(format!("/{name}")));
        }
    }
    if let Some(key) = key {
        let given = fields.iter().find(|(name, _)| name == "capture_ref");
        let given = given.map(|(_, value)| value.get()).filter(|value| *value != "null");
        match given {
            // What is no string the database refuses in its own words.
            Some(value) => {
                if serde_json::from_str::<String>(value).is_ok_and(|given| given != key) {
                    let detail = "the header Idempotency-Key and capture_ref differ";
                    return Err(Problem::unfit("idempotency_key_differs", detail)
                        .hint("they are one thing: send one of them, or both alike")
                        .at("/capture_ref"));
                }
            }
            None => {
                fields.retain(|(name, _)| name != "capture_ref");
                let value = serde_json::value::to_raw_value(&key).map_err(|_| Problem::internal())?;
                fields.push(("capture_ref".to_owned(), value));
            }
        }
    }
    let written = fields.iter().map(|(name, value)| {
        let name = serde_json::to_string(name).map_err(|_| Problem::internal())?;
        Ok(format!("{name}:{}", value.get()))
    });
    let written: Result<Vec<String>, Problem> = written.collect();
    Ok(format!("{{{}}}", written?.join(",")))
}

/// The header's text: bare, or a quoted string as RFC 8941 writes it.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(text) = given.next() else { return Ok(None) };
    let refused = |detail: &str| {
        Problem::bad_request("idempotency_key_not_readable", detail)
            .hint("write it bare or in double quotes, in printable ASCII")
            .at("Idempotency-Key:")
    };
    if given.next().is_some() {
        return Err(refused("the header Idempotency-Key is given twice"));
    }
    let text = text
        .to_str()
        .map_err(|_| refused("the header Idempotency-Key is not ASCII"))?;
    let text = text.trim();
    let key = match text.strip_prefix('"') {
        Some(rest) => unquoted(rest).ok_or_else(|| refused("the header Idempotency-Key is no quoted string"))?,
        None => text.to_owned(),
    };
    match key.is_empty() {
        true => Err(refused("the header Idempotency-Key is empty")),
        false => Ok(Some(key)),
    }
}

/// What stands before the closing quote, which must be the last thing.
fn unquoted(rest: &str) -> Option<String> {
    let mut text = String::new();
    let mut letters = rest.chars();
    loop {
        match letters.next()? {
            '"' => return letters.next().is_none().then_some(text),
            '\\' => text.push(letters.next().filter(|letter| matches!(letter, '"' | '\\'))?),
            letter => text.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &'static str) -> Result<Option<String>, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(IDEMPOTENCY_KEY, header::HeaderValue::from_static(text));
        idempotency_key(&headers).map_err(|problem| problem.status())
    }

    #[test]
    fn a_key_may_be_bare_or_quoted_and_means_the_same() {
        assert_eq!(key("o-1001-1"), Ok(Some("o-1001-1".to_owned())));
        assert_eq!(key(" \"o-1001-1\" "), Ok(Some("o-1001-1".to_owned())));
        assert_eq!(key(r#""a \"b\" \\""#), Ok(Some(r#"a "b" \"#.to_owned())));
        for wrong in ["", "\"", "\"a", "\"a\"b", r#""a\b""#, "\"\""] {
            assert_eq!(key(wrong), Err(400), "{wrong}");
        }
    }

    #[test]
    fn the_reference_is_put_in_and_nothing_else_changes() {
        let Fields(fields) =
            parse(br#"{"amount_minor": 12.340, "details": {"a" : [1e2]}, "capture_ref": null}"#).unwrap();
        let written = document(fields, Some("r\"1".to_owned())).unwrap();
        assert_eq!(
            written,
            r#"{"amount_minor":12.340,"details":{"a" : [1e2]},"capture_ref":"r\"1"}"#
        );
        let Fields(doubled) = parse(br#"{"amount_minor":1,"amount_minor":2}"#).unwrap();
        assert_eq!(
            document(doubled, None).unwrap(),
            r#"{"amount_minor":1,"amount_minor":2}"#
        );
    }
}
