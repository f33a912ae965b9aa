//! A refusal, and the form in which each provider puts it.

use super::{
    answer::{Answer, reason},
    json::{Object, array},
    model::Model,
};

/// Nothing was done, and this is why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// Afterpay's `errorCode`, Resolve's `type`; Optty has none.
    pub(super) code: String,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            code: code.to_owned(),
            message: message.into(),
        }
    }

    /// A status with the code that usually goes with it.
    pub(super) fn usual(model: Model, status: u16) -> Self {
        let code = match model {
            Model::Afterpay => match status {
                400 => "bad_request",
                401 => "unauthorized",
                402 => "invalid_payment_state",
                403 => "forbidden",
                404 => "not_found",
                405 => "method_not_allowed",
                406 => "not_acceptable",
                409 => "conflict",
                410 => "payment_captured",
                412 => "error",
                415 => "unsupported_media_type",
                422 => "invalid_object",
                429 => "too_many_requests",
                503 => "service_unavailable",
                _ => "internal_error",
            },
            Model::Optty => "",
            Model::ResolveCharge | Model::ResolveOrder => match status {
                400 => "invalid_request",
                401 => "authentication_error",
                403 => "forbidden_error",
                404 => "not_found_error",
                409 => "conflict_error",
                422 => "unprocessable_error",
                429 => "rate_limit_error",
                _ => "api_error",
            },
        };
        Self::new(status, code, reason(status))
    }

    /// Forms of the errors: Afterpay `{errorCode, errorId, message, httpStatusCode}`, Optty
    /// `{statusCode, message}`, Resolve `{error: {type, message, details[]?}}`; each by the
    /// provider's current documents.
    pub(super) fn answer(&self, model: Model) -> Answer {
        let status = self.status.to_string();
        let body = match model {
            Model::Afterpay => {
                let error_id = uuid::Uuid::new_v4().simple().to_string();
                Object::new()
                    .text("errorCode", &self.code)
                    .text("errorId", error_id.get(..16).unwrap_or(&error_id))
                    .text("message", &self.message)
                    .raw("httpStatusCode", &status)
                    .done()
            }
            Model::Optty => Object::new()
                .raw("statusCode", &status)
                .text("message", &self.message)
                .done(),
            Model::ResolveCharge | Model::ResolveOrder => {
                let mut error = Object::new().text("type", &self.code).text("message", &self.message);
                if self.code == "validation_error" {
                    let detail = Object::new().text("path", "body").text("message", &self.message).done();
                    error = error.raw("details", &array([detail]));
                }
                Object::new().raw("error", &error.done()).done()
            }
        };
        Answer::json(self.status, body)
    }
}
