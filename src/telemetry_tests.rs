use super::*;
use proptest::prelude::*;
use std::sync::Mutex;
use std::sync::mpsc::channel;

/// A reader of the log that reads only while it is allowed to.
#[derive(Clone, Default)]
struct Reader {
    read: Arc<Mutex<Vec<u8>>>,
    gate: Arc<Mutex<()>>,
}

impl Write for Reader {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _open = self.gate.lock().unwrap();
        self.read.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Reader {
    fn lines(&self) -> Vec<String> {
        let read = self.read.lock().unwrap().clone();
        String::from_utf8(read).unwrap().lines().map(str::to_owned).collect()
    }
}

#[test]
fn a_line_is_one_flat_object_with_the_fields_of_its_spans() {
    let reader = Reader::default();
    let (pipe, guard) = LogPipe::start(reader.clone(), 16, dropped_as_json).unwrap();
    let subscriber = tracing_subscriber::registry().with(json_layer(pipe));
    tracing::subscriber::with_default(subscriber, || {
        let outer = tracing::info_span!("lane", worker = "w1", provider = "afterpay", fence = 1);
        let _outer = outer.enter();
        let inner = tracing::info_span!("call", fence = 7, trace_id = tracing::field::Empty);
        let _inner = inner.enter();
        inner.record("trace_id", "abc");
        tracing::warn!(
            target: "capture::worker", code = "http_\"502\"", duration_ms = 12_u64, level = "odd", r#type = true, share = 0.5,
            error = %"a \"cause\"", kind = ?Some("x"), "no answer\nat {}", "all"
        );
        tracing::info!(
            log.target = "older::crate",
            log.line = 7,
            delta = -3,
            "as the older facade says it"
        );
    });
    drop(guard);
    let lines = reader.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    let line = &lines[0];
    let value: Value = serde_json::from_str(line).unwrap();
    assert_eq!(value["level"], "WARN");
    assert_eq!(value["message"], "no answer\nat all");
    assert_eq!(value["target"], "capture::worker");
    assert_eq!(value["worker"], "w1");
    assert_eq!(value["fence"], 7, "the inner span wins");
    assert_eq!(value["trace_id"], "abc");
    assert_eq!(value["duration_ms"], 12);
    assert_eq!(value["code"], "http_\"502\"");
    assert_eq!(value["level_"], "odd");
    assert_eq!((&value["type"], &value["share"]), (&true.into(), &0.5.into()));
    assert_eq!(
        (&value["error"], &value["kind"]),
        (&"a \"cause\"".into(), &"Some(\"x\")".into())
    );
    let older: Value = serde_json::from_str(&lines[1]).unwrap();
    assert_eq!(
        (&older["target"], &older["delta"]),
        (&"older::crate".into(), &(-3).into())
    );
    assert_eq!((&older["worker"], older.get("log.line")), (&"w1".into(), None));
    let order: Vec<usize> = ["timestamp", "level", "message", "target", "code"]
        .map(|name| line.find(&format!("\"{name}\":")).unwrap())
        .to_vec();
    assert!(order.is_sorted(), "{line}");
}

#[test]
fn a_stalled_reader_costs_lines_and_never_time_and_is_told_how_many() {
    let reader = Reader::default();
    let (mut pipe, guard) = LogPipe::start(reader.clone(), 4, dropped_as_json).unwrap();
    let gate = Arc::clone(&reader.gate);
    let stalled = gate.lock().unwrap();
    let (finished, wait) = channel();
    let writing = std::thread::spawn(move || {
        for number in 0..1000 {
            pipe.write_all(format!("{number:2000}\n").as_bytes()).unwrap();
        }
        finished.send(()).unwrap();
        pipe
    });
    wait.recv_timeout(Duration::from_secs(10))
        .expect("a thousand lines must not wait for a reader that stalls");
    let begun = Instant::now();
    drop(guard);
    assert!(begun.elapsed() < FLUSH_WAIT * 3, "nor must the end of the process");
    drop(stalled);
    let mut pipe = writing.join().unwrap();
    // It may be told in parts: some were dropped before the first write stalled.
    let told = || -> u64 {
        let lines = reader.lines();
        let told = lines.iter().filter(|line| line.contains("were dropped"));
        told.map(|line| serde_json::from_str::<Value>(line).unwrap()["count"].as_u64().unwrap())
            .sum()
    };
    let until = Instant::now() + Duration::from_secs(10);
    while told() < 990 && Instant::now() < until {
        pipe.write_all(b"again\n").unwrap();
        std::thread::yield_now();
    }
    assert!(told() >= 990, "{}", told());
}

/// Keeps what is written at once.
#[derive(Clone, Default)]
struct Writes(Arc<Mutex<Vec<Vec<u8>>>>);

impl Write for Writes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().push(bytes.to_vec());
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn lines_are_written_together_and_whole() {
    let writes = Writes::default();
    let (mut pipe, guard) = LogPipe::start(writes.clone(), 1000, dropped_as_json).unwrap();
    let line = |number: usize| format!("{number:>width$}\n", width = 3 + number % 7 * 100);
    let mut all = String::new();
    for number in 0..500 {
        all.push_str(&line(number));
        pipe.write_all(line(number).as_bytes()).unwrap();
    }
    drop(guard);
    let writes = writes.0.lock().unwrap().clone();
    assert!(
        writes
            .iter()
            .all(|bytes| bytes.len() <= WRITTEN_WHOLE && bytes.ends_with(b"\n"))
    );
    // 5 ms of silence after the first; and a machine that stops this thread now and then.
    assert!(writes.len() < 250, "{} writes for 500 lines", writes.len());
    assert_eq!(String::from_utf8(writes.concat()).unwrap(), all);
}

#[test]
fn no_two_fields_have_one_name() {
    let names: std::collections::BTreeSet<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), FIELDS.len());
}

#[test]
fn only_a_well_formed_traceparent_gives_a_trace_id() {
    let id = "4bf92f3577b34da6a3ce929d0e0e4736";
    for (text, expected) in [
        (format!("00-{id}-00f067aa0ba902b7-01"), Some(id)),
        (format!("cc-{id}-00f067aa0ba902b7-01"), Some(id)),
        (format!("cc-{id}-00f067aa0ba902b7-01-what-comes"), Some(id)),
        (format!("00-{id}-00f067aa0ba902b7-01-more"), None),
        (format!("00-{id}-00f067aa0ba902b7-01-"), None),
        (format!("ff-{id}-00f067aa0ba902b7-01"), None),
        (format!("00-{id}-0000000000000000-01"), None),
        (format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)), None),
        (format!("00-{}-00f067aa0ba902b7-01", id.to_uppercase()), None),
        (format!("00-{id}-00f067aa0ba902b7"), None),
        (format!("0-{id}-00f067aa0ba902b7-01"), None),
        (format!(" 00-{id}-00f067aa0ba902b7-01"), None),
        (format!("00-{id}-00f067aa0ba902b7-1"), None),
        (String::new(), None),
    ] {
        assert_eq!(trace_id(&text), expected, "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in ".*") {
        let _ = trace_id(&text);
    }
}
