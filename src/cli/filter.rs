//! The flags that choose intents, the same on every verb that chooses.

use chrono::{DateTime, Utc};
use clap::Args;

use crate::filter::Filter;

use super::output::Error;

/// Which intents are meant. Without any of these: all.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which intents")]
pub struct FilterArgs {
    /// Of this provider: afterpay, optty or resolve
    #[arg(long, value_name = "NAME")]
    pub provider: Option<String>,
    /// Of this merchant account
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
    /// In one of these states: held, scheduled, ready, leased, verifying, captured, dead, cancelled
    #[arg(long, value_name = "STATE[,STATE…]")]
    pub state: Vec<String>,
    /// Whose last failure is of this class, such as ambiguous or rejected
    #[arg(long, value_name = "CLASS")]
    pub class: Option<String>,
    /// Whose last failure has this code
    #[arg(long, value_name = "CODE")]
    pub code: Option<String>,
    /// Of this order
    #[arg(long, value_name = "ID")]
    pub order: Option<String>,
    /// Of this payment at the provider
    #[arg(long, value_name = "ID")]
    pub payment: Option<String>,
    /// Created at this time or later: 2026-01-31T10:00:00Z, 2026-01-31 (00:00 UTC), or how long ago: 24h, 7d
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Created before this time; written like --since
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Of such an amount: '>=100.00 USD', with <, <=, =, >= or >
    #[arg(long, value_name = "AMOUNT", allow_hyphen_values = true)]
    pub amount: Option<String>,
    /// Whose authorisation ends within this time: 30m, 48h
    #[arg(long, value_name = "SPAN")]
    pub expires_within: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N")]
    pub limit: Option<String>,
}

impl FilterArgs {
    /// The filter they make; relative times count back from `now`. A wrong one ends with exit code 2 and says what
    /// would be right, for every flag that is wrong.
    pub fn filter(&self, now: DateTime<Utc>) -> Result<Filter, Error> {
        let single = [
            ("provider", &self.provider),
            ("account", &self.account),
            ("class", &self.class),
            ("code", &self.code),
            ("order", &self.order),
            ("payment", &self.payment),
            ("since", &self.since),
            ("until", &self.until),
            ("amount", &self.amount),
            ("expires-within", &self.expires_within),
            ("limit", &self.limit),
        ];
        let single = single.iter().filter_map(|(name, text)| Some((*name, text.as_deref()?)));
        let states = self.state.iter().map(|text| ("state", text.as_str()));
        Filter::from_pairs(single.chain(states), now).map_err(|faults| {
            let wrong: Vec<String> = faults.iter().map(|fault| format!("--{fault}")).collect();
            let right = match faults.as_slice() {
                [only] => only.right.clone(),
                several => several
                    .iter()
                    .map(|fault| format!("--{}: {}", fault.name, fault.right))
                    .collect::<Vec<_>>()
                    .join("\n"),
            };
            Error::usage(wrong.join("\n")).hint(right)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Exit;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        filter: FilterArgs,
    }

    fn parsed(arguments: &[&str]) -> Result<Filter, Error> {
        let arguments = std::iter::once("list").chain(arguments.iter().copied());
        let command = Command::try_parse_from(arguments).unwrap();
        command.filter.filter("2026-03-10T12:00:00Z".parse().unwrap())
    }

    #[test]
    fn flags_become_a_filter() {
        let filter = parsed(&[
            "--state",
            "dead",
            "--state=held",
            "--amount",
            ">=100.00 USD",
            "--expires-within",
            "24h",
        ])
        .unwrap();
        assert_eq!(filter.states.len(), 2);
        assert_eq!(filter.amount.unwrap().1.minor, 10_000);
        assert!(filter.expires_within.is_some());
        assert_eq!(parsed(&[]).unwrap(), Filter::default());
    }

    #[test]
    fn a_wrong_filter_is_a_usage_error_that_says_what_would_be_right() {
        let error = parsed(&["--state", "ded", "--limit", "many"]).unwrap_err();
        assert_eq!(error.exit, Exit::Usage);
        assert_eq!(
            error.to_string(),
            "error: --limit: 'many' is no number of rows\n       --state: there is no 'ded'\n\
             hint: --limit: write a whole number from 1 to 1000000\n      --state: did you mean dead? It is one of held, \
             scheduled, ready, leased, verifying, captured, dead, cancelled"
        );
        assert_eq!(
            parsed(&["--limit", "many"]).unwrap_err().to_string(),
            "error: --limit: 'many' is no number of rows\nhint: write a whole number from 1 to 1000000"
        );
    }
}
