//! What processes cost, as Linux counts it: processor time and resident memory of a process, and of a Postgres server with
//! all its backends. No cgroups, so that it runs anywhere.

use std::fs;

/// `/proc` counts in hundredths of a second, on every machine that this runs on (`USER_HZ`).
const MS_PER_TICK: u64 = 10;

/// The processor time of a process in milliseconds, threads that have ended included. 0 if it is gone.
pub fn cpu_ms(pid: u32) -> u64 {
    stat(pid).map_or(0, |stat| stat.own * MS_PER_TICK)
}

/// The same of a server: the postmaster, those of its children that live, and those that have ended.
pub fn server_cpu_ms(postmaster: u32) -> u64 {
    let own = stat(postmaster).map_or(0, |stat| stat.own + stat.of_ended_children);
    let living: u64 = children(postmaster)
        .into_iter()
        .filter_map(stat)
        .map(|stat| stat.own)
        .sum();
    (own + living) * MS_PER_TICK
}

/// The processor time in milliseconds of children that this process has waited for.
pub fn ended_children_cpu_ms() -> u64 {
    stat(std::process::id()).map_or(0, |stat| stat.of_ended_children * MS_PER_TICK)
}

/// The most memory that a process had resident so far, in KiB. 0 if it is gone.
pub fn peak_rss_kib(pid: u32) -> u64 {
    status_kib(pid, "VmHWM:")
}

/// The memory that it has resident now, in KiB.
pub fn rss_kib(pid: u32) -> u64 {
    status_kib(pid, "VmRSS:")
}

fn status_kib(pid: u32, field: &str) -> u64 {
    kib(
        &fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default(),
        field,
    )
}

fn kib(status: &str, field: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.trim().strip_suffix("kB")?.trim().parse().ok())
        .unwrap_or(0)
}

/// A process and all below it, resident memory now, in KiB.
pub fn tree_rss_kib(pid: u32) -> u64 {
    let below: u64 = children(pid).into_iter().map(tree_rss_kib).sum();
    rss_kib(pid) + below
}

fn children(of: u32) -> Vec<u32> {
    let Ok(all) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    all.flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| stat(*pid).is_some_and(|stat| stat.parent == of))
        .collect()
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    own: u64,
    of_ended_children: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    read(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name of a process may hold anything, blanks and parentheses too: fields are counted from its last parenthesis.
fn read(text: &str) -> Option<Stat> {
    let (_, fields) = text.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |place: usize| fields.get(place)?.parse::<u64>().ok();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        own: ticks(11)? + ticks(12)?,
        of_ended_children: ticks(13)? + ticks(14)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_a_process_are_found_behind_an_odd_name() {
        let text = "4242 (tricky) name (x)) S 17 4242 4242 0 -1 4194304 100 0 0 0 250 50 7 3 20 0 1 0 12345 0 0";
        let told = Stat {
            parent: 17,
            own: 300,
            of_ended_children: 10,
        };
        assert_eq!(read(text), Some(told));
        assert_eq!(read("nonsense"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_very_process_has_a_parent_and_memory() {
        let me = std::process::id();
        assert!(stat(me).is_some_and(|stat| stat.parent > 0));
        assert!(rss_kib(me) > 0 && peak_rss_kib(me) > 0);
        // Of one reading: between two, other tests take memory and give it back.
        let status = fs::read_to_string("/proc/self/status").unwrap();
        assert!(kib(&status, "VmHWM:") >= kib(&status, "VmRSS:"), "{status}");
    }
}
