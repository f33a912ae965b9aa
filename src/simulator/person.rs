//! The shoppers: made up, one per payment, and marked, so that a search finds any of their data in
//! a log, a dump or a page where it must not be.

/// Is in every piece of personal data in every answer, and in nothing else.
pub const CANARY: &str = "zq7canary";

pub(super) fn given_name(payment_id: &str) -> String {
    format!("{CANARY}-given-{payment_id}")
}

pub(super) fn surname(payment_id: &str) -> String {
    format!("{CANARY}-family-{payment_id}")
}

pub(super) fn name(payment_id: &str) -> String {
    format!("{} {}", given_name(payment_id), surname(payment_id))
}

pub(super) fn email(payment_id: &str) -> String {
    format!("{CANARY}.mail.{payment_id}@shopper.example")
}

pub(super) fn phone(payment_id: &str) -> String {
    format!("+1555{CANARY}{payment_id}")
}

pub(super) fn street(payment_id: &str) -> String {
    format!("1 {CANARY} street {payment_id}")
}
