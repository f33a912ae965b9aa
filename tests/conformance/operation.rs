//! One operation on the outbox, as a value: applied to `Tables`, asked of Postgres, or written as SQL.

use std::time::Duration;

use capture::intent::{CaptureIntent, IntentId, Lane};
use capture::outbox::memory::{Cancelled, Enqueued, Tables, Terms};
use capture::outbox::{
    AuditStamp, ClaimRequest, Claimed, DeadLetter, HeldRelease, LaneId, LaneNews, LaneRequest, Outbox, Settled,
    Settlement,
};
use capture::progress::Progress;
use capture::retry::DeadReason;
use capture::verify::ReplayPlan;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::database::Session;

pub const ROWS: i32 = 1000;

/// A claim, with nothing borrowed.
#[derive(Debug, Clone)]
pub struct Ask {
    pub lease: Uuid,
    pub worker: Uuid,
    pub lease_for: Duration,
    pub batch: u32,
    pub alone: bool,
    pub lanes: Vec<LaneRequest>,
}

impl Ask {
    fn request(&self) -> ClaimRequest<'_> {
        ClaimRequest {
            lease: self.lease,
            worker: self.worker,
            lease_for: self.lease_for,
            batch: self.batch,
            alone: self.alone,
            lanes: &self.lanes,
        }
    }
}

#[derive(Debug, Clone)]
pub enum Operation {
    Enqueue(Box<CaptureIntent>, Terms),
    RegisterLane(Lane, u32),
    Claim(Ask),
    GiveBack(Uuid),
    Settle(Vec<Settlement>, Vec<LaneNews>),
    MoveDue(i32),
    Rescue,
    Release(HeldRelease),
    MatchReleases,
    WatchDeadlines(Duration),
    Cancel(IntentId),
    Replay(IntentId, DateTime<Utc>, bool),
    Resolve(IntentId, bool),
    Pause(LaneId, bool),
    ChangeHistory,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Claimed(Claimed),
    Settled(Vec<Settled>),
    Said(String),
}

fn said(what: impl std::fmt::Debug) -> Answer {
    Answer::Said(format!("{what:?}"))
}

fn stamp() -> AuditStamp {
    AuditStamp {
        actor: "ana".to_owned(),
        reason: "because".to_owned(),
    }
}

fn in_order(mut claimed: Claimed) -> Answer {
    for claim in &mut claimed.claims {
        claim.siblings.capture_ids.sort_unstable();
    }
    Answer::Claimed(claimed)
}

impl Operation {
    pub fn apply(&self, tables: &mut Tables, now: DateTime<Utc>) -> Answer {
        match self {
            Operation::Enqueue(capture, terms) => said(match tables.enqueue(now, (**capture).clone(), *terms) {
                Enqueued::Created => "created",
                Enqueued::Refused(rule) => rule,
            }),
            Operation::RegisterLane(lane, rate) => said(tables.register_lane(lane, *rate)),
            Operation::Claim(ask) => in_order(tables.claim(now, &ask.request())),
            Operation::GiveBack(lease) => said(tables.give_back(now, *lease)),
            Operation::Settle(settlements, news) => Answer::Settled(tables.settle(now, settlements, news)),
            Operation::MoveDue(limit) => said(tables.move_due(now, usize::try_from(*limit).unwrap())),
            Operation::Rescue => said(tables.rescue(now, 1000)),
            Operation::Release(release) => said(tables.release(now, release)),
            Operation::MatchReleases => said(tables.match_releases(now, 1000)),
            Operation::WatchDeadlines(margin) => said(tables.watch_deadlines(now, *margin, 1000)),
            Operation::Cancel(intent) => said(match tables.cancel(now, *intent, "because") {
                Cancelled::Cancelled => "cancelled",
                Cancelled::InFlight => "in_flight",
                Cancelled::Ended => "ended",
                Cancelled::NotFound => "not_found",
            }),
            Operation::Replay(intent, ended_at, fresh) => {
                said(tables.replay(now, *intent, *ended_at, *fresh, &stamp()))
            }
            Operation::Resolve(intent, captured) => {
                said(tables.resolve(now, *intent, *captured, "seen-in-portal", &stamp()))
            }
            Operation::Pause(lane, paused) => said(tables.set_lane_pause(now, *lane, *paused, &stamp())),
            Operation::ChangeHistory => {
                tables.change_history();
                said(())
            }
        }
    }

    pub async fn ask(&self, outbox: &Outbox, db: &mut Session) -> Answer {
        match self {
            Operation::Enqueue(..) => said(match db.try_run(&self.sql()).await {
                Ok(_) => "created".to_owned(),
                Err(refused) => refused.constraint,
            }),
            Operation::RegisterLane(lane, rate) => said(outbox.register_lane(lane, *rate).await.unwrap()),
            Operation::Claim(ask) => in_order(outbox.claim(&ask.request()).await.unwrap()),
            Operation::GiveBack(lease) => said(outbox.give_back(*lease).await.unwrap()),
            Operation::Settle(settlements, news) => Answer::Settled(outbox.settle(settlements, news).await.unwrap()),
            Operation::MoveDue(limit) => said(outbox.move_due(*limit).await.unwrap()),
            Operation::Rescue => said(outbox.rescue(ROWS).await.unwrap()),
            Operation::Release(release) => said(outbox.release(release).await.unwrap().1),
            Operation::MatchReleases => said(outbox.match_releases(ROWS).await.unwrap()),
            Operation::WatchDeadlines(margin) => said(outbox.watch_deadlines(*margin, ROWS).await.unwrap()),
            Operation::Cancel(intent) => said(outbox.cancel(intent.0, "because").await.unwrap()),
            Operation::Replay(intent, ended_at, fresh) => {
                let letter = DeadLetter {
                    id: intent.0,
                    lane: Lane {
                        provider: String::new(),
                        account: String::new(),
                    },
                    reason: DeadReason::Rejected,
                    ended_at: *ended_at,
                    progress: Progress::default(),
                    authorization_expires_at: None,
                    now: *ended_at,
                };
                let plan = ReplayPlan {
                    fresh_key: *fresh,
                    next_generation: capture::intent::KeyGeneration(0),
                    says: String::new(),
                };
                said(outbox.replay(&letter, &plan, &stamp()).await.unwrap())
            }
            Operation::Resolve(intent, captured) => said(
                outbox
                    .resolve(intent.0, *captured, "seen-in-portal", &stamp())
                    .await
                    .unwrap(),
            ),
            Operation::Pause(lane, paused) => said(outbox.set_lane_pause(*lane, *paused, &stamp()).await.unwrap()),
            Operation::ChangeHistory => {
                db.run(&self.sql()).await;
                said(())
            }
        }
    }

    /// The statement itself, for a session that keeps its transaction open.
    pub fn sql(&self) -> String {
        match self {
            Operation::Enqueue(capture, terms) => insert(capture, *terms),
            Operation::Claim(ask) => format!(
                "select * from claim('{}', '{}', {}, 1::smallint, {}, {}, '{}')",
                ask.lease,
                ask.worker,
                ask.lease_for.as_millis(),
                ask.batch,
                ask.alone,
                serde_json::to_string(&ask.lanes).unwrap()
            ),
            Operation::Settle(settlements, news) => Settlement::statement(settlements, news),
            Operation::GiveBack(lease) => format!("select give_back('{lease}')"),
            Operation::MoveDue(limit) => format!("select * from move_due({limit})"),
            Operation::Rescue => format!("select rescue({ROWS})"),
            Operation::MatchReleases => format!("select match_releases({ROWS})"),
            Operation::WatchDeadlines(margin) => format!("select watch_deadlines({}, {ROWS})", margin.as_millis()),
            Operation::Cancel(intent) => format!("select cancel('{intent}', 'because')"),
            Operation::Replay(intent, ended_at, fresh) => {
                format!(
                    "select replay('{intent}', '{}', {fresh}, 'ana', 'because', '{{}}')",
                    ended_at.to_rfc3339()
                )
            }
            Operation::Resolve(intent, captured) => {
                format!("select resolve('{intent}', {captured}, 'seen-in-portal', 'ana', 'because')")
            }
            Operation::Pause(lane, paused) => format!("select set_lane_pause({}, {paused}, 'ana', 'because')", lane.0),
            Operation::ChangeHistory => "update epoch set timeline = 'FFFFFFFF'".to_owned(),
            Operation::Release(release) => format!(
                "select release(provider => '{}', account => '{}', payment_id => '{}')",
                release.provider,
                release.account.as_deref().unwrap(),
                release.payment_id.as_deref().unwrap()
            ),
            Operation::RegisterLane(..) => panic!("lanes are registered before"),
        }
    }
}

fn insert(capture: &CaptureIntent, terms: Terms) -> String {
    let time = |at: Option<DateTime<Utc>>| at.map_or_else(|| "null".to_owned(), |at| format!("'{}'", at.to_rfc3339()));
    format!(
        "insert into intents (id, provider, account, order_id, payment_id, capture_ref, amount_minor, currency, authorized_minor,
                              authorization_expires_at, hold, not_before, priority, created_at)
         values ('{}', '{}', '{}', '{}', '{}', '{}', {}, 'USD', {}, {}, {}, {}, {}, {})",
        capture.id,
        capture.lane.provider,
        capture.lane.account,
        capture.order_id,
        capture.payment_id,
        capture.capture_ref,
        capture.amount.minor,
        capture.authorized_minor.map_or_else(|| "null".to_owned(), |minor| minor.to_string()),
        time(capture.authorization_expires_at),
        if terms.hold { "'shipment'" } else { "null" },
        time(terms.not_before),
        terms.priority,
        time(Some(capture.created_at)),
    )
}
