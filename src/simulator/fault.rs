//! The ways in which a call can go wrong, each with a name that scripts and control documents use.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::model::{Model, Operation};

/// When the money moves, seen from the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Moment {
    /// Never: the fault strikes first and the request is not executed.
    Before,
    /// Already: the request was executed, then the fault strikes.
    After,
    /// Later: the fault strikes now, the request is executed once [`super::Pace::late_after`] has
    /// passed. Until then a provider with keys answers 409 to repeats.
    Late,
}

/// One way in which a call goes wrong. Names are kebab-case: `reset-after`, `html-502-before`,
/// `redirect-307`, `cut-at-120`, `refuse-410-payment_captured`; [`Fault::all`] lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Nothing goes wrong; a place holder in a sequence.
    None,
    /// The connection is accepted and closed, the request not read.
    CloseAtAccept,
    /// The connection is accepted and reset, the request not read.
    ResetAtAccept,
    /// The request is read, then the connection is reset without an answer.
    Reset(Moment),
    /// The request is read, then the connection is closed without an answer.
    Close(Moment),
    /// The request is read, then nothing, until the client goes or [`super::Pace::silence`] is over.
    Silence(Moment),
    /// Status line and headers are sent, then nothing.
    Stall(Moment),
    /// The right answer, one byte at a time, one per [`super::Pace::drip`].
    Drip,
    /// The right answer, kept back for [`super::Pace::running_for`]; repeats of its key get 409 meanwhile.
    Slow,
    /// The right answer, then the connection is closed although it was said to stay open.
    CloseAfterAnswer,
    /// Right `Content-Length`, half of the body, then the end.
    Truncated,
    /// A `Content-Length` larger than the body.
    WrongLength,
    /// A chunked body that ends within a chunk.
    ChunkCut,
    /// The answer ends after so many bytes, head included.
    CutAt(u32),
    /// An error in the provider's own form.
    Status(u16, Moment),
    /// A page of HTML, as a proxy or firewall in front shows it.
    Html(u16, Moment),
    /// A status without a body.
    Empty(u16, Moment),
    /// A refusal with a code of the provider's own, nothing executed.
    Refuse(u16, &'static str),
    /// A redirect to another listener, which counts who follows.
    Redirect(u16),
    /// 2xx, `text/plain`.
    NotJson,
    /// 2xx, JSON that stops making sense halfway.
    InvalidJson,
    /// 2xx, JSON without any of the documented members.
    MissingFields,
    /// 2xx with an amount that is one minor unit off.
    OtherAmount,
    /// 2xx in another currency.
    OtherCurrency,
    /// 2xx with somebody else's reference.
    OtherReference,
    /// 2xx for another payment.
    OtherPayment,
    /// 2xx, a string with a byte that is not UTF-8.
    InvalidUtf8,
    /// 2xx, a string with `\u0000`.
    Nul,
    /// 2xx, a string with half of a surrogate pair.
    LoneSurrogate,
    /// 2xx, a number `1e400000`.
    HugeNumber,
    /// 2xx and a body that hardly ends.
    HugeBody,
    /// 2xx, compressed though nobody asked for it.
    Gzip,
    /// The provider declines: Afterpay says 201 with `DECLINED`, the others 400.
    Declined,
    /// Afterpay says 402 with a whole payment as the body.
    DeclinedWith402,
    /// 409 now; the request is executed later, repeats of its key get 409 until then.
    InProgress,
    /// 429; Resolve with its `X-Ratelimit-*` headers.
    RateLimited,
    /// 429 with `Retry-After`.
    RateLimitedRetryAfter,
    /// 401: the token or the credentials are no longer taken.
    TokenExpired,
    /// 403 in the provider's own form.
    Forbidden,
    /// Optty: accepted, pending, then successful: the money moves later.
    PendingThenSuccessful,
    /// Optty: accepted, pending, then failed: the money never moves.
    PendingThenFailed,
    /// Somebody else captures the same amount just before this call.
    ForeignCaptureFirst,
    /// A read that does not show the newest capture yet.
    LaggingRead,
}

/// Statuses for [`Fault::Status`] and [`Fault::Empty`]: those that say nothing about the money.
pub(super) const FRONT_STATUSES: [u16; 17] = [
    408, 409, 425, 429, 499, 500, 502, 503, 504, 520, 521, 522, 523, 524, 525, 526, 400,
];

/// Statuses for [`Fault::Html`]: what firewalls and proxies show.
pub(super) const PAGE_STATUSES: [u16; 13] = [200, 403, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 526];

/// Refusals that can be scripted: codes of Afterpay, then error types of Resolve.
pub(super) const REFUSALS: [(u16, &str); 20] = [
    (400, "bad_request"),
    (401, "unauthorized"),
    (402, "invalid_payment_state"),
    (404, "not_found"),
    (410, "payment_captured"),
    (412, "error"),
    (412, "invalid_state"),
    (412, "payment_expired"),
    (412, "payment_voided"),
    (422, "invalid_amount"),
    (422, "invalid_object"),
    (422, "unsupported_currency"),
    (422, "unsupported_payment_type"),
    (418, "never_heard_of"),
    (400, "invalid_request"),
    (400, "validation_error"),
    (401, "authentication_error"),
    (403, "forbidden_error"),
    (404, "not_found_error"),
    (422, "unprocessable_error"),
];

const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];
const MOMENTS: [Moment; 3] = [Moment::Before, Moment::After, Moment::Late];

/// Faults whose name has no parameter.
const PLAIN: [(&str, Fault); 33] = [
    ("none", Fault::None),
    ("close-at-accept", Fault::CloseAtAccept),
    ("reset-at-accept", Fault::ResetAtAccept),
    ("drip", Fault::Drip),
    ("slow", Fault::Slow),
    ("close-after-answer", Fault::CloseAfterAnswer),
    ("truncated", Fault::Truncated),
    ("wrong-length", Fault::WrongLength),
    ("chunk-cut", Fault::ChunkCut),
    ("not-json", Fault::NotJson),
    ("invalid-json", Fault::InvalidJson),
    ("missing-fields", Fault::MissingFields),
    ("other-amount", Fault::OtherAmount),
    ("other-currency", Fault::OtherCurrency),
    ("other-reference", Fault::OtherReference),
    ("other-payment", Fault::OtherPayment),
    ("invalid-utf8", Fault::InvalidUtf8),
    ("nul", Fault::Nul),
    ("lone-surrogate", Fault::LoneSurrogate),
    ("huge-number", Fault::HugeNumber),
    ("huge-body", Fault::HugeBody),
    ("gzip", Fault::Gzip),
    ("declined", Fault::Declined),
    ("declined-with-402", Fault::DeclinedWith402),
    ("in-progress", Fault::InProgress),
    ("rate-limited", Fault::RateLimited),
    ("rate-limited-retry-after", Fault::RateLimitedRetryAfter),
    ("token-expired", Fault::TokenExpired),
    ("forbidden", Fault::Forbidden),
    ("pending-then-successful", Fault::PendingThenSuccessful),
    ("pending-then-failed", Fault::PendingThenFailed),
    ("foreign-capture-first", Fault::ForeignCaptureFirst),
    ("lagging-read", Fault::LaggingRead),
];

impl Fault {
    /// Every fault that has a name, [`Fault::None`] left out; of `cut-at-N` one example.
    pub fn all() -> Vec<Fault> {
        let mut all: Vec<Fault> = PLAIN.iter().skip(1).map(|(_, fault)| *fault).collect();
        for moment in MOMENTS {
            all.extend([
                Fault::Reset(moment),
                Fault::Close(moment),
                Fault::Silence(moment),
                Fault::Stall(moment),
            ]);
            all.extend(FRONT_STATUSES.map(|status| Fault::Status(status, moment)));
            all.extend(FRONT_STATUSES.map(|status| Fault::Empty(status, moment)));
            all.extend(PAGE_STATUSES.map(|status| Fault::Html(status, moment)));
        }
        all.extend(REFUSALS.map(|(status, code)| Fault::Refuse(status, code)));
        all.extend(REDIRECTS.map(Fault::Redirect));
        all.push(Fault::CutAt(40));
        all
    }

    /// When the money moves by the call that plays this fault.
    pub fn moment(self) -> Moment {
        match self {
            Fault::Reset(moment)
            | Fault::Close(moment)
            | Fault::Silence(moment)
            | Fault::Stall(moment)
            | Fault::Status(_, moment)
            | Fault::Html(_, moment)
            | Fault::Empty(_, moment) => moment,
            Fault::CloseAtAccept
            | Fault::ResetAtAccept
            | Fault::Redirect(_)
            | Fault::Refuse(..)
            | Fault::RateLimited
            | Fault::RateLimitedRetryAfter
            | Fault::TokenExpired
            | Fault::Forbidden => Moment::Before,
            Fault::InProgress => Moment::Late,
            _ => Moment::After,
        }
    }

    /// Whether the fault means anything for this call. What does not fit is not played.
    pub(super) fn fits(self, model: Model, operation: Operation) -> bool {
        let capture = operation == Operation::Capture;
        match self {
            Fault::Declined | Fault::ForeignCaptureFirst | Fault::InProgress | Fault::Slow => capture,
            Fault::DeclinedWith402 => capture && model == Model::Afterpay,
            Fault::PendingThenSuccessful | Fault::PendingThenFailed => capture && model == Model::Optty,
            Fault::LaggingRead => operation == Operation::Read,
            Fault::OtherCurrency => operation != Operation::Token && model == Model::Afterpay,
            Fault::OtherReference => operation != Operation::Token && model != Model::ResolveCharge,
            Fault::OtherPayment => operation != Operation::Token && !(capture && model == Model::Optty),
            Fault::OtherAmount | Fault::InvalidUtf8 | Fault::Nul | Fault::LoneSurrogate | Fault::HugeNumber => {
                operation != Operation::Token
            }
            other => capture || other.moment() != Moment::Late,
        }
    }

    /// Whether the connection dies before its request is read.
    pub(super) fn at_accept(self) -> bool {
        matches!(self, Fault::CloseAtAccept | Fault::ResetAtAccept)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Moment::Before => "before",
            Moment::After => "after",
            Moment::Late => "late",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Reset(moment) => write!(out, "reset-{moment}"),
            Fault::Close(moment) => write!(out, "close-{moment}"),
            Fault::Silence(moment) => write!(out, "silence-{moment}"),
            Fault::Stall(moment) => write!(out, "stall-{moment}"),
            Fault::Status(status, moment) => write!(out, "status-{status}-{moment}"),
            Fault::Html(status, moment) => write!(out, "html-{status}-{moment}"),
            Fault::Empty(status, moment) => write!(out, "empty-{status}-{moment}"),
            Fault::Refuse(status, code) => write!(out, "refuse-{status}-{code}"),
            Fault::Redirect(status) => write!(out, "redirect-{status}"),
            Fault::CutAt(bytes) => write!(out, "cut-at-{bytes}"),
            plain => {
                let name = PLAIN.iter().find(|(_, fault)| fault == plain);
                out.write_str(name.map_or("none", |(name, _)| name))
            }
        }
    }
}

/// A text that names no fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no fault {0:?}; GET /_simulator lists the names")]
pub struct UnknownFault(pub String);

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownFault(name.to_owned());
        if let Some((_, fault)) = PLAIN.iter().find(|(plain, _)| *plain == name) {
            return Ok(*fault);
        }
        let (act, rest) = name.split_once('-').ok_or_else(unknown)?;
        let moment_of = |text: &str| MOMENTS.into_iter().find(|moment| moment.to_string() == text);
        let number = |text: &str| text.parse::<u16>().ok().filter(|n| (200..600).contains(n));
        let status_and_moment = |rest: &str| {
            let (status, moment) = rest.split_once('-')?;
            Some((number(status)?, moment_of(moment)?))
        };
        let fault = match act {
            "reset" => moment_of(rest).map(Fault::Reset),
            "close" => moment_of(rest).map(Fault::Close),
            "silence" => moment_of(rest).map(Fault::Silence),
            "stall" => moment_of(rest).map(Fault::Stall),
            "status" => status_and_moment(rest).map(|(status, moment)| Fault::Status(status, moment)),
            "html" => status_and_moment(rest).map(|(status, moment)| Fault::Html(status, moment)),
            "empty" => status_and_moment(rest).map(|(status, moment)| Fault::Empty(status, moment)),
            "redirect" => number(rest).filter(|n| REDIRECTS.contains(n)).map(Fault::Redirect),
            "cut" => rest.strip_prefix("at-").and_then(|n| n.parse().ok()).map(Fault::CutAt),
            "refuse" => REFUSALS
                .into_iter()
                .find(|(status, code)| rest == format!("{status}-{code}"))
                .map(|(status, code)| Fault::Refuse(status, code)),
            _ => None,
        };
        fault.ok_or_else(unknown)
    }
}

impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fault {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_found_again_by_its_name() {
        for fault in Fault::all() {
            assert_eq!(fault.to_string().parse(), Ok(fault));
        }
        assert!("reset-sometimes".parse::<Fault>().is_err());
        assert!("html-99-before".parse::<Fault>().is_err());
    }
}
