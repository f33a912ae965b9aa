//! The first page: what is wrong, how much money is at risk, and who works.

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};

use super::fault::Fault;
use super::frame::{Frame, Look, Panel, written};
use super::operations::Progress;
use super::risk::{Within, withins};
use super::shown::{Time, captures as captures_in_words, count, query, span, sums};
use super::visitor::Visitor;
use crate::api_key::Scope;
use crate::filter::Filter;
use crate::http::problem::Problem;
use crate::http::serve::Office;
use crate::outbox::{Backlog, DeadGroup, GroupBy, Hours, LaneRow, OldestUnknown, Risk, WorkerRow};

/// One figure, and where it leads.
pub struct Figure {
    label: &'static str,
    value: String,
    more: String,
    tone: &'static str,
    path: &'static str,
}

/// Dead letters of one class.
pub struct DeadClass {
    name: String,
    path: Option<String>,
    captures: i64,
    shown: String,
    amount: String,
}

/// A lane.
pub struct LaneLine {
    id: i32,
    name: String,
    state: &'static str,
    tone: &'static str,
    more: String,
    paused: bool,
    ready: String,
    leased: String,
    waiting: String,
    held: String,
    unknown: String,
    dead: String,
    budget: String,
    workers: i64,
}

/// A worker.
pub struct WorkerLine {
    id: String,
    version: String,
    pid: i32,
    lanes: i32,
    seen: String,
    fresh: bool,
    up: String,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    frame: Frame,
    figures: Vec<Figure>,
    dead: Panel<Vec<DeadClass>>,
    dead_total: i64,
    risk: Panel<Vec<Within>>,
    lanes: Panel<Vec<LaneLine>>,
    workers: Panel<Vec<WorkerLine>>,
    operations: Panel<Vec<Progress>>,
    may_pause: bool,
}

/// Shows it.
pub async fn page(State(office): State<Arc<Office>>, visitor: Visitor) -> Result<Response, Fault> {
    let outbox = &office.outbox;
    let look = Look::begin(outbox).await?;
    // Two at a time: a slow panel takes one connection, and leaves others to whoever else looks.
    let everything = Filter::default();
    let one = async {
        let risk = look.panel(outbox.risk(None)).await;
        (
            risk,
            look.panel(outbox.dead_groups(&everything, &[GroupBy::Class])).await,
        )
    };
    let other = async {
        let backlog = look.panel(outbox.backlog()).await;
        let lanes = look.panel(outbox.lanes()).await;
        let unknown = look.panel(outbox.oldest_unknown()).await;
        let workers = look.panel(outbox.workers()).await;
        (
            backlog,
            lanes,
            unknown,
            workers,
            look.panel(outbox.operations(None, 10)).await,
        )
    };
    let ((risk, dead), (backlog, lanes, unknown, workers, operations)) = tokio::join!(one, other);
    let gone = [
        risk.is_err(),
        dead.is_err(),
        backlog.is_err(),
        lanes.is_err(),
        workers.is_err(),
        operations.is_err(),
    ];
    if gone.iter().all(|missing| *missing) && workers.as_ref().is_err_and(|missing| missing.gone) {
        return Err(Problem::unreachable().into());
    }
    let figures = vec![
        ending(&risk),
        oldest_ready(&backlog),
        unknown_outcomes(&backlog, &unknown, &risk),
        dead_letters(&dead),
    ];
    let dead_total = dead
        .as_ref()
        .map_or(0, |(groups, _)| groups.iter().map(|group| group.captures).sum());
    let page = Overview {
        frame: Frame::new(&visitor, "Overview", "/", 5, look.now),
        figures,
        dead: dead.map(|(groups, at)| (dead_classes(&groups), at)),
        dead_total,
        risk: risk.map(|(risk, at)| (withins(&risk), at)),
        lanes: match (lanes, backlog) {
            (Ok((lanes, at)), Ok((backlog, _))) => Ok((lane_lines(lanes, &backlog, look.now), at)),
            (Err(missing), _) | (_, Err(missing)) => Err(missing),
        },
        workers: workers.map(|(workers, at)| (workers.into_iter().map(WorkerLine::of).collect(), at)),
        operations: operations.map(|(rows, at)| {
            let open = rows.iter().filter(|row| !row.is_over());
            (open.map(Progress::of).collect(), at)
        }),
        may_pause: visitor.may(Scope::Lanes),
    };
    written(&page, &page.frame)
}

fn missing(label: &'static str, says: &'static str, path: &'static str) -> Figure {
    Figure {
        label,
        value: "not known".to_owned(),
        more: says.to_owned(),
        tone: "warn",
        path,
    }
}

fn ending(risk: &Panel<Risk>) -> Figure {
    let (label, path) = ("Authorisations ending within 24 h", "/captures?expires-within=24h");
    let risk = match risk {
        Ok((risk, _)) => risk,
        Err(why) => return missing(label, why.says, path),
    };
    let soon = || {
        risk.rows
            .iter()
            .filter(|row| matches!(row.hours, Hours::To6 | Hours::To24))
    };
    let over: i64 = risk
        .rows
        .iter()
        .filter(|row| row.hours == Hours::Over)
        .map(|row| row.captures)
        .sum();
    let captures: i64 = soon().map(|row| row.captures).sum();
    let first: i64 = soon()
        .filter(|row| row.hours == Hours::To6)
        .map(|row| row.captures)
        .sum();
    if over > 0 {
        // The worst of it: what was authorised can be lost for good. No list has a filter for it; this page tells them apart.
        let all = risk.rows.iter().filter(|row| row.hours == Hours::Over).chain(soon());
        return Figure {
            label: "Authorisations over, or ending within 24 h",
            value: sums(all.map(|row| (row.currency.as_str(), row.amount_minor))),
            more: format!("{} over, {} within 24 h", captures_in_words(over), count(captures)),
            tone: "bad",
            path: "/risk",
        };
    }
    Figure {
        label,
        value: sums(soon().map(|row| (row.currency.as_str(), row.amount_minor))),
        more: format!("{}, {} within 6 h", captures_in_words(captures), count(first)),
        tone: match (first, captures) {
            (0, 0) => "good",
            (0, _) => "warn",
            _ => "bad",
        },
        path,
    }
}

fn oldest_ready(backlog: &Panel<Backlog>) -> Figure {
    let (label, path) = ("Oldest ready", "/captures?state=ready");
    let backlog = match backlog {
        Ok((backlog, _)) => backlog,
        Err(why) => return missing(label, why.says, path),
    };
    let oldest = backlog.lanes.iter().map(|lane| lane.oldest_ready_s).max().unwrap_or(0);
    let ready: i64 = backlog.lanes.iter().map(|lane| lane.ready).sum();
    let leased: i64 = backlog.lanes.iter().map(|lane| lane.leased).sum();
    Figure {
        label,
        value: match ready {
            0 => "none waits".to_owned(),
            _ => span(oldest),
        },
        more: format!("{} ready, {} in flight", count(ready), count(leased)),
        tone: match oldest {
            ..60 => "good",
            60..600 => "warn",
            600.. => "bad",
        },
        path,
    }
}

fn unknown_outcomes(backlog: &Panel<Backlog>, oldest: &Panel<Vec<OldestUnknown>>, risk: &Panel<Risk>) -> Figure {
    let (label, path) = ("Unknown outcomes", "/captures?state=verifying");
    let backlog = match backlog {
        Ok((backlog, _)) => backlog,
        Err(why) => return missing(label, why.says, path),
    };
    let captures: i64 = backlog.lanes.iter().map(|lane| lane.unknown).sum();
    let mut more = Vec::new();
    if let Some((risk, _)) = risk.as_ref().ok().filter(|_| captures > 0) {
        let unknown = risk.rows.iter().filter(|row| row.reason == "verifying");
        more.push(sums(unknown.map(|row| (row.currency.as_str(), row.amount_minor))));
    }
    let age = oldest
        .as_ref()
        .ok()
        .and_then(|(lanes, _)| lanes.iter().map(|lane| lane.age_s).max());
    if let Some(age) = age.filter(|_| captures > 0) {
        more.push(format!("oldest {}", span(age)));
    }
    Figure {
        label,
        value: captures_in_words(captures),
        more: match more.is_empty() {
            true => "nothing is in doubt".to_owned(),
            false => more.join(", "),
        },
        tone: match (captures, age) {
            (0, _) => "good",
            (_, Some(3600..)) => "bad",
            _ => "warn",
        },
        path,
    }
}

fn dead_letters(dead: &Panel<Vec<DeadGroup>>) -> Figure {
    let (label, path) = ("Dead letters", "/dead");
    let dead = match dead {
        Ok((dead, _)) => dead,
        Err(why) => return missing(label, why.says, path),
    };
    let captures: i64 = dead.iter().map(|group| group.captures).sum();
    Figure {
        label,
        value: captures_in_words(captures),
        more: sums(dead.iter().map(|group| (group.currency.as_str(), group.amount_minor))),
        tone: if captures == 0 { "good" } else { "bad" },
        path,
    }
}

fn dead_classes(groups: &[DeadGroup]) -> Vec<DeadClass> {
    let mut classes: BTreeMap<Option<&str>, Vec<&DeadGroup>> = BTreeMap::new();
    for group in groups {
        classes.entry(group.of(GroupBy::Class)).or_default().push(group);
    }
    let mut lines: Vec<DeadClass> = classes
        .into_iter()
        .map(|(class, members)| {
            let captures = members.iter().map(|group| group.captures).sum();
            DeadClass {
                name: class.unwrap_or("none").to_owned(),
                path: class.map(|class| format!("/dead?{}", query(&[("class", class)]))),
                captures,
                shown: count(captures),
                amount: sums(
                    members
                        .iter()
                        .map(|group| (group.currency.as_str(), group.amount_minor)),
                ),
            }
        })
        .collect();
    lines.sort_by_key(|line| std::cmp::Reverse(line.captures));
    lines
}

fn lane_lines(lanes: Vec<LaneRow>, backlog: &Backlog, now: DateTime<Utc>) -> Vec<LaneLine> {
    let line = |lane: LaneRow| {
        let counts = backlog.lanes.iter().find(|other| other.id == lane.id);
        let number = |of: fn(&crate::outbox::LaneBacklog) -> i64| count(counts.map_or(0, of));
        let open_until = lane.open_until.filter(|until| *until > now);
        let limited = lane.limited_until.filter(|until| *until > now);
        let (state, tone, more) = match (&lane.paused, open_until, limited) {
            (Some((at, by, why)), _, _) => ("paused", "bad", format!("{why} · {by}, {}", Time::day(*at).shown)),
            (None, Some(until), _) => {
                let wait = span((until - now).num_seconds());
                (
                    "breaker open",
                    "warn",
                    format!("{} calls without an answer; tries again in {wait}", lane.unanswered),
                )
            }
            (None, None, Some(until)) => {
                let wait = span((until - now).num_seconds());
                ("limited", "warn", format!("the provider asked to wait {wait}"))
            }
            (None, None, None) if lane.workers == 0 => ("no worker", "warn", "nobody serves it".to_owned()),
            (None, None, None) => ("open", "good", String::new()),
        };
        LaneLine {
            id: lane.id.0,
            name: lane.lane.to_string(),
            state,
            tone,
            more,
            paused: lane.paused.is_some(),
            ready: number(|lane| lane.ready),
            leased: number(|lane| lane.leased),
            waiting: number(|lane| lane.waiting),
            held: number(|lane| lane.held),
            unknown: number(|lane| lane.unknown),
            dead: number(|lane| lane.dead),
            budget: match (lane.rate_in_force(), lane.rate_override) {
                (None, _) => "no limit".to_owned(),
                (Some(rate), None) => format!("{} a minute", count(rate)),
                (Some(rate), Some(_)) => format!("{} a minute (operator)", count(rate)),
            },
            workers: lane.workers,
        }
    };
    lanes.into_iter().map(line).collect()
}

impl WorkerLine {
    fn of(worker: WorkerRow) -> WorkerLine {
        WorkerLine {
            id: worker.id.to_string(),
            version: worker.version,
            pid: worker.pid,
            lanes: worker.lanes,
            seen: format!("{} ago", span(worker.silent_s)),
            fresh: worker.silent_s < 60,
            up: span(worker.up_s),
        }
    }
}
