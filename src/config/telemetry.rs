//! `[telemetry]`: logs, metrics and health.

use std::net::SocketAddr;

use crate::telemetry;

use super::reader::{Key, Reader};
use super::values::{Refusal, listen_address};

/// `[telemetry]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetryConfig {
    /// Where `/metrics` and `/health` are served. Default none: not at all. Port 0 takes a free one.
    pub listen: Option<SocketAddr>,
    /// How log lines look: `json`, `text`, or `auto`, the default: text on a terminal, JSON elsewhere.
    pub format: telemetry::Format,
    /// Which log lines are written, as in `RUST_LOG`, which gives it. Default `info`.
    pub filter: String,
}

/// Reads it.
pub(super) fn read(reader: &mut Reader<'_>) -> TelemetryConfig {
    let formats = [
        ("auto", telemetry::Format::Auto),
        ("json", telemetry::Format::Json),
        ("text", telemetry::Format::Text),
    ];
    TelemetryConfig {
        listen: reader.optional(&Key::of("telemetry.listen"), listen_address, SocketAddr::to_string),
        format: reader.choice(&Key::of("telemetry.format"), telemetry::Format::Auto, &formats),
        filter: reader.text_or(
            &Key::of("telemetry.filter").or_variable("RUST_LOG"),
            "info",
            check_filter,
        ),
    }
}

fn check_filter(filter: &str) -> Result<(), Refusal> {
    let parsed = filter.parse::<tracing_subscriber::EnvFilter>();
    parsed.map(|_| ()).map_err(|error| {
        Refusal::new(
            format!("is no log filter: {error}"),
            "write it like info, or warn,capture=debug",
        )
    })
}
