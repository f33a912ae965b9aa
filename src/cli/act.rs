//! Who acts, and why: what every act leaves behind.

use crate::outbox::AuditStamp;

use super::context::Context;
use super::output::Error;

/// Flags of every verb that acts on what is there.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Who and why")]
pub struct ActArgs {
    /// Change nothing, and say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Why; kept with the act, for those who read its story
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
    reason: Option<String>,
    /// Who acts, as the audit trail shall name them; else USER
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
}

impl ActArgs {
    /// Who and why. An empty name or reason explains nothing; who only looks needs neither.
    pub fn stamp(&self, context: &Context) -> Result<AuditStamp, Error> {
        let environment = &context.sources.environment;
        let named = [
            self.actor.as_deref(),
            environment.get("USER"),
            environment.get("LOGNAME"),
        ];
        let named = named.into_iter().flatten().map(str::trim).find(|name| !name.is_empty());
        let reason = self.reason.as_deref().unwrap_or_default().trim();
        if !self.dry_run && reason.is_empty() {
            return Err(Error::usage("--reason is empty").hint("say in a few words why; it is kept with the act"));
        }
        if !self.dry_run && named.is_none() {
            return Err(Error::usage("nobody is named who does this").hint("give --actor NAME; USER is not set here"));
        }
        Ok(AuditStamp {
            actor: named.unwrap_or_default().to_owned(),
            reason: reason.to_owned(),
        })
    }
}
