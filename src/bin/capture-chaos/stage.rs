//! What the proxies, the tracks and the load share: traps that are laid, faults that bit, and who can reach whom.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;

use super::kind::Kind;
use super::schedule::Step;

/// A trap that nothing ran into is taken away after this. Not much longer than it takes to run into one: traps that pile up
/// while a lane stands still would let nothing come through for as long when it goes on.
const TRAP_LIFE: Duration = Duration::from_secs(8);

/// A lock that a panic elsewhere does not take from us.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The server that is primary now. Each change cuts the connections of the former one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Primary {
    /// Rises with each server that becomes primary.
    pub number: u64,
    /// Its socket; none while there is no primary.
    pub socket: Option<PathBuf>,
}

/// Whether one worker reaches one side.
#[derive(Debug, Clone)]
pub struct Reach {
    pub mode: Mode,
    /// How many connections met it.
    pub hits: Arc<AtomicU64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Open,
    /// Nothing is passed on; connections stand, and go on when it is over.
    Silent,
    /// Connections are reset, new ones too.
    Refused,
}

impl Reach {
    pub fn new(mode: Mode) -> Reach {
        Reach {
            mode,
            hits: Arc::default(),
        }
    }
}

/// Waits while a worker is cut off silently. False: its connections are reset.
pub async fn may_pass(changes: &mut watch::Receiver<Reach>) -> bool {
    let mut counted = false;
    loop {
        let reach = changes.borrow_and_update().clone();
        if reach.mode != Mode::Open && !counted {
            reach.hits.fetch_add(1, Ordering::Relaxed);
            counted = true;
        }
        match reach.mode {
            Mode::Open => return true,
            Mode::Refused => return false,
            Mode::Silent => {
                if changes.changed().await.is_err() {
                    return false;
                }
            }
        }
    }
}

#[derive(Debug)]
struct Trap {
    step: Step,
    left: u32,
    laid: Instant,
}

#[derive(Debug)]
pub struct Stage {
    traps: Mutex<Vec<Trap>>,
    bites: Mutex<BTreeMap<Kind, u64>>,
    /// Of the worker processes; 0: not running.
    pids: Vec<AtomicI32>,
    frozen: AtomicBool,
    pub primary: watch::Sender<Primary>,
    /// By worker.
    pub database: Vec<watch::Sender<Reach>>,
    pub provider: Vec<watch::Sender<Reach>>,
    pub simulator: SocketAddr,
    /// Errors and warnings that the database answered to workers, by SQLSTATE.
    sqlstates: Mutex<BTreeMap<String, u64>>,
    /// Capture POSTs that workers put on the wire, by path.
    posts: Mutex<BTreeMap<String, Vec<DateTime<Utc>>>>,
    /// When the last history began that followed one whose commits were lost.
    anew: Mutex<Option<DateTime<Utc>>>,
    /// Answers 429.
    pub limited: AtomicU64,
    /// Connections that the provider reset without an answer.
    pub provider_resets: AtomicU64,
}

impl Stage {
    pub fn new(workers: usize, simulator: SocketAddr) -> Stage {
        let reaches = || {
            (0..workers)
                .map(|_| watch::Sender::new(Reach::new(Mode::Open)))
                .collect()
        };
        Stage {
            traps: Mutex::default(),
            bites: Mutex::default(),
            pids: (0..workers).map(|_| AtomicI32::new(0)).collect(),
            frozen: AtomicBool::new(false),
            primary: watch::Sender::new(Primary::default()),
            database: reaches(),
            provider: reaches(),
            simulator,
            sqlstates: Mutex::default(),
            posts: Mutex::default(),
            anew: Mutex::default(),
            limited: AtomicU64::new(0),
            provider_resets: AtomicU64::new(0),
        }
    }

    /// Lays a trap.
    pub fn lay(&self, step: Step) {
        locked(&self.traps).push(Trap {
            step,
            left: step.times,
            laid: Instant::now(),
        });
    }

    /// Takes all traps away.
    pub fn clear_traps(&self) {
        locked(&self.traps).clear();
    }

    /// The oldest trap of one of these kinds, if one is laid. Whoever asks plays it, or gives it [`Stage::back`].
    pub fn springs(&self, kinds: &[Kind]) -> Option<Step> {
        let mut traps = locked(&self.traps);
        traps.retain(|trap| trap.left > 0 && trap.laid.elapsed() < TRAP_LIFE);
        let trap = traps.iter_mut().find(|trap| kinds.contains(&trap.step.kind))?;
        trap.left -= 1;
        Some(trap.step)
    }

    /// A trap that sprang and could not be played: nothing happened.
    pub fn back(&self, step: Step) {
        let mut traps = locked(&self.traps);
        match traps.iter_mut().find(|trap| trap.step == step) {
            Some(trap) => trap.left += 1,
            None => traps.push(Trap {
                step,
                left: 1,
                laid: Instant::now(),
            }),
        }
    }

    /// A fault really happened.
    pub fn bit(&self, kind: Kind) {
        *locked(&self.bites).entry(kind).or_default() += 1;
    }

    pub fn bites(&self) -> BTreeMap<Kind, u64> {
        locked(&self.bites).clone()
    }

    pub fn answered_with(&self, sqlstate: &str) {
        *locked(&self.sqlstates).entry(sqlstate.to_owned()).or_default() += 1;
    }

    pub fn seen(&self, sqlstate: &str) -> u64 {
        locked(&self.sqlstates).get(sqlstate).copied().unwrap_or(0)
    }

    pub fn sqlstates(&self) -> BTreeMap<String, u64> {
        locked(&self.sqlstates).clone()
    }

    pub fn posted(&self, path: &str, at: DateTime<Utc>) {
        locked(&self.posts).entry(path.to_owned()).or_default().push(at);
    }

    /// When they came, by path.
    pub fn posts(&self) -> BTreeMap<String, Vec<DateTime<Utc>>> {
        locked(&self.posts).clone()
    }

    /// A standby that lacked commits is the primary now.
    pub fn history_was_lost(&self) {
        *locked(&self.anew) = Some(Utc::now());
    }

    pub fn anew(&self) -> Option<DateTime<Utc>> {
        *locked(&self.anew)
    }

    /// The process in that place; 0: none.
    pub fn process(&self, worker: usize) -> i32 {
        self.pids.get(worker).map_or(0, |pid| pid.load(Ordering::SeqCst))
    }

    pub fn set_pid(&self, worker: usize, pid: i32) {
        if let Some(place) = self.pids.get(worker) {
            place.store(pid, Ordering::SeqCst);
        }
    }

    fn pid(&self, worker: usize) -> Option<Pid> {
        Pid::from_raw(self.pids.get(worker)?.load(Ordering::SeqCst))
    }

    /// Sends a signal to a worker process; false if there is none.
    pub fn signal(&self, worker: usize, signal: Signal) -> bool {
        self.pid(worker).is_some_and(|pid| kill_process(pid, signal).is_ok())
    }

    /// Stops a worker process for a while; another process in its place is left alone. False: there is none, or another
    /// one is frozen already: somebody must go on.
    pub fn freeze(self: &Arc<Stage>, worker: usize, for_ms: u64) -> bool {
        let Some(pid) = self.pid(worker) else { return false };
        if self.frozen.swap(true, Ordering::SeqCst) {
            return false;
        }
        if kill_process(pid, Signal::STOP).is_err() {
            self.frozen.store(false, Ordering::SeqCst);
            return false;
        }
        let stage = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(for_ms)).await;
            if stage.pid(worker) == Some(pid) {
                let _ended_meanwhile = kill_process(pid, Signal::CONT);
            }
            stage.frozen.store(false, Ordering::SeqCst);
        });
        true
    }

    /// Everybody reaches everybody, and nobody is frozen.
    pub fn heal(&self) {
        self.clear_traps();
        for worker in 0..self.pids.len() {
            self.signal(worker, Signal::CONT);
        }
        for reach in self.database.iter().chain(&self.provider) {
            reach.send_replace(Reach::new(Mode::Open));
        }
    }
}
