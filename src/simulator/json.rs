//! Writes the JSON of the answers. By hand, because amounts must leave as the digits they are
//! (`10.00`, which a number type would shorten) and because some faults break the text on purpose.

use std::fmt::Write as _;

/// A JSON object under construction; members keep their order.
#[derive(Debug, Default)]
pub(super) struct Object(String);

impl Object {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// A member whose value is already JSON: a number from digits, an array, an object, `null`.
    pub(super) fn raw(mut self, name: &str, json: &str) -> Self {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        let _ = write!(self.0, "{}:{json}", quote(name));
        self
    }

    pub(super) fn text(self, name: &str, value: &str) -> Self {
        let quoted = quote(value);
        self.raw(name, &quoted)
    }

    /// The text, or `null`.
    pub(super) fn maybe(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.text(name, value),
            None => self.raw(name, "null"),
        }
    }

    pub(super) fn flag(self, name: &str, value: bool) -> Self {
        self.raw(name, if value { "true" } else { "false" })
    }

    pub(super) fn done(self) -> String {
        format!("{{{}}}", self.0)
    }
}

/// A JSON array of values that are already JSON.
pub(super) fn array(values: impl IntoIterator<Item = String>) -> String {
    let values: Vec<String> = values.into_iter().collect();
    format!("[{}]", values.join(","))
}

/// A JSON string.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for symbol in text.chars() {
        match symbol {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            control if control < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            plain => quoted.push(plain),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_keep_order_and_escape_text() {
        let json = Object::new()
            .text("a", "say \"\u{1}\"\n")
            .raw("amount", "10.00")
            .maybe("none", None)
            .flag("yes", true)
            .done();
        assert_eq!(
            json,
            r#"{"a":"say \"\u0001\"\n","amount":10.00,"none":null,"yes":true}"#
        );
    }
}
