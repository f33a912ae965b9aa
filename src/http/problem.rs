//! What is told when something is refused: RFC 9457, `application/problem+json`.
//!
//! The code is the name of the constraint that the database would name too; what only HTTP can do wrong has names of its
//! own. What went wrong inside is written to the log and not to the answer.

use std::borrow::Cow;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api_key::Scope;
use crate::filter::FilterFault;
use crate::operations::OperationError;
use crate::outbox::{OutboxError, Refusal};

/// After how many seconds one may ask again when the database does not answer.
const DATABASE_RETRY: u64 = 2;

/// A refusal (RFC 9457).
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct Problem {
    /// `urn:capture:problem:` and the code.
    #[serde(rename = "type")]
    kind: String,
    /// The status in words.
    title: Cow<'static, str>,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What was wrong with this request.
    detail: String,
    /// One word for programs; a constraint's name where the database refused.
    code: Cow<'static, str>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// Where in the document (a JSON pointer), or which parameter (`?name`) or header (`name:`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
    /// The scope that the key lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'static str>,
    #[serde(skip)]
    retry_after: Option<u64>,
    #[serde(skip)]
    header: Option<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A refusal of that status, code and detail.
    pub fn new(status: StatusCode, code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Problem {
        let code = code.into();
        Problem {
            kind: format!("urn:capture:problem:{code}"),
            title: Cow::Borrowed(status.canonical_reason().unwrap_or("Refused")),
            status: status.as_u16(),
            detail: detail.into(),
            code,
            hint: None,
            pointer: None,
            scope: None,
            retry_after: None,
            header: None,
        }
    }

    /// 400.
    pub fn bad_request(code: &'static str, detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 422: readable, but it means nothing, or is against a rule.
    pub fn unfit(code: &'static str, detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    /// 404.
    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// 401: there is no key, or it opens nothing. Which of the two is not told.
    pub fn not_known(detail: impl Into<String>) -> Problem {
        let mut problem = Problem::new(StatusCode::UNAUTHORIZED, "key_required", detail);
        problem.header = Some((
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"capture\""),
        ));
        problem.hint("send the header Authorization: Bearer cap_…; capture key create makes a key")
    }

    /// 403: the key is good, but not for this.
    pub fn scope_missing(key: &str, scope: Scope) -> Problem {
        let detail = format!("the key {key} lacks the scope {}", scope.name());
        let mut problem = Problem::new(StatusCode::FORBIDDEN, "scope_missing", detail);
        problem.scope = Some(scope.name());
        problem.hint(format!("use a key with --scope {}", scope.name()))
    }

    /// 503: nobody answers there.
    pub fn unreachable() -> Problem {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "database_unreachable",
            "the database cannot be reached, or is too busy",
        )
        .hint("ask again; of an act nobody knows whether it was done: look before you repeat it")
        .again_after(DATABASE_RETRY)
    }

    /// The same, of an act that whoever repeats it does no second time.
    pub fn repeatable(self) -> Problem {
        match self.code.as_ref() {
            "database_unreachable" => {
                self.hint("ask again; what was asked may have been done, and asking again does it no second time")
            }
            _ => self,
        }
    }

    /// 500: our own fault; the log has the cause.
    pub fn internal() -> Problem {
        let detail = "the server could not do this; its log says why";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// The same, and what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }

    /// The same, and where it is wrong.
    pub fn at(mut self, pointer: impl Into<String>) -> Problem {
        self.pointer = Some(pointer.into());
        self
    }

    /// The same, and after how many seconds one may ask again.
    pub fn again_after(mut self, seconds: u64) -> Problem {
        self.retry_after = Some(seconds.max(1));
        self
    }

    /// The same, with a header of its own.
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Problem {
        self.header = Some((name, value));
        self
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// One word for programs.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// After how many seconds one may ask again.
    pub fn retry_after(&self) -> Option<u64> {
        self.retry_after
    }

    /// What was wrong.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Where it is wrong.
    pub fn place(&self) -> Option<&str> {
        self.pointer.as_deref()
    }

    /// What to do about it.
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let json = HeaderValue::from_static("application/problem+json");
        let mut response = (status, [(header::CONTENT_TYPE, json)], body).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl From<OutboxError> for Problem {
    fn from(error: OutboxError) -> Problem {
        if let Some(refusal) = error.refusal()
            && let Some(problem) = refused(&refusal)
        {
            return problem;
        }
        if error.is_connection_lost() {
            tracing::warn!(error = %error, "the database cannot be reached for a request");
            return Problem::unreachable();
        }
        tracing::error!(error = %error, "a request failed");
        Problem::internal()
    }
}

/// What the database refused, in its own words, if they are meant for who asked.
fn refused(refusal: &Refusal) -> Option<Problem> {
    let status = match refusal.sqlstate.as_str() {
        // What reaches the database was JSON, or a query string: it could be read, and is against a rule.
        "23514" | "23502" | "22P02" | "22023" | "22003" | "22007" | "22008" | "22021" | "22P05" => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        // Larger than an index can hold, or nested deeper than the server goes. Its words are about indexes.
        "54000" | "54001" => {
            let detail = "a value is too long to be kept";
            return Some(Problem::unfit("too_long", detail).hint("shorten it"));
        }
        "23505" | "55000" => StatusCode::CONFLICT,
        "P0002" => StatusCode::NOT_FOUND,
        "57014" | "55P03" => {
            let detail = "the database took too long for this and was stopped";
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "took_too_long", detail);
            return Some(
                problem
                    .hint("ask for less: a narrower filter, a smaller limit; or ask again")
                    .again_after(DATABASE_RETRY),
            );
        }
        _ => return None,
    };
    // The state is no secret: it is what the same mistake shows in SQL.
    let code = match &refusal.constraint {
        Some(constraint) => constraint.clone(),
        None => format!("sqlstate_{}", refusal.sqlstate),
    };
    let mut problem = Problem::new(status, code, refusal.message.clone());
    problem.hint = refusal.hint.clone();
    let column = refusal.column.as_ref().filter(|column| !column.is_empty());
    problem.pointer = column.map(|column| format!("/{column}"));
    Some(problem)
}

/// The first fault has the pointer; all are told.
impl From<Vec<FilterFault>> for Problem {
    fn from(faults: Vec<FilterFault>) -> Problem {
        let told: Vec<String> = faults.iter().map(FilterFault::to_string).collect();
        let problem = Problem::unfit("filter_not_understood", told.join("; "));
        match faults.first() {
            Some(fault) => problem.hint(fault.right.clone()).at(format!("?{}", fault.name)),
            None => problem,
        }
    }
}

impl From<OperationError> for Problem {
    fn from(error: OperationError) -> Problem {
        let (code, field, hint) = (error.code(), error.field(), error.hint());
        let moved = matches!(
            error,
            OperationError::ListMoved { .. } | OperationError::KeyTaken { .. }
        );
        let status = match moved {
            true => StatusCode::CONFLICT,
            false => StatusCode::UNPROCESSABLE_ENTITY,
        };
        match (error, code) {
            (OperationError::Outbox(error), _) => Problem::from(error),
            (error, code) => {
                let code = code.unwrap_or("operations_refused");
                let mut problem = Problem::new(status, code, error.to_string());
                problem.hint = hint;
                problem.pointer = field.map(|field| match field.ends_with(':') {
                    true => field.to_owned(),
                    false => format!("/{field}"),
                });
                problem
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_a_repeat_is_safe_is_told_only_where_it_is() {
        let lost = Problem::unreachable();
        assert!(!lost.advice().unwrap().contains("no second time"), "{lost:?}");
        let advice = lost.repeatable().advice().map(str::to_owned);
        assert!(advice.unwrap().ends_with("asking again does it no second time"));
        assert_eq!(Problem::internal().repeatable().advice(), None);
    }
}
