//! `demo`: about a minute of a shop's captures with everything going wrong, and then the books.
//!
//! Everything is real but the providers: a private Postgres that syncs, three workers and the simulator as processes of
//! their own, an order system that knows only the SQL contract. Troubles come on a schedule drawn from the seed. In the
//! end all is healed, and for every intent the outbox, its events and the providers' ledger are compared.
//!
//! [`plan`] what will happen · [`stage`] what runs · [`shop`] orders and shipments · [`troubles`] faults · [`feed`] a reader
//! of the events · [`books`] the comparison · [`report`] the end · [`story`] how it is told.

mod books;
mod contract;
pub(super) mod control;
mod difference;
mod event_lines;
mod feed;
pub(super) mod orders;
mod plan;
pub(super) mod processes;
mod report;
mod shop;
pub(super) mod simulated;
mod stage;
mod story;
mod troubles;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::filter::{Filter, MOST_ROWS, State};
use crate::outbox::{ConnectSettings, Outbox};
use crate::simulator::{Authorization, Counts, read_ledger};

use super::context::Context;
use super::output::{Error, Exit, Format, say};

use books::{Books, Sides};
use contract::Contract;
use feed::Feed;
use orders::Fate;
use plan::Plan;
use report::Report;
use shop::Shop;
use stage::{LEASE, Stage};
use story::{Story, Tone, Where, counted, seconds};

/// How long the last captures may take once all is healed: a lease, its rescue, two quiet reads, and much patience.
const DRAIN_PATIENCE: Duration = Duration::from_secs(90);

/// Captures orders for a minute while providers, workers and the database fail, then compares the books
///
/// Needs nothing but PostgreSQL's programs on this machine. Nothing is left behind. Ends with 0 if every capture is
/// accounted for, with 1 if the books differ.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many seconds orders come and troubles happen: 3 to 3600
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(3..=3600))]
    seconds: u64,
    /// The same seed gives the same orders and the same troubles; else a new one is drawn, and told
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Keep the database, the ledger, the settings and the logs in this directory, which must be new or empty
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// Runs it.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let place = match context.output.format {
        Format::Table => Where::Stdout,
        Format::Json | Format::Ndjson => Where::Stderr,
        Format::Csv | Format::Id => {
            return Err(Error::usage("the books are one thing, not rows").hint("choose -o table or json"));
        }
    };
    if let Some(keep) = &args.keep
        && std::fs::read_dir(keep).is_ok_and(|mut entries| entries.next().is_some())
    {
        let wrong = format!("{} is not empty", keep.display());
        return Err(Error::usage(wrong).hint("name a new directory: the books of two runs do not mix"));
    }
    let story = Story::begin(place, &context.sources.environment);
    let ended = tokio::select! {
        ended = play(&args, context, &story) => ended,
        () = context.interrupted.cancelled() => Ok(Exit::Interrupted),
        () = story.unheard() => Ok(Exit::Done),
    };
    story.end_progress();
    if matches!(ended, Ok(Exit::Interrupted)) {
        say("interrupted: everything that was started is stopped");
    }
    ended
}

async fn play(args: &Args, context: &Context, story: &Story) -> Result<Exit, Error> {
    // Short, because people type it again.
    let seed = args.seed.unwrap_or_else(|| rand::random_range(1..100_000));
    let length = Duration::from_secs(args.seconds);
    story.tell(
        Tone::Plain,
        format!(
            "capture demo, seed {seed}: {} of orders and troubles; repeat it with --seed {seed} --seconds {}",
            counted(args.seconds, "second"),
            args.seconds
        ),
    );
    let plan = Arc::new(Plan::draw(seed, length, LEASE + Duration::from_millis(1500)));
    let mut stage = Stage::set(args.keep.as_deref(), seed, story).await?;
    authorize(&stage, &plan).await?;
    story.tell(
        Tone::Plain,
        format!(
            "a shop begins to sell: {} are authorised; in {} it inserts their captures with its orders, each in one transaction",
            counted(plan.orders.len(), "payment"),
            counted(args.seconds, "second")
        ),
    );

    let start = Instant::now();
    troubles::begin(&stage, seed, story).await?;
    let (resting, closing) = (CancellationToken::new(), CancellationToken::new());
    let feed = Feed {
        outbox: Outbox::connect_lazily(&ConnectSettings::new(stage.url()))?,
        story: story.clone(),
        every: (length / 10).max(Duration::from_secs(2)),
        length: story.elapsed() + length,
        resting: resting.clone(),
    };
    let feed = Background::of(tokio::spawn(feed.follow(closing.clone())));
    let shop = Shop::new(Contract::open(&stage.url())?, stage.control.clone(), story.clone());
    let selling = plan.clone();
    let shop = Background::of(tokio::spawn(async move { shop.run(&selling, start).await }));

    let done = troubles::make(&mut stage, &plan, start, story).await?;
    let sales = shop.end().await??;
    resting.cancel();
    troubles::heal(&stage, story).await?;
    until_all_ended(&mut stage, sales.asked.len(), story).await?;
    // A worker that woke up late may still bring something. Once they have drained nothing changes any more.
    let draining = Instant::now();
    let drained = stage.drain_workers().await;
    let took = seconds(draining.elapsed());
    story.tell(
        Tone::Good,
        format!(
            "{} told to stop (SIGTERM): each finished what it held and ended, in {took}",
            counted(drained, "worker")
        ),
    );
    closing.cancel();
    let seen = feed.end().await?;
    story.end_progress();

    let rows = stage.outbox.list(&Filter::default(), MOST_ROWS).await?;
    let orders = Contract::open(&stage.url())?.orders().await?;
    let ledger = read_ledger(stage.ledger()).map_err(|error| Error::failed(error.to_string()))?;
    let counts = counts(&stage).await?;
    let books = Books::compare(&Sides {
        plan: &plan,
        sales: &sales,
        orders: &orders,
        rows: &rows,
        seen: &seen,
        ledger: &ledger,
    });
    let report = Report {
        seed,
        seconds: args.seconds,
        elapsed_ms: u64::try_from(story.elapsed().as_millis()).unwrap_or(u64::MAX),
        books: &books,
        sales: &sales,
        seen: &seen,
        done,
        counts: &counts,
    };
    report.print(&context.output)?;
    stage.strike().await?;
    match &args.keep {
        Some(keep) => {
            let keep = keep.display();
            say(&format!(
                "all of it is kept in {keep}; to look into it: capture dev --dir {keep}"
            ));
        }
        None if !books.agree() => say(&format!(
            "to look into it: capture demo --seed {seed} --seconds {} --keep NEW_DIRECTORY",
            args.seconds
        )),
        None => {}
    }
    Ok(match books.agree() {
        true => Exit::Done,
        false => Exit::Failed,
    })
}

/// Every payment of the plan, as if the buyers had gone through the checkouts.
async fn authorize(stage: &Stage, plan: &Plan) -> Result<(), Error> {
    let payments: Vec<Value> = plan
        .orders
        .iter()
        .map(|order| {
            let currency = order.way.currency_code();
            json!(Authorization {
                declined: order.fate == Fate::Declined,
                ..Authorization::new(
                    order.way.provider(),
                    order.payment_id.clone(),
                    order.total_minor(),
                    currency
                )
            })
        })
        .collect();
    stage.control.post("authorizations", Value::Array(payments)).await
}

/// Waits until every intent has ended, and tells what it waits for. Whatever is open after that is found by the books.
async fn until_all_ended(stage: &mut Stage, asked: usize, story: &Story) -> Result<(), Error> {
    let deadline = Instant::now() + DRAIN_PATIENCE;
    let mut told = (Instant::now(), String::new());
    loop {
        stage.look_after()?;
        let counts = stage.outbox.counts().await.unwrap_or_default();
        let is_end = |state: &str| State::from_name(state).is_some_and(State::is_end);
        let ended: i64 = counts
            .iter()
            .filter(|(state, _)| is_end(state))
            .map(|(_, count)| count)
            .sum();
        let open: Vec<String> = counts
            .iter()
            .filter(|(state, _)| !is_end(state))
            .map(|(state, count)| format!("{count} {state}"))
            .collect();
        if usize::try_from(ended).is_ok_and(|ended| ended >= asked) && open.is_empty() {
            return Ok(());
        }
        let waits = format!("waiting for the last captures: {}", open.join(", "));
        if Instant::now() > deadline {
            story.tell(Tone::Trouble, format!("{waits}; that takes too long"));
            return Ok(());
        }
        let since = told.0.elapsed();
        if (waits != told.1 && since >= Duration::from_secs(1)) || since >= Duration::from_secs(10) {
            story.tell(Tone::Quiet, format!("{waits}{}", next_look(stage).await));
            told = (Instant::now(), waits);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// When the first of those that wait is due.
async fn next_look(stage: &Stage) -> String {
    let open = Filter {
        states: vec![State::Verifying, State::Scheduled],
        ..Filter::default()
    };
    let (Ok(rows), Ok(now)) = (stage.outbox.list(&open, 1000).await, stage.outbox.now().await) else {
        return String::new();
    };
    let due = rows.iter().filter_map(|row| row.next_attempt_at).min();
    match due.and_then(|due| (due - now).to_std().ok()) {
        Some(left) if left >= Duration::from_secs(1) => {
            format!("; the next look at one is due in {} s", left.as_secs())
        }
        _ => String::new(),
    }
}

async fn counts(stage: &Stage) -> Result<Counts, Error> {
    let counts = stage.control.get("counts").await?;
    serde_json::from_value(counts).map_err(|error| Error::failed(format!("the simulator's counts: {error}")))
}

/// A task that ends with us.
struct Background<T>(JoinHandle<T>);

impl<T> Background<T> {
    fn of(task: JoinHandle<T>) -> Background<T> {
        Background(task)
    }

    async fn end(mut self) -> Result<T, Error> {
        (&mut self.0)
            .await
            .map_err(|error| Error::failed(format!("a part of the demo broke: {error}")))
    }
}

impl<T> Drop for Background<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
