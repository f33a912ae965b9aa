//! What is kept of Optty's answers so that a person can check them: a white list.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::order::{Order, Taken};
use crate::outcome::Evidence;
use crate::provider::Call;
use crate::provider::answer::{Answer, word};
use crate::provider::json::{Digits, Text};

/// So many captures are kept.
const CAPTURES_KEPT: usize = 8;

/// The white list of the answer to the POST: reference, id, amount. No message.
pub(super) fn taken(answer: &Answer, taken: Option<&Taken>) -> Evidence {
    #[derive(Serialize)]
    struct Facts {
        #[serde(skip_serializing_if = "Option::is_none")]
        capture_reference: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        capture_id: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        captured_amount: Option<String>,
    }
    let text = |field: fn(&Taken) -> &Option<Text>| {
        taken
            .and_then(|taken| field(taken).as_ref())
            .map(|text| word(text.as_str()))
    };
    answer.evidence(&Facts {
        capture_reference: text(|taken| &taken.capture_reference),
        capture_id: text(|taken| &taken.capture_id),
        captured_amount: taken
            .and_then(|taken| taken.captured_amount.as_ref())
            .map(Digits::shown),
    })
}

/// The white list of the details: states, ids, amounts and times.
pub(super) fn order(call: &Call<'_>, answer: &Answer, order: Option<&Order>) -> Evidence {
    #[derive(Serialize)]
    struct Facts {
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        amount: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        currency: Option<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        captures: Vec<CaptureFacts>,
    }
    #[derive(Serialize)]
    struct CaptureFacts {
        ours: bool,
        id: Option<String>,
        status: Option<String>,
        amount: Option<String>,
        created: Option<DateTime<Utc>>,
    }
    let mut captures: Vec<CaptureFacts> = order
        .into_iter()
        .flat_map(Order::captures)
        .map(|capture| CaptureFacts {
            ours: capture.is_ours(call),
            id: capture.capture_id.as_ref().map(|id| word(id.as_str())),
            status: capture.status.as_deref().map(word),
            amount: capture.amount.as_ref().map(Digits::shown),
            created: capture.created(),
        })
        .collect();
    captures.sort_by_key(|capture| !capture.ours);
    captures.truncate(CAPTURES_KEPT);
    answer.evidence(&Facts {
        status: order.and_then(|order| order.status.as_deref()).map(word),
        amount: order
            .and_then(|order| order.amount.as_ref().or(order.order_amount.as_ref()))
            .map(Digits::shown),
        currency: order.and_then(|order| order.currency.as_deref()).map(word),
        captures,
    })
}
