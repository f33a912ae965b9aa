//! How to reach the server, for programs and for people.

use std::path::Path;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// What may stand in a path and in the value of a query as it is.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// A URL that libpq and sqlx read alike. Port and `sslmode` are said although they are the defaults, because a
/// caller's `PGPORT` or `PGSSLMODE` would count otherwise.
pub(super) fn socket_url(directory: &Path, port: u16, database: &str) -> String {
    use std::os::unix::ffi::OsStrExt;
    let host = percent_encode(directory.as_os_str().as_bytes(), ESCAPED);
    let database = percent_encode(database.as_bytes(), NON_ALPHANUMERIC);
    format!("postgres:///{database}?host={host}&port={port}&user=postgres&sslmode=disable")
}

/// The same over TCP, with the password in it.
pub(super) fn tcp_url(port: u16, password: &str, database: &str) -> String {
    let password = percent_encode(password.as_bytes(), NON_ALPHANUMERIC);
    let database = percent_encode(database.as_bytes(), NON_ALPHANUMERIC);
    format!("postgres://postgres:{password}@127.0.0.1:{port}/{database}?sslmode=disable")
}

/// What a person types: by the socket, which needs no password.
pub(super) fn psql_line(psql: &str, directory: &Path, port: u16, database: &str) -> String {
    let (psql, directory) = (quoted(psql), quoted(&directory.to_string_lossy()));
    format!("{psql} -h {directory} -p {port} -U postgres {}", quoted(database))
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.+@:,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_the_socket_directory_and_the_user() {
        let url = socket_url(Path::new("/tmp/a b+c"), 5432, "orders");
        assert_eq!(
            url,
            "postgres:///orders?host=/tmp/a%20b%2Bc&port=5432&user=postgres&sslmode=disable"
        );
    }

    #[test]
    fn what_a_person_types_is_quoted_only_where_a_shell_needs_it() {
        let plain = psql_line("psql", Path::new("/tmp/pg"), 5432, "demo");
        assert_eq!(plain, "psql -h /tmp/pg -p 5432 -U postgres demo");
        let odd = psql_line("/my bin/psql", Path::new("/tmp/it's"), 5432, "demo");
        assert_eq!(odd, r"'/my bin/psql' -h '/tmp/it'\''s' -p 5432 -U postgres demo");
    }
}
