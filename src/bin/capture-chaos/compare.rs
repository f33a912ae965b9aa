//! The judgement: the provider's ledger, the tables, the feed, the attempts, the logs and what the order system believes
//! are laid side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use capture::simulator::{LedgerEntry, Writer, read_ledger};
use serde::Serialize;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::counters::Counted;
use super::feed::Feed;
use super::load::Load;
use super::orders::{Belief, Plan, Wanted};
use super::schedule::LEASE_MS;
use super::stage::{Stage, locked};
use super::workers::SECRET;

/// For how long a worker of a lost history may go on sending: as long as a lease lasts. And a moment to get here.
const LAST_OF_A_HISTORY: Duration = Duration::from_millis(LEASE_MS + 2_000);

/// The sins, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sin {
    /// The money of one intent moved twice.
    Doubled,
    /// Asked for and gone; or the money moved and the intent ended as if it had not.
    Lost,
    /// Recorded as captured, or sent, and it never happened, or nobody asked.
    Invented,
    /// More was captured than was authorised.
    OverAuthorized,
    /// Left to a person although the provider shows plainly what happened.
    Undecided,
    /// Did not end in time.
    Stuck,
    /// The event feed misses or repeats something, or tells another story than the tables.
    Feed,
    /// Sent without an attempt that was committed before.
    Unrecorded,
    /// A secret in a log, a table or a metric.
    Secret,
    /// Workers counted more than there is.
    Miscounted,
    /// A worker panicked.
    Panicked,
}

/// One sin, with its evidence.
#[derive(Debug, Clone, Serialize)]
pub struct Breach {
    pub sin: Sin,
    pub evidence: String,
}

/// What the tables say of an intent.
#[derive(Debug, Clone)]
struct Recorded {
    state: String,
    reason: String,
    code: String,
    captured_minor: Option<i64>,
}

/// The comparison as far as it got.
#[derive(Debug, Default)]
pub struct Judgement {
    pub breaches: Vec<Breach>,
    /// How intents ended, in words.
    pub ends: BTreeMap<String, u64>,
    pub intents: u64,
    pub captured: u64,
    pub undecided: u64,
    pub attempts: i64,
    /// Capture POSTs that workers put on the wire.
    pub posts: u64,
    /// Of these, the ones of a history that was lost: no row tells of them.
    pub posts_of_lost_histories: u64,
    /// What workers counted, as far as it was heard.
    pub counted: Counted,
    /// What the tables hold of money captured, in minor units.
    pub captured_minor: i64,
    pub events: i64,
    /// What is odd and no sin.
    pub notes: Vec<String>,
}

impl Judgement {
    fn sin(&mut self, sin: Sin, evidence: String) {
        self.breaches.push(Breach { sin, evidence });
    }

    /// Everything that needs the database and the ledger.
    pub async fn compare(
        &mut self,
        connection: &mut PgConnection,
        ledger: &Path,
        load: &Load,
        stage: &Stage,
        feed: &Feed,
        counted: Counted,
    ) -> anyhow::Result<()> {
        let entries = read_ledger(ledger)?;
        let recorded = recorded(connection).await?;
        self.intents(&entries, &recorded, load);
        self.authorizations(&entries, load);
        self.events(connection, &recorded, feed).await?;
        self.attempts(connection, stage).await?;
        self.counters(counted, load);
        self.places(connection).await?;
        Ok(())
    }

    fn intents(&mut self, entries: &[LedgerEntry], recorded: &BTreeMap<Uuid, Recorded>, load: &Load) {
        let mut moved: BTreeMap<(&str, i64), Vec<&LedgerEntry>> = BTreeMap::new();
        for entry in entries.iter().filter(|entry| entry.writer == Writer::Ours) {
            let name = (entry.payment_id.as_str(), entry.amount_minor);
            moved.entry(name).or_default().push(entry);
        }
        let book = load.book.all();
        for (wanted, plan, belief) in &book {
            let real = moved
                .remove(&(wanted.payment_id.as_str(), wanted.amount_minor))
                .unwrap_or_default();
            self.intent(wanted, *plan, *belief, recorded.get(&wanted.id), &real, load.history());
        }
        for ((payment, amount), entries) in moved {
            self.sin(
                Sin::Invented,
                format!("{payment} {amount}: nobody asked for it; ledger {entries:?}"),
            );
        }
        let known: BTreeSet<Uuid> = book.iter().map(|(wanted, ..)| wanted.id).collect();
        for id in recorded.keys().filter(|id| !known.contains(id)) {
            self.sin(Sin::Invented, format!("{id}: an intent that nobody inserted"));
        }
        for id in locked(&load.lost_in_sync).iter() {
            self.sin(
                Sin::Lost,
                format!("{id}: committed under synchronous replication, gone after the promotion"),
            );
        }
    }

    fn intent(
        &mut self,
        wanted: &Wanted,
        plan: Plan,
        belief: Belief,
        recorded: Option<&Recorded>,
        real: &[&LedgerEntry],
        history: u64,
    ) {
        let says = format!(
            "{} {}/{} {} ({plan:?}, {belief:?}): recorded {recorded:?}, asked {}, ledger {real:?}",
            wanted.id, wanted.provider, wanted.account, wanted.payment_id, wanted.amount_minor
        );
        if real.len() > 1 {
            self.sin(Sin::Doubled, says.clone());
        }
        let Some(recorded) = recorded else {
            let lost_half = belief.refused && history > 0;
            match (belief.committed, real) {
                (true, _) => self.sin(Sin::Lost, says),
                (false, []) => {}
                // Half of a greedy order, captured in a history that was lost, and refused when it was inserted again.
                (false, _) if lost_half => self.notes.push(says),
                (false, _) => self.sin(Sin::Invented, says),
            }
            return;
        };
        self.intents += 1;
        let end = match recorded.state.as_str() {
            "dead" => format!("dead, {} ({})", recorded.reason, recorded.code),
            state => state.to_owned(),
        };
        *self.ends.entry(end).or_default() += 1;
        if plan == Plan::RolledBack {
            return self.sin(Sin::Invented, says);
        }
        if belief.cancelled_in == Some(history) && recorded.state == "captured" {
            self.sin(Sin::Invented, format!("cancelled, and captured all the same: {says}"));
        }
        match (recorded.state.as_str(), recorded.reason.as_str()) {
            ("captured", _) => {
                self.captured += 1;
                self.captured_minor += recorded.captured_minor.unwrap_or(0);
                if real.is_empty() || recorded.captured_minor != Some(wanted.amount_minor) {
                    self.sin(Sin::Invented, says);
                }
            }
            ("dead", "undecided") => {
                self.undecided += 1;
                self.sin(Sin::Undecided, says);
            }
            // Captured in a history that was lost, inserted again, refused: the books say that the money moved, and not by
            // this intent, which is all that this history can know.
            ("dead", "captured_elsewhere") if belief.lost_with_history && real.len() == 1 => {
                self.notes.push(says);
            }
            ("dead" | "cancelled", _) => {
                if !real.is_empty() {
                    self.sin(Sin::Lost, says);
                }
            }
            _ => self.sin(Sin::Stuck, says),
        }
    }

    fn authorizations(&mut self, entries: &[LedgerEntry], load: &Load) {
        let mut payments: BTreeMap<String, (i64, bool)> = BTreeMap::new();
        for (wanted, _, belief) in load.book.all() {
            if let Some(authorized) = wanted.authorized_minor {
                let payment = payments.entry(wanted.payment_id).or_insert((authorized, false));
                payment.1 |= belief.lost_with_history || (belief.refused && load.history() > 0);
            }
        }
        for (payment, (authorized, history_lost)) in payments {
            let of_payment = entries.iter().filter(|entry| entry.payment_id == payment);
            let moved: i64 = of_payment.map(|entry| entry.amount_minor).sum();
            if moved > authorized {
                let says = format!("{payment}: {moved} captured of {authorized} authorised");
                match history_lost {
                    true => self.notes.push(format!("{says}, in two histories of the database")),
                    false => self.sin(Sin::OverAuthorized, says),
                }
            }
        }
    }

    async fn events(
        &mut self,
        connection: &mut PgConnection,
        recorded: &BTreeMap<Uuid, Recorded>,
        feed: &Feed,
    ) -> anyhow::Result<()> {
        let rows = sqlx::query("select id, type, intent_id, data ->> 'alarm' as alarm from capture.events")
            .fetch_all(connection)
            .await?;
        self.events = i64::try_from(rows.len())?;
        let mut captured: BTreeMap<Uuid, u64> = BTreeMap::new();
        let mut missed = 0;
        for row in &rows {
            let (id, kind, intent): (Uuid, String, Uuid) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            if kind == "capture.captured" {
                *captured.entry(intent).or_default() += 1;
            }
            if let Some(alarm) = row.try_get::<Option<String>, _>(3)? {
                self.notes
                    .push(format!("{intent}: a late result raised the alarm {alarm}"));
            }
            missed += u64::from(!feed.has_seen(id));
        }
        if missed > 0 {
            self.sin(
                Sin::Feed,
                format!(
                    "{missed} of {} events never came to a reader of events_after",
                    rows.len()
                ),
            );
        }
        let refused = feed.refused.load(std::sync::atomic::Ordering::Relaxed);
        if refused > 0 {
            self.notes.push(format!(
                "the reader of events_after began anew {refused} times: the event of its cursor was lost with a history"
            ));
        }
        let repeated = feed.repeated.load(std::sync::atomic::Ordering::Relaxed);
        if repeated > 0 {
            self.sin(
                Sin::Feed,
                format!("{repeated} events came twice to a reader that kept its cursor"),
            );
        }
        for (id, recorded) in recorded {
            let told = captured.get(id).copied().unwrap_or(0);
            let due = u64::from(recorded.state == "captured");
            if told != due {
                self.sin(
                    Sin::Feed,
                    format!("{id}: {} and {told} events capture.captured", recorded.state),
                );
            }
        }
        Ok(())
    }

    /// Every capture POST that left a worker has an attempt of its own: one that sent, or one whose lease was lost. Where a
    /// history was lost, attempts went with it: held against it is then what was posted once no worker of that history could
    /// send any more, and the rest is counted.
    async fn attempts(&mut self, connection: &mut PgConnection, stage: &Stage) -> anyhow::Result<()> {
        let rows = sqlx::query(
            "select i.payment_id, count(a.intent) filter (where a.sent is distinct from false), count(a.intent), \
                    count(a.intent) filter (where a.sent is distinct from false and a.ended_at >= coalesce($1, '-infinity')) \
             from capture.intents i left join capture.attempts a on a.intent = i.id group by 1",
        )
        .bind(stage.anew())
        .fetch_all(connection)
        .await?;
        let mut open: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        for row in rows {
            open.insert(row.try_get(0)?, (row.try_get(1)?, row.try_get(3)?));
            self.attempts += row.try_get::<i64, _>(2)?;
        }
        let of_this_history = stage.anew().map(|anew| anew + LAST_OF_A_HISTORY);
        for (path, posts) in stage.posts() {
            let payment = path.trim_end_matches("/capture").rsplit('/').next().unwrap_or_default();
            let (attempts, of_late) = open.get(payment).copied().unwrap_or_default();
            let all = i64::try_from(posts.len())?;
            let late = posts
                .iter()
                .filter(|at| of_this_history.is_none_or(|from| **at >= from));
            let late = i64::try_from(late.count())?;
            self.posts += u64::try_from(all)?;
            if late > of_late {
                self.sin(
                    Sin::Unrecorded,
                    format!("{payment}: {late} capture POSTs, {of_late} attempts that sent (in all {all}, {attempts})"),
                );
            } else {
                self.posts_of_lost_histories += u64::try_from(all - attempts).unwrap_or(0);
            }
        }
        Ok(())
    }

    /// Workers count what they do; nobody may count more than there is. Less is no sin: what a worker counts just before it
    /// is killed is heard by nobody. What was captured in a history that was lost may be counted in the next one again.
    fn counters(&mut self, counted: Counted, load: &Load) {
        self.counted = counted;
        if load.history() > 0 {
            return;
        }
        let more = |counted: u64, there: i64| i64::try_from(counted).is_ok_and(|counted| counted > there);
        if more(counted.attempts, self.attempts) {
            let says = format!(
                "workers counted {} capture POSTs, and there are {} attempts",
                counted.attempts, self.attempts
            );
            self.sin(Sin::Miscounted, says);
        }
        if more(counted.captured_minor, self.captured_minor) {
            let says = format!(
                "workers counted {} captured, and {} is recorded",
                counted.captured_minor, self.captured_minor
            );
            self.sin(Sin::Miscounted, says);
        }
    }

    /// Nothing is left in the places of what has not ended.
    async fn places(&mut self, connection: &mut PgConnection) -> anyhow::Result<()> {
        let rows = sqlx::query(
            "select 'ready', intent from capture.ready union all select 'waiting', intent from capture.waiting \
             union all select 'leases', unnest(intents) from capture.leases",
        )
        .fetch_all(connection)
        .await?;
        for row in rows {
            let (place, intent): (String, Uuid) = (row.try_get(0)?, row.try_get(1)?);
            self.sin(Sin::Stuck, format!("{intent} is still in {place}"));
        }
        Ok(())
    }

    /// A log, a dump, a page of metrics.
    pub fn text(&mut self, name: &str, text: &str) {
        if text.contains(SECRET) {
            self.sin(Sin::Secret, format!("{name} contains an account's secret"));
        }
        for line in text.lines().filter(|line| line.contains("panicked")) {
            self.sin(Sin::Panicked, format!("{name}: {line}"));
        }
    }

    /// How many of each.
    pub fn count(&self, sin: Sin) -> usize {
        self.breaches.iter().filter(|breach| breach.sin == sin).count()
    }
}

async fn recorded(connection: &mut PgConnection) -> anyhow::Result<BTreeMap<Uuid, Recorded>> {
    let rows = sqlx::query(
        "select id, state, coalesce(dead_reason, ''), coalesce(last_code, ''), captured_minor::bigint
         from capture.status",
    )
    .fetch_all(connection)
    .await?;
    let mut recorded = BTreeMap::new();
    for row in rows {
        let one = Recorded {
            state: row.try_get(1)?,
            reason: row.try_get(2)?,
            code: row.try_get(3)?,
            captured_minor: row.try_get(4)?,
        };
        recorded.insert(row.try_get(0)?, one);
    }
    Ok(recorded)
}
