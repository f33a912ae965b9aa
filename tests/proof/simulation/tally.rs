//! What happened, counted: a simulation that never reaches something proves nothing about it.

use std::collections::BTreeMap;

/// What is put in the way of the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    StatementNeverArrived,
    CommitAnswerLost,
    StatementStalled,
    StatementRefused,
    SessionEnded,
    SerializationFailure,
    Deadlock,
    CommitNotDurable,
    DatabaseDown,
    FailOver,
    ClockJump,
    ListenerLost,
    Crash,
    CrashDuringStatement,
    Freeze,
    ConnectionRefused,
    RequestLost,
    AnswerLost,
    ExecutedLate,
    AnswerTooLate,
    StillInProgress,
    Conflict,
    FrozenWhileConnecting,
    CrashAfterSend,
    KilledByIntent,
    RateLimited,
    FrontBefore,
    FrontAfter,
    FrontLate,
    RefusedUnread,
    Unauthorised,
    Declined,
    AcceptedOnly,
    AcceptedThenDeclined,
    ReadFailed,
    ReadLagged,
    MarkFailed,
    CapturedByHand,
    PaymentClosed,
}

impl Fault {
    pub const ALL: [Fault; 39] = [
        Fault::StatementNeverArrived,
        Fault::CommitAnswerLost,
        Fault::StatementStalled,
        Fault::StatementRefused,
        Fault::SessionEnded,
        Fault::SerializationFailure,
        Fault::Deadlock,
        Fault::CommitNotDurable,
        Fault::DatabaseDown,
        Fault::FailOver,
        Fault::ClockJump,
        Fault::ListenerLost,
        Fault::Crash,
        Fault::CrashDuringStatement,
        Fault::Freeze,
        Fault::ConnectionRefused,
        Fault::RequestLost,
        Fault::AnswerLost,
        Fault::ExecutedLate,
        Fault::AnswerTooLate,
        Fault::StillInProgress,
        Fault::Conflict,
        Fault::FrozenWhileConnecting,
        Fault::CrashAfterSend,
        Fault::KilledByIntent,
        Fault::RateLimited,
        Fault::FrontBefore,
        Fault::FrontAfter,
        Fault::FrontLate,
        Fault::RefusedUnread,
        Fault::Unauthorised,
        Fault::Declined,
        Fault::AcceptedOnly,
        Fault::AcceptedThenDeclined,
        Fault::ReadFailed,
        Fault::ReadLagged,
        Fault::MarkFailed,
        Fault::CapturedByHand,
        Fault::PaymentClosed,
    ];
}

/// What the workers came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    StatementRepeated,
    StatementGivenUp,
    GivenBack,
    Rescued,
    LeaseLost,
    AlreadyRecorded,
    IntentLost,
    LateReceiptUsed,
    HistoryChanged,
    CancelledInFlight,
    GivenUpUnreleased,
    SiblingParked,
    SiblingUndecided,
    ClaimedAlone,
    GivenUpAsKiller,
    HeldBackByGuard,
    KeyRepeated,
    GenerationRaised,
    SentUnderLostLease,
    LanePaused,
    LaneLimited,
    BreakerOpened,
    CancelledAtOnce,
    ReleasedBefore,
    ReleasedAfter,
    Replayed,
    ReplayedWithFreshKey,
    Resolved,
    AuthorisationExpiring,
    RefusedAtInsert,
    CrossedAtInsert,
    UndecidedThoughReadable,
    UndecidedRightly,
    LookAlikeByHand,
    ActLostWithHistory,
    Drained,
}

impl Path {
    pub const ALL: [Path; 36] = [
        Path::StatementRepeated,
        Path::StatementGivenUp,
        Path::GivenBack,
        Path::Rescued,
        Path::LeaseLost,
        Path::AlreadyRecorded,
        Path::IntentLost,
        Path::LateReceiptUsed,
        Path::HistoryChanged,
        Path::CancelledInFlight,
        Path::GivenUpUnreleased,
        Path::SiblingParked,
        Path::SiblingUndecided,
        Path::ClaimedAlone,
        Path::GivenUpAsKiller,
        Path::HeldBackByGuard,
        Path::KeyRepeated,
        Path::GenerationRaised,
        Path::SentUnderLostLease,
        Path::LanePaused,
        Path::LaneLimited,
        Path::BreakerOpened,
        Path::CancelledAtOnce,
        Path::ReleasedBefore,
        Path::ReleasedAfter,
        Path::Replayed,
        Path::ReplayedWithFreshKey,
        Path::Resolved,
        Path::AuthorisationExpiring,
        Path::RefusedAtInsert,
        Path::CrossedAtInsert,
        Path::UndecidedThoughReadable,
        Path::UndecidedRightly,
        Path::LookAlikeByHand,
        Path::ActLostWithHistory,
        Path::Drained,
    ];
}

/// The counts of one story, or of many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub faults: BTreeMap<Fault, u64>,
    pub paths: BTreeMap<Path, u64>,
    pub ends: BTreeMap<String, u64>,
    pub intents: u64,
    pub sends: u64,
    pub virtual_seconds: u64,
}

impl Tally {
    pub fn fault(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    pub fn path(&mut self, path: Path) {
        self.paths_by(path, 1);
    }

    pub fn paths_by(&mut self, path: Path, by: u64) {
        if by > 0 {
            *self.paths.entry(path).or_default() += by;
        }
    }

    pub fn end(&mut self, end: &str) {
        *self.ends.entry(end.to_owned()).or_default() += 1;
    }

    pub fn add(&mut self, other: &Tally) {
        for (fault, by) in &other.faults {
            *self.faults.entry(*fault).or_default() += by;
        }
        for (path, by) in &other.paths {
            *self.paths.entry(*path).or_default() += by;
        }
        for (end, by) in &other.ends {
            *self.ends.entry(end.clone()).or_default() += by;
        }
        self.intents += other.intents;
        self.sends += other.sends;
        self.virtual_seconds += other.virtual_seconds;
    }

    pub fn all_faults(&self) -> u64 {
        self.faults.values().sum()
    }

    /// What was never reached.
    pub fn never(&self) -> Vec<String> {
        let faults = Fault::ALL.iter().filter(|fault| !self.faults.contains_key(fault));
        let paths = Path::ALL.iter().filter(|path| !self.paths.contains_key(path));
        faults
            .map(|fault| format!("{fault:?}"))
            .chain(paths.map(|path| format!("{path:?}")))
            .collect()
    }
}
