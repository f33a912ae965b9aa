//! From method and path to what a call is about. The prefix of the path says which provider is meant.

use super::{
    model::{Model, Operation, ProviderName},
    request::Head,
};

/// Where a request is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Provider(Call),
    /// Below `/_simulator`; the rest of the path.
    Control(Vec<String>),
    Nowhere,
}

/// A call to a provider, as far as method and path tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) model: Model,
    pub(super) operation: Operation,
    pub(super) action: Action,
    pub(super) payment_id: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Capture,
    /// The payment, charge or order itself.
    Show,
    /// Optty: with the list of captures.
    Details,
    Invoice,
    /// `PUT /charges/{id}`.
    Update,
    /// `PUT /v2/payments/{id}/courier`.
    Courier,
    /// `POST /shipments`; the body says of which invoice.
    Shipment,
    Token,
    NoSuchPath,
    WrongMethod,
}

pub(super) fn route(head: &Head) -> Route {
    let segments = head.segments();
    let mut parts = segments.iter().map(String::as_str);
    let prefix = parts.next().unwrap_or_default();
    let rest: Vec<&str> = parts.collect();
    if prefix == "_simulator" {
        return Route::Control(rest.into_iter().map(str::to_owned).collect());
    }
    match prefix.parse() {
        Ok(provider) => Route::Provider(call(provider, &head.method, &rest)),
        Err(_) => Route::Nowhere,
    }
}

fn call(provider: ProviderName, method: &str, path: &[&str]) -> Call {
    use Action::{Capture, Courier, Details, Invoice, NoSuchPath, Shipment, Show, Token, Update, WrongMethod};
    use ProviderName::{Afterpay, Optty, Resolve};
    let usual = provider.usual_model();
    let (allowed, model, action, id) = match (provider, path) {
        (Afterpay, ["v2", "payments", id, "capture"]) => ("POST", usual, Capture, Some(*id)),
        (Afterpay, ["v2", "payments", id, "courier"]) => ("PUT", usual, Courier, Some(*id)),
        (Afterpay, ["v2", "payments", id]) => ("GET", usual, Show, Some(*id)),
        (Optty, ["token"]) => ("POST", usual, Token, None),
        (Optty, ["orders", id, "capture"]) => ("POST", usual, Capture, Some(*id)),
        (Optty, ["orders", id, "details"]) => ("POST", usual, Details, Some(*id)),
        (Optty, ["orders", id]) => ("GET", usual, Show, Some(*id)),
        (Resolve, ["access-keys", "token"]) => ("POST", usual, Token, None),
        (Resolve, ["charges", id, "capture"]) => ("POST", usual, Capture, Some(*id)),
        (Resolve, ["charges", id]) if method == "PUT" => ("PUT", usual, Update, Some(*id)),
        (Resolve, ["charges", id]) => ("GET", usual, Show, Some(*id)),
        (Resolve, ["invoices", id]) => ("GET", usual, Invoice, Some(*id)),
        (Resolve, ["shipments"]) => ("POST", usual, Shipment, None),
        (Resolve, ["orders", id, "capture"]) => ("POST", Model::ResolveOrder, Capture, Some(*id)),
        (Resolve, ["orders", id]) => ("GET", Model::ResolveOrder, Show, Some(*id)),
        _ => (method, usual, NoSuchPath, None),
    };
    let action = if method == allowed { action } else { WrongMethod };
    let operation = match action {
        Capture => Operation::Capture,
        Show | Details | Invoice => Operation::Read,
        Update | Courier | Shipment => Operation::Update,
        Token => Operation::Token,
        NoSuchPath | WrongMethod => Operation::Unknown,
    };
    let payment_id = id.map(|id| match action {
        Invoice => invoiced(id).0.to_owned(),
        _ => id.to_owned(),
    });
    Call {
        model,
        operation,
        action,
        payment_id,
    }
}

/// Payment id and, for an order, the ordinal of the capture (from 1) that an invoice id stands for.
pub(super) fn invoiced(invoice_id: &str) -> (&str, Option<usize>) {
    let name = invoice_id.strip_prefix("inv-").unwrap_or(invoice_id);
    match name.rsplit_once("--") {
        Some((payment_id, ordinal)) => match ordinal.parse() {
            Ok(ordinal) => (payment_id, Some(ordinal)),
            Err(_) => (name, None),
        },
        None => (name, None),
    }
}
