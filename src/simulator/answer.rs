//! An answer, and the ways in which it reaches the client, or does not.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};

use super::payment::BROKEN;

/// What the provider says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
}

/// What the network makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    Whole,
    /// Whole, then the connection is closed unannounced.
    WholeThenClose,
    Reset,
    Close,
    /// Nothing until the client goes.
    Silence,
    /// The head, then nothing until the client goes.
    Stall,
    Drip,
    Truncated,
    WrongLength,
    ChunkCut,
    CutAt(u32),
    /// A body of this many bytes.
    Huge(u64),
}

/// What a string is broken with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breakage {
    Nul,
    LoneSurrogate,
    InvalidUtf8,
}

impl Answer {
    pub(super) fn json(status: u16, body: String) -> Self {
        Self::of(status, "application/json", body)
    }

    pub(super) fn of(status: u16, content_type: &'static str, body: String) -> Self {
        Self {
            status,
            content_type,
            headers: Vec::new(),
            body: body.into_bytes(),
        }
    }

    /// As a proxy or firewall in front shows it.
    pub(super) fn page(status: u16) -> Self {
        let reason = reason(status);
        let page = format!(
            "<html>\r\n<head><title>{status} {reason}</title></head>\r\n<body>\r\n<center><h1>{status} {reason}</h1></center>\r\n<hr><center>cloudflare</center>\r\n</body>\r\n</html>\r\n"
        );
        Self::of(status, "text/html; charset=UTF-8", page)
    }

    pub(super) fn empty(status: u16) -> Self {
        Self::of(status, "text/plain", String::new())
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Puts something that no JSON writer would write in the place marked for it.
    pub(super) fn broken_by(mut self, breakage: Breakage) -> Self {
        let mark = format!("\\u{:04x}", u32::from(BROKEN));
        let worse: &[u8] = match breakage {
            Breakage::Nul => b"\\u0000",
            Breakage::LoneSurrogate => b"\\ud800",
            Breakage::InvalidUtf8 => b"\xff\xfe",
        };
        if let Some(place) = find(&self.body, mark.as_bytes()) {
            self.body.splice(place..place + mark.len(), worse.iter().copied());
        }
        self
    }

    /// Compressed, as gzip without compressing: stored blocks.
    pub(super) fn gzipped(mut self) -> Self {
        self.body = gzip_stored(&self.body);
        self.with("Content-Encoding", "gzip")
    }

    /// Status line and headers; `framing` is `Content-Length` or `Transfer-Encoding`.
    pub(super) fn head(&self, now: DateTime<Utc>, framing: &str, keeps_alive: bool) -> Vec<u8> {
        let mut head = format!(
            "HTTP/1.1 {} {}\r\nDate: {}\r\nServer: cloudflare\r\nContent-Type: {}\r\n{framing}\r\n",
            self.status,
            reason(self.status),
            now.format("%a, %d %b %Y %H:%M:%S GMT"),
            self.content_type,
        );
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str(if keeps_alive {
            "\r\n"
        } else {
            "Connection: close\r\n\r\n"
        });
        head.into_bytes()
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// RFC 1952, with deflate blocks that only store (RFC 1951, 3.2.4).
fn gzip_stored(body: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 65_535;
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let blocks = body.chunks(BLOCK).count().max(1);
    for place in 0..blocks {
        let block = body.chunks(BLOCK).nth(place).unwrap_or_default();
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        out.push(u8::from(place + 1 == blocks));
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(block);
    }
    out.extend(crc32(body).to_le_bytes());
    out.extend((body.len() as u32).to_le_bytes());
    out
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 }
        })
    })
}

/// The words behind a status; the numbers of Cloudflare included.
pub(super) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Entity",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        499 => "Client Closed Request",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        520 => "Web Server Returned an Unknown Error",
        521 => "Web Server Is Down",
        522 => "Connection Timed Out",
        523 => "Origin Is Unreachable",
        524 => "A Timeout Occurred",
        525 => "SSL Handshake Failed",
        526 => "Invalid SSL Certificate",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_has_the_check_sum_of_its_content() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        let zipped = gzip_stored(b"abc");
        assert_eq!(zipped.len(), 10 + 5 + 3 + 8);
    }

    #[test]
    fn a_marked_string_is_broken_on_the_wire() {
        let answer = Answer::json(200, "{\"id\":\"x\\u0001\"}".to_owned());
        let broken = answer.clone().broken_by(Breakage::LoneSurrogate);
        assert_eq!(broken.body, br#"{"id":"x\ud800"}"#);
        assert_eq!(answer.broken_by(Breakage::InvalidUtf8).body, b"{\"id\":\"x\xff\xfe\"}");
    }
}
