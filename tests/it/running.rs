//! The worker as it runs: woken by an insert, harmed by nobody else's lane, and stopped without cutting a call in two.

use std::time::Duration;

use capture::simulator::{Fault, Moment, ProviderName, Target};
use capture::worker::Worker;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::kind::Kind;
use crate::world::{Plan, World};

/// Far more than anything here takes, far less than what a worker that is not woken would sleep.
const PATIENCE: Duration = Duration::from_secs(60);

impl World {
    /// Lets the worker run while something is done, and stops it.
    pub async fn while_running<T>(&mut self, act: impl AsyncFnOnce(&mut World) -> T) -> T {
        let runner = self.another_worker().await;
        self.while_this_runs(runner, act).await
    }

    /// As `while_running`, with a worker of one's own.
    pub async fn while_this_runs<T>(&mut self, runner: Worker, act: impl AsyncFnOnce(&mut World) -> T) -> T {
        let shutdown = CancellationToken::new();
        let until = shutdown.clone();
        let running = tokio::spawn(async move { runner.run(until).await });
        let done = timeout(PATIENCE, act(self)).await.expect("it took too long");
        shutdown.cancel();
        timeout(PATIENCE, running).await.expect("it does not stop").unwrap();
        done
    }

    pub async fn until_sql(&mut self, is_so: &str) {
        while !self.db.scalar::<bool>(is_so).await {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_sleeping_worker_is_woken_by_an_insert_a_release_and_a_resume() {
    let mut plan = Plan::default();
    plan.settings.poll_max = Duration::from_secs(3600);
    let mut world = World::of(plan).await;
    world
        .while_running(async |world| {
            for n in 1..=3 {
                // It has lain down, and has looked again: a second row of it would be renewed.
                world.until_sql("select count(*) = 1 from capture.waiters").await;
                world.capture(Kind::Afterpay, n, 100).await;
                world
                    .until_sql(&format!(
                        "select count(*) = {n} from capture.outcomes where state = 'captured'"
                    ))
                    .await;
            }
        })
        .await;
    let left: i64 = world.db.scalar("select count(*) from capture.waiters").await;
    assert_eq!(left, 0, "nobody notifies for a worker that is gone");
    world.books_agree().await;
}

/// After two outages in a row all that was in flight has lost two leases, though no row of it is to blame.
#[tokio::test]
async fn a_worker_with_nothing_else_to_do_takes_rows_that_go_alone_one_after_the_other() {
    let mut world = World::new().await;
    for n in 1..=20 {
        world.capture(Kind::Afterpay, n, 100).await;
    }
    world.db.run("update capture.ready set alone = true").await;
    world
        .while_running(async |world| {
            world
                .until_sql("select count(*) = 20 from capture.outcomes where state = 'captured'")
                .await;
        })
        .await;
    world.books_agree().await;
}

#[tokio::test]
async fn a_lane_that_hangs_holds_up_no_other() {
    let mut plan = Plan {
        concurrency: 2,
        account: |account| account.read_timeout = Duration::from_secs(20),
        ..Plan::default()
    };
    plan.settings.drain_timeout = Duration::from_millis(200);
    let mut world = World::of(plan).await;
    world.simulator.script(
        Target::provider(ProviderName::Afterpay),
        vec![Fault::Silence(Moment::Before); 20],
    );
    for n in 0..10 {
        world.capture(Kind::Afterpay, n, 100).await;
    }
    for n in 0..20 {
        world.capture(Kind::Optty, n, 100).await;
    }
    world
        .while_running(async |world| {
            world
                .until_sql("select count(*) = 20 from capture.outcomes where state = 'captured'")
                .await;
        })
        .await;
    // What hung when it stopped is still open, and nobody says otherwise.
    let states: Vec<String> = world
        .db
        .column("select state || ' ' || count(*) from capture.status where provider = 'afterpay' group by state order by state")
        .await;
    assert_eq!(states, ["leased 2", "ready 8"]);
}

#[tokio::test]
async fn a_stop_cuts_no_call_in_two_and_leaves_nothing_leased() {
    let mut world = World::of(Plan {
        concurrency: 3,
        ..Plan::default()
    })
    .await;
    for n in 0..12 {
        world.capture(Kind::Afterpay, n, 100).await;
        world
            .simulator
            .script(Kind::Afterpay.payment(n).as_str(), [Fault::Silence(Moment::After)]);
    }
    world
        .while_running(async |world| {
            world
                .simulator
                .wait_until(|simulator| simulator.requests().len() >= 3)
                .await;
        })
        .await;
    let leases: i64 = world.db.scalar("select count(*) from capture.leases").await;
    assert_eq!(leases, 0, "every call was waited for and recorded");
    let sent: i64 = world
        .db
        .scalar("select count(*) from capture.attempts where sent")
        .await;
    let requests = i64::try_from(world.simulator.requests().len()).unwrap();
    assert_eq!(sent, requests, "what was sent is recorded as sent");
    let intents: Vec<uuid::Uuid> = world.db.column("select id from capture.intents").await;
    let ends = world.until_all_ended(&intents, Duration::from_secs(60)).await;
    assert!(ends.values().all(|end| end == "captured"), "{ends:?}");
    world.books_agree().await;
}

#[tokio::test]
async fn two_workers_share_the_work_and_double_nothing() {
    let mut world = World::new().await;
    let other = world.another_worker().await;
    let shutdown = CancellationToken::new();
    let until = shutdown.clone();
    let running = tokio::spawn(async move { other.run(until).await });
    for n in 0..40 {
        for kind in Kind::ALL {
            world.capture(kind, n, 100).await;
        }
    }
    world
        .while_running(async |world| {
            world
                .until_sql("select count(*) = 160 from capture.outcomes where state = 'captured'")
                .await;
        })
        .await;
    shutdown.cancel();
    timeout(PATIENCE, running).await.expect("it does not stop").unwrap();
    assert_eq!(world.simulator.ledger().ours().len(), 160);
    world.books_agree().await;
}
