//! A page that cannot be shown, and why.

use askama::Template;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};

use super::assets;
use super::shown::address;
use crate::http::problem::Problem;
use crate::outbox::OutboxError;

/// Why there is no page.
#[derive(Debug)]
pub enum Fault {
    /// Nobody has logged in. What they wanted to see: where to go on after it.
    LogIn {
        /// A path of ours with its query, or empty.
        then: String,
    },
    /// Refused, or not possible.
    Problem(Box<Problem>),
}

impl<P: Into<Problem>> From<P> for Fault {
    fn from(problem: P) -> Fault {
        Fault::Problem(Box::new(problem.into()))
    }
}

#[derive(Template)]
#[template(path = "fault.html")]
struct FaultPage<'a> {
    css: String,
    icon: String,
    heading: &'a str,
    says: &'a str,
    hint: Option<&'a str>,
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let problem = match self {
            Fault::LogIn { then } if then.is_empty() || then == "/" => return Redirect::to("/login").into_response(),
            Fault::LogIn { then } => return Redirect::to(&address("/login", &[("to", &then)])).into_response(),
            Fault::Problem(problem) => problem,
        };
        let status = StatusCode::from_u16(problem.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let page = FaultPage {
            css: assets::address("console.css"),
            icon: assets::address("icon.svg"),
            heading: heading(status),
            says: problem.detail(),
            hint: problem.advice(),
        };
        let text = page.render().unwrap_or_else(|_| problem.detail().to_owned());
        let mut response = (status, axum::response::Html(text)).into_response();
        if let Some(seconds) = problem.retry_after() {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

fn heading(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 | 422 => "That could not be understood",
        401 | 403 => "Not allowed",
        404 => "There is nothing here",
        405 => "That cannot be done here",
        409 => "It has changed meanwhile",
        413 => "Too much at once",
        429 => "Too often",
        503 => "The database does not answer",
        _ => "Something went wrong",
    }
}

/// A panel that could not be read; the rest of the page stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// Why, for people.
    pub says: &'static str,
    /// The database did not answer at all.
    pub gone: bool,
}

impl From<OutboxError> for Missing {
    fn from(error: OutboxError) -> Missing {
        if error.is_connection_lost() {
            return Missing {
                says: "the database does not answer, or is too busy",
                gone: true,
            };
        }
        let stopped = error
            .refusal()
            .is_some_and(|refusal| matches!(refusal.sqlstate.as_str(), "57014" | "55P03"));
        let says = match stopped {
            true => "this took too long and was stopped",
            false => {
                tracing::error!(error = %error, "a panel of the console could not be read");
                "this could not be read; the log says why"
            }
        };
        Missing { says, gone: false }
    }
}
