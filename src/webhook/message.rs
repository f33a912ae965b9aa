//! The message: an event as its body, and as headers what CloudEvents 1.0 calls the binary mode.

use chrono::{DateTime, SecondsFormat, Utc};
use secrecy::SecretSlice;

use super::signature;
use crate::outbox::Event;

/// A request's headers and body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Names in lower case. None of the values is secret, but a signature is good for five minutes.
    pub headers: Vec<(&'static str, String)>,
    /// The event as `/v1/events` writes it. The same bytes at every attempt.
    pub body: Vec<u8>,
}

/// The place of an event in the feed, as the CloudEvents extension `sequence` wants it: texts that sort as the feed does.
pub fn sequence(event: &Event) -> String {
    let xid = event.cursor.split('-').next().unwrap_or("");
    format!("{xid:0>20}-{:0>19}", event.seq)
}

/// The message of an event, signed now with every live secret.
pub fn message(
    event: &Event,
    source: &str,
    secrets: &[SecretSlice<u8>],
    now: DateTime<Utc>,
) -> Result<Message, serde_json::Error> {
    let body = serde_json::to_vec(event)?;
    let id = event.id.to_string();
    let timestamp = now.timestamp();
    let mut headers = vec![
        ("content-type", "application/json".to_owned()),
        (signature::SIGNATURE, signature::sign(secrets, &id, timestamp, &body)),
        (signature::TIMESTAMP, timestamp.to_string()),
        (signature::ID, id.clone()),
        ("ce-specversion", "1.0".to_owned()),
        ("ce-id", id),
        ("ce-source", source.to_owned()),
        ("ce-type", event.kind.clone()),
        (
            "ce-time",
            event.occurred_at.to_rfc3339_opts(SecondsFormat::Micros, true),
        ),
        ("ce-sequence", sequence(event)),
    ];
    // An event of no capture has no subject: nobody should look for the nil uuid.
    if !event.intent_id.is_nil() {
        headers.push(("ce-subject", event.intent_id.to_string()));
    }
    Ok(Message { headers, body })
}
