//! What a capture call asks for, after the provider has read its body and before it has decided.

use super::{
    afterpay,
    answer::Answer,
    ledger_file::{Movement, Standing},
    model::Model,
    optty,
    payment::{Payment, View},
    refusal::Refusal,
    request::Request,
    resolve_charge, resolve_order,
    settings::Settings,
};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) amount: Asked,
    pub(super) currency: Option<String>,
    /// Repeats of it get the same answer.
    pub(super) key: Option<String>,
    /// Goes into the ledger.
    pub(super) reference: Option<String>,
    pub(super) merchant_reference: Option<String>,
    pub(super) order_number: Option<String>,
    pub(super) po_number: Option<String>,
    pub(super) has_shipping: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Asked {
    /// No amount in the body.
    #[default]
    Everything,
    /// The digits in the body.
    Decimal(String),
}

/// What comes of an ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// So much is captured.
    Capture(i64),
    /// The answer of an earlier movement, by its place.
    Repeat(usize),
}

impl Model {
    pub(super) fn check_headers(self, request: &Request) -> Result<(), Refusal> {
        match self {
            Model::Afterpay => afterpay::check_headers(request),
            Model::Optty | Model::ResolveCharge | Model::ResolveOrder => Ok(()),
        }
    }

    pub(super) fn ask(self, request: &Request) -> Result<Ask, Refusal> {
        match self {
            Model::Afterpay => afterpay::ask(request),
            Model::Optty => optty::ask(request),
            Model::ResolveCharge => resolve_charge::ask(request),
            Model::ResolveOrder => resolve_order::ask(request),
        }
    }

    pub(super) fn unknown_payment(self, payment_id: &str) -> Refusal {
        match self {
            Model::Afterpay => afterpay::unknown_payment(payment_id),
            Model::Optty => Refusal::new(404, "", "Order not found"),
            Model::ResolveCharge | Model::ResolveOrder => {
                Refusal::new(404, "not_found_error", "There is no such object")
            }
        }
    }

    pub(super) fn judge(
        self,
        payment: &Payment,
        ask: &Ask,
        now: chrono::DateTime<chrono::Utc>,
        settings: &Settings,
    ) -> Result<Verdict, Refusal> {
        match self {
            Model::Afterpay => afterpay::judge(payment, ask, now).map(Verdict::Capture),
            Model::Optty => optty::judge(payment, ask, now, settings.optty_duplicate),
            Model::ResolveCharge => {
                resolve_charge::judge(payment, ask, now, settings.resolve_recapture).map(Verdict::Capture)
            }
            Model::ResolveOrder => resolve_order::judge(payment, ask, now).map(Verdict::Capture),
        }
    }

    /// The answer to the capture that made the last movement shown.
    pub(super) fn captured_answer(self, view: &View<'_>, movement: &Movement) -> Answer {
        match (self, movement.standing) {
            (Model::Afterpay, standing) => afterpay::captured_answer(view, standing),
            (_, Standing::Declined | Standing::DeclinedWith402) => {
                let refusal = Refusal::usual(self, 400);
                Refusal::new(400, &refusal.code, "The capture was declined").answer(self)
            }
            (Model::Optty, _) => optty::captured_answer(view),
            (Model::ResolveCharge, _) => resolve_charge::charge_answer(view),
            (Model::ResolveOrder, _) => resolve_order::order_answer(view),
        }
    }

    /// How ids of captures begin.
    pub(super) fn capture_prefix(self) -> &'static str {
        match self {
            Model::Afterpay => "evt",
            Model::Optty => "cap_",
            Model::ResolveCharge | Model::ResolveOrder => "rcp_",
        }
    }
}
