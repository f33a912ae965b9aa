//! What all pages have around them.

use std::time::Instant;

use askama::Template;
use axum::response::{Html, IntoResponse, Response};
use chrono::{DateTime, TimeDelta, Utc};

use super::assets;
use super::fault::{Fault, Missing};
use super::login::add_cookie;
use super::shown::Time;
use super::visitor::Visitor;
use crate::http::problem::Problem;
use crate::outbox::{Outbox, OutboxError};

/// The pages that the head of every page leads to.
const PLACES: [(&str, &str); 6] = [
    ("Overview", "/"),
    ("Captures", "/captures"),
    ("Dead letters", "/dead"),
    ("Money at risk", "/risk"),
    ("Operations", "/operations"),
    ("Audit", "/audit"),
];

/// A page that one can go to.
pub struct Place {
    /// Its name.
    pub name: &'static str,
    /// Its address.
    pub path: &'static str,
    /// Is it this one, or the list that this one is of?
    pub current: bool,
}

/// The head of a page.
pub struct Frame {
    /// What it is about.
    pub title: String,
    /// Where one can go.
    pub places: Vec<Place>,
    /// Who looks.
    pub name: String,
    /// As what.
    pub role: &'static str,
    /// Do they have a session that can be ended?
    pub can_leave: bool,
    /// What their forms carry.
    pub form_token: String,
    /// After how many seconds it asks again; 0: never.
    pub live: u32,
    /// When it was looked at.
    pub as_of: Time,
    /// The style sheet, the script and the icon.
    pub css: String,
    /// See `css`.
    pub js: String,
    /// See `css`.
    pub icon: String,
    new_cookie: Option<String>,
}

impl Frame {
    /// Of a page under that place.
    pub fn new(visitor: &Visitor, title: impl Into<String>, under: &str, live: u32, as_of: DateTime<Utc>) -> Frame {
        Frame {
            title: title.into(),
            places: PLACES
                .into_iter()
                .map(|(name, path)| Place {
                    name,
                    path,
                    current: path == under,
                })
                .collect(),
            name: visitor.caller.name.clone(),
            role: visitor.role(),
            can_leave: visitor.session.is_some(),
            form_token: visitor.form_token.clone(),
            live,
            as_of: Time::clock(as_of),
            css: assets::address("console.css"),
            js: assets::address("console.js"),
            icon: assets::address("icon.svg"),
            new_cookie: visitor.new_cookie.clone(),
        }
    }

    /// The cookie that its answer sets.
    pub fn new_cookie(&self) -> Option<&str> {
        self.new_cookie.as_deref()
    }
}

/// Writes a page.
pub fn written(page: &impl Template, frame: &Frame) -> Result<Response, Fault> {
    let text = page.render().map_err(|error| {
        tracing::error!(error = %error, "a page could not be written");
        Problem::internal()
    })?;
    let mut response = Html(text).into_response();
    add_cookie(&mut response, frame.new_cookie());
    Ok(response)
}

/// One part of a page, and when it was read; or why it is missing.
pub type Panel<T> = Result<(T, Time), Missing>;

/// A look at the database that the panels of one page make together.
pub struct Look {
    /// The database's time when the look began.
    pub now: DateTime<Utc>,
    began: Instant,
}

impl Look {
    /// Begins it; fails if the database does not answer.
    pub async fn begin(outbox: &Outbox) -> Result<Look, Fault> {
        let now = outbox.now().await?;
        Ok(Look {
            now,
            began: Instant::now(),
        })
    }

    /// Reads a panel. What fails is told in its place.
    pub async fn panel<T>(&self, read: impl Future<Output = Result<T, OutboxError>>) -> Panel<T> {
        let passed = TimeDelta::from_std(self.began.elapsed()).unwrap_or_default();
        match read.await {
            Ok(value) => Ok((value, Time::clock(self.now + passed))),
            Err(error) => Err(error.into()),
        }
    }
}
