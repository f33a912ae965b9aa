//! The kinds of trouble: their names, who plays them, and what each does.

/// Who plays a kind. Each track plays its steps one after another; the tracks run side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Track {
    /// The proxies: a trap that is laid, and springs when the message that it is for comes by.
    Wire,
    /// The worker processes.
    Process,
    /// The database server.
    Server,
    /// What lies around: network, provider, clocks, operators.
    World,
}

/// A kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    ClaimSwallowed,
    ClaimReset,
    ClaimStalled,
    ClaimCut,
    SettleSwallowed,
    SettleReset,
    SettleStalled,
    SettleCut,
    GiveBackSwallowed,
    StatementReset,
    PostReset,
    PostCut,
    PostAnswerReset,
    PostDeliveredLate,
    PostDeliveredTwice,
    AnswerSwallowed,
    AnswerCut,
    AnswerStalled,
    ReadSwallowed,
    KilledAfterClaim,
    KilledAfterPost,
    KilledBeforeSettle,
    KilledAfterSettle,
    FrozenAfterClaim,
    FrozenAfterRead,
    Killed,
    Frozen,
    FrozenPastLease,
    RollingRestart,
    Reconfigured,
    PostgresStopped,
    PostgresKilled,
    BackendKilled,
    BackendsTerminated,
    PromotedWithLoss,
    PromotedInSync,
    SyncWaitCancelled,
    DiskFull,
    ConnectionsExhausted,
    ProviderDown,
    ProviderLimits,
    DatabasePartition,
    DatabaseRefused,
    ProviderPartition,
    LanePaused,
    ClockShifted,
}

impl Kind {
    /// Name, track, and what happens.
    const ROWS: [(Kind, &'static str, Track, &'static str); 46] = {
        use Kind::*;
        use Track::*;
        [
            (
                ClaimSwallowed,
                "claim-swallowed",
                Wire,
                "a claim commits, its answer is thrown away, the connection reset",
            ),
            (
                ClaimReset,
                "claim-reset",
                Wire,
                "the connection is reset before a claim reaches the server",
            ),
            (
                ClaimStalled,
                "claim-stalled",
                Wire,
                "the answer of a claim comes late, at times after its lease",
            ),
            (
                ClaimCut,
                "claim-cut",
                Wire,
                "the answer of a claim ends after so many bytes",
            ),
            (
                SettleSwallowed,
                "settle-swallowed",
                Wire,
                "a settle commits, its answer is thrown away, the connection reset",
            ),
            (
                SettleReset,
                "settle-reset",
                Wire,
                "the connection is reset before a settle reaches the server",
            ),
            (
                SettleStalled,
                "settle-stalled",
                Wire,
                "a settle reaches the server late, at times after its lease",
            ),
            (
                SettleCut,
                "settle-cut",
                Wire,
                "the answer of a settle ends after so many bytes",
            ),
            (
                GiveBackSwallowed,
                "give-back-swallowed",
                Wire,
                "the answer of a claim given back is thrown away",
            ),
            (
                StatementReset,
                "statement-reset",
                Wire,
                "the connection is reset before any other statement",
            ),
            (
                PostReset,
                "post-reset",
                Wire,
                "a capture POST is read, never delivered, and the connection reset",
            ),
            (
                PostCut,
                "post-cut",
                Wire,
                "the provider gets the first bytes of a capture POST",
            ),
            (
                PostAnswerReset,
                "post-answer-reset",
                Wire,
                "a capture POST is delivered, the connection reset before any answer",
            ),
            (
                PostDeliveredLate,
                "post-delivered-late",
                Wire,
                "a capture POST is delivered after the worker gave it up",
            ),
            (
                PostDeliveredTwice,
                "post-delivered-twice",
                Wire,
                "a capture POST is delivered twice",
            ),
            (
                AnswerSwallowed,
                "answer-swallowed",
                Wire,
                "the answer of a capture POST is thrown away",
            ),
            (
                AnswerCut,
                "answer-cut",
                Wire,
                "the answer of a capture POST ends after so many bytes",
            ),
            (
                AnswerStalled,
                "answer-stalled",
                Wire,
                "the answer of a capture POST stops after its headers",
            ),
            (
                ReadSwallowed,
                "read-swallowed",
                Wire,
                "the answer of a read is thrown away",
            ),
            (
                KilledAfterClaim,
                "killed-after-claim",
                Wire,
                "kill -9 of the worker just after its claim was committed",
            ),
            (
                KilledAfterPost,
                "killed-after-post",
                Wire,
                "kill -9 of the worker just after its capture POST was delivered",
            ),
            (
                KilledBeforeSettle,
                "killed-before-settle",
                Wire,
                "kill -9 of the worker as its settle leaves, undelivered",
            ),
            (
                KilledAfterSettle,
                "killed-after-settle",
                Wire,
                "kill -9 of the worker just after its settle was committed",
            ),
            (
                FrozenAfterClaim,
                "frozen-after-claim",
                Wire,
                "SIGSTOP past the lease just as the answer of a claim arrives",
            ),
            (
                FrozenAfterRead,
                "frozen-after-read",
                Wire,
                "SIGSTOP past the lease just as the answer of a read arrives",
            ),
            (Killed, "killed", Process, "kill -9 of a worker at any moment"),
            (Frozen, "frozen", Process, "SIGSTOP of a worker for about a second"),
            (
                FrozenPastLease,
                "frozen-past-lease",
                Process,
                "SIGSTOP of a worker past its leases",
            ),
            (
                RollingRestart,
                "rolling-restart",
                Process,
                "SIGTERM of one worker after the other, each drains and starts anew",
            ),
            (
                Reconfigured,
                "reconfigured",
                Process,
                "rolling restart into a changed configuration",
            ),
            (
                PostgresStopped,
                "postgres-stopped",
                Server,
                "immediate stop of Postgres, and a restart",
            ),
            (
                PostgresKilled,
                "postgres-killed",
                Server,
                "kill -9 of all processes of Postgres, and a restart",
            ),
            (
                BackendKilled,
                "backend-killed",
                Server,
                "kill -9 of one session of a worker: Postgres resets itself",
            ),
            (
                BackendsTerminated,
                "backends-terminated",
                Server,
                "an administrator ends all sessions of the workers",
            ),
            (
                PromotedWithLoss,
                "promoted-with-loss",
                Server,
                "kill -9 of the primary, promotion of an asynchronous standby that lacks acknowledged commits",
            ),
            (
                PromotedInSync,
                "promoted-in-sync",
                Server,
                "kill -9 of the primary, promotion of its synchronous standby",
            ),
            (
                SyncWaitCancelled,
                "sync-wait-cancelled",
                Server,
                "an administrator cancels workers that wait for a synchronous standby; then the primary dies",
            ),
            (
                DiskFull,
                "disk-full",
                Server,
                "the tables of the outbox are on a disk that fills up",
            ),
            (
                ConnectionsExhausted,
                "connections-exhausted",
                Server,
                "all connections of the server are taken by others",
            ),
            (
                ProviderDown,
                "provider-down",
                World,
                "a provider resets every connection for some seconds",
            ),
            (
                ProviderLimits,
                "provider-limits",
                World,
                "the providers answer 429 to most calls for some seconds",
            ),
            (
                DatabasePartition,
                "database-partition",
                World,
                "one worker and the database hear nothing of each other for some seconds",
            ),
            (
                DatabaseRefused,
                "database-refused",
                World,
                "one worker's connections to the database are reset, new ones refused",
            ),
            (
                ProviderPartition,
                "provider-partition",
                World,
                "one worker and the providers hear nothing of each other for some seconds",
            ),
            (
                LanePaused,
                "lane-paused",
                World,
                "an operator pauses a lane, and resumes it",
            ),
            (
                ClockShifted,
                "clock-shifted",
                World,
                "one worker's wall clock is wrong by an hour or a day, or runs five times too fast",
            ),
        ]
    };

    /// All of them.
    pub fn all() -> impl Iterator<Item = Kind> {
        Kind::ROWS.into_iter().map(|(kind, ..)| kind)
    }

    fn row(self) -> (&'static str, Track, &'static str) {
        let found = Kind::ROWS.into_iter().find(|(kind, ..)| *kind == self);
        found.map_or(("", Track::World, ""), |(_, name, track, what)| (name, track, what))
    }

    /// In the schedule and in the report.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// Who plays it.
    pub fn track(self) -> Track {
        self.row().1
    }

    /// What happens.
    pub fn what(self) -> &'static str {
        self.row().2
    }
}
