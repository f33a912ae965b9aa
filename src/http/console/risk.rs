//! Money at risk: authorised and not captured, by the hours that are left.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::fault::Fault;
use super::frame::{Frame, Look, Panel, written};
use super::shown::{count, sums};
use super::visitor::Visitor;
use crate::http::serve::Office;
use crate::outbox::{Hours, Risk, RiskRow};

/// Captures whose authorisations have about as long.
pub struct Within {
    /// When it ends.
    pub name: &'static str,
    /// How bad that is.
    pub tone: &'static str,
    /// How many.
    pub captures: String,
    /// Their money.
    pub amount: String,
    /// What most of them wait for.
    pub mostly: String,
    reasons: Vec<Reason>,
}

/// Those of them that wait for the same.
struct Reason {
    name: String,
    tone: &'static str,
    captures: String,
    amount: String,
}

#[derive(Template)]
#[template(path = "risk.html")]
struct RiskPage {
    frame: Frame,
    risk: Panel<Vec<Within>>,
}

/// Shows it.
pub async fn page(State(office): State<Arc<Office>>, visitor: Visitor) -> Result<Response, Fault> {
    let look = Look::begin(&office.outbox).await?;
    let risk = look.panel(office.outbox.risk(None)).await;
    let page = RiskPage {
        frame: Frame::new(&visitor, "Money at risk", "/risk", 15, look.now),
        risk: risk.map(|(risk, at)| (withins(&risk), at)),
    };
    written(&page, &page.frame)
}

/// By hours, the nearest end first; hours without captures are left out.
pub fn withins(risk: &Risk) -> Vec<Within> {
    let lines = Hours::ALL.into_iter().map(|hours| {
        let rows: Vec<&RiskRow> = risk.rows.iter().filter(|row| row.hours == hours).collect();
        within(hours, &rows)
    });
    lines.flatten().collect()
}

fn within(hours: Hours, rows: &[&RiskRow]) -> Option<Within> {
    let mut names: Vec<&str> = rows.iter().map(|row| row.reason.as_str()).collect();
    names.dedup();
    let mut reasons: Vec<(i64, Reason)> = names
        .into_iter()
        .map(|name| {
            let of: Vec<&&RiskRow> = rows.iter().filter(|row| row.reason == name).collect();
            let captures = of.iter().map(|row| row.captures).sum();
            let reason = Reason {
                name: name.replace(':', ": "),
                tone: tone_of_reason(name),
                captures: count(captures),
                amount: sums(of.iter().map(|row| (row.currency.as_str(), row.amount_minor))),
            };
            (captures, reason)
        })
        .collect();
    reasons.sort_by_key(|(captures, _)| std::cmp::Reverse(*captures));
    let (_, most) = reasons.first()?;
    Some(Within {
        name: match hours {
            Hours::Over => "over",
            Hours::To6 => "within 6 h",
            Hours::To24 => "6 to 24 h",
            Hours::To48 => "24 to 48 h",
            Hours::To168 => "2 to 7 days",
            Hours::Later => "later",
            Hours::Unknown => "not known",
        },
        tone: match hours {
            Hours::Over | Hours::To6 => "bad",
            Hours::To24 | Hours::To48 => "warn",
            Hours::To168 | Hours::Later | Hours::Unknown => "",
        },
        captures: count(rows.iter().map(|row| row.captures).sum::<i64>()),
        amount: sums(rows.iter().map(|row| (row.currency.as_str(), row.amount_minor))),
        mostly: most.name.clone(),
        reasons: reasons.into_iter().map(|(_, reason)| reason).collect(),
    })
}

fn tone_of_reason(reason: &str) -> &'static str {
    match reason {
        "verifying" | "held" => "warn",
        reason if reason.starts_with("dead") => "bad",
        _ => "",
    }
}
