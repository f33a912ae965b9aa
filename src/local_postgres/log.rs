//! Reads the end of a log, for an error message.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// What is read of it.
const MOST_BYTES: u64 = 16 * 1024;
const MOST_LINES: usize = 20;

/// What may be of it before a new one is begun: some 100,000 lines.
const FULL_AT_BYTES: u64 = 16 * 1024 * 1024;

/// Puts a log that has become long aside, as `<name>.old`. An older one is dropped.
pub(super) fn keep_short(log: &Path) -> std::io::Result<()> {
    if length(log) < FULL_AT_BYTES {
        return Ok(());
    }
    let mut aside = log.as_os_str().to_owned();
    aside.push(".old");
    std::fs::rename(log, aside)
}

/// The last lines of a log, of those after `from` (bytes), so that an old run is not blamed on this one.
pub(super) fn end_of(log: &Path, from: u64) -> String {
    let start = from.max(length(log).saturating_sub(MOST_BYTES));
    let mut bytes = Vec::new();
    let read = std::fs::File::open(log).and_then(|mut file| {
        file.seek(SeekFrom::Start(start))?;
        file.take(MOST_BYTES).read_to_end(&mut bytes)
    });
    if let Err(error) = read {
        return format!("(no log: {error})");
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(MOST_LINES)..].join("\n")
}

/// The length of a log in bytes; 0 if there is none.
pub(super) fn length(log: &Path) -> u64 {
    std::fs::metadata(log).map_or(0, |it| it.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_of_this_run_are_told() {
        let log = std::env::temp_dir().join(format!("log-{}", uuid::Uuid::new_v4()));
        let this_run: String = (1..=30).map(|line| format!("line {line}\n")).collect();
        std::fs::write(&log, format!("an old run\n{this_run}")).unwrap();
        let all = end_of(&log, "an old run\n".len() as u64);
        let last = end_of(&log, length(&log) - "line 30\n".len() as u64);
        std::fs::remove_file(&log).unwrap();
        assert!(all.starts_with("line 11\n") && all.ends_with("line 30"), "{all}");
        assert_eq!(last, "line 30");
    }
}
