//! A request's query string, read strictly: a parameter that nobody knows is refused, not passed over.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use chrono::{DateTime, Utc};
use percent_encoding::percent_decode_str;

use super::problem::Problem;
use crate::filter::Filter;

/// The parameters, in their order.
#[derive(Debug, Clone, Default)]
pub struct Parameters(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Parameters, Problem> {
        Parameters::read(parts.uri.query().unwrap_or_default())
    }
}

impl Parameters {
    /// Reads a query string.
    pub fn read(query: &str) -> Result<Parameters, Problem> {
        let decoded = |text: &str| {
            let spaced = text.replace('+', " ");
            let text = percent_decode_str(&spaced).decode_utf8().ok()?.into_owned();
            // Postgres keeps no NUL, and nobody means one.
            (!text.contains('\0')).then_some(text)
        };
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decoded(name)?, decoded(value)?))
        });
        let pairs: Option<Vec<_>> = pairs.collect();
        pairs.map(Parameters).ok_or_else(|| {
            Problem::bad_request("query_not_readable", "the query string is no UTF-8 without NUL")
                .hint("percent-encode it as UTF-8")
        })
    }

    /// Takes a parameter out; given twice is refused.
    pub fn take(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let mut found = None;
        let mut twice = false;
        self.0.retain(|(other, value)| {
            if other != name {
                return true;
            }
            twice |= found.replace(value.clone()).is_some();
            false
        });
        match twice {
            true => Err(refused(name, "is given twice", "give it once")),
            false => Ok(found),
        }
    }

    /// Takes a number out.
    pub fn number<T>(&mut self, name: &str, least: T, most: T) -> Result<Option<T>, Problem>
    where
        T: FromStr + PartialOrd + Display,
    {
        let Some(text) = self.take(name)? else { return Ok(None) };
        match text.parse::<T>() {
            Ok(number) if number >= least && number <= most => Ok(Some(number)),
            Ok(_) | Err(_) => Err(refused(
                name,
                "is no number in its bounds",
                &format!("write a whole number from {least} to {most}"),
            )),
        }
    }

    /// Takes an id out.
    pub fn id(&mut self, name: &str) -> Result<Option<uuid::Uuid>, Problem> {
        let Some(text) = self.take(name)? else { return Ok(None) };
        match uuid::Uuid::parse_str(&text) {
            Ok(id) => Ok(Some(id)),
            Err(_) => Err(refused(name, "is no id", "write a uuid")),
        }
    }

    /// What is left, as a filter.
    pub fn filter(self, now: DateTime<Utc>) -> Result<Filter, Problem> {
        let pairs = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Ok(Filter::from_pairs(pairs, now)?)
    }

    /// What is left is unknown.
    pub fn none_left(self, known: &[&str]) -> Result<(), Problem> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => {
                let right = match known {
                    [] => "leave it out; there are no parameters here".to_owned(),
                    _ => format!("the parameters are {}", known.join(", ")),
                };
                let shown: String = name.chars().filter(|c| !c.is_control()).take(60).collect();
                Err(refused(&shown, "is no parameter", &right))
            }
        }
    }

    /// The pairs as they are left, for a form that shows them again.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// By name; of several the last.
    pub fn by_name(&self) -> BTreeMap<&str, &str> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    }
}

fn refused(name: &str, wrong: &str, right: &str) -> Problem {
    Problem::bad_request("query_not_understood", format!("{name} {wrong}"))
        .hint(right)
        .at(format!("?{name}"))
}
