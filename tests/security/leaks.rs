//! Looks for the mark in texts, in tables, and in a dump.

use base64::Engine as _;
use sqlx::Row;

use crate::canaries::{ACCOUNTS, secret};
use crate::ground::Ground;

/// Every canary has this in it; each says after it what it is.
pub const MARK: &str = "cnry";

/// Where the mark is, with what follows it.
pub fn leaks(text: &str) -> Vec<String> {
    let lower = text.to_ascii_lowercase();
    let mut found: Vec<String> = Vec::new();
    let mut words = vec![MARK.to_owned(), "636e7279".to_owned(), "434e5259".to_owned()];
    for (_, account, _) in ACCOUNTS {
        let pair = format!("merchant:{}", secret(account));
        words.push(
            base64::engine::general_purpose::STANDARD
                .encode(pair)
                .to_ascii_lowercase(),
        );
    }
    for word in words {
        for (at, _) in lower.match_indices(&word) {
            let from = lower[..at]
                .char_indices()
                .rev()
                .take(120)
                .last()
                .map_or(at, |(from, _)| from);
            let shown: String = text[from..].chars().take(240).collect();
            found.push(shown);
        }
    }
    found
}

/// Columns of the schema that hold the mark, `intents.details`, text and bytes alike.
pub async fn marked_columns(ground: &mut Ground) -> Vec<String> {
    let columns = ground
        .db
        .rows(
            "select c.relname::text, a.attname::text, a.atttypid = 'bytea'::regtype
             from pg_attribute a join pg_class c on c.oid = a.attrelid
             where c.relnamespace = 'capture'::regnamespace and c.relkind = 'r' and a.attnum > 0 and not a.attisdropped order by 1, 2",
        )
        .await;
    assert!(columns.len() > 150, "{}", columns.len());
    let mut marked = Vec::new();
    for row in &columns {
        let (table, column, bytes): (String, String, bool) = (row.get(0), row.get(1), row.get(2));
        let text = if bytes {
            format!("encode({column}, 'escape')")
        } else {
            format!("{column}::text")
        };
        let holds: bool = ground
            .db
            .scalar(&format!(
                "select exists (select from capture.{table} where lower({text}) like '%{MARK}%')"
            ))
            .await;
        if holds {
            marked.push(format!("{table}.{column}"));
        }
    }
    marked
}

/// `pg_dump` of everything but the three tables that hold declared text, if the server came with that program.
pub async fn dump(ground: &mut Ground) -> String {
    let bin: String = ground
        .db
        .scalar("select setting from pg_config where name = 'BINDIR'")
        .await;
    let program = std::path::Path::new(&bin).join("pg_dump");
    if !program.exists() {
        eprintln!("this server came without pg_dump; its tables were searched column by column");
        return String::new();
    }
    let output = tokio::process::Command::new(program)
        .args([
            "--exclude-table-data=capture.intents",
            "--exclude-table-data=capture.releases",
        ])
        .args(["--exclude-table-data=capture.shipment_events", "--dbname"])
        .arg(ground.url.split("&sslmode").next().unwrap())
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let dump = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(dump.contains("COPY capture.attempts"), "the dump has data");
    dump
}
