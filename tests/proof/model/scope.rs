//! What is in a world, how much may go wrong in it, and how it is built.

use std::time::Duration;

use capture::provider::Abilities;
use capture::retry::Policy;

use super::Law;
use crate::bank::Kind;

/// For how long a claim is leased.
pub const LEASE: Duration = Duration::from_secs(100);
/// What a call takes at most, and how long after its send a request may act.
pub const LONGEST_CALL: Duration = Duration::from_secs(40);
/// How far apart quiet reads are.
pub const VERIFY_QUIET: Duration = Duration::from_secs(50);
/// How long a key is counted on.
pub const WINDOW: Duration = Duration::from_secs(300);
/// How long it is known: longer by a lease, for a repeat may be decided at a claim and act at its lease's end.
pub const REMEMBERED: Duration = Duration::from_secs(400);
/// Reads do not show what is younger.
pub const READ_LAG: Duration = Duration::from_secs(20);
/// Nothing is sent this long before the deadline.
pub const DEADLINE_MARGIN: Duration = Duration::from_secs(60);
/// Of every payment.
pub const AUTHORISED: i64 = 100;

/// What may go wrong, each time at the cost of one of [`Scope::faults`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A worker is gone; what it sent is not.
    Crash,
    /// A claim took effect, and its answer is lost.
    ClaimLost,
    /// A settle took effect, and its answer is lost.
    SettleLost,
    /// A read is not answered.
    ReadLost,
    /// A capture is not answered: it may be executed, now or later, or never.
    Unanswered,
    /// The provider cannot be reached: surely not sent.
    Unreachable,
    /// A front says 503, and may have passed the request on.
    Front,
    /// The provider takes the capture (202), and does not say that it is done.
    Accepted,
    /// A middlebox sends a request twice.
    Doubled,
    /// A worker stands still beyond its lease, and goes on.
    Frozen,
    /// The database loses its last commits.
    FailOver,
}

/// What people and other programs may do, each time at the cost of one of [`Scope::acts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Cancel,
    Release,
    Replay,
    Resolve,
    /// A second intent is asked for only now.
    Enqueue,
    /// Somebody captures at the provider's own site.
    ByHand,
}

/// An intent that is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub payment: &'static str,
    pub minor: i64,
    pub hold: bool,
    /// Not from the beginning, but by [`Act::Enqueue`].
    pub later: bool,
    /// Leases that it has lost already, and with them the certainty that nothing was captured.
    pub lost_leases: i16,
}

pub const ONE: Asked = Asked {
    payment: "a",
    minor: 40,
    hold: false,
    later: false,
    lost_leases: 0,
};

/// A small world.
#[derive(Debug, Clone)]
pub struct Scope {
    pub kind: Kind,
    /// Slots of workers; each may crash and freeze by itself.
    pub workers: usize,
    pub asked: Vec<Asked>,
    pub attempts: i16,
    pub deadline: Option<i64>,
    /// No further than this many seconds.
    pub horizon: i64,
    pub faults: u8,
    pub may_fail: Vec<Fault>,
    pub acts: u8,
    pub may_act: Vec<Act>,
    pub design: Design,
    /// Looks for this harm alone; `None`: for all.
    pub only: Option<Law>,
}

impl Fault {
    pub const ALL: [Fault; 11] = [
        Fault::Crash,
        Fault::ClaimLost,
        Fault::SettleLost,
        Fault::ReadLost,
        Fault::Unanswered,
        Fault::Unreachable,
        Fault::Front,
        Fault::Accepted,
        Fault::Doubled,
        Fault::Frozen,
        Fault::FailOver,
    ];
}

impl Scope {
    /// One intent, two slots, everything may go wrong, twice.
    pub fn of(kind: Kind) -> Scope {
        Scope {
            kind,
            workers: 2,
            asked: vec![ONE],
            attempts: 3,
            deadline: None,
            horizon: 900,
            faults: 2,
            may_fail: Fault::ALL.to_vec(),
            acts: 0,
            may_act: Vec::new(),
            design: Design::Real,
            only: None,
        }
    }

    pub fn policy(&self) -> Policy {
        Policy {
            attempts: self.attempts,
            verify_quiet: VERIFY_QUIET,
            deadline_margin: DEADLINE_MARGIN,
            longest_call: LONGEST_CALL,
            ..Policy::default()
        }
    }

    pub fn abilities(&self) -> Abilities {
        let window = match self.design {
            Design::WindowWithoutMargin => REMEMBERED,
            _ => WINDOW,
        };
        self.kind.abilities(window, READ_LAG)
    }

    pub fn may_fail(&self, fault: Fault) -> bool {
        self.may_fail.contains(&fault)
    }

    pub fn may_act(&self, act: Act) -> bool {
        self.may_act.contains(&act)
    }
}

/// How the worker is built: as it is, or with one mistake that others have made before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Design {
    Real,
    KeyFromTheAttempt,
    SettleWithoutFence,
    NoReadBeforeAKeylessSend,
    NoQuarantine,
    RescueAsRetry,
    OneQuietReadIsEnough,
    WindowWithoutMargin,
    NewKeyAtTheWindowsEnd,
    NoSendGuard,
    WallClock,
    TaintForgotten,
    RefusalTakenAtItsWord,
    FrontsAnswerTakenForTheProviders,
    CancelEndsAtOnce,
    ReplaySendsAtOnce,
    EpochIgnored,
    LateReceiptDropped,
    SiblingsClaimedAtOnce,
    LeaseAfterTheSend,
    NoDeadline,
    /// Was ours, until the model found it.
    QuietFromTheClaim,
    /// Was ours, until the model found it.
    LostHistoryWaitsForOneCall,
}
