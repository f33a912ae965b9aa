//! A provider as a worker reaches it: the bank, behind a network and a front that fail.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use capture::intent::CaptureIntent;
use capture::outcome::{Class, Failure, Observation, Outcome};
use capture::provider::{Abilities, Call, Provider};
use chrono::TimeDelta;
use uuid::Uuid;

use super::life::{Life, pause};
use super::tally::{Fault, Path};
use super::wire::{Mood, Wire, failed};
use super::world::{SKEW, Shared, World, lock, short};
use crate::bank::{Kind, Request};

/// What one call may take in all: the connection, the answer, and something around them.
pub const LONGEST_CALL_MS: u64 = 3_000;
const CONNECT_MS: u64 = 300;
const ANSWER_MS: u64 = 2_500;

pub struct SimProvider {
    pub world: Shared,
    pub life: Arc<Life>,
    /// Whose process this is.
    pub worker: Arc<std::sync::OnceLock<Uuid>>,
    /// Which provider.
    pub place: usize,
    pub abilities: Abilities,
}

/// How one capture POST goes.
#[derive(Debug, Clone, Copy)]
enum Play {
    Answered,
    RequestLost,
    AnswerLost,
    ExecutedLate,
    AnswerTooLate,
    FrontBefore,
    FrontAfter,
    FrontLate,
    RateLimited,
    /// Refused before anybody looked for its key: says nothing of the sends before.
    RefusedUnread,
    Unauthorised,
    /// A front passed our request on twice: this is the answer to the copy, while the first still runs.
    Conflict,
}

struct Script {
    refused: bool,
    connect_ms: u64,
    play: Play,
    mood: Mood,
    /// From the send to the execution, and from there to the answer.
    execute_ms: u64,
    answer_ms: u64,
    /// When the connection breaks, if it does.
    breaks_ms: u64,
    retry_after_s: u64,
    in_progress: bool,
}

impl World {
    fn play(&mut self, place: usize) -> (Play, Option<Fault>) {
        let unauthorised = self.ms() < self.counter(place).unauthorised_until;
        if unauthorised {
            return (Play::Unauthorised, Some(Fault::Unauthorised));
        }
        for (per_mille, play, fault) in [
            (30, Play::RequestLost, Fault::RequestLost),
            (50, Play::AnswerLost, Fault::AnswerLost),
            (60, Play::ExecutedLate, Fault::ExecutedLate),
            (30, Play::AnswerTooLate, Fault::AnswerTooLate),
            (20, Play::FrontBefore, Fault::FrontBefore),
            (20, Play::FrontAfter, Fault::FrontAfter),
            (25, Play::FrontLate, Fault::FrontLate),
            (12, Play::RateLimited, Fault::RateLimited),
            (12, Play::Conflict, Fault::Conflict),
            (15, Play::RefusedUnread, Fault::RefusedUnread),
        ] {
            if self.strikes(per_mille) {
                return (play, Some(fault));
            }
        }
        (Play::Answered, None)
    }

    fn script(&mut self, place: usize, name: &str) -> Script {
        let (play, fault) = self.play(place);
        if let Some(fault) = fault {
            self.fault(fault, name);
        }
        let refused = self.strikes(20);
        if refused {
            self.fault(Fault::ConnectionRefused, name);
        }
        let accepts = self.counter(place).bank.kind != Kind::Nothing && self.strikes(40);
        let mood = if self.strikes(25) {
            self.fault(Fault::Declined, name);
            Mood::Declines
        } else if accepts {
            let declines = self.chance(30);
            let fault = if declines {
                Fault::AcceptedThenDeclined
            } else {
                Fault::AcceptedOnly
            };
            self.fault(fault, name);
            Mood::Accepts {
                final_after_ms: self.between(500, 15_000),
                declines,
            }
        } else {
            Mood::Executes
        };
        let slow = self.strikes(100);
        let connect_ms = self.between(1, if slow { CONNECT_MS } else { 20 });
        let execute_ms = match play {
            Play::ExecutedLate | Play::FrontLate | Play::Conflict => self.between(50, LONGEST_CALL_MS),
            Play::Answered
            | Play::RequestLost
            | Play::AnswerLost
            | Play::AnswerTooLate
            | Play::FrontBefore
            | Play::FrontAfter
            | Play::RateLimited
            | Play::RefusedUnread
            | Play::Unauthorised => self.between(1, if slow { 800 } else { 30 }),
        };
        Script {
            refused,
            connect_ms,
            play,
            mood,
            execute_ms,
            answer_ms: self.between(1, if slow { 1_500 } else { 20 }),
            breaks_ms: if self.chance(30) {
                ANSWER_MS
            } else {
                self.between(1, 1_000)
            },
            retry_after_s: self.between(1, 4),
            in_progress: self.chance(60),
        }
    }
}

fn conflict(keyed: bool) -> Outcome {
    let class = if keyed { Class::InProgress } else { Class::MaybeDone };
    Outcome::Failed(Failure::new(class, "conflict").answered(409))
}

impl SimProvider {
    /// The process stops at the worst of moments.
    fn strike_process(&self, call: &Call<'_>) {
        let mut world = lock(&self.world);
        let name = &self.life.name;
        if world.killers.contains(&call.intent.id) {
            world.fault(Fault::KilledByIntent, name);
            self.life.end();
        }
    }

    fn now_and_run(&self) -> std::sync::MutexGuard<'_, World> {
        let mut world = lock(&self.world);
        world.run_bank(self.place);
        world
    }

    /// `Err`: the answer that came without an execution.
    fn put_on_the_wire(&self, script: &Script, call: &Call<'_>) -> Result<Option<u32>, Outcome> {
        let mut world = self.now_and_run();
        let worker = *self.worker.get().unwrap();
        let upheavals = world.judge_send(self.place, worker, call, &self.life.name);
        let ms = world.ms();
        let name = &self.life.name;
        match script.play {
            Play::RequestLost | Play::FrontBefore => return Ok(None),
            Play::RateLimited => {
                let mut failure = Failure::new(Class::RateLimited, "rate_limited").answered(429);
                failure.retry_after = Some(Duration::from_secs(script.retry_after_s));
                return Err(Outcome::Failed(failure));
            }
            Play::RefusedUnread => {
                let failure = Failure::new(Class::Rejected, "refused_unread").answered(422);
                return Err(Outcome::Failed(failure));
            }
            Play::Unauthorised => {
                let failure = Failure::new(Class::Misconfigured, "unauthorized").answered(401);
                return Err(Outcome::Failed(failure));
            }
            Play::Answered
            | Play::AnswerLost
            | Play::ExecutedLate
            | Play::AnswerTooLate
            | Play::FrontAfter
            | Play::FrontLate
            | Play::Conflict => {}
        }
        let counter = world.counter(self.place);
        let request = Request::of(call.intent, call.generation);
        let runs = counter.wires.on_the_way().any(|wire| wire.request == request);
        let keyed = matches!(counter.bank.kind, Kind::KeyWithWindow | Kind::KeyForEver);
        if script.in_progress && runs && keyed {
            world.fault(Fault::StillInProgress, name);
            return Err(conflict(keyed));
        }
        let wire = Wire {
            request,
            mood: script.mood,
            upheavals,
        };
        let wires = &mut world.counter(self.place).wires;
        let number = wires.put(ms + script.execute_ms, wire);
        match script.play {
            Play::Conflict => Err(conflict(keyed)),
            Play::Answered
            | Play::RequestLost
            | Play::AnswerLost
            | Play::ExecutedLate
            | Play::AnswerTooLate
            | Play::FrontBefore
            | Play::FrontAfter
            | Play::FrontLate
            | Play::RateLimited
            | Play::RefusedUnread
            | Play::Unauthorised => Ok(Some(number)),
        }
    }

    async fn post(&self, call: &Call<'_>) -> Outcome {
        let script = lock(&self.world).script(self.place, &self.life.name);
        pause(script.connect_ms).await;
        {
            let mut world = lock(&self.world);
            if world.strikes(6) {
                world.fault(Fault::FrozenWhileConnecting, &self.life.name);
                self.life.freeze(world.ms() + world.between(3_000, 14_000));
            }
        }
        self.life.runs().await;
        if script.refused {
            return failed(Class::Transient, "connect_refused");
        }
        // From here to the wire nothing waits: the connection stands, and asks for the body.
        if !call.guard.may_send() {
            let mut world = lock(&self.world);
            world.path(Path::HeldBackByGuard);
            return Outcome::NotSent;
        }
        let number = match self.put_on_the_wire(&script, call) {
            Ok(number) => number,
            Err(outcome) => {
                pause(script.answer_ms).await;
                return outcome;
            }
        };
        {
            let mut world = lock(&self.world);
            if world.strikes(6) {
                world.fault(Fault::CrashAfterSend, &self.life.name);
                self.life.end();
            }
        }
        let front = || {
            let mut failure = Failure::new(Class::Transient, "unavailable");
            failure.http_status = Some(503);
            Outcome::Failed(failure)
        };
        match script.play {
            Play::FrontBefore | Play::FrontAfter | Play::FrontLate => {
                let after = match script.play {
                    Play::FrontAfter => script.execute_ms,
                    _ => 0,
                };
                pause(after + script.answer_ms).await;
                return front();
            }
            Play::RequestLost | Play::AnswerLost | Play::ExecutedLate => {
                pause(script.breaks_ms).await;
                return failed(Class::Ambiguous, "connection_broke");
            }
            Play::AnswerTooLate => {
                pause(ANSWER_MS).await;
                return failed(Class::Ambiguous, "timed_out");
            }
            Play::Answered | Play::RateLimited | Play::RefusedUnread | Play::Unauthorised | Play::Conflict => {}
        }
        pause(script.execute_ms + script.answer_ms).await;
        let mut world = self.now_and_run();
        let now = world.bank_now();
        let counter = world.counter(self.place);
        let reply = number.and_then(|number| counter.wires.take_reply(number)).unwrap();
        let request = Request::of(call.intent, call.generation);
        counter.outcome(&request, call.intent, reply, now)
    }

    async fn look(&self, call: &Call<'_>) -> Observation {
        let (ask_ms, answer_ms, lag, failure) = {
            let mut world = lock(&self.world);
            let name = &self.life.name;
            let failure = if world.ms() < world.counter(self.place).unauthorised_until {
                world.fault(Fault::Unauthorised, name);
                Some(Failure::new(Class::Misconfigured, "unauthorized").answered(401))
            } else if world.strikes(60) {
                world.fault(Fault::ReadFailed, name);
                Some(Failure::new(Class::Transient, "read_failed"))
            } else if world.strikes(10) {
                world.fault(Fault::RateLimited, name);
                Some(Failure::new(Class::RateLimited, "rate_limited").answered(429))
            } else {
                None
            };
            let most = u64::try_from(self.abilities.read_lag.as_millis()).unwrap();
            let lag = if world.strikes(300) {
                world.fault(Fault::ReadLagged, name);
                world.between(0, most)
            } else {
                0
            };
            let slow = world.strikes(50);
            let ask_ms = world.between(1, if slow { 1_500 } else { 20 });
            (ask_ms, world.between(1, 20), lag, failure)
        };
        pause(ask_ms).await;
        self.life.runs().await;
        let observation = match failure {
            Some(failure) => Observation::Failed(failure),
            None => {
                let mut world = self.now_and_run();
                let now = world.bank_now();
                let first = call.first_sent_at.map(|at| at - TimeDelta::from_std(SKEW).unwrap());
                let siblings = &call.siblings.capture_ids;
                let counter = world.counter(self.place);
                counter.read(call.intent, first, siblings, Duration::from_millis(lag), now)
            }
        };
        lock(&self.world).say(|| format!("{}: reads {}: {observation:?}", self.life.name, short(call.intent.id)));
        pause(answer_ms).await;
        observation
    }
}

#[async_trait]
impl Provider for SimProvider {
    fn abilities(&self) -> Abilities {
        self.abilities
    }

    fn host(&self) -> &str {
        "bank"
    }

    fn check(&self, _intent: &CaptureIntent) -> Result<(), Failure> {
        Ok(())
    }

    async fn mark(&self, call: &Call<'_>) -> Result<(), Failure> {
        self.life.runs().await;
        let mut world = lock(&self.world);
        if world.strikes(30) {
            world.fault(Fault::MarkFailed, &self.life.name);
            return Err(Failure::new(Class::Transient, "mark_failed"));
        }
        let markers = &mut world.counter(self.place).markers;
        markers.insert(call.intent.payment_id.clone(), call.intent.id);
        Ok(())
    }

    async fn capture(&self, call: &Call<'_>) -> Outcome {
        self.strike_process(call);
        self.life.runs().await;
        let outcome = self.post(call).await;
        self.life.runs().await;
        lock(&self.world).say(|| format!("{}: hears of {}: {outcome:?}", self.life.name, short(call.intent.id)));
        outcome
    }

    async fn read(&self, call: &Call<'_>) -> Observation {
        self.strike_process(call);
        self.life.runs().await;
        let observation = self.look(call).await;
        self.life.runs().await;
        observation
    }
}
