//! What Resolve's charges and orders share: US dollars, error objects, and a limit of 100 requests a minute.
//!
//! Errors are `{error: {type, message, details[]?}}` (documentation), classed by status and `type`, never by the message.
//! Every answer carries `X-Ratelimit-Limit/-Remaining/-Reset`; the window slides, reads count, and charges and orders
//! draw from the same hundred (documentation). What capturing a captured, cancelled or expired charge is answered is
//! undocumented: 400 `invalid_request`, 409 and 422 may all mean "done already", so a read decides.

use serde::Deserialize;

use super::answer::{Answer, Manner, Verdict, http_code, unreadable};
use super::transport::is_segment;
use crate::intent::CaptureIntent;
use crate::outcome::{Class, Code, Failure};

/// The only currency (documentation).
pub(super) const CURRENCY: &str = "USD";

/// An error in the provider's own form.
#[derive(Debug, Deserialize)]
struct Refusal {
    error: ErrorObject,
}

#[derive(Debug, Deserialize)]
struct ErrorObject {
    r#type: String,
}

/// The `type` of the error, if this is one in the provider's own form.
pub(super) fn error_type(answer: &Answer) -> Option<String> {
    answer.read::<Refusal>().map(|refusal| refusal.error.r#type)
}

/// Classes every answer to a capture that is not a 200 or 201.
pub(super) fn refusal(manner: Manner, answer: &Answer) -> Verdict {
    let said = error_type(answer);
    if let Some(verdict) = answer.verdict_by_status(manner, said.as_deref()) {
        return verdict;
    }
    let Some(said) = said else {
        let code = if answer.status < 300 {
            http_code(answer.status)
        } else {
            unreadable(answer)
        };
        return (Class::Ambiguous, code);
    };
    let class = match (answer.status, said.as_str()) {
        (200..=299, _) => Class::Ambiguous,
        (400, "validation_error") => Class::Rejected,
        (400, "invalid_request") | (409 | 422, _) => Class::MaybeDone,
        (404, _) => Class::Rejected,
        _ => return (Class::Rejected, Code::new("unclassified")),
    };
    (class, Code::new(&said))
}

/// Is this the provider's own "no such thing"?
pub(super) fn is_not_found(answer: &Answer) -> bool {
    answer.status == 404 && error_type(answer).is_some()
}

/// Refuses what Resolve can never take.
pub(super) fn check(intent: &CaptureIntent) -> Result<(), Failure> {
    let refuse = |code| Err(Failure::new(Class::Rejected, code));
    if !is_segment(&intent.payment_id) {
        return refuse("invalid_payment_id");
    }
    if intent.amount.currency.code() != CURRENCY {
        return refuse("unsupported_currency");
    }
    if intent.amount.minor <= 0 {
        return refuse("invalid_amount");
    }
    Ok(())
}
