//! Telling: the shipping data of captures that are on record goes to the providers that take it as a follow-up.
//!
//! Beside everything else and after it: one call at a time per lane, begun only while the lane has nothing better to do
//! (`claim_shipping_notice`). It holds nothing that a capture needs, and whatever comes of it, the capture stays what it is.
//! At least once: a worker that dies between the call and its record leaves a notice that is due again when its lease is over.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

use super::ServedLane;
use crate::outbox::{ClaimedNotice, LaneId, NoticeEnd, OutboxError, Store};
use crate::outcome::{Class, Failure};
use crate::provider::{Follow, Provider};

/// Between two looks: nobody waits for it.
const ROUND: Duration = Duration::from_secs(5);
/// How long a try may take before another worker makes it again: longer than the longest call by far.
const LEASE: Duration = Duration::from_secs(300);
/// The waits after the first tries, together about a day. After the last one it is given up.
const WAITS: [Duration; 7] = [
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(3600),
    Duration::from_secs(3 * 3600),
    Duration::from_secs(7 * 3600),
    Duration::from_secs(12 * 3600),
];
/// Waits where each telling may add a record: what was not answered may have been heard.
const FEW: usize = 2;
/// The longest that a provider may ask us to wait.
const LONGEST_WAIT: Duration = Duration::from_secs(6 * 3600);

/// A lane whose provider takes shipping data after the capture.
pub(super) struct Teller {
    lane: LaneId,
    provider: Arc<dyn Provider>,
    follow: Follow,
    calls: u32,
}

/// The lanes that have somebody to tell.
pub(super) fn tellers(lanes: &[ServedLane], ids: &[LaneId]) -> Vec<Teller> {
    let told = lanes.iter().zip(ids).filter(|(lane, _)| lane.fulfilment.tell);
    told.filter_map(|(lane, id)| {
        let (follow, calls) = (lane.provider.shipping(), lane.provider.abilities().calls);
        match follow {
            Follow::NotTaken => None,
            Follow::Replaces | Follow::Adds => Some(Teller {
                lane: *id,
                provider: lane.provider.clone(),
                follow,
                calls: calls.send.max(calls.read),
            }),
        }
    })
    .collect()
}

pub(super) async fn tell_on(outbox: Arc<dyn Store>, tellers: Vec<Teller>, shutdown: CancellationToken) {
    if tellers.is_empty() {
        return;
    }
    let lanes = tellers
        .iter()
        .map(|teller| tell_lane(outbox.as_ref(), teller, &shutdown));
    futures_util::future::join_all(lanes).await;
}

async fn tell_lane(outbox: &dyn Store, teller: &Teller, shutdown: &CancellationToken) {
    let mut quiet = true;
    while !shutdown.is_cancelled() {
        match tell_next(outbox, teller).await {
            Ok(true) => continue,
            Ok(false) => quiet = true,
            Err(error) => {
                // Said once, not every round.
                if quiet {
                    tracing::warn!(error = %error, "shipping data cannot be told; trying again every few seconds");
                }
                quiet = false;
            }
        }
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(ROUND) => {}
        }
    }
}

/// Makes the next try that is due; false: there is none, or the provider had better be left alone for a while.
pub(super) async fn tell_next(outbox: &dyn Store, teller: &Teller) -> Result<bool, OutboxError> {
    let Some(notice) = outbox.claim_shipping_notice(teller.lane, teller.calls, LEASE).await? else {
        return Ok(false);
    };
    let told = AssertUnwindSafe(teller.provider.tell_shipping(&notice.parcel)).catch_unwind();
    let told = told.await.unwrap_or_else(|_| {
        tracing::error!(intent = %notice.parcel.intent, "the adapter panicked as it told shipping data");
        Err(Failure::new(Class::Transient, "worker_panicked"))
    });
    let end = follows(teller.follow, notice.tries, told);
    log(&notice, &end);
    outbox
        .settle_shipping_notice(notice.parcel.intent.0, notice.tries, &end)
        .await?;
    Ok(match end {
        NoticeEnd::Told | NoticeEnd::GivenUp { .. } => true,
        NoticeEnd::Again { .. } => false,
    })
}

/// What follows from a try: pure.
fn follows(follow: Follow, tries: i16, told: Result<(), Failure>) -> NoticeEnd {
    let failure = match told {
        Ok(()) => return NoticeEnd::Told,
        Err(failure) => failure,
    };
    let (class, code) = (failure.class.name(), failure.code.to_string());
    let waits = match follow {
        Follow::Replaces => &WAITS[..],
        Follow::Adds | Follow::NotTaken => WAITS.get(..FEW).unwrap_or_default(),
    };
    let made = usize::try_from(tries).unwrap_or(usize::MAX);
    let next = waits.get(made.saturating_sub(1)).copied();
    let passes = match failure.class {
        Class::Rejected | Class::MaybeDone => false,
        Class::Transient | Class::RateLimited | Class::InProgress | Class::Ambiguous | Class::Misconfigured => true,
    };
    match next.filter(|_| passes) {
        Some(wait) => NoticeEnd::Again {
            wait: failure.retry_after.unwrap_or_default().min(LONGEST_WAIT).max(wait),
            class,
            code,
        },
        None => NoticeEnd::GivenUp { class, code },
    }
}

fn log(notice: &ClaimedNotice, end: &NoticeEnd) {
    let intent = notice.parcel.intent;
    let result = match end {
        NoticeEnd::Told => {
            tracing::debug!(intent = %intent, "shipping data was told");
            "told"
        }
        NoticeEnd::Again { wait, code, .. } => {
            tracing::info!(intent = %intent, code, tries = notice.tries, wait_s = wait.as_secs(), "shipping data was not taken; trying again");
            "again"
        }
        NoticeEnd::GivenUp { code, .. } => {
            tracing::warn!(
                intent = %intent, code, tries = notice.tries,
                "shipping data is given up; the capture stays captured, and the parcel can be entered at the provider by hand"
            );
            "given_up"
        }
    };
    crate::metrics::shipping_notice(result);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(follow: Follow, tries: i16, failure: Failure) -> Option<u64> {
        match follows(follow, tries, Err(failure)) {
            NoticeEnd::Again { wait, .. } => Some(wait.as_secs()),
            NoticeEnd::GivenUp { .. } => None,
            NoticeEnd::Told => panic!("told by a failure"),
        }
    }

    #[test]
    fn a_failure_that_passes_is_tried_eight_times_over_a_day_and_three_times_where_each_adds_a_record() {
        let failure = || Failure::new(Class::Transient, "http_500");
        let tries = |follow| {
            (1..)
                .map_while(|tries| wait(follow, tries, failure()))
                .collect::<Vec<u64>>()
        };
        let waits = tries(Follow::Replaces);
        assert_eq!(waits.len(), 7);
        let day: u64 = waits.iter().sum();
        assert!((22 * 3600..26 * 3600).contains(&day), "{day}");
        assert_eq!(tries(Follow::Adds), [60, 300]);
    }

    #[test]
    fn what_the_provider_asks_to_wait_is_waited_within_bounds_and_a_refusal_is_the_end() {
        let mut limited = Failure::new(Class::RateLimited, "http_429");
        limited.retry_after = Some(Duration::from_secs(600));
        assert_eq!(wait(Follow::Replaces, 1, limited.clone()), Some(600));
        limited.retry_after = Some(Duration::MAX);
        assert_eq!(wait(Follow::Replaces, 1, limited), Some(LONGEST_WAIT.as_secs()));
        assert_eq!(
            wait(Follow::Replaces, 1, Failure::new(Class::Rejected, "http_422")),
            None
        );
        assert_eq!(follows(Follow::Replaces, 3, Ok(())), NoticeEnd::Told);
    }
}
