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
    /// Who acts, as the audit trail shall name them; else USER, LOGNAME, or the name of this process's user
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
}

/// The same, on a verb that may also only look.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Who and why")]
pub struct OptionalActArgs {
    /// Change nothing, and say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Why; kept with the act, for those who read its story
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Who acts, as the audit trail shall name them; else USER, LOGNAME, or the name of this process's user
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
}

impl OptionalActArgs {
    /// Who and why, if it acts.
    pub fn stamp(&self, context: &Context) -> Result<AuditStamp, Error> {
        let act = ActArgs {
            dry_run: self.dry_run,
            reason: self.reason.clone(),
            actor: self.actor.clone(),
        };
        act.stamp(context)
    }

    /// Who and why, if somebody says why.
    pub fn given(&self, context: &Context) -> Result<Option<AuditStamp>, Error> {
        self.reason.is_some().then(|| self.stamp(context)).transpose()
    }

    /// Is nothing to be changed?
    pub fn dry_run(&self) -> bool {
        self.dry_run
    }
}

impl ActArgs {
    /// Who and why. An empty name or reason explains nothing; who only looks needs neither.
    pub fn stamp(&self, context: &Context) -> Result<AuditStamp, Error> {
        let environment = &context.sources.environment;
        let user = rustix::process::getuid().as_raw();
        let named = [
            self.actor.clone(),
            environment.get("USER").map(str::to_owned),
            environment.get("LOGNAME").map(str::to_owned),
            // Where neither is set (cron, containers), the system still knows who started this.
            std::fs::read("/etc/passwd")
                .ok()
                .and_then(|entries| name_of(user, &String::from_utf8_lossy(&entries))),
        ];
        let mut named = named.into_iter().flatten().map(|name| name.trim().to_owned());
        let named = named.find(|name| !name.is_empty());
        let reason = self.reason.as_deref().unwrap_or_default().trim();
        if !self.dry_run && reason.is_empty() {
            return Err(Error::usage("--reason is empty").hint("say in a few words why; it is kept with the act"));
        }
        if !self.dry_run && named.is_none() {
            return Err(nobody(user));
        }
        Ok(AuditStamp {
            actor: named.unwrap_or_default(),
            reason: reason.to_owned(),
        })
    }
}

fn nobody(user: u32) -> Error {
    Error::usage("nobody is named who does this, and every act is kept with a name").hint(format!(
        "give --actor NAME, the name by which others can ask you about it; USER and LOGNAME are not set here, and user {user} \
         has no name in /etc/passwd"
    ))
}

/// The name of that user in `/etc/passwd`.
fn name_of(user: u32, entries: &str) -> Option<String> {
    entries.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let number = fields.nth(1)?.parse::<u32>().ok()?;
        (number == user).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_as_the_system_names_them_and_nobody_as_nobody() {
        let entries = "# a comment\nroot:x:0:0:root:/root:/bin/sh\nbroken\ntess:x:1001:1001::/home/tess:/bin/sh\n";
        assert_eq!(name_of(1001, entries).as_deref(), Some("tess"));
        assert_eq!(name_of(0, entries).as_deref(), Some("root"));
        assert_eq!(name_of(10_001, entries), None);
        let told = nobody(10_001).to_string();
        assert!(told.contains("--actor NAME") && told.contains("user 10001"), "{told}");
    }
}
