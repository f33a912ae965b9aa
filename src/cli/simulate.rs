//! `simulate`: the three providers on this machine, for development, demonstrations and tests.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::simulator::{Fault, FaultPlan, FaultRule, FaultSet, Limits, Operation, OwnPorts, Settings, Simulator};

use super::context::Context;
use super::output::{Column, Error, Exit, say};
use super::signals;

/// Plays Afterpay, Optty and Resolve over HTTP on this machine and writes down what was truly captured.
///
/// Prints the base URLs on stdout and runs until it is told to stop. Nothing here moves money, and any credentials are
/// taken.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to listen; loopback only, port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Also give each provider a port of its own, which alone can refuse connections (the three after --listen's)
    #[arg(long)]
    own_ports: bool,
    /// Keep the ledger in this file and go on with what is in it; else in memory
    #[arg(long, value_name = "PATH")]
    ledger: Option<PathBuf>,
    /// Decides every random fault, id and token
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Random faults: sets (lossy, declines, limits, reads) or single ones (reset-after), each with how often: 20%, or
    /// 5/1000. Several with commas. A set alone means 10%
    #[arg(long, value_name = "NAME[=RATE],…", default_value = "none", value_parser = fault_plan)]
    faults: FaultPlan,
    /// Requests a minute: afterpay=100,optty=none,resolve=100. Not given: what the provider documents
    #[arg(long, value_name = "NAME=N,…", default_value = "", hide_default_value = true, value_parser = limits)]
    limits: Limits,
    /// Authorise, generously, every payment that is asked for and unknown
    #[arg(long)]
    auto_authorize: bool,
    /// End at once when stdin ends: for a process that must not outlive the one that started it
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

/// Runs it.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    if args.until_stdin_closes {
        signals::end_with_stdin();
    }
    let own_ports = match (args.own_ports, args.listen.port().checked_add(1)) {
        (false, _) => OwnPorts::None,
        (true, Some(1)) => OwnPorts::Picked,
        (true, Some(next)) => OwnPorts::From(next),
        (true, None) => {
            return Err(Error::usage(
                "--listen leaves no room for ports of the providers behind it",
            ));
        }
    };
    let shutdown = signals::shutdown()?;
    let simulator = Simulator::start(Settings {
        listen: args.listen,
        own_ports,
        seed: args.seed,
        ledger: args.ledger,
        faults: args.faults,
        limits: args.limits,
        auto_authorize: args.auto_authorize,
        ..Settings::default()
    })
    .await
    .map_err(|error| Error::from(anyhow::Error::from(error)))?;
    let columns = ["control", "afterpay", "optty", "optty_auth", "resolve"].map(Column::text);
    let cells = [
        format!("http://{}/_simulator", simulator.addr()).into(),
        simulator.base_url("afterpay").into(),
        simulator.base_url("optty").into(),
        simulator.optty_auth_url().into(),
        simulator.base_url("resolve").into(),
    ];
    context.output.record(&columns, &cells)?;
    shutdown.cancelled().await;
    let counts = simulator.counts();
    simulator.stop().await;
    say(&format!("stopped after {} requests", counts.requests));
    Ok(Exit::Done)
}

/// `lossy=20%,reads=5%,reset-after=1/1000`.
fn fault_plan(text: &str) -> Result<FaultPlan, String> {
    let mut plan = FaultPlan::none();
    for part in parts(text).filter(|part| *part != "none") {
        let (name, rate) = match part.split_once('=') {
            Some((name, rate)) => (name, per_mille(rate)?),
            None => (part, 100),
        };
        let set = match name {
            "lossy" => Some(FaultSet::Lossy),
            "declines" => Some(FaultSet::Declines),
            "limits" => Some(FaultSet::Limits),
            "reads" => Some(FaultSet::Reads),
            _ => None,
        };
        if let Some(set) = set {
            plan = plan.and(set, rate);
            continue;
        }
        let fault = name.parse::<Fault>().map_err(|_| {
            format!("there is no fault '{name}'; sets are lossy, declines, limits and reads, single ones are like reset-after, status-503-before, html-502-after, slow")
        })?;
        plan.rules.push(FaultRule {
            per_mille: rate,
            faults: vec![fault],
            operation: Operation::Capture,
            provider: None,
        });
    }
    Ok(plan)
}

/// `20%`, `0.5%` or `5/1000`.
fn per_mille(text: &str) -> Result<u16, String> {
    let wrong = || format!("'{text}' is no rate; write 20%, 0.5% or 5/1000");
    let rate = if let Some(thousandths) = text.strip_suffix("/1000") {
        thousandths.parse::<u16>().map_err(|_| wrong())?
    } else {
        let percent = text.strip_suffix('%').ok_or_else(wrong)?;
        let (whole, tenth) = percent.split_once('.').unwrap_or((percent, "0"));
        let digits = |part: &str| {
            part.parse::<u16>()
                .ok()
                .filter(|_| part.bytes().all(|b| b.is_ascii_digit()))
        };
        let (whole, tenth) = (digits(whole), digits(tenth).filter(|tenth| *tenth < 10));
        let (whole, tenth) = whole.zip(tenth).ok_or_else(wrong)?;
        whole.saturating_mul(10).saturating_add(tenth)
    };
    if rate <= 1000 { Ok(rate) } else { Err(wrong()) }
}

/// `afterpay=100,optty=none`.
fn limits(text: &str) -> Result<Limits, String> {
    let mut limits = Limits::default();
    for part in parts(text) {
        let right = || format!("'{part}' is no limit; write afterpay=100, optty=none or resolve=100");
        let (name, number) = part.split_once('=').ok_or_else(right)?;
        let number = match number {
            "none" => None,
            number => Some(number.parse::<u32>().map_err(|_| right())?),
        };
        match name {
            "afterpay" => limits.afterpay_per_minute = number,
            "optty" => limits.optty_per_minute = number,
            "resolve" => limits.resolve_per_minute = number,
            _ => return Err(right()),
        }
    }
    Ok(limits)
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_percent_or_thousandths() {
        for (text, rate) in [("20%", 200), ("0.5%", 5), ("100%", 1000), ("5/1000", 5), ("0%", 0)] {
            assert_eq!(per_mille(text), Ok(rate), "{text}");
        }
        for text in ["20", "101%", "1001/1000", "-1%", "0.55%", "+5%", "x%", ""] {
            assert!(per_mille(text).is_err(), "{text}");
        }
    }

    #[test]
    fn faults_are_sets_and_single_ones() {
        let plan = fault_plan("lossy=20%,reads,reset-after=1/1000").unwrap();
        let rates: Vec<u16> = plan.rules.iter().map(|rule| rule.per_mille).collect();
        assert_eq!(rates, [200, 100, 1]);
        assert_eq!(fault_plan("none").unwrap(), FaultPlan::none());
        assert!(fault_plan("loosy").unwrap_err().contains("there is no fault 'loosy'"));
    }

    #[test]
    fn limits_not_given_stay_as_documented() {
        let limits = limits("optty=5,resolve=none").unwrap();
        assert_eq!(limits.optty_per_minute, Some(5));
        assert_eq!(limits.resolve_per_minute, None);
        assert_eq!(super::limits("").unwrap(), Limits::default());
        assert!(super::limits("visa=5").is_err());
    }
}
