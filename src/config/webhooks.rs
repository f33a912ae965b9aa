//! `[webhooks]`: how events go out.

use std::time::Duration;

use ipnet::IpNet;

use super::reader::{Key, Reader};
use super::values::{Refusal, networks, source_uri};

/// `[webhooks]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhooksConfig {
    /// Does `work` deliver? Default true: with no endpoint it costs a look every half second. False on workers that shall do
    /// nothing but capture; then at least one other must deliver.
    pub deliver: bool,
    /// Messages in flight that may be answered soon, per worker process. Default 64: at 100 ms an answer, 640 a second.
    /// 1 to 1000.
    pub concurrency: u32,
    /// Messages in flight that were not answered within a second. Default 256: so many may hang at once before a slow one is
    /// cut short; an endpoint that hangs again and again holds one now and then. Each holds a connection. 1 to 10000.
    pub slow_concurrency: u32,
    /// Messages in flight for one endpoint, per worker process. Default 4: enough for 40 a second at 100 ms, and few enough
    /// that nobody is flooded. 1 to 100.
    pub per_endpoint: u32,
    /// How long an attempt may take in all. Default 15 s: what receivers are told to stay below. 100 ms to 1 min.
    pub timeout: Duration,
    /// How long a connection may take to stand. Default 5 s. 10 ms to 1 min.
    pub connect_timeout: Duration,
    /// The ceiling of the first delay. Default 5 s. 10 ms to 1 h.
    pub retry_initial: Duration,
    /// The largest ceiling. Default 6 h. 10 ms to 24 h.
    pub retry_max: Duration,
    /// After how long a delivery is given up. Default 3 days: a weekend. 1 min to 30 days.
    pub give_up_after: Duration,
    /// After how long an endpoint at which nothing arrives is disabled. Default 5 days. 1 min to 90 days.
    pub disable_after: Duration,
    /// How long ended deliveries are kept. Default 30 days. 1 h to 10 years.
    pub keep: Duration,
    /// `ce-source` of every message: which outbox it comes from. Default `urn:capture:` and the schema.
    pub source: String,
    /// Networks that are not public and to which webhooks may go nevertheless, also without TLS. Default none.
    pub allow_networks: Vec<IpNet>,
}

/// Reads it.
pub(super) fn read(reader: &mut Reader<'_>, schema: &str) -> WebhooksConfig {
    let (ms, s, m) = (Duration::from_millis, Duration::from_secs, |minutes: u64| {
        Duration::from_secs(minutes * 60)
    });
    let (h, day) = (m(60), m(24 * 60));
    WebhooksConfig {
        deliver: reader.boolean(&Key::of("webhooks.deliver"), true),
        concurrency: reader.integer(&Key::of("webhooks.concurrency"), 64, 1..=1000),
        slow_concurrency: reader.integer(&Key::of("webhooks.slow_concurrency"), 256, 1..=10_000),
        per_endpoint: reader.integer(&Key::of("webhooks.per_endpoint"), 4, 1..=100),
        timeout: reader.duration("webhooks.timeout", s(15), ms(100)..=m(1)),
        connect_timeout: reader.duration("webhooks.connect_timeout", s(5), ms(10)..=m(1)),
        retry_initial: reader.duration("webhooks.retry_initial", s(5), ms(10)..=h),
        retry_max: reader.duration("webhooks.retry_max", h * 6, ms(10)..=day),
        give_up_after: reader.duration("webhooks.give_up_after", day * 3, m(1)..=day * 30),
        disable_after: reader.duration("webhooks.disable_after", day * 5, m(1)..=day * 90),
        keep: reader.duration("webhooks.keep", day * 30, h..=day * 3650),
        source: reader.defaulted(
            &Key::of("webhooks.source"),
            format!("urn:capture:{schema}"),
            source_uri,
            String::clone,
        ),
        allow_networks: reader
            .optional(&Key::of("webhooks.allow_networks"), networks, |list| {
                list.iter().map(IpNet::to_string).collect::<Vec<_>>().join(", ")
            })
            .unwrap_or_default(),
    }
}

/// What must hold between them.
pub(super) fn check(reader: &mut Reader<'_>, webhooks: &WebhooksConfig) {
    for (low, low_value, high, high_value) in [
        (
            "webhooks.retry_initial",
            webhooks.retry_initial,
            "webhooks.retry_max",
            webhooks.retry_max,
        ),
        (
            "webhooks.connect_timeout",
            webhooks.connect_timeout,
            "webhooks.timeout",
            webhooks.timeout,
        ),
    ] {
        if reader.sound(&[low, high]) && low_value > high_value {
            let place = reader.place_of(&[low, high]);
            let wrong = format!("is more than {high}");
            reader.fault(place, low, Refusal::new(wrong, format!("set it to at most {high}")));
        }
    }
}
