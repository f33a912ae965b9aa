//! An act on captures from the command line, from the preview to the verdicts: what `replay`, `cancel` and `resolve` share.
//!
//! The act is an operation in the database. This process drives it while it watches, so that it works where no worker and
//! no server runs; and when this process goes, the others go on with it.

mod verdicts;

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use uuid::Uuid;

use crate::operations::{
    self, AbilitiesByLane, Act, DEFAULT_RATE, DEFAULT_STOP_AT_PERCENT, HIGHEST_RATE, ListDigest, OperationError,
    Preview, Request, Strangers, Surveyed,
};
use crate::outbox::{AuditStamp, OperationRow, Outbox};

use super::act::ActArgs;
use super::context::Context;
use super::output::{Error, Exit, say};
use super::selection::{Chosen, SelectionArgs, Tally, in_words};

use verdicts::Verdicts;
pub use verdicts::Was;

/// Items that are read at once.
const PAGE: i64 = 1_000;

/// How fast, and when to stop.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "How fast")]
pub struct PaceArgs {
    /// Captures a second, at most. Replayed ones end only after reads: at a rate that is through before they do, nothing is
    /// left that --stop-at-percent could stop
    #[arg(long, value_name = "N", default_value_t = DEFAULT_RATE, value_parser = clap::value_parser!(u32).range(1..=i64::from(HIGHEST_RATE)))]
    rate: u32,
    /// Stop by itself when more than so many percent fail (a replayed one that dies again has failed), looked at from 20 on
    #[arg(long, value_name = "PERCENT", default_value_t = DEFAULT_STOP_AT_PERCENT, value_parser = clap::value_parser!(u8).range(0..=100))]
    stop_at_percent: u8,
    /// Begin, print the operation's id and return; workers and servers carry it out
    #[arg(long, conflicts_with = "dry_run")]
    detach: bool,
}

/// What shall be done, and how.
pub struct Acting<'a> {
    /// What is done to each.
    pub act: Act,
    /// Which.
    pub selection: &'a SelectionArgs,
    /// Who and why.
    pub who: &'a ActArgs,
    /// How fast.
    pub pace: &'a PaceArgs,
    /// What the providers can do; empty where the act does not ask.
    pub abilities: AbilitiesByLane,
}

/// What was looked at before anything is done.
pub struct Survey {
    /// Who and why.
    pub stamp: AuditStamp,
    /// Which captures.
    pub chosen: Chosen,
    /// A way into the outbox.
    pub outbox: Outbox,
    /// What it comes to.
    pub preview: Preview,
    /// Each capture as it was, in the order in which they were chosen; `None`: there is none.
    pub captures: Vec<(Uuid, Option<Box<Was>>)>,
}

impl Acting<'_> {
    /// Looks at what it would come to.
    pub async fn survey(&self, context: &Context) -> Result<Survey, Error> {
        let stamp = self.who.stamp(context)?;
        // What is wrong with the arguments is told before the database is asked.
        self.selection.check(&self.act)?;
        let outbox = context.outbox().await?;
        let chosen = self.selection.chosen(outbox.now().await?).await?;
        let mut captures = Vec::new();
        let mut each = |surveyed: Surveyed<'_>| {
            captures.push(match surveyed {
                Surveyed::Capture(prospect) => (prospect.facts.row.id, Some(Box::new(Was::of(prospect)))),
                Surveyed::Missing(id) => (id, None),
            });
        };
        let preview = self.look(&outbox, &chosen, &mut each).await?;
        Ok(Survey {
            stamp,
            chosen,
            outbox,
            preview,
            captures,
        })
    }

    async fn look(
        &self,
        outbox: &Outbox,
        chosen: &Chosen,
        each: &mut (dyn FnMut(Surveyed<'_>) + Send),
    ) -> Result<Preview, OperationError> {
        let (choice, rate) = (&chosen.choice, self.pace.rate);
        operations::survey(outbox, &self.abilities, &self.act, choice, chosen.all, rate, each).await
    }

    /// The list that the act is bound to. Who said yes before anything was shown means what matches, whatever that is; but
    /// nothing is settled by a person's word that was not looked at.
    fn seen(&self, survey: &Survey) -> Option<ListDigest> {
        let settles = match &self.act {
            Act::Resolve { .. } => true,
            Act::Replay { .. } | Act::Cancel => false,
        };
        (settles || !self.selection.yes()).then(|| survey.preview.digest.clone())
    }

    /// Says what would become of each, and changes nothing.
    pub fn say_what_would_be(&self, survey: &Survey, context: &Context) -> Result<Tally, Error> {
        let mut verdicts = Verdicts::begin(&self.act, survey.captures.len(), true, context)?;
        for (id, was) in &survey.captures {
            match was {
                Some(was) => verdicts.would(was)?,
                None => verdicts.missing(*id)?,
            }
        }
        verdicts.finish()
    }

    /// Asks, begins the operation, watches and drives it, and tells what became of each.
    pub async fn carry_out(&self, survey: Survey, context: &Context) -> Result<Carried, Error> {
        self.selection
            .confirm(&self.act, &survey.chosen, &survey.preview, context)
            .await?;
        if survey.preview.will_act == 0 {
            return Ok(Carried::ToItsEnd(self.say_what_would_be(&survey, context)?));
        }
        let request = Request {
            act: self.act.clone(),
            choice: survey.chosen.choice.clone(),
            all: survey.chosen.all,
            digest: self.seen(&survey),
            key: None,
            stamp: survey.stamp.clone(),
            rate_per_second: self.pace.rate,
            stop_at_percent: self.pace.stop_at_percent,
        };
        let id = match operations::begin(&survey.outbox, request).await {
            Ok(id) => id,
            Err(moved @ OperationError::ListMoved { .. }) => {
                // What was shown is old: this is what it would come to now.
                let again = self.look(&survey.outbox, &survey.chosen, &mut |_| {}).await?;
                say(&format!("it would now be {}", in_words(again.will_act, &again.sums)));
                say_groups(&again);
                return Err(moved.into());
            }
            Err(error) => return Err(error.into()),
        };
        if self.pace.detach {
            context
                .output
                .record(&[super::output::Column::id("operation")], &[id.to_string().into()])?;
            say(&format!(
                "begun; capture operations watch {id} shows it, and pause, resume and cancel steer it"
            ));
            return Ok(Carried::ByOthers(Exit::Done));
        }
        if survey.captures.len() > 1 {
            say(&format!("operation {id}"));
        }
        let Some(row) = watch(&survey.outbox, id, Some((&self.abilities, Strangers::Skip)), context).await? else {
            return Ok(Carried::ByOthers(Exit::Interrupted));
        };
        let tally = self.tell(&survey, &row, context).await?;
        Ok(Carried::ToItsEnd(tally))
    }

    async fn tell(&self, survey: &Survey, row: &OperationRow, context: &Context) -> Result<Tally, Error> {
        let total = usize::try_from(row.total).unwrap_or(usize::MAX);
        let mut verdicts = Verdicts::begin(&self.act, total, false, context)?;
        let were: BTreeMap<Uuid, &Was> = survey
            .captures
            .iter()
            .filter_map(|(id, was)| Some((*id, was.as_deref()?)))
            .collect();
        let mut after = 0;
        loop {
            let items = survey.outbox.operation_items(row.id, after, PAGE, false).await?;
            let Some(last) = items.last() else { break };
            after = last.n;
            for item in &items {
                match were.get(&item.intent) {
                    Some(was) => verdicts.item(was, item)?,
                    // It came to match between the look and the freezing.
                    None => match survey.outbox.capture(item.intent).await? {
                        Some(capture) => verdicts.item(&Was::now(capture), item)?,
                        None => verdicts.missing(item.intent)?,
                    },
                }
            }
        }
        let tally = verdicts.finish()?;
        if row.state != "done" {
            say(&format!(
                "the operation is {}: {}; {} of {} are not done",
                row.state,
                row.last_word.as_deref().unwrap_or("nobody said why"),
                row.not_done(),
                row.total
            ));
        }
        Ok(tally)
    }
}

/// How far this process went.
pub enum Carried {
    /// All have their verdict, or it acts no more.
    ToItsEnd(Tally),
    /// It goes on without this process, which ends so.
    ByOthers(Exit),
}

/// Watches an operation to its end, and drives it if it may; `None`: interrupted.
pub async fn watch(
    outbox: &Outbox,
    id: Uuid,
    mut drives: Option<(&AbilitiesByLane, Strangers)>,
    context: &Context,
) -> Result<Option<OperationRow>, Error> {
    let progress = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}") {
        progress.set_style(style);
    }
    loop {
        let mut again_in = Duration::from_millis(500);
        if let Some((abilities, strangers)) = drives {
            match operations::drive(outbox, abilities, id, strangers).await {
                Ok(ran) => again_in = ran.and_then(|ran| ran.again_in).unwrap_or(again_in),
                // Who may look and not act looks.
                Err(error) if error.refusal().is_some_and(|refusal| refusal.sqlstate == "42501") => drives = None,
                Err(error) => {
                    progress.finish_and_clear();
                    say(&format!("operation {id} is left to workers and servers"));
                    return Err(error.into());
                }
            }
        }
        let row = outbox.operation(id).await?.ok_or_else(|| no_such(id))?;
        progress.set_length(u64::try_from(row.total).unwrap_or(0));
        progress.set_position(u64::try_from(row.total - row.not_done()).unwrap_or(0));
        progress.set_message(message(&row));
        if row.is_over() {
            progress.finish_and_clear();
            return Ok(Some(row));
        }
        tokio::select! {
            () = tokio::time::sleep(again_in) => {}
            () = context.interrupted.cancelled() => {
                progress.finish_and_clear();
                say(&format!(
                    "interrupted: {} of {} have their verdict; the operation goes on wherever a worker or a server runs\n\
                     capture operations watch {id} shows it, and pause, resume and cancel steer it",
                    row.total - row.not_done(),
                    row.total
                ));
                return Ok(None);
            }
        }
    }
}

fn message(row: &OperationRow) -> String {
    let mut told = match row.seconds_left {
        Some(seconds) => format!("{} · {seconds} s left at its rate", row.state),
        None => row.state.clone(),
    };
    for (count, what) in [
        (row.skipped, "left alone"),
        (row.failed, "refused"),
        (row.dead_again, "dead again"),
    ] {
        if count > 0 {
            told.push_str(&format!(" · {count} {what}"));
        }
    }
    told
}

/// There is no operation of that id.
pub fn no_such(id: Uuid) -> Error {
    Error::not_found(format!("there is no operation {id}")).hint("capture operations list shows them")
}

/// What is planned, on stderr: what somebody reads before saying yes.
pub fn say_groups(preview: &Preview) {
    for group in &preview.will {
        say(&format!("{}\n  {}", in_words(group.captures, &group.sums), group.says));
    }
    for group in &preview.skipped {
        say(&format!(
            "{}\n  not: {}",
            in_words(group.captures, &group.sums),
            group.says
        ));
    }
}

impl From<OperationError> for Error {
    fn from(error: OperationError) -> Error {
        let hint = error.hint();
        match error {
            OperationError::Outbox(error) => error.into(),
            other => {
                let told = match matches!(
                    other,
                    OperationError::ListMoved { .. } | OperationError::KeyTaken { .. }
                ) {
                    true => Error::state_forbids(other.to_string()),
                    false => Error::usage(other.to_string()),
                };
                match hint {
                    Some(hint) => told.hint(hint),
                    None => told,
                }
            }
        }
    }
}
