//! How long captures of a stream took: joined from what the producers, the provider and the database saw, by one clock.

use std::collections::HashMap;

use anyhow::ensure;
use sqlx::Row;
use uuid::Uuid;

use super::figures::{number, percentile};
use super::load::Inserted;
use super::report::Chapter;
use super::server::Database;
use super::stub::Visit;

/// What the server must be started with: it keeps the time of each commit.
pub const COMMIT_TIMES: (&str, &str) = ("track_commit_timestamp", "on");

/// One way to measure, in microseconds, sorted.
pub struct Latencies {
    pub sent_to_provider: Vec<i64>,
    pub committed_to_provider: Vec<i64>,
    pub sent_to_captured: Vec<i64>,
    pub committed_to_captured: Vec<i64>,
    /// The same without the time that the provider took.
    pub beside_the_provider: Vec<i64>,
}

impl Latencies {
    /// `warm_up`: the first of the stream, which are left out.
    pub async fn of(
        inserted: &[Inserted],
        warm_up: usize,
        visits: &HashMap<Uuid, Visit>,
        database: &mut Database,
    ) -> anyhow::Result<Latencies> {
        let rows = sqlx::query(
            "select intent, (extract(epoch from pg_xact_commit_timestamp(xmin)) * 1000000)::bigint from capture.outcomes where state = 'captured'",
        )
        .fetch_all(&mut database.session)
        .await?;
        let captured: HashMap<Uuid, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let mut found = Latencies {
            sent_to_provider: Vec::new(),
            committed_to_provider: Vec::new(),
            sent_to_captured: Vec::new(),
            committed_to_captured: Vec::new(),
            beside_the_provider: Vec::new(),
        };
        for one in inserted.iter().skip(warm_up) {
            let times = visits.get(&one.id).zip(captured.get(&one.id));
            ensure!(times.is_some(), "the capture {} was not made, or not recorded", one.id);
            if let Some((Visit { arrived, answered }, captured)) = times {
                found.sent_to_provider.push(arrived - one.sent);
                // The provider may have been asked before the producer had its answer.
                found.committed_to_provider.push((arrived - one.committed).max(0));
                found.sent_to_captured.push(captured - one.sent);
                found.committed_to_captured.push(captured - one.committed);
                found
                    .beside_the_provider
                    .push(captured - one.committed - (answered - arrived));
            }
        }
        found.sent_to_provider.sort_unstable();
        found.committed_to_provider.sort_unstable();
        found.sent_to_captured.sort_unstable();
        found.committed_to_captured.sort_unstable();
        found.beside_the_provider.sort_unstable();
        Ok(found)
    }

    pub fn tell(&self, chapter: &mut Chapter, case: &str) {
        let ways = [
            ("committed to provider", &self.committed_to_provider),
            ("sent to provider", &self.sent_to_provider),
            ("sent to captured", &self.sent_to_captured),
            ("committed to captured", &self.committed_to_captured),
            ("of that ours", &self.beside_the_provider),
        ];
        for (way, sorted) in ways {
            for (name, of_thousand) in [("p50", 500), ("p99", 990), ("p99.9", 999)] {
                chapter.add(case, &format!("{way}, {name}"), "ms", ms(sorted, of_thousand));
            }
        }
        chapter.note(
            "sent: the INSERT is about to leave the producer; committed: its commit is answered; provider: the request is read; \
             captured: the settle's commit begins (its sync not counted); ours: but for the time from the request's last byte \
             to the answer's first",
        );
    }
}

pub fn ms(sorted: &[i64], of_thousand: usize) -> f64 {
    percentile(sorted, of_thousand).map_or(f64::NAN, |micros| number(micros) / 1000.0)
}
