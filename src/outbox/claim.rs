//! Claim: take ready intents, and open their attempts, in one round trip and one commit. The statement and its reasons
//! are in `migrations/0003_claim.sql`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::{LaneId, Outbox, OutboxError, REQUEST_FORMAT, Tries, repeating};
use crate::intent::{CaptureIntent, Currency, Details, IntentId, Lane, Money, Shipping};
use crate::outcome::{Code, Evidence, Proof, Receipt};
use crate::progress::Progress;
use crate::provider::Siblings;

/// What an intent is claimed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// The first send.
    Send,
    /// Again, after it was surely not processed.
    Retry,
    /// Find out an unknown outcome.
    Verify,
}

impl Purpose {
    /// All three, in the order of their numbers.
    pub const ALL: [Purpose; 3] = [Purpose::Send, Purpose::Retry, Purpose::Verify];

    /// The number in SQL.
    pub fn number(self) -> i16 {
        match self {
            Purpose::Send => 0,
            Purpose::Retry => 1,
            Purpose::Verify => 2,
        }
    }

    /// The name in JSON, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Purpose::Send => "send",
            Purpose::Retry => "retry",
            Purpose::Verify => "verify",
        }
    }

    fn from_number(number: i16) -> Option<Purpose> {
        Purpose::ALL.into_iter().find(|purpose| purpose.number() == number)
    }
}

/// What a worker has room for in one lane.
#[derive(Debug, Clone, Serialize)]
pub struct LaneRequest {
    /// Which lane.
    pub lane: LaneId,
    /// Free slots.
    pub free: u32,
    /// Slots in use by first sends.
    pub sending: u32,
    /// By retries.
    pub retrying: u32,
    /// By verifications.
    pub verifying: u32,
    /// The purpose whose turn it is: its first row goes before all others, so that no purpose starves in a narrow lane.
    pub favour: i16,
    /// Provider calls of a send or retry, for the rate budget.
    pub send_calls: u32,
    /// Provider calls of a verification.
    pub read_calls: u32,
}

/// One claim.
#[derive(Debug, Clone)]
pub struct ClaimRequest<'a> {
    /// A new random id: the lease's, and the token under which a claim whose answer was lost can be given back.
    pub lease: Uuid,
    /// Who claims.
    pub worker: Uuid,
    /// How long.
    pub lease_for: Duration,
    /// Intents at most.
    pub batch: u32,
    /// Only rows that must be claimed with nothing else in flight, or only the others.
    pub alone: bool,
    /// Lanes with free slots.
    pub lanes: &'a [LaneRequest],
}

/// The right to settle one claimed intent: lease, slot and fence. Not `Clone`, and consumed by settling. (The proofs keep
/// whole worlds as values, and may copy it.)
#[derive(Debug)]
#[cfg_attr(feature = "proof", derive(Clone, PartialEq, Eq, Hash))]
pub struct Ticket {
    pub(super) lease: Uuid,
    pub(super) worker: Uuid,
    pub(super) slot: i32,
    pub(super) lane: LaneId,
    pub(super) intent: IntentId,
    pub(super) fence: i32,
    pub(super) purpose: Purpose,
    pub(super) provider: String,
}

impl Ticket {
    /// Which intent.
    pub fn intent(&self) -> IntentId {
        self.intent
    }

    /// Which lane.
    pub fn lane(&self) -> LaneId {
        self.lane
    }

    /// The fence of this claim.
    pub fn fence(&self) -> i32 {
        self.fence
    }

    /// What it was claimed for.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Its provider's name.
    pub fn provider(&self) -> &str {
        &self.provider
    }
}

/// One claimed intent, with all that its way needs.
#[derive(Debug)]
#[cfg_attr(feature = "proof", derive(Clone, PartialEq, Eq, Hash))]
pub struct Claim {
    /// The right to settle it.
    pub ticket: Ticket,
    /// What was asked, with the shipping data of its release.
    pub intent: CaptureIntent,
    /// What is behind it.
    pub progress: Progress,
    /// The database's time at the claim.
    pub now: DateTime<Utc>,
    /// It was written in another history of the database (before a fail-over or restore), or so soon after that it may have
    /// been asked for there first: it may have been sent.
    pub history_changed: bool,
    /// Somebody asked to cancel it while it was in flight.
    pub cancel_requested: bool,
    /// A receipt that arrived after its lease was lost.
    pub late_receipt: Option<Receipt>,
    /// What was authorised in all, as far as this intent or a sibling says.
    pub authorized_minor: Option<i64>,
    /// What siblings have captured, or may have.
    pub committed_minor: i64,
    /// What siblings that have not ended ask for.
    pub open_minor: i64,
    /// What siblings did at the provider.
    pub siblings: Siblings,
    /// It was held, nobody released it, and its authorisation is about to end: it is given up, never sent.
    pub unreleased: bool,
}

/// A row that this version cannot make sense of. It is settled as dead, and blocks nobody.
#[derive(Debug)]
#[cfg_attr(feature = "proof", derive(Clone, PartialEq, Eq, Hash))]
pub struct Unreadable {
    /// The right to settle it.
    pub ticket: Ticket,
    /// What is behind it.
    pub progress: Progress,
    /// What cannot be read.
    pub code: Code,
}

/// What a claim gave.
#[derive(Debug, Default)]
#[cfg_attr(feature = "proof", derive(Clone, PartialEq, Eq, Hash))]
pub struct Claimed {
    /// To be worked on.
    pub claims: Vec<Claim>,
    /// To be ended.
    pub unreadable: Vec<Unreadable>,
}

#[derive(serde::Deserialize)]
struct LateReceipt {
    provider_capture_id: String,
    captured_minor: i64,
    captured_at: Option<DateTime<Utc>>,
    proof: String,
}

impl Outbox {
    /// Claims up to `batch` intents. When this returns `Ok`, their attempts are durably open.
    ///
    /// If the answer is lost ([`OutboxError::is_connection_lost`]) nothing may be sent; see [`Outbox::give_back`].
    pub async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claimed, OutboxError> {
        let lanes = serde_json::to_value(request.lanes).unwrap_or_default();
        let lease_ms = i64::try_from(request.lease_for.as_millis()).unwrap_or(i64::MAX);
        let batch = i32::try_from(request.batch).unwrap_or(i32::MAX);
        let warnings = super::doubt::warnings();
        let mut seated = self.claims.take(&self.pool).await?;
        let mut tries = Tries::default();
        let rows = loop {
            let statement = sqlx::query!(
                r#"select slot as "slot!", lane as "lane!: LaneId", purpose as "purpose!", fence as "fence!",
                          epoch_changed as "epoch_changed!", now as "now!", id as "id!", provider as "provider!", account as "account!",
                          order_id as "order_id!", payment_id as "payment_id!", capture_ref as "capture_ref!",
                          amount_minor as "amount_minor!", currency as "currency!", authorized_minor, authorization_expires_at,
                          details as "details!", traceparent, created_at as "created_at!",
                          company, method, tracking_number, progress, cancel_requested as "cancel_requested!", late,
                          authorized_known_minor, committed_minor as "committed_minor!", open_minor as "open_minor!",
                          sibling_undecided as "sibling_undecided!",
                          sibling_captures as "sibling_captures!", unreleased as "unreleased!"
                   from claim($1, $2, $3, $4, $5, $6, $7)"#,
                request.lease,
                request.worker,
                lease_ms,
                REQUEST_FORMAT,
                batch,
                request.alone,
                lanes
            );
            match statement.fetch_all(&mut *seated).await {
                Ok(rows) => break rows,
                Err(error) => tries.again(error).await?,
            }
            // Over another connection: a plan that a migration made stale stays with its own.
            drop(seated);
            seated = self.claims.take(&self.pool).await?;
        };
        seated.keep();
        if super::doubt::warnings() != warnings && !planted!(doubtful_commit_trusted) {
            return Err(OutboxError::NotDurable);
        }

        let mut claimed = Claimed::default();
        for row in rows {
            let purpose = Purpose::from_number(row.purpose).ok_or_else(|| OutboxError::NotUnderstood {
                what: format!("purpose {}", row.purpose),
            })?;
            let id = IntentId(row.id);
            let ticket = Ticket {
                lease: request.lease,
                worker: request.worker,
                slot: row.slot,
                lane: row.lane,
                intent: id,
                fence: row.fence,
                purpose,
                provider: row.provider.clone(),
            };
            let progress = row.progress.map(serde_json::from_value).transpose();
            let details = serde_json::from_value::<Details>(row.details);
            let late = row.late.map(serde_json::from_value::<LateReceipt>).transpose();
            let currency = Currency::from_code(&row.currency);
            let (progress, mut details, currency, late) = match (progress, details, currency, late) {
                (Ok(progress), Ok(details), Some(currency), Ok(late)) => {
                    (progress.unwrap_or_default(), details, currency, late)
                }
                (progress, details, _, late) => {
                    let code = if progress.is_err() {
                        "unreadable_progress"
                    } else if late.is_err() {
                        "unreadable_late_receipt"
                    } else if details.is_err() {
                        "unreadable_details"
                    } else {
                        "unreadable_currency"
                    };
                    // What cannot be read is not nothing: it may have been sent, and the next hands must read first.
                    let progress = progress
                        .map(Option::unwrap_or_default)
                        .unwrap_or_else(|_| Progress::unknown(row.created_at, row.now, request.lease_for));
                    claimed.unreadable.push(Unreadable {
                        ticket,
                        progress,
                        code: Code::new(code),
                    });
                    continue;
                }
            };
            if let (Some(company), Some(method), Some(tracking_number)) = (row.company, row.method, row.tracking_number)
            {
                details.shipping = Some(Shipping {
                    company,
                    method,
                    tracking_number,
                });
            }
            let late_receipt = late.map(|late| Receipt {
                provider_capture_id: late.provider_capture_id,
                amount: Money::new(late.captured_minor, currency),
                captured_at: late.captured_at,
                // These two are all that a claim is given.
                proof: if late.proof == Proof::Reference.name() {
                    Proof::Reference
                } else {
                    Proof::Answer
                },
                authorization_expires_at: None,
                evidence: Evidence::new(b"{\"late_result\":true}".to_vec()),
            });
            claimed.claims.push(Claim {
                intent: CaptureIntent {
                    id,
                    lane: Lane {
                        provider: row.provider,
                        account: row.account,
                    },
                    order_id: row.order_id,
                    payment_id: row.payment_id,
                    capture_ref: row.capture_ref,
                    amount: Money::new(row.amount_minor, currency),
                    authorized_minor: row.authorized_minor,
                    authorization_expires_at: row.authorization_expires_at,
                    details,
                    traceparent: row.traceparent,
                    created_at: row.created_at,
                },
                ticket,
                progress,
                now: row.now,
                history_changed: row.epoch_changed,
                cancel_requested: row.cancel_requested,
                late_receipt,
                authorized_minor: row.authorized_known_minor,
                committed_minor: row.committed_minor,
                open_minor: row.open_minor,
                siblings: Siblings {
                    capture_ids: row.sibling_captures,
                    undecided: row.sibling_undecided,
                },
                unreleased: row.unreleased,
            });
        }
        Ok(claimed)
    }

    /// Gives back a claim whose answer was lost. Only for the worker that asked for it, which therefore knows that none
    /// of its intents was sent. Returns how many went back; none if the claim never took effect.
    pub async fn give_back(&self, lease: Uuid) -> Result<i32, OutboxError> {
        Ok(
            repeating(|| sqlx::query_scalar!(r#"select give_back($1) as "given_back!""#, lease).fetch_one(&self.pool))
                .await?,
        )
    }
}
