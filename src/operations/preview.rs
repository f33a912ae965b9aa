//! What an act on many captures would come to. Nothing is changed by looking.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{AbilitiesByLane, Act, Choice, ListDigest, OperationError, Prospect, Safety, check_choice, judge, meant};
use crate::outbox::{CaptureFacts, CaptureRow, Outbox};

/// Captures that are read in one statement.
const CHUNK: usize = 500;
/// Captures that a preview shows whole.
const SAMPLE: usize = 10;

/// An amount in one currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Sum {
    /// Minor units.
    pub amount_minor: i64,
    /// ISO 4217.
    pub currency: String,
}

/// Captures that the same can be said of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Group {
    /// What.
    pub says: String,
    /// Of dead letters: is a replay safe?
    pub safe: Option<bool>,
    /// How many.
    pub captures: u64,
    /// Their money.
    pub sums: Vec<Sum>,
}

/// One capture of the sample.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Line {
    /// The capture.
    pub row: CaptureRow,
    /// Would it be acted on?
    pub acts: bool,
    /// What would be done, or why not.
    pub says: String,
    /// Of a dead letter.
    pub safety: Option<Safety>,
}

/// What an act would come to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Preview {
    /// Captures that were named or match, and ids that are none.
    pub matching: u64,
    /// Of these, acted on.
    pub will_act: u64,
    /// Those that would be acted on, by what would be done; the most first.
    pub will: Vec<Group>,
    /// Those that would be left alone, by the reason.
    pub skipped: Vec<Group>,
    /// The money of those that would be acted on.
    pub sums: Vec<Sum>,
    /// Those that would be acted on, by the class of their last failure.
    pub by_class: Vec<(Option<String>, u64, Vec<Sum>)>,
    /// The first of them, whole.
    pub sample: Vec<Line>,
    /// How long it takes at the given rate.
    pub seconds: u64,
    /// When this was looked at, by the database's clock.
    pub as_of: DateTime<Utc>,
    /// The list that an operation would freeze.
    pub digest: ListDigest,
}

/// One capture that a survey came by.
pub enum Surveyed<'a> {
    /// It is there.
    Capture(&'a Prospect),
    /// There is none of that id.
    Missing(Uuid),
}

/// What an act on these captures would come to.
pub async fn preview(
    outbox: &Outbox,
    abilities: &AbilitiesByLane,
    act: &Act,
    choice: &Choice,
    all: bool,
    rate_per_second: u32,
) -> Result<Preview, OperationError> {
    survey(outbox, abilities, act, choice, all, rate_per_second, &mut |_| {}).await
}

/// As [`preview`], and shows each capture on the way.
pub async fn survey(
    outbox: &Outbox,
    abilities: &AbilitiesByLane,
    act: &Act,
    choice: &Choice,
    all: bool,
    rate_per_second: u32,
    each: &mut (dyn FnMut(Surveyed<'_>) + Send),
) -> Result<Preview, OperationError> {
    check_choice(act, choice, all)?;
    let as_of = outbox.now().await?;
    let (ids, digest) = match choice {
        Choice::Ids(ids) => {
            let mut seen = BTreeSet::new();
            let ids: Vec<Uuid> = ids.iter().copied().filter(|id| seen.insert(*id)).collect();
            let digest = ListDigest::of(&ids);
            (ids, digest)
        }
        Choice::Filter(filter) => {
            let found = outbox.candidates(&meant(act, filter, all)?).await?;
            let digest = ListDigest::of(&found.ids);
            ([found.ids, found.resolved].concat(), digest)
        }
    };
    let by_filter = matches!(choice, Choice::Filter(_));
    let mut counted = Counted::default();
    for chunk in ids.chunks(CHUNK) {
        let found = outbox.capture_facts(chunk).await?;
        let mut found: BTreeMap<Uuid, CaptureFacts> = found.into_iter().map(|facts| (facts.row.id, facts)).collect();
        for id in chunk {
            match found.remove(id) {
                Some(facts) => {
                    let prospect = judge(act, facts, abilities);
                    let prospect = if by_filter {
                        closed_to_filters(act, prospect)
                    } else {
                        prospect
                    };
                    counted.add(&prospect);
                    each(Surveyed::Capture(&prospect));
                }
                None => {
                    counted.missing += 1;
                    each(Surveyed::Missing(*id));
                }
            }
        }
    }
    Ok(counted.preview(as_of, digest, rate_per_second))
}

/// A filter does not mean what a person has settled, whatever the act.
fn closed_to_filters(act: &Act, prospect: Prospect) -> Prospect {
    let closed = prospect.facts.row.last_code.as_deref() == Some(crate::outbox::RESOLVED_NOT_CAPTURED);
    match act {
        Act::Resolve { .. } if closed => {
            let says = "a person resolved it as not captured".to_owned();
            Prospect {
                acts: false,
                group: says.clone(),
                says,
                ..prospect
            }
        }
        Act::Resolve { .. } | Act::Replay { .. } | Act::Cancel => prospect,
    }
}

#[derive(Default)]
struct Tally {
    captures: u64,
    sums: BTreeMap<String, i64>,
}

impl Tally {
    fn add(&mut self, row: &CaptureRow) {
        self.captures += 1;
        let sum = self.sums.entry(row.currency.clone()).or_default();
        *sum = sum.saturating_add(row.amount_minor);
    }

    fn sums(&self) -> Vec<Sum> {
        let sum = |(currency, minor): (&String, &i64)| Sum {
            amount_minor: *minor,
            currency: currency.clone(),
        };
        self.sums.iter().map(sum).collect()
    }
}

#[derive(Default)]
struct Counted {
    missing: u64,
    will: Tally,
    by_words: BTreeMap<(bool, String, Option<bool>), Tally>,
    by_class: BTreeMap<Option<String>, Tally>,
    sample: Vec<Line>,
}

impl Counted {
    fn add(&mut self, prospect: &Prospect) {
        let row = &prospect.facts.row;
        if prospect.acts {
            self.will.add(row);
            self.by_class.entry(row.last_class.clone()).or_default().add(row);
        }
        let safe = prospect.safety.as_ref().map(|safety| safety.safe);
        let words = (prospect.acts, prospect.group.clone(), safe);
        self.by_words.entry(words).or_default().add(row);
        if self.sample.len() < SAMPLE {
            self.sample.push(Line {
                row: row.clone(),
                acts: prospect.acts,
                says: prospect.says.clone(),
                safety: prospect.safety.clone(),
            });
        }
    }

    fn preview(self, as_of: DateTime<Utc>, digest: ListDigest, rate_per_second: u32) -> Preview {
        let groups = |acts: bool| {
            let mut groups: Vec<Group> = self
                .by_words
                .iter()
                .filter(|((acted_on, _, _), _)| *acted_on == acts)
                .map(|((_, says, safe), tally)| Group {
                    says: says.clone(),
                    safe: *safe,
                    captures: tally.captures,
                    sums: tally.sums(),
                })
                .collect();
            groups.sort_by_key(|group| std::cmp::Reverse(group.captures));
            groups
        };
        let mut skipped = groups(false);
        if self.missing > 0 {
            skipped.push(Group {
                says: "there is no such capture".to_owned(),
                safe: None,
                captures: self.missing,
                sums: Vec::new(),
            });
        }
        let matching = self.missing + self.by_words.values().map(|tally| tally.captures).sum::<u64>();
        let mut by_class: Vec<(Option<String>, u64, Vec<Sum>)> = self
            .by_class
            .iter()
            .map(|(class, tally)| (class.clone(), tally.captures, tally.sums()))
            .collect();
        by_class.sort_by_key(|(_, captures, _)| std::cmp::Reverse(*captures));
        Preview {
            matching,
            will_act: self.will.captures,
            will: groups(true),
            skipped,
            sums: self.will.sums(),
            by_class,
            // The first second's worth goes at once.
            seconds: self.will.captures.div_ceil(u64::from(rate_per_second.max(1))),
            as_of,
            digest,
            sample: self.sample,
        }
    }
}
