//! `enqueue`: asks for captures, from a document or from flags.

use std::io::Read;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::intent::{Currency, Money};
use crate::outbox::{Enqueued, Outbox};

use super::context::Context;
use super::output::{Column, Error, Exit, say};

/// The most bytes of a file or of stdin: some tens of thousands of documents.
const MOST_BYTES: u64 = 64 << 20;

/// Asks for captures.
///
/// Either a JSON document whose keys are the columns of the table intents (several one after the other are taken too), or
/// flags. The same capture_ref with the same content changes nothing (created is false); with other content it is refused
/// with 5. A reference is one of its provider, account and payment. A row that breaks a rule is refused with 2, naming the rule.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["document", "provider"]))]
pub struct Args {
    /// A document, or the path of a file that holds documents, or - for stdin
    #[arg(value_name = "DOCUMENT|FILE|-")]
    document: Option<String>,
    /// Check everything, as the database does, and write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    flags: Flags,
}

/// The columns, each a flag.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Instead of a document")]
struct Flags {
    /// afterpay, optty or resolve
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// Which merchant account; else default
    #[arg(long, value_name = "NAME", requires = "provider")]
    account: Option<String>,
    /// Your own order number
    #[arg(long, value_name = "ID", requires = "provider")]
    order: Option<String>,
    /// The authorised payment at the provider
    #[arg(long, value_name = "ID", requires = "provider")]
    payment: Option<String>,
    /// Your own reference of this capture, unique for ever per provider, account and payment: a repeat with the same content
    /// changes nothing, the same reference of another payment is another capture
    #[arg(long, value_name = "REF", requires = "provider")]
    capture_ref: Option<String>,
    /// How much, such as '12.34 USD'
    #[arg(long, value_name = "AMOUNT", requires = "provider", value_parser = money)]
    amount: Option<Money>,
    /// What was authorised in all, such as '50.00 USD': captures of this payment beyond it are refused
    #[arg(long, value_name = "AMOUNT", requires = "provider", value_parser = money)]
    authorized: Option<Money>,
    /// When the authorisation ends, RFC 3339
    #[arg(long, value_name = "TIME", requires = "provider")]
    expires_at: Option<String>,
    /// Wait for a release: shipment
    #[arg(long, value_name = "WHAT", requires = "provider")]
    hold: Option<String>,
    /// Not before this time, RFC 3339
    #[arg(long, value_name = "TIME", requires = "provider")]
    not_before: Option<String>,
    /// Smaller goes first
    #[arg(long, value_name = "N", requires = "provider", allow_hyphen_values = true)]
    priority: Option<i16>,
    /// What goes along with the capture, a JSON object
    #[arg(long, value_name = "JSON", requires = "provider")]
    details: Option<String>,
}

/// Runs it.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let documents = match args.document.as_deref() {
        Some(document) => documents(document)?,
        None => vec![args.flags.document()?],
    };
    let outbox = context.outbox().await?;
    let created = if args.dry_run { "would_create" } else { "created" };
    let mut rows = context.output.rows(&[Column::id("id"), Column::text(created)])?;
    let mut done = 0;
    let mut refused = Vec::new();
    for (place, document) in documents.iter().enumerate() {
        if context.interrupted.is_cancelled() {
            rows.finish()?;
            say(&format!(
                "interrupted: {done} of {} documents are enqueued",
                documents.len()
            ));
            return Ok(Exit::Interrupted);
        }
        match enqueue(&outbox, document, args.dry_run).await {
            // The id of a row that was not written is nobody's.
            Ok(Enqueued { id, created }) => {
                let id = (!args.dry_run || !created).then(|| id.to_string());
                rows.row(&[id.into(), created.into()])?;
                done += 1;
            }
            Err(error) if documents.len() == 1 || error.exit == Exit::Unreachable => return Err(error),
            Err(error) => {
                say(&format!("document {}: {error}", place + 1));
                refused.push(error.exit);
            }
        }
    }
    rows.finish()?;
    if args.dry_run {
        say("nothing was written");
    }
    match refused.first() {
        None => Ok(Exit::Done),
        Some(exit) if done == 0 && refused.iter().all(|other| other == exit) => Ok(*exit),
        Some(_) if done == 0 => Ok(Exit::Failed),
        Some(_) => Ok(Exit::PartlyDone),
    }
}

async fn enqueue(outbox: &Outbox, document: &str, dry_run: bool) -> Result<Enqueued, Error> {
    Ok(match dry_run {
        true => outbox.check_json(document).await?,
        false => outbox.enqueue_json(document).await?,
    })
}

/// The documents of the argument, each in its own words: a number must reach the database digit by digit.
fn documents(argument: &str) -> Result<Vec<String>, Error> {
    let text = match argument {
        "-" => read("stdin", std::io::stdin().lock())?,
        document if document.trim_start().starts_with('{') => document.to_owned(),
        path => {
            let file = std::fs::File::open(path).map_err(|error| {
                Error::usage(format!("{path} cannot be read: {error}"))
                    .hint("give a JSON document in quotes, the path of a file, or - for stdin")
            })?;
            read(path, file)?
        }
    };
    let read = serde_json::Deserializer::from_str(&text).into_iter::<&RawValue>();
    let documents: Result<Vec<String>, _> = read.map(|document| Ok(document?.get().to_owned())).collect();
    let documents = documents.map_err(|error: serde_json::Error| Error::usage(format!("this is no JSON: {error}")))?;
    match documents.is_empty() {
        true => {
            Err(Error::usage("there is no document")
                .hint(r#"such as {"provider": "afterpay", "order_id": "10042", …}"#))
        }
        false => Ok(documents),
    }
}

fn read(name: &str, from: impl Read) -> Result<String, Error> {
    let mut text = String::new();
    let read = from.take(MOST_BYTES + 1).read_to_string(&mut text);
    let length = read.map_err(|error| Error::usage(format!("{name} cannot be read: {error}")))?;
    match u64::try_from(length) {
        Ok(length) if length <= MOST_BYTES => Ok(text),
        _ => Err(Error::usage(format!("{name} has more than {} MiB", MOST_BYTES >> 20)).hint("give it in parts")),
    }
}

impl Flags {
    /// The same as a document. What is missing the database tells better.
    fn document(&self) -> Result<String, Error> {
        let mut document = Map::new();
        let mut set = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                document.insert(key.to_owned(), value);
            }
        };
        let text = |text: &Option<String>| text.clone().map(Value::from);
        set("provider", text(&self.provider));
        set("account", text(&self.account));
        set("order_id", text(&self.order));
        set("payment_id", text(&self.payment));
        set("capture_ref", text(&self.capture_ref));
        set("amount_minor", self.amount.map(|amount| amount.minor.into()));
        set("currency", self.amount.map(|amount| amount.currency.code().into()));
        set("authorized_minor", self.authorized.map(|amount| amount.minor.into()));
        set("authorization_expires_at", text(&self.expires_at));
        set("hold", text(&self.hold));
        set("not_before", text(&self.not_before));
        set("priority", self.priority.map(Value::from));
        let details = self.details.as_deref().map(serde_json::from_str::<Value>).transpose();
        set(
            "details",
            details.map_err(|error| Error::usage(format!("--details is no JSON: {error}")))?,
        );
        if let (Some(amount), Some(authorized)) = (self.amount, self.authorized)
            && amount.currency != authorized.currency
        {
            return Err(Error::usage("--amount and --authorized are of different currencies"));
        }
        Ok(Value::from(document).to_string())
    }
}

/// `12.34 USD`.
fn money(text: &str) -> Result<Money, String> {
    let right = "write it like '12.34 USD', in quotes";
    let (digits, code) = text.trim().split_once(char::is_whitespace).ok_or(right)?;
    let code = code.trim();
    let currency = Currency::from_code(code).ok_or_else(|| format!("'{code}' is no currency of ISO 4217; {right}"))?;
    Money::from_decimal(digits, currency).map_err(|error| format!("{error}; {right}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_documents_are_told_apart_and_keep_their_digits() {
        let found = documents("{\"amount_minor\": 12.340}\n{\"amount_minor\":1e2} {}").unwrap();
        assert_eq!(found, ["{\"amount_minor\": 12.340}", "{\"amount_minor\":1e2}", "{}"]);
        assert_eq!(documents("{").unwrap_err().exit, Exit::Usage);
        assert_eq!(documents("/nowhere/at/all").unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn an_amount_is_decimal_with_its_currency() {
        assert_eq!(money("12.34 USD").unwrap().minor, 1234);
        assert_eq!(money("1200 JPY").unwrap().minor, 1200);
        for wrong in ["12.34", "12.345 USD", "12,34 USD", "12 XXX"] {
            assert!(money(wrong).is_err(), "{wrong}");
        }
    }
}
