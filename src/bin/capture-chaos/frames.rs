//! Messages of the Postgres protocol, version 3, as far as a proxy must tell them apart.

use std::collections::HashMap;

/// What comes first on a connection has no type byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// A wish for encryption, which the proxy denies.
    Encryption,
    Cancel,
    Startup,
}

/// Reads the opening message from the front of `bytes`: what it is, and how long. `None`: not all of it is there yet.
pub fn opening(bytes: &[u8]) -> Option<(Opening, usize)> {
    let length = number(bytes.get(0..4)?);
    let code = number(bytes.get(4..8)?);
    let what = match code {
        80_877_103 | 80_877_104 => Opening::Encryption,
        80_877_102 => Opening::Cancel,
        _ => Opening::Startup,
    };
    (bytes.len() >= length).then_some((what, length))
}

/// The first whole message at the front of `bytes`: its type, and how long it is in all.
pub fn message(bytes: &[u8]) -> Option<(u8, usize)> {
    let kind = *bytes.first()?;
    let length = number(bytes.get(1..5)?).saturating_add(1);
    (bytes.len() >= length).then_some((kind, length))
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}

/// The text up to the next zero byte, and what is behind it.
fn text(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == 0) {
        Some(end) => (
            bytes.get(..end).unwrap_or_default(),
            bytes.get(end + 1..).unwrap_or_default(),
        ),
        None => (bytes, &[]),
    }
}

/// The SQLSTATE of an error or a notice.
pub fn sqlstate(message: &[u8]) -> Option<String> {
    let mut rest = message.get(5..)?;
    while let Some((field, after)) = rest.split_first() {
        let (value, next) = text(after);
        if *field == b'C' {
            return Some(String::from_utf8_lossy(value).into_owned());
        }
        if *field == 0 {
            break;
        }
        rest = next;
    }
    None
}

/// What a statement does for a worker. Each is a transaction of its own: its end is a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Claim,
    Settle,
    GiveBack,
    Other,
    /// Only parsed or described; nothing runs.
    Nothing,
}

impl Class {
    fn of(sql: &[u8]) -> Class {
        let has = |words: &str| sql.windows(words.len()).any(|window| window == words.as_bytes());
        if has("from claim(") {
            Class::Claim
        } else if has("from settle(") {
            Class::Settle
        } else if has("select give_back(") {
            Class::GiveBack
        } else {
            Class::Other
        }
    }
}

/// Which prepared statement of a connection is which.
#[derive(Debug, Default)]
pub struct Statements {
    known: HashMap<Vec<u8>, Class>,
}

impl Statements {
    /// What a message from the client runs, if it runs anything: a bind of what was prepared, or a simple query.
    pub fn runs(&mut self, message: &[u8]) -> Option<Class> {
        let body = message.get(5..).unwrap_or_default();
        match message.first()? {
            b'P' => {
                let (name, rest) = text(body);
                let (sql, _) = text(rest);
                self.known.insert(name.to_vec(), Class::of(sql));
                None
            }
            b'B' => {
                let (_portal, rest) = text(body);
                let (name, _) = text(rest);
                Some(self.known.get(name).copied().unwrap_or(Class::Other))
            }
            b'Q' => Some(Class::of(body)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[kind], &length[..], body].concat()
    }

    #[test]
    fn a_message_is_whole_only_when_its_last_byte_is_there() {
        let whole = framed(b'Z', b"I");
        assert_eq!(message(&whole), Some((b'Z', 6)));
        assert_eq!(message(&whole[..5]), None);
    }

    #[test]
    fn a_bind_runs_what_was_parsed_under_its_name() {
        let mut statements = Statements::default();
        let parse = framed(b'P', b"s1\0select slot from claim($1)\0\0\0");
        assert_eq!(statements.runs(&parse), None);
        assert_eq!(statements.runs(&framed(b'B', b"\0s1\0\0\0")), Some(Class::Claim));
        assert_eq!(
            statements.runs(&framed(b'Q', b"select n from settle('[]', '[]')\0")),
            Some(Class::Settle)
        );
    }

    #[test]
    fn the_sqlstate_of_an_error_is_found() {
        let error = framed(b'E', b"SFATAL\0C57P01\0Mterminating connection\0\0");
        assert_eq!(sqlstate(&error), Some("57P01".to_owned()));
    }

    #[test]
    fn an_opening_tells_encryption_from_a_startup() {
        let ssl = [8u32.to_be_bytes(), 80_877_103u32.to_be_bytes()].concat();
        assert_eq!(opening(&ssl), Some((Opening::Encryption, 8)));
        assert_eq!(opening(&ssl[..7]), None);
    }
}
