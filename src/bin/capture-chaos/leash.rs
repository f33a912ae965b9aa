//! A small shell process that outlives us by a moment: however we end, it stops what we started and could not stop.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;

use anyhow::Context;

use super::stage::locked;

/// Reads `+ PID` and `- PID`; when its input ends, ends what is still on the list, unless `done` was said before.
const SCRIPT: &str = r#"
pids=" "
while read -r act pid; do
    case $act in
        +) pids="$pids$pid " ;;
        -) case $pids in *" $pid "*) pids="${pids%% $pid *} ${pids#* $pid }" ;; esac ;;
        mount) mounted=$pid ;;
        done) exit 0 ;;
    esac
done
for pid in $pids; do kill -QUIT "$pid"; done 2>/dev/null
[ -z "$mounted" ] || { sleep 1; umount -l "$mounted"; } 2>/dev/null
"#;

#[derive(Debug)]
pub struct Leash {
    pipe: Mutex<Option<ChildStdin>>,
    shell: Mutex<Child>,
}

impl Leash {
    pub fn new() -> anyhow::Result<Leash> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is for us; it then sees us end.
            .process_group(0)
            .spawn()
            .context("/bin/sh cannot be started")?;
        Ok(Leash {
            pipe: Mutex::new(shell.stdin.take()),
            shell: Mutex::new(shell),
        })
    }

    fn say(&self, line: &str) {
        if let Some(pipe) = locked(&self.pipe).as_mut() {
            let _gone = writeln!(pipe, "{line}");
        }
    }

    /// Watches a process.
    pub fn watches(&self, pid: u32) {
        self.say(&format!("+ {pid}"));
    }

    /// A process has ended.
    pub fn ended(&self, pid: u32) {
        self.say(&format!("- {pid}"));
    }

    /// A file system is to be unmounted at the end.
    pub fn mounted(&self, place: &std::path::Path) {
        self.say(&format!("mount {}", place.display()));
    }
}

impl Drop for Leash {
    /// What is still on the list is stopped.
    fn drop(&mut self) {
        locked(&self.pipe).take();
        let _ended = locked(&self.shell).wait();
    }
}
