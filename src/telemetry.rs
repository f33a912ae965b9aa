//! Logs: one set of field names, and a pipe that never blocks the money path.
//!
//! A line has a message that reads alone and queryable fields, named the same everywhere ([`FIELDS`]). Lines go to
//! stderr, through a bounded queue and a thread of its own: if whoever reads stderr stalls or goes away, lines are
//! dropped and counted (`capture_log_lines_dropped_total`, and a line that says how many once the pipe moves again); no
//! claim, send or settle ever waits for a log. `tracing-appender` does nearly the same, but prints to stdout, and panics
//! if that is closed, when the queue is still full at the end; a drain must end with 0.
//!
//! Never in a log: bodies, keys, secrets, names, addresses.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use crate::outbox::CommitDoubts;
use chrono::{SecondsFormat, Utc};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// The fields of a log line and what they hold. `timestamp`, `level`, `message` and `target` come first in each line;
/// a field of a span is on every line inside it.
pub const FIELDS: [(&str, &str); 24] = [
    ("timestamp", "RFC 3339, UTC, microseconds, by this machine's clock"),
    ("level", "ERROR, WARN, INFO, DEBUG or TRACE"),
    ("message", "what happened; reads alone"),
    ("target", "the room that says it"),
    ("worker", "the worker's id, random per start"),
    ("provider", "afterpay, optty, resolve"),
    ("account", "the merchant account"),
    ("intent", "the intent's id"),
    ("order_id", "the merchant's order number"),
    ("payment_id", "the authorised payment at the provider"),
    ("attempt", "which capture POST of the intent, from 1"),
    ("fence", "the fence of the claim"),
    ("generation", "the key generation"),
    ("outcome", "captured, accepted, failed, not_sent"),
    ("class", "the class of a failure"),
    ("code", "the code of a failure"),
    ("http_status", "the status of an answer"),
    ("reason", "why an intent is dead, or a lane is paused"),
    ("amount_minor", "whole minor units"),
    ("currency", "ISO 4217"),
    ("trace_id", "the producer's trace, 32 hex digits"),
    ("duration_ms", "how long it took, whole milliseconds"),
    ("count", "how many"),
    ("error", "the whole chain of causes"),
];

/// The most lines that wait to be written. Default 8192: some seconds of a busy worker, a few megabytes.
const QUEUED_LINES: usize = 8192;

/// For so long lines are gathered after some were written. The first after a silence is written at once.
const GATHERING: Duration = Duration::from_millis(5);

/// Lines are written together up to so many bytes: what a pipe takes whole (`PIPE_BUF`), so that the lines of processes that
/// share one stay lines.
const WRITTEN_WHOLE: usize = 4096;

/// How long the end of the process waits for the last lines: 1 s. A stalled reader must not hold up a drain.
const FLUSH_WAIT: Duration = Duration::from_secs(1);

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// How to log.
#[derive(Debug, Clone, Copy)]
pub struct Logs<'a> {
    /// How lines look.
    pub format: Format,
    /// Which lines are written, as in `RUST_LOG`.
    pub filter: &'a str,
    /// Is stderr a terminal?
    pub terminal: bool,
    /// May stderr be coloured?
    pub colour: bool,
}

/// Why logging did not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error("the log filter cannot be read: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// No thread for the log.
    #[error("no thread for the log: {0}")]
    Thread(#[source] io::Error),
    /// Somebody else has started to log.
    #[error("logging has been started twice: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Starts to log to stderr, for the whole process. Keep the guard until the end of `main`: dropping it writes what waits.
pub fn start(logs: &Logs<'_>) -> Result<LogGuard, TelemetryError> {
    let json = match logs.format {
        Format::Auto => !logs.terminal,
        Format::Json => true,
        Format::Text => false,
    };
    let dropped_line = if json { dropped_as_json } else { dropped_as_text };
    let (pipe, guard) = LogPipe::start(io::stderr(), QUEUED_LINES, dropped_line).map_err(TelemetryError::Thread)?;
    let layer = if json {
        json_layer(pipe).boxed()
    } else {
        tracing_subscriber::fmt::layer()
            .with_writer(pipe)
            .with_ansi(logs.colour)
            .log_internal_errors(false)
            .boxed()
    };
    let filter = logs.filter.parse::<EnvFilter>()?;
    let doubts = CommitDoubts.with_filter(CommitDoubts::filter());
    tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .with(doubts)
        .try_init()?;
    Ok(guard)
}

fn json_layer<S, W>(writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    // An internal error would be printed with a macro that panics when stderr is gone.
    tracing_subscriber::fmt::layer()
        .fmt_fields(JsonFields::new())
        .event_format(JsonLine)
        .with_writer(writer)
        .log_internal_errors(false)
}

/// One flat JSON object a line: `timestamp`, `level`, `message`, `target`, then the fields of the spans from the outermost
/// inwards and of the event; an inner one replaces an outer one of the same name.
struct JsonLine;

impl<S> FormatEvent<S, JsonFields> for JsonLine
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut own = Fields::default();
        event.record(&mut own);
        let timestamp = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
        let level = event.metadata().level().as_str();
        // Crates that log by the older facade bring their target as a field.
        let target = Value::from(own.target.as_deref().unwrap_or_else(|| event.metadata().target()));
        let message = own.message.as_deref().unwrap_or("null");
        write!(
            writer,
            r#"{{"timestamp":"{timestamp}","level":"{level}","message":{message},"target":{target}"#
        )?;
        let mut of_spans = Map::new();
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(written) = span.extensions().get::<FormattedFields<JsonFields>>() {
                of_spans.extend(object(&written.fields));
            }
        }
        for (name, value) in of_spans.iter().filter(|(name, _)| !own.names.contains(&name.as_str())) {
            write!(writer, ",{}:{value}", Value::from(unlike_ours(name)))?;
        }
        writer.write_str(std::str::from_utf8(&own.written).map_err(|_| fmt::Error)?)?;
        writeln!(writer, "}}")
    }
}

/// The fields of an event, written as JSON as they come: each capture logs a line, and to build a tree of it first costs
/// several times as much.
#[derive(Default)]
struct Fields {
    /// As JSON.
    message: Option<String>,
    target: Option<String>,
    names: Vec<&'static str>,
    /// `,"name":value` of each.
    written: Vec<u8>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: &impl Serialize) {
        match field.name() {
            "message" => self.message = serde_json::to_string(value).ok(),
            "log.target" => self.target = serde_json::to_value(value).ok().and_then(text),
            name if name.starts_with("log.") || self.names.contains(&name) => {}
            name => {
                let name = name.strip_prefix("r#").unwrap_or(name);
                let kept = self.written.len();
                self.written.push(b',');
                let named = serde_json::to_writer(&mut self.written, unlike_ours(name).as_ref());
                self.written.push(b':');
                if named
                    .and_then(|()| serde_json::to_writer(&mut self.written, value))
                    .is_err()
                {
                    self.written.truncate(kept);
                }
                self.names.push(name);
            }
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, &value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, &value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, &Shown(value));
    }
}

/// A value as the text that it shows.
struct Shown<'a>(&'a dyn fmt::Debug);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:?}", self.0))
    }
}

/// A field that has the name of one of our own gets another.
fn unlike_ours(name: &str) -> Cow<'_, str> {
    match name {
        "timestamp" | "level" | "message" | "target" => Cow::Owned(format!("{name}_")),
        _ => Cow::Borrowed(name),
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn object(written: &str) -> Map<String, Value> {
    serde_json::from_str(written).unwrap_or_default()
}

fn dropped_as_json(count: u64) -> String {
    let timestamp = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
    format!(
        r#"{{"timestamp":"{timestamp}","level":"WARN","message":"log lines were dropped because nobody read them fast enough","target":"capture::telemetry","count":{count}}}"#
    )
}

fn dropped_as_text(count: u64) -> String {
    let timestamp = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
    format!(
        "{timestamp}  WARN capture::telemetry: log lines were dropped because nobody read them fast enough count={count}"
    )
}

enum Job {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Takes whole lines and never blocks.
#[derive(Clone)]
struct LogPipe {
    jobs: SyncSender<Job>,
    /// Lines dropped since the last line that said so.
    dropped: Arc<AtomicU64>,
}

/// Writes what waits when it is dropped, for at most a second.
pub struct LogGuard {
    jobs: SyncSender<Job>,
}

impl LogPipe {
    fn start(
        to: impl Write + Send + 'static,
        queued: usize,
        dropped_line: fn(u64) -> String,
    ) -> io::Result<(LogPipe, LogGuard)> {
        let (jobs, waiting) = sync_channel(queued);
        let dropped = Arc::new(AtomicU64::new(0));
        let of_thread = Arc::clone(&dropped);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_lines(&waiting, to, &of_thread, dropped_line))?;
        let guard = LogGuard { jobs: jobs.clone() };
        Ok((LogPipe { jobs, dropped }, guard))
    }
}

/// What was gathered, on its way out.
struct Gathered<W> {
    to: W,
    text: Vec<u8>,
    lines: u64,
}

impl<W: Write> Gathered<W> {
    fn add(&mut self, line: &[u8]) {
        if self.text.len() + line.len() > WRITTEN_WHOLE {
            self.write();
        }
        self.text.extend_from_slice(line);
        self.lines += 1;
    }

    fn write(&mut self) {
        if self.to.write_all(&self.text).is_err() {
            crate::metrics::log_lines_dropped(self.lines);
        }
        self.text.clear();
        self.lines = 0;
    }
}

fn write_lines(waiting: &Receiver<Job>, to: impl Write, dropped: &AtomicU64, dropped_line: fn(u64) -> String) {
    let mut gathered = Gathered {
        to,
        text: Vec::with_capacity(WRITTEN_WHOLE),
        lines: 0,
    };
    while let Ok(first) = waiting.recv() {
        let mut flushed = None;
        for job in std::iter::once(first).chain(waiting.try_iter()) {
            match job {
                Job::Line(line) => gathered.add(&line),
                Job::Flush(done) => {
                    flushed = Some(done);
                    break;
                }
            }
            let missed = dropped.swap(0, Ordering::Relaxed);
            if missed > 0 {
                // If this fails too, there is nobody to tell; the counter knows.
                gathered.add(format!("{}\n", dropped_line(missed)).as_bytes());
            }
        }
        gathered.write();
        match flushed {
            Some(done) => {
                let _ = gathered.to.flush();
                let _ = done.send(());
            }
            // What comes now waits without waking anybody: a wake-up costs whoever logs more than the line does.
            None => std::thread::sleep(GATHERING),
        }
    }
}

/// The formatter hands over one whole line in one call.
impl Write for LogPipe {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.jobs.try_send(Job::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            crate::metrics::log_lines_dropped(1);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LogPipe {
    type Writer = LogPipe;

    fn make_writer(&self) -> LogPipe {
        self.clone()
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let until = Instant::now() + FLUSH_WAIT;
        let (done, wait) = sync_channel(1);
        let mut job = Job::Flush(done);
        // A full queue is asked again: the standard channel has no send with a time-out.
        while let Err(TrySendError::Full(again)) = self.jobs.try_send(job) {
            if Instant::now() >= until {
                return;
            }
            job = again;
            std::thread::sleep(Duration::from_millis(5));
        }
        match wait.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
}

/// The trace id of a W3C `traceparent`, or `None` if it is not exactly of that form.
///
/// `version-traceid-parentid-flags`, lower-case hex of 2, 32, 16 and 2 digits; version `ff` and ids of zeros are invalid;
/// version `00` ends there, later ones may go on after a dash.
pub fn trace_id(traceparent: &str) -> Option<&str> {
    let mut parts = traceparent.splitn(5, '-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let more = parts.next();
    let hex = |part: &str, digits: usize| {
        part.len() == digits && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let nonzero = |part: &str| part.bytes().any(|b| b != b'0');
    let formed = hex(version, 2) && hex(trace, 32) && hex(parent, 16) && hex(flags, 2);
    let known_end = more.is_none() || version != "00";
    (formed && version != "ff" && known_end && nonzero(trace) && nonzero(parent)).then_some(trace)
}

#[cfg(test)]
#[path = "telemetry_tests.rs"]
mod tests;
