//! What people and databases hand in: `capture.toml`, the filters of the command line, and JSON that was stored.

use std::time::{Duration, Instant};

use capture::config::{Config, ConfigFile, Environment, Need, Sources};
use capture::filter::Filter;
use capture::intent::{Currency, Details, IntentId, Lane, Money};
use capture::progress::Progress;
use chrono::DateTime;

/// As with answers: to notice what grows faster than its input.
const PATIENCE: Duration = Duration::from_secs(5);

/// A settings file is taken whole or refused with a reason, and no fault shows the value of a secret.
pub fn settings_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let began = Instant::now();
    let sources = Sources {
        file: ConfigFile::Given {
            name: "capture.toml".to_owned(),
            text: text.to_owned(),
        },
        environment: Environment::default(),
        flags: Vec::new(),
        need: Need::DatabaseOnly,
    };
    match Config::load(&sources) {
        Ok((config, _)) => {
            // What is in force can be shown, and keeps the relations that keep money safe.
            assert!(config.worker.lease >= config.worker.longest_call(), "{text}");
            for setting in config.settings() {
                let is_secret = setting.key == "database_url" || setting.key.ends_with(".secret");
                assert!(
                    !is_secret || setting.value.as_deref().is_none_or(|value| value == "***"),
                    "{setting:?}"
                );
            }
        }
        Err(faults) => {
            assert!(!faults.faults().is_empty());
            assert!(!faults.to_string().is_empty());
        }
    }
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
}

/// Lines of `name=text` are a filter, or faults that name what is wrong.
pub fn filter(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let pairs = text.lines().map(|line| line.split_once('=').unwrap_or((line, "")));
    let now = DateTime::from_timestamp(1_791_360_000, 0).unwrap();
    let began = Instant::now();
    match Filter::from_pairs(pairs, now) {
        Ok(filter) => {
            if let (Some(since), Some(until)) = (filter.since, filter.until) {
                assert!(since < until, "{filter:?}");
            }
            let _ = filter.means_everything();
        }
        Err(faults) => {
            assert!(!faults.is_empty());
            for fault in faults {
                assert!(!fault.wrong.is_empty() && !fault.right.is_empty(), "{fault:?}");
            }
        }
    }
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
}

/// Details, progress, lanes, ids and amounts, as a database may hand them back, are read or refused; what is read can be written and
/// read again and is the same.
pub fn stored(data: &[u8]) {
    if let Ok(details) = serde_json::from_slice::<Details>(data) {
        let again = serde_json::to_vec(&details).unwrap();
        assert_eq!(serde_json::from_slice::<Details>(&again).unwrap(), details);
    }
    if let Ok(progress) = serde_json::from_slice::<Progress>(data) {
        let again = serde_json::to_vec(&progress).unwrap();
        assert_eq!(serde_json::from_slice::<Progress>(&again).unwrap(), progress);
    }
    if let Ok(lane) = serde_json::from_slice::<Lane>(data) {
        let again = serde_json::to_vec(&lane).unwrap();
        assert_eq!(serde_json::from_slice::<Lane>(&again).unwrap(), lane);
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(id) = text.parse::<IntentId>() {
        assert_eq!(id.reference().parse::<IntentId>(), Ok(id));
        assert_eq!(id.reference().len(), 36);
    }
    for code in ["USD", "JPY", "KWD"] {
        let currency = Currency::from_code(code).unwrap();
        if let Ok(money) = Money::from_decimal(text, currency) {
            assert_eq!(Money::from_decimal(&money.decimal(), currency), Ok(money), "{text}");
        }
    }
}
