//! `doctor`: is this server, schema, role and configuration fit for money?

mod checks;

pub use checks::webhooks_in_words;

use std::io::Write;

use super::context::Context;
use super::output::{Cell, Column, Error, Exit, Format, say};

/// How well a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Ok,
    /// It works; somebody should know.
    Warn,
    /// It does not work, or money is at risk.
    Fail,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "fail",
        }
    }
}

/// What was looked at, how it is, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    /// A fixed name, for scripts.
    check: &'static str,
    level: Level,
    says: String,
    fix: &'static str,
}

impl Finding {
    fn ok(check: &'static str, says: impl Into<String>) -> Finding {
        Finding {
            check,
            level: Level::Ok,
            says: says.into(),
            fix: "",
        }
    }

    fn new(check: &'static str, level: Level, says: impl Into<String>, fix: &'static str) -> Finding {
        Finding {
            check,
            level,
            says: says.into(),
            fix,
        }
    }
}

/// Runs it.
pub async fn run(context: &Context) -> Result<Exit, Error> {
    let config = context.settings()?;
    // What this role may not do is a finding.
    let outbox = context.outbox_for_anybody().await?;
    let mut findings = vec![checks::settings(context)];
    findings.push(checks::pooler(&outbox).await);
    findings.push(checks::session(&outbox).await);
    findings.push(checks::schema(&outbox).await);
    match outbox.role_facts().await {
        Ok(role) => findings.push(checks::rights(&role)),
        // A pooler that stands between, for one, which was said above.
        Err(error) => findings.push(Finding::new(
            "rights",
            Level::Fail,
            Error::from(error).message,
            "mend what was found above first",
        )),
    }
    match outbox.doctor_facts().await {
        Ok(facts) => findings.extend(checks::server(&facts)),
        Err(error) => findings.push(Finding::new(
            "server",
            Level::Fail,
            Error::from(error).message,
            "set the schema up, or connect with a role that may look at it",
        )),
    }
    match checks::lanes(&outbox, &config).await {
        Ok(of_lanes) => findings.extend(of_lanes),
        // The schema or the rights are missing, which was said above.
        Err(error) => say(&format!(
            "lanes and workers were not looked at: {}",
            Error::from(error).message
        )),
    }
    match outbox.webhook_tally().await {
        Ok(tally) => findings.extend(checks::webhooks(&tally)),
        Err(error) => say(&format!("webhooks were not looked at: {}", Error::from(error).message)),
    }
    write(&findings, context)?;
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (failed, warned) = (count(Level::Fail), count(Level::Warn));
    say(&format!(
        "{} checks: {failed} failed, {warned} warnings",
        findings.len()
    ));
    Ok(if failed > 0 { Exit::CheckTripped } else { Exit::Done })
}

fn write(findings: &[Finding], context: &Context) -> Result<(), Error> {
    if context.output.format == Format::Table {
        let mut stdout = std::io::stdout().lock();
        for finding in findings {
            // What the server says of itself comes from outside.
            let says = Cell::from(finding.says.as_str()).for_people();
            writeln!(stdout, "{:4}  {:18}  {says}", finding.level.name(), finding.check)?;
            if !finding.fix.is_empty() {
                writeln!(stdout, "{:26}→ {}", "", finding.fix)?;
            }
        }
        return Ok(());
    }
    let columns = [
        Column::id("check"),
        Column::text("level"),
        Column::text("says"),
        Column::text("fix"),
    ];
    let mut rows = context.output.rows(&columns)?;
    for finding in findings {
        let fix = (!finding.fix.is_empty()).then_some(finding.fix);
        rows.row(&[
            finding.check.into(),
            finding.level.name().into(),
            finding.says.as_str().into(),
            fix.into(),
        ])?;
    }
    rows.finish().map(drop)
}
