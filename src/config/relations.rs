//! What must hold between settings.

use std::time::Duration;

use super::Config;
use super::reader::Reader;
use super::values::{Refusal, written_duration};

/// Looks whether it does. Not looked at where one of them could not be read.
pub(super) fn check(reader: &mut Reader<'_>, config: &Config) {
    let worker = &config.worker;
    let call = written_duration(worker.longest_call());
    let call_keys = ["worker.connect_timeout", "worker.read_timeout"];
    let with_call = |key: &'static str| [key, call_keys[0], call_keys[1]];

    let keys = with_call("worker.lease");
    if reader.sound(&keys) && worker.lease < worker.longest_call() {
        let wrong = format!(
            "{} is shorter than a call may take ({call}: connect_timeout + read_timeout + 5s)",
            written_duration(worker.lease)
        );
        let fix = format!("set lease to {call} or more, or the time-outs lower");
        reader.fault(reader.place_of(&keys), keys[0], Refusal::new(wrong, fix));
    }
    for (low, low_value, high, high_value) in [
        ("worker.poll_min", worker.poll_min, "worker.poll_max", worker.poll_max),
        ("retry.initial", config.retry.initial, "retry.max", config.retry.max),
        (
            "breaker.open",
            config.breaker.open,
            "breaker.open_max",
            config.breaker.open_max,
        ),
    ] {
        if reader.sound(&[low, high]) && low_value > high_value {
            let wrong = format!(
                "{} is more than {high} ({})",
                written_duration(low_value),
                written_duration(high_value)
            );
            let place = reader.place_of(&[low, high]);
            reader.fault(place, low, Refusal::new(wrong, format!("set it to at most {high}")));
        }
    }

    super::webhooks::check(reader, &config.webhooks);

    // A shorter drain is allowed, because not everybody may choose how long a stopping process lives.
    let keys = with_call("worker.drain_timeout");
    if reader.sound(&keys) && worker.drain_timeout < worker.longest_call() {
        let wrong = format!(
            "{} is shorter than a call may take ({call}): a stop may leave captures of unknown outcome behind",
            written_duration(worker.drain_timeout)
        );
        reader.warn(
            reader.place_of(&keys),
            keys[0],
            wrong,
            format!("set it to {call} or more if you can"),
        );
    }
    let keys = with_call("worker.deadline_margin");
    if reader.sound(&keys) && worker.deadline_margin < worker.longest_call() {
        let wrong = format!(
            "{} is shorter than a call may take ({call}): an answer may come after the authorisation has ended",
            written_duration(worker.deadline_margin)
        );
        reader.warn(
            reader.place_of(&keys),
            keys[0],
            wrong,
            format!("set it to {call} or more"),
        );
    }
    let keys = ["retry.verify_quiet"];
    if reader.sound(&keys) && config.retry.verify_quiet < Duration::from_secs(60) {
        let wrong = format!(
            "{} is short: a provider's reads may lag, and \"not captured\" would be believed too soon",
            written_duration(config.retry.verify_quiet)
        );
        reader.warn(
            reader.place_of(&keys),
            keys[0],
            wrong,
            "set it to 1m or more outside of tests",
        );
    }
    if worker.allow_lost_commits {
        let keys = ["worker.allow_lost_commits"];
        let wrong = "true: after a crash of the server a capture may be sent twice";
        reader.warn(reader.place_of(&keys), keys[0], wrong, "only for tests");
    }
}
