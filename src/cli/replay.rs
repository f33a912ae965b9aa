//! `replay`: sends dead letters back to work, and says before whether that is safe.

use uuid::Uuid;

use crate::operations::{self, Act, Preview, Safety};
use crate::outbox::Outbox;

use super::accounts;
use super::act::ActArgs;
use super::acting::{Acting, Carried, PaceArgs, say_groups};
use super::context::Context;
use super::output::{Error, Exit, say};
use super::selection::SelectionArgs;

/// Sends dead letters back to work: to reads first, and only then, if they show nothing of ours, to the provider.
///
/// With -n it says of each whether that is safe, and under which key it would be sent, and changes nothing. What a person
/// has resolved is closed: a filter passes it over, and by its id it says who resolved it and is not replayed. Several are
/// an operation: it goes on without this process, and operations watch, pause, resume and cancel steer it.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    selection: SelectionArgs,
    /// Also replay what a person resolved as not captured: named by its id, and looked up at the provider once more
    #[arg(long, requires = "ids")]
    resolved: bool,
    /// Also ask the provider what it knows of this one capture: a read, nothing is sent. With -n and one ID
    #[arg(long, requires = "dry_run", requires = "ids")]
    read: bool,
    #[command(flatten)]
    act: ActArgs,
    #[command(flatten)]
    pace: PaceArgs,
}

/// Runs it.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let acting = Acting {
        act: Act::Replay {
            also_resolved: args.resolved,
        },
        selection: &args.selection,
        who: &args.act,
        pace: &args.pace,
        abilities: accounts::abilities(&context.settings()?)?,
    };
    let survey = acting.survey(context).await?;
    say_groups(&survey.preview);
    say_left_out(&survey.preview);
    if args.act.dry_run {
        let only = survey.chosen.only();
        if args.read && only.is_none() {
            return Err(Error::usage("--read asks the provider for one capture").hint("give one ID"));
        }
        if let (Some(id), [(_, Some(was))]) = (only, survey.captures.as_slice())
            && let Some(safety) = &was.safety
        {
            let read = match args.read {
                true => Some(read(&survey.outbox, id, context).await?),
                false => None,
            };
            say_box(safety, read.as_deref());
        }
        let tally = acting.say_what_would_be(&survey, context)?;
        say(&format!(
            "nothing was changed; {} would be replayed, in {} s",
            tally.done, survey.preview.seconds
        ));
        return Ok(tally.exit());
    }
    Ok(match acting.carry_out(survey, context).await? {
        Carried::ToItsEnd(tally) => {
            say(&format!(
                "{} replayed, {} not; capture list --state verifying shows them at work",
                tally.done,
                tally.forbidden + tally.missing
            ));
            tally.exit()
        }
        Carried::ByOthers(exit) => exit,
    })
}

/// What a person has settled is not sent again because a filter happens to mean it too.
fn say_left_out(preview: &Preview) {
    let closed = preview
        .skipped
        .iter()
        .find(|group| group.says == "a person resolved it as not captured");
    if let Some(closed) = closed {
        say(&format!(
            "left out, because a person resolved them as not captured: {}; capture dead --resolved shows them, and by its \
             id each says who did",
            closed.captures
        ));
    }
}

/// Asks the account's provider.
async fn read(outbox: &Outbox, id: Uuid, context: &Context) -> Result<String, Error> {
    let row = super::get::existing(outbox, id).await?;
    let adapter = accounts::adapter(&context.settings()?, &row.provider, &row.account)?;
    let told = operations::read_now(outbox, adapter.as_ref(), id).await?;
    Ok(told.unwrap_or_else(|| "there is no such capture".to_owned()))
}

/// The safety of one letter, a line each, on stderr.
fn say_box(safety: &Safety, read: Option<&str>) {
    let seconds = |seconds: i64| {
        let span = std::time::Duration::from_secs(seconds.unsigned_abs());
        humantime::format_duration(span).to_string()
    };
    if let Some(key) = &safety.key {
        let age = match (safety.key_age_seconds, safety.key_window_seconds) {
            (None, _) => "never sent".to_owned(),
            (Some(age), None) => format!("first sent {} ago", seconds(age)),
            (Some(age), Some(window)) => {
                format!(
                    "first sent {} ago; the provider knows a key for {}",
                    seconds(age),
                    seconds(window)
                )
            }
        };
        say(&format!("  key: {key} (generation {}), {age}", safety.key_generation));
    }
    match safety.seconds_to_deadline {
        Some(left) if left < 0 => say(&format!("  authorisation: ended {} ago", seconds(left))),
        Some(left) => say(&format!("  authorisation: ends in {}", seconds(left))),
        None => {}
    }
    if let Some(left) = safety.left_minor {
        say(&format!("  left of the authorisation: {left} minor units"));
    }
    if let Some(read) = read {
        say(&format!("  now: {read}"));
    }
    say(&format!("  next: {}", safety.next_act));
}
