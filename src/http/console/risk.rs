//! Money at risk: authorised and not captured, by the hours that are left; what will not get its turn in time; and what
//! providers say that is new.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, TimeDelta, Utc};

use super::fault::Fault;
use super::frame::{Frame, Look, Panel, written};
use super::shown::{Ends, Time, count, money, sums, tone_of_state};
use super::visitor::Visitor;
use crate::http::serve::Office;
use crate::outbox::{CodeRow, Forecast, ForecastRow, Hours, LaneRate, Risk, RiskRow};

/// Captures that a forecast names.
const MOST_LATE: u32 = 20;
/// How far back codes are new.
const SINCE: TimeDelta = TimeDelta::hours(24);

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

/// Captures whose authorisation ends before their turn comes.
struct TooLate {
    rows: Vec<Late>,
    more: bool,
    rates: Vec<String>,
}

/// One of them.
struct Late {
    id: String,
    order: String,
    lane: String,
    amount: String,
    state: String,
    tone: &'static str,
    ends: Ends,
    ends_at: Time,
    before: String,
    turn: Option<Time>,
}

/// A provider's code that is new, or that nobody has a class for.
struct Code {
    provider: String,
    code: String,
    is_new: bool,
    unclassified: bool,
    class: String,
    attempts: String,
    first: Time,
    last: Time,
    example: String,
}

#[derive(Template)]
#[template(path = "risk.html")]
struct RiskPage {
    frame: Frame,
    risk: Panel<Vec<Within>>,
    forecast: Panel<TooLate>,
    codes: Panel<Vec<Code>>,
}

/// Shows it.
pub async fn page(State(office): State<Arc<Office>>, visitor: Visitor) -> Result<Response, Fault> {
    let look = Look::begin(&office.outbox).await?;
    let outbox = &office.outbox;
    // One after the other: a page that people leave open takes one of the few connections, and not three.
    let risk = look.panel(outbox.risk(None)).await;
    let forecast = look.panel(outbox.forecast(MOST_LATE)).await;
    let codes = look.panel(outbox.new_codes(look.now - SINCE)).await;
    let page = RiskPage {
        frame: Frame::new(&visitor, "Money at risk", "/risk", 15, look.now),
        risk: risk.map(|(risk, at)| (withins(&risk), at)),
        forecast: forecast.map(|(forecast, at)| (too_late(&forecast, look.now), at)),
        codes: codes.map(|(codes, at)| (codes.iter().map(code).collect(), at)),
    };
    written(&page, &page.frame)
}

fn too_late(forecast: &Forecast, now: DateTime<Utc>) -> TooLate {
    let waiting = forecast.lanes.iter().filter(|lane| lane.in_line > 0);
    let rate = |lane: &LaneRate| {
        let (hour, line) = (count(lane.captured_last_hour), count(lane.in_line));
        format!("{} {hour} an hour, {line} in line", lane.lane)
    };
    let late = |row: &ForecastRow| Late {
        id: row.id.to_string(),
        order: row.order_id.clone(),
        lane: row.lane.to_string(),
        amount: money(row.amount_minor, &row.currency),
        state: row.state.clone(),
        tone: tone_of_state(&row.state),
        ends: Ends::of(row.authorization_expires_at, Some(&row.expiry_source), now),
        ends_at: Time::day(row.authorization_expires_at),
        before: row.before_it.map_or_else(|| "not in line".to_owned(), count),
        turn: row.turn_at.map(Time::day),
    };
    TooLate {
        rows: forecast.rows.iter().map(late).collect(),
        more: forecast.more,
        rates: waiting.map(rate).collect(),
    }
}

fn code(row: &CodeRow) -> Code {
    Code {
        provider: row.provider.clone(),
        code: row.code.clone(),
        is_new: row.new,
        unclassified: row.unclassified,
        class: row.class.clone().unwrap_or_default(),
        attempts: match row.attempts {
            ..=10_000 => count(row.attempts),
            _ => "more than 10,000".to_owned(),
        },
        first: Time::day(row.first_seen_at),
        last: Time::day(row.last_seen_at),
        example: row.example.to_string(),
    }
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
            let assumed = of.iter().map(|row| row.assumed).sum();
            let reason = Reason {
                name: name.replace(':', ": "),
                tone: tone_of_reason(name),
                captures: counted(captures, assumed),
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

/// `12`, or `12 (3 assumed)` where the end of some is only assumed.
fn counted(captures: i64, assumed: i64) -> String {
    match assumed {
        0 => count(captures),
        _ => format!("{} ({} assumed)", count(captures), count(assumed)),
    }
}

fn tone_of_reason(reason: &str) -> &'static str {
    match reason {
        "verifying" | "held" => "warn",
        reason if reason.starts_with("dead") => "bad",
        _ => "",
    }
}
