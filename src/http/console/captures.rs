//! Captures, and dead letters: first how they are alike, then row by row.

use std::sync::Arc;

use askama::Template;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};

use super::fault::Fault;
use super::filters::{Asked, Field, without_empty};
use super::frame::{Frame, Look, Panel, written};
use super::rows::Row;
use super::shown::{address, count, query, sums};
use super::visitor::Visitor;
use crate::api_key::Scope;
use crate::http::query::Parameters;
use crate::http::serve::Office;
use crate::outbox::{Cursor, DeadGroup, GroupBy};

/// Rows of a page, unless the filter says how many; and the most that it may say.
const ROWS: u32 = 50;
const MOST_ROWS: u32 = 200;

/// Dead letters that are alike.
pub struct Group {
    /// In what.
    name: String,
    /// Where its rows are; none if nothing chooses them alone.
    path: Option<String>,
    captures: i64,
    shown: String,
    amount: String,
}

/// By what they are told apart.
pub struct Apart {
    name: &'static str,
    path: String,
    current: bool,
}

/// The dead letters in groups.
pub struct Groups {
    groups: Vec<Group>,
    total: i64,
    total_shown: String,
    amount: String,
}

/// A page of rows.
pub struct List {
    rows: Vec<Row>,
    older: Option<String>,
    newest: Option<String>,
}

#[derive(Template)]
#[template(path = "captures.html")]
struct ListPage {
    frame: Frame,
    dead: bool,
    path: &'static str,
    fields: Vec<Field>,
    loose: Vec<String>,
    in_words: String,
    open: bool,
    command: String,
    chosen: String,
    apart: Vec<Apart>,
    groups: Option<Panel<Groups>>,
    list: Option<Panel<List>>,
    may_operate: bool,
    may_cancel: bool,
}

/// All captures.
pub async fn list(
    Shared(office): Shared<Arc<Office>>,
    visitor: Visitor,
    parameters: Parameters,
) -> Result<Response, Fault> {
    show(&office, &visitor, parameters, false).await
}

/// Dead letters.
pub async fn dead(
    Shared(office): Shared<Arc<Office>>,
    visitor: Visitor,
    parameters: Parameters,
) -> Result<Response, Fault> {
    if parameters.by_name().contains_key("state") {
        // Another state belongs to the list of all.
        let pairs: Vec<(&str, &str)> = parameters
            .pairs()
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect();
        return Ok(Redirect::to(&address("/captures", &pairs)).into_response());
    }
    show(&office, &visitor, parameters, true).await
}

async fn show(office: &Office, visitor: &Visitor, mut parameters: Parameters, dead: bool) -> Result<Response, Fault> {
    let path = if dead { "/dead" } else { "/captures" };
    if let Some(short) = without_empty(&parameters, path) {
        return Ok(Redirect::to(&short).into_response());
    }
    let after = parameters.take("after")?;
    let by = parameters.take("by")?;
    let by = by.and_then(|name| GroupBy::from_name(&name)).unwrap_or(GroupBy::Class);
    let look = Look::begin(&office.outbox).await?;
    let asked = Asked::read(parameters, dead, look.now);
    let mut loose = asked.loose_faults();
    let cursor = match after.as_deref().map(str::parse::<Cursor>).transpose() {
        Ok(cursor) => cursor,
        Err(fault) => {
            loose.push(fault.to_string());
            None
        }
    };
    let wrong = asked.is_wrong() || !loose.is_empty();
    let (mut groups, mut list) = (None, None);
    if let Some(filter) = asked.filter.as_ref().filter(|_| !wrong) {
        if dead {
            let read = look.panel(office.outbox.dead_groups(filter, &[by])).await;
            groups = Some(read.map(|(found, at)| (grouped(&found, by, &asked), at)));
        }
        let rows = filter.limit.unwrap_or(ROWS).min(MOST_ROWS);
        let read = look.panel(office.outbox.page(filter, cursor.as_ref(), rows)).await;
        list = Some(read.map(|(page, at)| {
            let with = |more: &[(&str, &str)]| format!("{path}?{}", asked.query_and(more));
            let list = List {
                rows: page.rows.iter().map(|row| Row::of(row, look.now)).collect(),
                older: page.next.map(|next| with(&[("after", &next.to_string())])),
                newest: cursor.map(|_| with(&[])),
            };
            (list, at)
        }));
    }
    let apart = GroupBy::ALL.into_iter().map(|other| Apart {
        name: other.name(),
        path: format!("{path}?{}", asked.query_and(&[("by", other.name())])),
        current: other == by,
    });
    let title = if dead { "Dead letters" } else { "Captures" };
    let live = if wrong { 0 } else { 5 };
    let page = ListPage {
        frame: Frame::new(visitor, title, path, live, look.now),
        dead,
        path,
        fields: asked.fields(),
        loose,
        in_words: asked.in_words(),
        open: asked.is_wrong(),
        command: asked.command(),
        chosen: asked.chosen(),
        apart: apart.collect(),
        groups,
        list,
        may_operate: visitor.may(Scope::Operate),
        may_cancel: visitor.may(Scope::Operate) && visitor.may(Scope::Cancel),
    };
    let mut response = written(&page, &page.frame)?;
    if wrong {
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    Ok(response)
}

fn grouped(found: &[DeadGroup], by: GroupBy, asked: &Asked) -> Groups {
    let mut names: Vec<Option<&str>> = Vec::new();
    for group in found {
        let name = group.of(by);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let condition = match by {
        GroupBy::Provider | GroupBy::Account | GroupBy::Class | GroupBy::Code => Some(by.name()),
        // No filter has the reason.
        GroupBy::Reason => None,
    };
    let amounts = |group: &&DeadGroup| (group.currency.clone(), group.amount_minor);
    let told = |amounts: &[(String, i64)]| sums(amounts.iter().map(|(currency, minor)| (currency.as_str(), *minor)));
    let groups = names.into_iter().map(|name| {
        let members: Vec<&DeadGroup> = found.iter().filter(|group| group.of(by) == name).collect();
        let captures = members.iter().map(|group| group.captures).sum();
        let conditions = condition.zip(name).filter(|_| {
            asked
                .fields()
                .iter()
                .all(|field| Some(field.name) != condition || field.value.is_empty())
        });
        Group {
            name: name.unwrap_or("none").to_owned(),
            path: conditions.map(|pair| format!("/dead?{}", query_with(asked, pair))),
            captures,
            shown: count(captures),
            amount: told(&members.iter().map(amounts).collect::<Vec<_>>()),
        }
    });
    let total = found.iter().map(|group| group.captures).sum();
    Groups {
        groups: groups.collect(),
        total,
        total_shown: count(total),
        amount: told(&found.iter().map(|group| amounts(&group)).collect::<Vec<_>>()),
    }
}

fn query_with(asked: &Asked, pair: (&str, &str)) -> String {
    let before = asked.query();
    match before.is_empty() {
        true => query(&[pair]),
        false => format!("{before}&{}", query(&[pair])),
    }
}
