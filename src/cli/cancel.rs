//! `cancel`: takes back what was not sent.

use crate::operations::{AbilitiesByLane, Act};

use super::act::ActArgs;
use super::acting::{Acting, Carried, PaceArgs};
use super::context::Context;
use super::output::{Error, Exit, say};
use super::selection::{SelectionArgs, in_words};

/// Takes back captures that were not sent.
///
/// Each is told as cancelled (0), as in_flight (6: a worker has it, or its outcome is unknown), or as ended (5: captured,
/// dead or cancelled already). The wish behind an in_flight is kept, and get and timeline show it. The capture is cancelled
/// once it is certain that no money moves: at once if the call in flight surely was not processed; if its outcome is
/// unknown, after two quiet reads (retry.verify_quiet, 10 min, apart), at Afterpay not before 23 h after the first send,
/// because its key could act until then. If money moved, it ends captured, and is refunded at the provider. Of one that
/// shipments have split, what is left is taken back. Several are an operation: it goes on without this process, and
/// operations watch, pause, resume and cancel steer it.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    act: ActArgs,
    #[command(flatten)]
    pace: PaceArgs,
}

/// Runs it.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let acting = Acting {
        act: Act::Cancel,
        selection: &args.selection,
        who: &args.act,
        pace: &args.pace,
        abilities: AbilitiesByLane::new(),
    };
    let survey = acting.survey(context).await?;
    if args.act.dry_run {
        let preview = &survey.preview;
        acting.say_what_would_be(&survey, context)?;
        say(&format!(
            "nothing was changed; it would be asked of {}",
            in_words(preview.will_act, &preview.sums)
        ));
        return Ok(Exit::Done);
    }
    Ok(match acting.carry_out(survey, context).await? {
        Carried::ToItsEnd(tally) => {
            say(&format!(
                "{} cancelled, {} in flight, {} ended before",
                tally.done, tally.open, tally.forbidden
            ));
            tally.exit()
        }
        Carried::ByOthers(exit) => exit,
    })
}
