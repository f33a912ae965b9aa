//! The conditions of a filter as the document describes them. They are read by `Filter::from_pairs`, as everywhere.

use chrono::Utc;
use serde::Deserialize;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, SchemaType, Type};
use utoipa::{IntoParams, ToSchema};

use crate::filter::{Filter, State};
use crate::http::problem::Problem;
use crate::outcome::Class;

/// `2026-01-31T10:00:00Z`, `2026-01-31`, `24h`.
const INSTANT: &str = r"^(20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])(T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z)?|[1-9][0-9]{0,2}[mhd])$";
const SPAN: &str = r"^[1-9][0-9]{0,2}[mhd]$";
const AMOUNT: &str = r"^(<|<=|=|>=|>)?[1-9][0-9]{0,8}\.[0-9]{2} USD$";
/// Postgres keeps no NUL.
const NAME: &str = r"^[^\x00]+$";

/// In the query of a list. For the document only.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what Filter::from_pairs reads")]
pub struct Conditions {
    /// The provider.
    #[param(schema_with = name)]
    provider: Option<String>,
    /// The merchant account.
    #[param(schema_with = name)]
    account: Option<String>,
    /// One of these states; several with commas.
    #[param(schema_with = one_of_states)]
    state: Option<String>,
    /// The class of the last failure.
    #[param(schema_with = one_of_classes)]
    class: Option<String>,
    /// The code of the last failure.
    #[param(schema_with = name)]
    code: Option<String>,
    /// The merchant's order.
    #[param(schema_with = name)]
    order: Option<String>,
    /// The authorised payment.
    #[param(schema_with = name)]
    payment: Option<String>,
    /// Created at this time or later: RFC 3339, a date (UTC), or how long ago, such as 24h.
    #[param(schema_with = instant)]
    since: Option<String>,
    /// Created before this time.
    #[param(schema_with = instant)]
    until: Option<String>,
    /// Compared within its currency, such as `>=100.00 USD`.
    #[param(schema_with = amount)]
    amount: Option<String>,
    /// The authorisation ends within this time, such as 48h.
    #[param(rename = "expires-within", schema_with = span)]
    expires_within: Option<String>,
}

fn one_of_states() -> Schema {
    one_of(&State::ALL.map(State::name), false)
}

fn one_of_classes() -> Schema {
    one_of(&Class::ALL.map(Class::name), false)
}

fn written_class() -> Schema {
    one_of(&Class::ALL.map(Class::name), true)
}

pub(super) fn name() -> Schema {
    text(NAME, false)
}

fn written_name() -> Schema {
    text(NAME, true)
}

pub(super) fn instant() -> Schema {
    text(INSTANT, false)
}

fn written_instant() -> Schema {
    text(INSTANT, true)
}

fn span() -> Schema {
    text(SPAN, false)
}

fn written_span() -> Schema {
    text(SPAN, true)
}

fn amount() -> Schema {
    text(AMOUNT, false)
}

fn written_amount() -> Schema {
    text(AMOUNT, true)
}

/// In a document what is left out may also be null.
fn kind(nullable: bool) -> SchemaType {
    match nullable {
        true => SchemaType::Array(vec![Type::String, Type::Null]),
        false => SchemaType::Type(Type::String),
    }
}

fn text(pattern: &str, nullable: bool) -> Schema {
    ObjectBuilder::new()
        .schema_type(kind(nullable))
        .pattern(Some(pattern))
        .into()
}

fn one_of(names: &[&str], nullable: bool) -> Schema {
    let names = names.iter().map(|name| Some(*name)).chain(nullable.then_some(None));
    ObjectBuilder::new()
        .schema_type(kind(nullable))
        .enum_values(Some(names.collect::<Vec<_>>()))
        .into()
}

/// In a document.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Filter)]
pub struct WrittenFilter {
    /// The provider.
    #[schema(schema_with = written_name)]
    provider: Option<String>,
    /// The merchant account.
    #[schema(schema_with = written_name)]
    account: Option<String>,
    /// One of these states.
    #[serde(default)]
    #[schema(schema_with = list_of_states)]
    state: Vec<String>,
    /// The class of the last failure.
    #[schema(schema_with = written_class)]
    class: Option<String>,
    /// The code of the last failure.
    #[schema(schema_with = written_name)]
    code: Option<String>,
    /// The merchant's order.
    #[schema(schema_with = written_name)]
    order: Option<String>,
    /// The authorised payment.
    #[schema(schema_with = written_name)]
    payment: Option<String>,
    /// Created at this time or later.
    #[schema(schema_with = written_instant)]
    since: Option<String>,
    /// Created before this time.
    #[schema(schema_with = written_instant)]
    until: Option<String>,
    /// Compared within its currency, such as `>=100.00 USD`.
    #[schema(schema_with = written_amount)]
    amount: Option<String>,
    /// The authorisation ends within this time.
    #[serde(rename = "expires-within")]
    #[schema(schema_with = written_span)]
    expires_within: Option<String>,
    /// At most so many, the newest ones.
    #[schema(minimum = 1, maximum = 1_000_000)]
    limit: Option<u32>,
}

fn list_of_states() -> Schema {
    ArrayBuilder::new().items(RefOr::T(one_of_states())).into()
}

impl WrittenFilter {
    /// As it is meant.
    pub fn filter(&self) -> Result<Filter, Problem> {
        let limit = self.limit.map(|limit| limit.to_string());
        let texts = [
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
            ("limit", &limit),
        ];
        let texts = texts.iter().filter_map(|(name, text)| Some((*name, text.as_deref()?)));
        let states = self.state.iter().map(|state| ("state", state.as_str()));
        let pairs: Vec<(&str, &str)> = texts.chain(states).collect();
        if let Some((name, _)) = pairs.iter().find(|(_, text)| text.contains('\0')) {
            return Err(
                Problem::unfit("filter_not_understood", format!("{name} has the character \\u0000"))
                    .hint("take it out: Postgres cannot keep it")
                    .at(format!("/filter/{name}")),
            );
        }
        Filter::from_pairs(pairs, Utc::now()).map_err(|faults| {
            let place = faults.first().map(|fault| format!("/filter/{}", fault.name));
            Problem::from(faults).at(place.unwrap_or_else(|| "/filter".to_owned()))
        })
    }
}
