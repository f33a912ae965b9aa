//! Calls that broke before a whole answer came: what happened, and what it says about the money.
//!
//! What happened only names the failure. What it says about the money follows from what can have left this machine.

use super::answer::TLS;
use crate::outcome::{Class, Failure};

/// What can have left this machine when a call breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// The call moves no money, sent or not.
    NoMoney,
    /// The body of the capture never left.
    Nothing,
    /// The body was handed to the connection.
    Perhaps,
}

/// How a call broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Unbuildable,
    Dns,
    Refused,
    ConnectTimeout,
    ConnectFailed,
    Tls,
    Closed,
    Reset,
    Timeout,
    Truncated,
    TooLarge,
}

impl Cause {
    fn code(self) -> &'static str {
        match self {
            Cause::Unbuildable => "unbuildable",
            Cause::Dns => "dns",
            Cause::Refused => "connect_refused",
            Cause::ConnectTimeout => "connect_timeout",
            Cause::ConnectFailed => "connect_failed",
            Cause::Tls => TLS,
            Cause::Closed => "connection_closed",
            Cause::Reset => "connection_reset",
            Cause::Timeout => "timeout",
            Cause::Truncated => "body_truncated",
            Cause::TooLarge => "body_too_large",
        }
    }
}

/// A call that broke, and the status if the head of an answer had come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Break {
    pub(super) cause: Cause,
    pub(super) status: Option<u16>,
}

impl Break {
    pub(super) fn new(cause: Cause) -> Break {
        Break { cause, status: None }
    }

    pub(super) fn failure(self, sent: Sent) -> Failure {
        let class = match (self.cause, sent) {
            (Cause::Unbuildable, _) => Class::Rejected,
            (_, Sent::NoMoney | Sent::Nothing) => Class::Transient,
            (_, Sent::Perhaps) => Class::Ambiguous,
        };
        let mut failure = Failure::new(class, self.cause.code());
        failure.http_status = self.status;
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: [Cause; 11] = [
        Cause::Unbuildable,
        Cause::Dns,
        Cause::Refused,
        Cause::ConnectTimeout,
        Cause::ConnectFailed,
        Cause::Tls,
        Cause::Closed,
        Cause::Reset,
        Cause::Timeout,
        Cause::Truncated,
        Cause::TooLarge,
    ];

    #[test]
    fn a_capture_that_may_have_left_is_ambiguous_however_the_call_broke() {
        for cause in EVERY.into_iter().skip(1) {
            assert_eq!(
                Break::new(cause).failure(Sent::Perhaps).class,
                Class::Ambiguous,
                "{cause:?}"
            );
        }
    }

    #[test]
    fn a_capture_that_never_left_and_a_call_that_moves_no_money_are_transient() {
        for cause in EVERY.into_iter().skip(1) {
            for sent in [Sent::Nothing, Sent::NoMoney] {
                assert_eq!(
                    Break::new(cause).failure(sent).class,
                    Class::Transient,
                    "{cause:?} {sent:?}"
                );
            }
        }
    }

    #[test]
    fn a_request_that_cannot_be_built_is_rejected_and_no_broken_call_counts_as_an_answer() {
        for cause in EVERY {
            for sent in [Sent::Nothing, Sent::NoMoney, Sent::Perhaps] {
                let failure = Break::new(cause).failure(sent);
                assert_eq!(failure.class == Class::Rejected, cause == Cause::Unbuildable);
                assert!(!failure.answered);
            }
        }
    }
}
