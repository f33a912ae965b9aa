//! `/v1/events`: the feed, by cursor; who wants to may wait for what comes.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use tokio::time::Instant;

use crate::http::caller::{Allowed, ToRead};
use crate::http::problem::Problem;
use crate::http::query::Parameters;
use crate::http::serve::Office;
use crate::outbox::{EventPage, OutboxError};

/// The longest wait in seconds.
const LONGEST_WAIT: u64 = 30;

/// Events after a cursor, in feed order: nothing is missed that commits late, nothing is told twice.
///
/// With `wait` an empty page is answered only after so many seconds without an event. Keep `cursor` of the answer for the
/// next request.
#[utoipa::path(get, path = "/v1/events", tag = "events", operation_id = "list_events", security(("key" = ["read"])),
    params(
        ("cursor" = Option<String>, Query, description = "`cursor` of the page before; from the beginning unless given",
            pattern = "^[0-9]{1,19}-[0-9]{1,18}$"),
        ("limit" = Option<i32>, Query, description = "Events of a page; 50 unless given", minimum = 1, maximum = 200),
        ("wait" = Option<u64>, Query, description = "Seconds to wait for an event if there is none", minimum = 0, maximum = 30)),
    responses((status = 200, body = EventPage)))]
pub async fn list(
    _: Allowed<ToRead>,
    State(office): State<Arc<Office>>,
    mut parameters: Parameters,
) -> Result<Json<EventPage>, Problem> {
    let cursor = parameters.take("cursor")?;
    if cursor.as_deref().is_some_and(|text| !is_cursor(text)) {
        return Err(Problem::unfit("cursor_not_readable", "this is no cursor of the feed")
            .hint("pass `cursor` of a page as it came, or none to begin at the beginning")
            .at("?cursor"));
    }
    let limit = parameters.number("limit", 1, 200)?.unwrap_or(50);
    let wait = parameters.number("wait", 0, LONGEST_WAIT)?.unwrap_or(0);
    parameters.none_left(&["cursor", "limit", "wait"])?;
    let until = Instant::now() + Duration::from_secs(wait);
    // Before the feed is read: what comes between the two is noticed.
    let mut news = if wait > 0 { office.news.wait() } else { None };
    loop {
        let page = office
            .outbox
            .events_after(cursor.as_deref(), limit)
            .await
            .map_err(refused)?;
        let Some(news) = news.as_mut().filter(|_| page.events.is_empty()) else {
            return Ok(Json(page));
        };
        tokio::select! {
            () = news.grown() => {}
            () = tokio::time::sleep_until(until) => return Ok(Json(page)),
            () = office.draining.cancelled() => return Ok(Json(page)),
        }
    }
}

/// A cursor that only the database can tell to be wrong is wrong at the same place.
fn refused(error: OutboxError) -> Problem {
    let problem = Problem::from(error);
    match problem.code() {
        "events_cursor_of_this_history" => problem.at("?cursor"),
        _ => problem,
    }
}

/// Two numbers, and mostly an id, as the database reads them. Nothing at all would mean the beginning, which nobody means by a
/// cursor.
fn is_cursor(text: &str) -> bool {
    let digits = |text: &str, most| (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_id = |text: &str| text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let mut parts = text.split('-');
    parts.next().is_some_and(|transaction| digits(transaction, 19))
        && parts.next().is_some_and(|place| digits(place, 18))
        && parts.next().is_none_or(is_id)
        && parts.next().is_none()
}
