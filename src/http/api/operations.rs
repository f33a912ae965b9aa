//! `/v1/operations`: replay, cancel and resolve for any number of captures.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request as HttpRequest, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use uuid::Uuid;

use super::conditions::WrittenFilter;
use super::enqueue::idempotency_key;
use super::{Id, Why, hyphenated, rows};
use crate::api_key::Scope;
use crate::http::body::{Document, MOST_BYTES_WITH_IDS, MOST_IDS, at_most, json_bytes, parse};
use crate::http::caller::{Allowed, Caller, ToOperate, ToRead, may_resume};
use crate::http::problem::Problem;
use crate::http::query::Parameters;
use crate::http::serve::Office;
use crate::operations::{
    self, Act, Choice, DEFAULT_RATE, DEFAULT_STOP_AT_PERCENT, Group, Line, ListDigest, Preview, Request, RequestKey,
    Sum,
};
use crate::outbox::{Changed, OperationItem, OperationRow};

/// The longest `Idempotency-Key`: it is kept with the operation.
const LONGEST_KEY: usize = 255;

/// How long a preview may go through captures.
const LONGEST_PREVIEW: Duration = Duration::from_secs(60);

/// What is done to each capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ActName {
    /// Dead letters go back to work, reads first.
    Replay,
    /// What was not sent is taken back. Needs the scope `cancel` too.
    Cancel,
    /// Dead letters are settled by evidence.
    Resolve,
}

/// What a person has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ResolvedAs {
    /// The money was captured.
    Captured,
    /// It was not, and will not be.
    NotCaptured,
}

/// What shall be done, to which captures, why and how fast.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOperation {
    /// What is done to each.
    act: ActName,
    /// These captures; or
    #[schema(max_items = 25000)]
    ids: Option<Vec<Uuid>>,
    /// those that match.
    filter: Option<WrittenFilter>,
    /// A filter that means everything is meant so.
    #[serde(default)]
    all: bool,
    /// Why; kept with the act. Needed unless `dry_run`.
    #[schema(pattern = r"\S")]
    reason: Option<String>,
    /// Acts a second, at most; 50 unless given.
    #[schema(minimum = 1, maximum = 10_000)]
    rate_per_second: Option<u32>,
    /// It stops itself when more than so many of a hundred fail; 20 unless given.
    #[schema(minimum = 0, maximum = 100)]
    stop_at_percent: Option<u8>,
    /// Change nothing, and tell what would be done.
    #[serde(default)]
    dry_run: bool,
    /// `digest` of the preview that was looked at: if another list would be acted on by now, nothing is begun (409). A
    /// resolve by a filter needs it.
    digest: Option<ListDigest>,
    /// Of a replay by ids: also what a person has resolved as not captured.
    #[serde(default)]
    also_resolved: bool,
    /// Of a resolve: what was seen.
    #[serde(rename = "as")]
    resolved_as: Option<ResolvedAs>,
    /// Of a resolve: where it was seen.
    evidence: Option<String>,
}

fn unfit(code: &'static str, detail: impl Into<String>, pointer: &'static str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail).at(pointer)
}

impl NewOperation {
    fn act(&self) -> Result<Act, Problem> {
        let only_resolve = |given: bool, pointer: &'static str| match given && self.act != ActName::Resolve {
            true => Err(unfit(
                "operations_field_of_another_act",
                "only a resolve has it",
                pointer,
            )),
            false => Ok(()),
        };
        only_resolve(self.resolved_as.is_some(), "/as")?;
        only_resolve(self.evidence.is_some(), "/evidence")?;
        if self.also_resolved && self.act != ActName::Replay {
            let detail = "only a replay has it";
            return Err(unfit("operations_field_of_another_act", detail, "/also_resolved"));
        }
        match self.act {
            ActName::Replay => Ok(Act::Replay {
                also_resolved: self.also_resolved,
            }),
            ActName::Cancel => Ok(Act::Cancel),
            ActName::Resolve => {
                let missing = || unfit("operations_resolve_as", "nothing says what was seen", "/as");
                let seen = self
                    .resolved_as
                    .ok_or_else(|| missing().hint("captured or not-captured"))?;
                let evidence = self.evidence.clone().unwrap_or_default();
                // The operation itself asks for it when it begins; a preview tells it too.
                if evidence.trim().is_empty() {
                    return Err(
                        unfit("operations_resolve_by_evidence", "evidence is empty", "/evidence")
                            .hint("name where you saw it, so that others can look there too"),
                    );
                }
                Ok(Act::Resolve {
                    captured: seen == ResolvedAs::Captured,
                    evidence,
                })
            }
        }
    }

    fn choice(&self) -> Result<Choice, Problem> {
        match (&self.ids, &self.filter) {
            (Some(ids), None) => {
                at_most(ids, MOST_IDS, "operations_name_few", "/ids")?;
                Ok(Choice::Ids(ids.clone()))
            }
            (None, Some(filter)) => Ok(Choice::Filter(filter.filter()?)),
            (Some(_), Some(_)) | (None, None) => Err(unfit(
                "operations_name_captures",
                "the captures are named by ids or by a filter",
                "/ids",
            )
            .hint("give one of the two")),
        }
    }
}

/// What an operation would come to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Preview)]
pub struct PreviewAnswer {
    /// Captures that were named or match, and ids that are none.
    matching: u64,
    /// Of these, acted on.
    will_act: u64,
    /// Those that would be acted on, by what would be done; the most first.
    will: Vec<Group>,
    /// Those that would be left alone, by the reason.
    skipped: Vec<Group>,
    /// The money of those that would be acted on.
    sums: Vec<Sum>,
    /// Those that would be acted on, by the class of their last failure.
    by_class: Vec<OfClass>,
    /// The first of them, whole.
    sample: Vec<Line>,
    /// How long it takes at the given rate.
    seconds: u64,
    /// When this was looked at, by the database's clock.
    as_of: DateTime<Utc>,
    /// Stands for the list that was looked at: pass it on to begin with this list and no other.
    digest: ListDigest,
}

/// Captures whose last failure is of one class.
#[derive(Debug, Serialize, ToSchema)]
pub struct OfClass {
    /// Null: they have not failed.
    class: Option<String>,
    /// How many.
    captures: u64,
    /// Their money.
    sums: Vec<Sum>,
}

impl From<Preview> for PreviewAnswer {
    fn from(preview: Preview) -> PreviewAnswer {
        let by_class = preview.by_class.into_iter();
        PreviewAnswer {
            matching: preview.matching,
            will_act: preview.will_act,
            will: preview.will,
            skipped: preview.skipped,
            sums: preview.sums,
            by_class: by_class
                .map(|(class, captures, sums)| OfClass { class, captures, sums })
                .collect(),
            sample: preview.sample,
            seconds: preview.seconds,
            as_of: preview.as_of,
            digest: preview.digest,
        }
    }
}

/// What has begun.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Begun {
    /// How far it is.
    Operation(Box<OperationRow>),
    /// Which; it cannot be looked at just now.
    Id(BegunId),
}

/// An operation that cannot be looked at just now. It has nothing else, so that it cannot be taken for the whole.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BegunId {
    /// The operation.
    id: Uuid,
}

/// Begins an operation, or with `dry_run` tells what it would come to.
///
/// Under an `Idempotency-Key` the same body again begins no second one, and is answered with the first.
#[utoipa::path(post, path = "/v1/operations", tag = "operations", operation_id = "begin_operation",
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[!#-~]([ -~]*[!-~])?$",
        description = "By which the same request is known again, bare or as a quoted string")),
    security(("key" = ["operate"])), request_body = NewOperation, responses(
        (status = 200, description = "What it would come to (dry_run)", body = PreviewAnswer),
        (status = 202, description = "It has begun", body = Begun, headers(("Location" = String)))))]
pub async fn create(
    Allowed(caller, ..): Allowed<ToOperate>,
    State(office): State<Arc<Office>>,
    parameters: Parameters,
    request: HttpRequest,
) -> Result<Response, Problem> {
    parameters.none_left(&[])?;
    let key = idempotency_key(request.headers())?;
    if key.as_ref().is_some_and(|key| key.len() > LONGEST_KEY) {
        let detail = format!("the header Idempotency-Key has more than {LONGEST_KEY} characters");
        return Err(Problem::bad_request("idempotency_key_not_readable", detail)
            .hint("write a shorter one, such as a uuid")
            .at("Idempotency-Key:"));
    }
    let body = json_bytes(request, MOST_BYTES_WITH_IDS, office.patience).await?;
    let asked: NewOperation = parse(&body)?;
    let act = asked.act()?;
    // Who may not cancel one capture may not cancel many.
    if act == Act::Cancel {
        caller.must(Scope::Cancel)?;
    }
    let choice = asked.choice()?;
    let rate_per_second = asked.rate_per_second.unwrap_or(DEFAULT_RATE);
    if asked.dry_run {
        let looking = operations::preview(
            &office.outbox,
            &office.abilities,
            &act,
            &choice,
            asked.all,
            rate_per_second,
        );
        let preview = tokio::time::timeout(LONGEST_PREVIEW, looking).await.map_err(|_| {
            let detail = "there are too many captures to look at in one request";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "took_too_long", detail)
                .hint("narrow the filter, or preview it with the command line, which takes its time")
                .again_after(60)
        })??;
        return Ok(Json(PreviewAnswer::from(preview)).into_response());
    }
    let request = Request {
        stamp: caller.stamp(asked.reason.as_deref().unwrap_or_default())?,
        act,
        choice,
        all: asked.all,
        digest: asked.digest,
        key: key.map(|key| RequestKey {
            key,
            hash: Sha256::digest(&body).to_vec(),
        }),
        rate_per_second,
        stop_at_percent: asked.stop_at_percent.unwrap_or(DEFAULT_STOP_AT_PERCENT),
    };
    let has_key = request.key.is_some();
    let id = office.begin(request).await;
    let id = id.map_err(|error| match has_key {
        true => Problem::from(error).repeatable(),
        false => Problem::from(error),
    })?;
    // It has begun; that it cannot be looked at is no reason to say anything else.
    let begun = match office.outbox.operation(id).await {
        Ok(Some(row)) => Begun::Operation(Box::new(row)),
        Ok(None) => Begun::Id(BegunId { id }),
        Err(error) => {
            tracing::warn!(error = %error, operation = %id, "an operation has begun and could not be read");
            Begun::Id(BegunId { id })
        }
    };
    let location = format!("/v1/operations/{id}");
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(begun)).into_response())
}

async fn found(office: &Office, id: Uuid) -> Result<OperationRow, Problem> {
    let row = office.outbox.operation(id).await?;
    row.ok_or_else(|| Problem::not_found("there is no operation of that id"))
}

/// Operations, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct OperationPage {
    /// Those of this page.
    operations: Vec<OperationRow>,
    /// Give it as `cursor` for the next page; null: that was all.
    next: Option<String>,
}

/// Operations, the newest first.
#[utoipa::path(get, path = "/v1/operations", tag = "operations", operation_id = "list_operations", security(("key" = ["read"])),
    params(("cursor" = Option<Uuid>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "Rows of a page; 50 unless given", minimum = 1, maximum = 200)),
    responses((status = 200, body = OperationPage)))]
pub async fn list(
    _: Allowed<ToRead>,
    State(office): State<Arc<Office>>,
    mut parameters: Parameters,
) -> Result<Json<OperationPage>, Problem> {
    let before = match parameters.take("cursor")? {
        None => None,
        Some(text) => Some(hyphenated(&text).ok_or_else(|| no_cursor("operations"))?),
    };
    let limit = rows(&mut parameters)?;
    parameters.none_left(&["cursor", "limit"])?;
    // One more than asked for tells whether there is a next page.
    let mut operations = office.outbox.operations(before, i64::from(limit) + 1).await?;
    let whole = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = operations.len() > whole;
    operations.truncate(whole);
    let next = operations.last().filter(|_| more).map(|row| row.id.to_string());
    Ok(Json(OperationPage { operations, next }))
}

fn no_cursor(list: &str) -> Problem {
    Problem::unfit("cursor_not_readable", format!("this is no cursor of the {list}"))
        .hint("pass `next` of a page as it came, or none to begin")
        .at("?cursor")
}

/// One operation: how far it is.
#[utoipa::path(get, path = "/v1/operations/{id}", tag = "operations", operation_id = "get_operation", security(("key" = ["read"])),
    params(("id" = Uuid, Path, description = "The operation")), responses((status = 200, body = OperationRow)))]
pub async fn get(
    _: Allowed<ToRead>,
    State(office): State<Arc<Office>>,
    Id(id): Id,
    parameters: Parameters,
) -> Result<Json<OperationRow>, Problem> {
    parameters.none_left(&[])?;
    Ok(Json(found(&office, id).await?))
}

/// Captures of an operation's list, with what became of each.
#[derive(Debug, Serialize, ToSchema)]
pub struct ItemPage {
    /// In the order of the list.
    items: Vec<OperationItem>,
    /// Give it as `cursor` for the next page; null: that was all.
    next: Option<String>,
}

/// The captures of an operation, with the verdict on each.
#[utoipa::path(get, path = "/v1/operations/{id}/items", tag = "operations", operation_id = "list_operation_items",
    security(("key" = ["read"])), responses((status = 200, body = ItemPage)),
    params(("id" = Uuid, Path, description = "The operation"),
        ("not_done" = Option<bool>, Query, description = "Only those that were not acted on"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before", pattern = "^i[1-9][0-9]{0,17}$"),
        ("limit" = Option<u32>, Query, description = "Rows of a page; 50 unless given", minimum = 1, maximum = 200)))]
pub async fn items(
    _: Allowed<ToRead>,
    State(office): State<Arc<Office>>,
    Id(id): Id,
    mut parameters: Parameters,
) -> Result<Json<ItemPage>, Problem> {
    let only_not_done = match parameters.take("not_done")?.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => {
            return Err(
                Problem::bad_request("query_not_understood", "not_done is neither true nor false").at("?not_done"),
            );
        }
    };
    let after = match parameters.take("cursor")? {
        None => 0,
        Some(text) => {
            let number = text.strip_prefix('i').and_then(|number| number.parse::<i64>().ok());
            number
                .filter(|number| *number > 0)
                .ok_or_else(|| no_cursor("items of an operation"))?
        }
    };
    let limit = rows(&mut parameters)?;
    parameters.none_left(&["not_done", "cursor", "limit"])?;
    found(&office, id).await?;
    let mut items = office
        .outbox
        .operation_items(id, after, i64::from(limit) + 1, only_not_done)
        .await?;
    let whole = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = items.len() > whole;
    items.truncate(whole);
    let next = items.last().filter(|_| more).map(|item| format!("i{}", item.n));
    Ok(Json(ItemPage { items, next }))
}

/// Pauses an operation that runs.
#[utoipa::path(post, path = "/v1/operations/{id}/pause", tag = "operations", operation_id = "pause_operation",
    security(("key" = ["operate"])), params(("id" = Uuid, Path, description = "The operation")), request_body = Why,
    responses((status = 200, body = OperationRow)))]
pub async fn pause(
    Allowed(caller, ..): Allowed<ToOperate>,
    State(office): State<Arc<Office>>,
    Id(id): Id,
    parameters: Parameters,
    Document(why): Document<Why>,
) -> Result<Json<OperationRow>, Problem> {
    parameters.none_left(&[])?;
    change(&office, &caller, id, Change::Pause, &why.reason).await
}

/// Resumes an operation that is paused. One that cancels needs the scope `cancel` too.
#[utoipa::path(post, path = "/v1/operations/{id}/resume", tag = "operations", operation_id = "resume_operation",
    security(("key" = ["operate"])), params(("id" = Uuid, Path, description = "The operation")), request_body = Why,
    responses((status = 200, body = OperationRow)))]
pub async fn resume(
    Allowed(caller, ..): Allowed<ToOperate>,
    State(office): State<Arc<Office>>,
    Id(id): Id,
    parameters: Parameters,
    Document(why): Document<Why>,
) -> Result<Json<OperationRow>, Problem> {
    parameters.none_left(&[])?;
    change(&office, &caller, id, Change::Resume, &why.reason).await
}

/// Ends an operation; what it has acted on stays as it is.
#[utoipa::path(post, path = "/v1/operations/{id}/cancel", tag = "operations", operation_id = "cancel_operation",
    security(("key" = ["operate"])), params(("id" = Uuid, Path, description = "The operation")), request_body = Why,
    responses((status = 200, body = OperationRow)))]
pub async fn cancel(
    Allowed(caller, ..): Allowed<ToOperate>,
    State(office): State<Arc<Office>>,
    Id(id): Id,
    parameters: Parameters,
    Document(why): Document<Why>,
) -> Result<Json<OperationRow>, Problem> {
    parameters.none_left(&[])?;
    change(&office, &caller, id, Change::Cancel, &why.reason).await
}

#[derive(Clone, Copy)]
enum Change {
    Pause,
    Resume,
    Cancel,
}

async fn change(
    office: &Office,
    caller: &Caller,
    id: Uuid,
    change: Change,
    reason: &str,
) -> Result<Json<OperationRow>, Problem> {
    let stamp = caller.stamp(reason)?;
    let changed = match change {
        Change::Pause => office.acts.pause_operation(id, &stamp).await?,
        Change::Resume => {
            may_resume(caller, &found(office, id).await?)?;
            office.acts.resume_operation(id, &stamp).await?
        }
        Change::Cancel => office.acts.cancel_operation(id, &stamp).await?,
    };
    match changed {
        Changed::Changed => Ok(Json(found(office, id).await?)),
        Changed::NotFound => Err(Problem::not_found("there is no operation of that id")),
        Changed::Forbidden(state) => Err(Problem::new(
            StatusCode::CONFLICT,
            "operation_state_forbids",
            format!("this operation is {state}"),
        )),
    }
}
