//! Before an operation: what it would come to, and the form that begins it.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use uuid::Uuid;

use super::fault::Fault;
use super::filters::frozen;
use super::frame::{Frame, Look, written};
use super::rows::Row;
use super::shown::{Time, count, span, sums};
use super::visitor::{Sent, Visitor};
use crate::api_key::Scope;
use crate::http::caller::Caller;
use crate::http::problem::Problem;
use crate::http::query::Parameters;
use crate::http::serve::Office;
use crate::operations::{
    self, Act, Choice, DEFAULT_RATE, DEFAULT_STOP_AT_PERCENT, Group, HIGHEST_RATE, ListDigest, OperationError, Preview,
    Request, Sum,
};

/// What a form asks for.
struct Wanted {
    act: &'static str,
    /// Of a resolve: what the person has seen; `None`: they have not said.
    captured: Option<bool>,
    evidence: String,
    also_resolved: bool,
    ids: Vec<Uuid>,
    /// The conditions, as they are sent on.
    conditions: Option<String>,
    choice: Choice,
    all: bool,
    /// The list that the person has before them.
    digest: String,
    reason: String,
    rate: u32,
    stop_at: u8,
}

impl Wanted {
    fn read(mut fields: Parameters, now: chrono::DateTime<chrono::Utc>) -> Result<Wanted, Fault> {
        let act = match fields.take("act")?.as_deref() {
            Some("replay") => "replay",
            Some("cancel") => "cancel",
            Some("resolve") => "resolve",
            Some(_) | None => {
                return Err(
                    Problem::bad_request("operations_act_known", "the act is replay, cancel or resolve").into(),
                );
            }
        };
        let mut text = |name: &str| fields.take(name).map(Option::unwrap_or_default);
        let captured = match text("as")?.as_str() {
            "captured" => Some(true),
            "not-captured" => Some(false),
            "" => None,
            _ => return Err(Problem::unfit("operations_resolve_as", "they were captured, or not-captured").into()),
        };
        let (evidence, reason) = (text("evidence")?, text("reason")?);
        // The second is of who has no script.
        let everything = !text("everything")?.is_empty() | !text("everything_plainly")?.is_empty();
        let (conditions, digest) = (text("filter")?, text("digest")?);
        let also_resolved = !text("also_resolved")?.is_empty();
        let all = !text("mean_all")?.is_empty();
        let rate = fields.number("rate", 1, HIGHEST_RATE)?.unwrap_or(DEFAULT_RATE);
        let stop_at = fields.number("stop_at", 0, 100)?.unwrap_or(DEFAULT_STOP_AT_PERCENT);
        let ids = fields
            .pairs()
            .iter()
            .filter(|(name, _)| name == "id")
            .map(|(_, id)| Uuid::parse_str(id));
        let ids: Vec<Uuid> = ids
            .collect::<Result<_, _>>()
            .map_err(|_| Problem::bad_request("id_not_readable", "one of the ids is no id"))?;
        let (choice, conditions, ids) = match everything {
            true => {
                let (filter, written) = frozen(&conditions, now).map_err(Problem::from)?;
                (Choice::Filter(filter), Some(written), Vec::new())
            }
            false => (Choice::Ids(ids.clone()), None, ids),
        };
        Ok(Wanted {
            act,
            captured,
            evidence,
            also_resolved,
            ids,
            conditions,
            choice,
            all,
            digest,
            reason,
            rate,
            stop_at,
        })
    }

    fn act(&self) -> Act {
        match self.act {
            "cancel" => Act::Cancel,
            // A preview counts the same either way; nothing begins before it is said.
            "resolve" => Act::Resolve {
                captured: self.captured.unwrap_or(false),
                evidence: self.evidence.clone(),
            },
            _ => Act::Replay {
                also_resolved: self.also_resolved,
            },
        }
    }

    /// As in the API: an operation needs `operate`, and one that cancels `cancel` as well.
    fn allow(&self, caller: &Caller) -> Result<(), Problem> {
        caller.must(Scope::Operate)?;
        match self.act {
            "cancel" => caller.must(Scope::Cancel),
            _ => Ok(()),
        }
    }

    fn lacks_its_answer(&self) -> bool {
        self.act == "resolve" && self.captured.is_none()
    }

    /// Does the filter choose by nothing but the state? Then a person says that they mean all of them.
    fn means_all(&self) -> bool {
        match &self.choice {
            Choice::Ids(_) => false,
            Choice::Filter(filter) => crate::filter::Filter {
                states: Vec::new(),
                ..filter.clone()
            }
            .means_everything(),
        }
    }
}

/// A line of the sample.
struct SampleLine {
    row: Row,
    acts: bool,
    says: String,
}

/// Captures that the same is said of.
struct GroupLine {
    says: String,
    safe: Option<bool>,
    captures: String,
    amount: String,
}

/// What it would come to.
struct Shown {
    matching: String,
    will_act: String,
    acts: bool,
    skips: String,
    amount: String,
    takes: String,
    will: Vec<GroupLine>,
    skipped: Vec<GroupLine>,
    by_class: Vec<(String, String, String)>,
    sample: Vec<SampleLine>,
    as_of: Time,
    digest: String,
}

#[derive(Template)]
#[template(path = "preview.html")]
struct PreviewPage {
    frame: Frame,
    act: &'static str,
    heading: &'static str,
    wrong: Option<String>,
    shown: Option<Shown>,
    ids: Vec<Uuid>,
    conditions: Option<String>,
    ask_all: bool,
    all: bool,
    was_captured: bool,
    was_not_captured: bool,
    evidence: String,
    also_resolved: bool,
    reason: String,
    rate: u32,
    stop_at: u8,
    back: &'static str,
}

/// Shows what it would come to.
pub async fn preview(State(office): State<Arc<Office>>, sent: Sent) -> Result<Response, Fault> {
    let look = Look::begin(&office.outbox).await?;
    let wanted = Wanted::read(sent.fields, look.now)?;
    wanted.allow(&sent.visitor.caller)?;
    show(&office, &look, &sent.visitor, wanted, None).await
}

/// Begins it.
pub async fn begin(State(office): State<Arc<Office>>, sent: Sent) -> Result<Response, Fault> {
    let look = Look::begin(&office.outbox).await?;
    let wanted = Wanted::read(sent.fields, look.now)?;
    wanted.allow(&sent.visitor.caller)?;
    if wanted.means_all() && !wanted.all {
        let says = format!(
            "this means every capture that {} does something to; say below that all are meant",
            wanted.act
        );
        return show(&office, &look, &sent.visitor, wanted, Some(says)).await;
    }
    if wanted.lacks_its_answer() {
        let says = "nothing says what was seen: were they captured, or not?".to_owned();
        return show(&office, &look, &sent.visitor, wanted, Some(says)).await;
    }
    let request = Request {
        act: wanted.act(),
        choice: wanted.choice.clone(),
        all: wanted.all,
        // Ids are what the person chose. A filter means whatever matches: only what this person saw of it.
        digest: match wanted.choice {
            Choice::Ids(_) => None,
            Choice::Filter(_) => Some(ListDigest::given(wanted.digest.as_str())),
        },
        key: None,
        stamp: crate::outbox::AuditStamp {
            actor: sent.visitor.caller.name.clone(),
            reason: wanted.reason.trim().to_owned(),
        },
        rate_per_second: wanted.rate,
        stop_at_percent: wanted.stop_at,
    };
    match office.begin(request).await {
        Ok(id) => Ok(Redirect::to(&format!("/operations/{id}")).into_response()),
        Err(OperationError::Outbox(error)) => Err(error.into()),
        Err(refused) => {
            let says = told(&refused);
            show(&office, &look, &sent.visitor, wanted, Some(says)).await
        }
    }
}

fn told(refused: &OperationError) -> String {
    match refused.hint() {
        Some(hint) => format!("{refused}: {hint}"),
        None => refused.to_string(),
    }
}

async fn show(
    office: &Office,
    look: &Look,
    visitor: &Visitor,
    wanted: Wanted,
    wrong: Option<String>,
) -> Result<Response, Fault> {
    let ask_all = wanted.means_all();
    // The form asks a person whether they mean all; to look does no harm.
    let (act, all) = (wanted.act(), wanted.all || ask_all);
    let looked = operations::preview(&office.acts, &office.abilities, &act, &wanted.choice, all, wanted.rate).await;
    let (shown, wrong) = match looked {
        Ok(mut preview) => {
            if wanted.lacks_its_answer() {
                leave_open(&mut preview);
            }
            (Some(Shown::of(&preview)), wrong)
        }
        Err(OperationError::Outbox(error)) => return Err(error.into()),
        Err(refused) => (None, Some(wrong.unwrap_or_else(|| told(&refused)))),
    };
    let heading = match wanted.act {
        "cancel" => "Cancel captures",
        "resolve" => "Resolve dead letters",
        _ => "Replay dead letters",
    };
    let is_wrong = wrong.is_some();
    let page = PreviewPage {
        frame: Frame::new(visitor, heading, "/operations", 0, look.now),
        act: wanted.act,
        heading,
        wrong,
        shown,
        ids: wanted.ids,
        conditions: wanted.conditions,
        ask_all,
        all: wanted.all,
        was_captured: wanted.captured == Some(true),
        was_not_captured: wanted.captured == Some(false),
        evidence: wanted.evidence,
        also_resolved: wanted.also_resolved,
        reason: wanted.reason,
        rate: wanted.rate,
        stop_at: wanted.stop_at,
        back: match wanted.act {
            "cancel" => "/captures",
            _ => "/dead",
        },
    };
    let mut response = written(&page, &page.frame)?;
    if is_wrong {
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    Ok(response)
}

/// Until the person has said what they saw, the preview does not say it for them.
fn leave_open(preview: &mut Preview) {
    const SAYS: &str = "is settled by your word: captured, or not captured";
    for group in &mut preview.will {
        SAYS.clone_into(&mut group.says);
    }
    for line in preview.sample.iter_mut().filter(|line| line.acts) {
        SAYS.clone_into(&mut line.says);
    }
}

fn amount(of: &[Sum]) -> String {
    sums(of.iter().map(|sum| (sum.currency.as_str(), sum.amount_minor)))
}

impl GroupLine {
    fn of(group: &Group) -> GroupLine {
        GroupLine {
            // Its chip says the first words.
            says: match group.safe {
                Some(true) => group.says.trim_start_matches("safe: ").to_owned(),
                Some(false) => group.says.trim_start_matches("not safe: ").to_owned(),
                None => group.says.clone(),
            },
            safe: group.safe,
            captures: count(group.captures),
            amount: amount(&group.sums),
        }
    }
}

impl Shown {
    fn of(preview: &Preview) -> Shown {
        let class = |(class, captures, of): &(Option<String>, u64, Vec<Sum>)| {
            let name = class.clone().unwrap_or_else(|| "none".to_owned());
            (name, count(*captures), amount(of))
        };
        Shown {
            matching: count(preview.matching),
            will_act: count(preview.will_act),
            acts: preview.will_act > 0,
            skips: count(preview.matching.saturating_sub(preview.will_act)),
            amount: amount(&preview.sums),
            takes: span(i64::try_from(preview.seconds).unwrap_or(i64::MAX)),
            will: preview.will.iter().map(GroupLine::of).collect(),
            skipped: preview.skipped.iter().map(GroupLine::of).collect(),
            by_class: preview.by_class.iter().map(class).collect(),
            sample: preview
                .sample
                .iter()
                .map(|line| SampleLine {
                    row: Row::of(&line.row, preview.as_of),
                    acts: line.acts,
                    says: line.says.clone(),
                })
                .collect(),
            as_of: Time::clock(preview.as_of),
            digest: preview.digest.text().to_owned(),
        }
    }
}
