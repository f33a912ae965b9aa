//! The checks themselves.

use crate::cli::accounts;
use crate::cli::context::Context;
use crate::cli::output::Error;
use crate::cli::refusal::POOLED_BY_TRANSACTION;
use crate::config::{Config, Need, Sources};
use crate::outbox::{DoctorFacts, Outbox, OutboxError, Pooling, RoleFacts, WebhookTally};

use super::{Finding, Level};

/// What to do where a pooler passes on no options.
const OPTIONS_DROPPED: &str = "a pooler that drops `options` stands between; set them for the role: ALTER ROLE … SET lock_timeout = '10s', and so \
on with idle_in_transaction_session_timeout = '30s', jit = off and default_transaction_isolation = 'read committed'";

/// The settings as a worker needs them, secrets included.
pub fn settings(context: &Context) -> Finding {
    let sources = Sources {
        need: Need::Everything,
        ..context.sources.clone()
    };
    match Config::load(&sources) {
        Ok((config, warnings)) if warnings.is_empty() && !config.accounts.is_empty() => Finding::ok(
            "settings",
            format!("{}, each with its secret", accounts::in_words(config.accounts.len())),
        ),
        Ok((config, _)) if config.accounts.is_empty() => Finding::new(
            "settings",
            Level::Warn,
            "no account is configured here",
            "right for a machine that only looks; a worker needs its capture.toml",
        ),
        Ok((_, warnings)) => Finding::new(
            "settings",
            Level::Warn,
            match warnings.as_slice() {
                [only] => only.to_string(),
                several => format!("{} warnings, such as: {}", several.len(), several[0]),
            },
            "capture config check shows them one by one",
        ),
        // From a machine that only looks, missing secrets are no fault of the deployment.
        Err(faults) => Finding::new(
            "settings",
            Level::Warn,
            match faults.faults() {
                [only] => format!("a fault keeps a worker from starting here: {only}"),
                several => format!(
                    "{} faults keep a worker from starting here, such as: {}",
                    several.len(),
                    several[0]
                ),
            },
            "capture config check shows them one by one",
        ),
    }
}

/// Does each connection keep its session?
pub async fn pooler(outbox: &Outbox) -> Finding {
    match outbox.pooling().await {
        Ok(Pooling::Kept) => Finding::ok("pooler", "each connection keeps its session"),
        Ok(Pooling::ByTransaction | Pooling::Mixed) => Finding::new(
            "pooler",
            Level::Fail,
            "a pooler in transaction mode stands between: a session changes between two statements",
            POOLED_BY_TRANSACTION,
        ),
        Err(error) => Finding::new(
            "pooler",
            Level::Fail,
            Error::from(error).message,
            "look at the connection",
        ),
    }
}

/// Has each connection what it asked for?
pub async fn session(outbox: &Outbox) -> Finding {
    match outbox.settings_not_granted().await {
        Ok(missing) if missing.is_empty() => Finding::ok("session", "connections have the settings that they ask for"),
        Ok(missing) => Finding::new(
            "session",
            Level::Warn,
            format!("a connection is not set as it asked: {}", missing.join(", ")),
            OPTIONS_DROPPED,
        ),
        // Why nothing can be asked is said where it is looked at.
        Err(error) => Finding::new(
            "session",
            Level::Warn,
            format!("cannot be looked at: {}", Error::from(error).message),
            "look at the connection",
        ),
    }
}

/// Is the schema what this version brings?
pub async fn schema(outbox: &Outbox) -> Finding {
    match outbox.verify_schema().await {
        Ok(()) => Finding::ok("schema", format!("\"{}\" is what this version brings", outbox.schema())),
        Err(OutboxError::Schema(fault)) => Finding::new(
            "schema",
            Level::Fail,
            fault.to_string(),
            "capture migrate status tells more",
        ),
        Err(error) => Finding::new(
            "schema",
            Level::Warn,
            format!("cannot be compared: {}", Error::from(error).message),
            "look with the role that owns the schema",
        ),
    }
}

/// What may this role do?
pub fn rights(role: &RoleFacts) -> Finding {
    let may: Vec<&str> = [
        (role.may_enqueue, "enqueue"),
        (role.may_look, "look"),
        (role.may_work, "work"),
        (role.may_operate, "operate"),
    ]
    .into_iter()
    .filter_map(|(may, name)| may.then_some(name))
    .collect();
    let name = &role.role;
    if may.is_empty() {
        return Finding::new(
            "rights",
            Level::Fail,
            format!("role {name} may do nothing here"),
            "grant it one of capture_worker, capture_operator, capture_readonly, capture_producer",
        );
    }
    let says = format!("role {name} may {}", may.join(", "));
    match role.superuser {
        true => Finding::new(
            "rights",
            Level::Warn,
            format!("{says}; it is a superuser"),
            "give workers a login of their own that is granted capture_worker, and nothing else",
        ),
        false => Finding::ok("rights", says),
    }
}

/// Do webhooks arrive? Nothing is said where there are no endpoints.
pub fn webhooks(tally: &WebhookTally) -> Option<Finding> {
    let says = webhooks_in_words(tally)?;
    Some(match tally.given_up > 0 || tally.behind > 0 {
        true => Finding::new(
            "webhooks",
            Level::Warn,
            says,
            "capture webhook endpoint list shows which; capture dead explain webhooks_behind what to do",
        ),
        false => Finding::ok("webhooks", says),
    })
}

/// `3 endpoints, 1 disabled (1 by the sender itself), 1 behind; 12 deliveries pending`. `None`: there are no endpoints.
pub fn webhooks_in_words(tally: &WebhookTally) -> Option<String> {
    let all = tally.enabled + tally.disabled;
    let mut says = match all {
        0 => return None,
        1 => "1 endpoint".to_owned(),
        several => format!("{several} endpoints"),
    };
    if tally.disabled > 0 {
        says.push_str(&format!(", {} disabled", tally.disabled));
    }
    if tally.given_up > 0 {
        says.push_str(&format!(" ({} by the sender itself)", tally.given_up));
    }
    if tally.failing > 0 {
        says.push_str(&format!(", {} failing", tally.failing));
    }
    if tally.behind > 0 {
        says.push_str(&format!(
            ", {} behind for up to {} min",
            tally.behind,
            tally.oldest_s / 60
        ));
    }
    says.push_str(&format!("; {} deliveries pending", tally.pending));
    Some(says)
}

/// Is this server fit for money?
pub fn server(facts: &DoctorFacts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut check = |name, well: bool, level, says: String, fix| {
        findings.push(match well {
            true => Finding::ok(name, says),
            false => Finding::new(name, level, says, fix),
        });
    };
    check(
        "version",
        facts.server_version_number >= 150_000,
        Level::Fail,
        format!("PostgreSQL {}", facts.server_version),
        "this is tested with PostgreSQL 15 and later",
    );
    check(
        "primary",
        !facts.standby,
        Level::Fail,
        if facts.standby {
            "this server is a standby"
        } else {
            "this server takes writes"
        }
        .to_owned(),
        "connect to the primary (several hosts in the URL: target_session_attrs=read-write)",
    );
    check(
        "durability",
        !facts.durability.iter().any(|setting| setting.ends_with("=off")),
        Level::Fail,
        facts.durability.join(", "),
        "turn them on: a commit that is forgotten after it was acknowledged may send a capture twice",
    );
    check(
        "encoding",
        facts.encoding == "UTF8",
        Level::Fail,
        format!("server_encoding {}", facts.encoding),
        "create the database anew with encoding UTF8: other encodings refuse what providers and shops write",
    );
    check(
        "checksums",
        facts.data_checksums,
        Level::Warn,
        if facts.data_checksums {
            "data checksums are on"
        } else {
            "data checksums are off"
        }
        .to_owned(),
        "pg_checksums --enable, with the server stopped: a rotten page is then noticed and not believed",
    );
    let (most, used) = facts.connections;
    check(
        "connections",
        used.saturating_mul(10) < most.saturating_mul(8),
        Level::Warn,
        format!("{used} of {most} are used"),
        "a worker needs up to 6; raise max_connections, or find out who holds the others",
    );
    check(
        "old_snapshots",
        facts.oldest_snapshot_s < 600,
        Level::Warn,
        format!("the oldest transaction is {} s old", facts.oldest_snapshot_s),
        "find it in pg_stat_activity and end it: it keeps dead rows alive and holds back readers of the event feed",
    );
    check(
        "test_clock",
        facts.clock_ahead_ms == 0,
        Level::Fail,
        format!("the tests' clock is {} ms ahead", facts.clock_ahead_ms),
        "this is a test's database; if it is not, set the row of table clock back to zero",
    );
    check(
        "clocks",
        facts.clock_difference_ms.abs() < 5000,
        Level::Warn,
        format!(
            "the server's clock differs from this machine's by {} ms",
            facts.clock_difference_ms
        ),
        "mend time synchronisation on both; only the server's clock decides, but logs will mislead",
    );
    check(
        "misplaced",
        facts.misplaced == 0,
        Level::Fail,
        format!("{} intents are in no place, or in two", facts.misplaced),
        "somebody wrote to private tables; stop the workers and look before anything else",
    );
    check(
        "lapsed_leases",
        facts.lapsed_leases == 0,
        Level::Fail,
        format!("{} leases lapsed over a minute ago", facts.lapsed_leases),
        "no worker is running, or none reaches the database: start capture work",
    );
    check(
        "unclaimed_receipts",
        facts.unclaimed_receipts == 0,
        Level::Fail,
        format!(
            "{} late results say captured of intents that are not",
            facts.unclaimed_receipts
        ),
        "money moved that is not recorded: look at late_results, then capture timeline ID and capture resolve ID",
    );
    check(
        "event_history",
        facts.events_ahead == 0,
        Level::Fail,
        match facts.events_ahead {
            0 => "every event is of a transaction of this server".to_owned(),
            ahead => {
                format!("{ahead} events are of transactions that this server has not come to: no reader sees them")
            }
        },
        "the database was restored into a new cluster: stop the server, pg_resetwal --epoch above the old cluster's, start it; \
         docs/feed.md, After a restore",
    );
    findings
}

/// Lanes with rows against the accounts of these settings, and the workers that serve them.
pub async fn lanes(outbox: &Outbox, config: &Config) -> Result<Vec<Finding>, OutboxError> {
    let lanes = outbox.lanes().await?;
    let busy = lanes.iter().filter(|lane| lane.ready + lane.waiting + lane.leased > 0);
    let unserved: Vec<String> = busy
        .clone()
        .filter(|lane| lane.workers == 0)
        .map(|lane| lane.lane.to_string())
        .collect();
    let unknown: Vec<String> = busy
        .filter(|lane| config.accounts.iter().all(|account| account.lane != lane.lane))
        .map(|lane| lane.lane.to_string())
        .collect();
    let workers = outbox
        .workers()
        .await?
        .iter()
        .filter(|worker| worker.silent_s < 60)
        .count();
    let mut findings = vec![match workers {
        0 => Finding::new("workers", Level::Warn, "no worker is running", "start capture work"),
        workers => Finding::ok("workers", format!("{workers} with a fresh heartbeat")),
    }];
    findings.push(match unserved.is_empty() {
        true => Finding::ok("lanes_served", "every lane with captures is served"),
        false => Finding::new(
            "lanes_served",
            Level::Fail,
            format!("no worker serves {}", unserved.join(", ")),
            "start a worker whose capture.toml has the account; or the account was misspelt by whoever enqueued",
        ),
    });
    if !config.accounts.is_empty() {
        findings.push(match unknown.is_empty() {
            true => Finding::ok(
                "lanes_configured",
                "every lane with captures is an account of these settings",
            ),
            false => Finding::new(
                "lanes_configured",
                Level::Warn,
                format!("these settings have no account for {}", unknown.join(", ")),
                "add it, unless other workers have it",
            ),
        });
    }
    Ok(findings)
}
