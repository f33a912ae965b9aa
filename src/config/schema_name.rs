//! `schema`: which names the schema may have.

use super::values::Refusal;

/// Refuses what is no name without quotes.
pub(super) fn check(name: &str) -> Result<(), Refusal> {
    let first_is_letter = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let plain = name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !first_is_letter || !plain || name.len() > 63 {
        return Err(Refusal::new(
            "is no plain schema name",
            "use at most 63 lower-case letters, digits and '_', not beginning with a digit",
        ));
    }
    if name.starts_with("pg_") || name == "information_schema" {
        return Err(Refusal::new("is a schema of PostgreSQL itself", "choose another name"));
    }
    if RESERVED_WORDS.contains(&name) {
        return Err(Refusal::new("is a reserved word of SQL", "choose another name"));
    }
    Ok(())
}

/// What PostgreSQL 15 to 18 do not take as a name without quotes.
const RESERVED_WORDS: [&str; 101] = [
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "binary",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "group",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "intersect",
    "into",
    "is",
    "isnull",
    "join",
    "lateral",
    "leading",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "natural",
    "not",
    "notnull",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "outer",
    "overlaps",
    "placing",
    "primary",
    "references",
    "returning",
    "right",
    "select",
    "session_user",
    "similar",
    "some",
    "symmetric",
    "system_user",
    "table",
    "tablesample",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
];
