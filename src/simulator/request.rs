//! Reads requests off a connection, HTTP/1.1 with keep-alive. By hand, not by a framework, because
//! the faults need the socket between head and body, and between any two bytes of the answer.

use std::{borrow::Cow, io};

use percent_encoding::percent_decode_str;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const HEAD_MAX_BYTES: usize = 64 * 1024;
const HEADERS_MAX: usize = 64;

/// Status line and headers of a request.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) method: String,
    /// As it came, query included.
    pub(super) target: String,
    headers: Vec<(String, String)>,
    http_1_0: bool,
}

/// A whole request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) head: Head,
    pub(super) body: Vec<u8>,
}

/// Why there is no request.
#[derive(Debug)]
pub(super) enum NoRequest {
    /// The client is gone, between requests or within one.
    Gone { within: bool },
    /// The client does not speak HTTP as we do; the status says how.
    Bad(u16),
}

impl From<io::Error> for NoRequest {
    fn from(_: io::Error) -> Self {
        Self::Gone { within: true }
    }
}

impl Head {
    /// The first header of that name, any case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(header, _)| header.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// A member of the query, decoded.
    pub(super) fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        form_value(query, name)
    }

    /// Decoded segments of the path; an encoded slash stays within its segment.
    pub(super) fn segments(&self) -> Vec<String> {
        self.path()
            .split('/')
            .skip(1)
            .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
            .collect()
    }

    pub(super) fn keeps_alive(&self) -> bool {
        let connection = self.header("connection").unwrap_or_default();
        !self.http_1_0 && !connection.eq_ignore_ascii_case("close")
    }
}

/// A member of `application/x-www-form-urlencoded` text, decoded.
pub(super) fn form_value(form: &str, name: &str) -> Option<String> {
    form.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let decode = |text: &str| {
            let spaced: Cow<'_, str> = text.replace('+', " ").into();
            percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
        };
        (decode(key) == name).then(|| decode(value))
    })
}

/// The reading side of one connection.
pub(super) struct Inlet {
    buffer: Vec<u8>,
}

impl Inlet {
    pub(super) fn new() -> Self {
        Self {
            buffer: Vec::with_capacity(4096),
        }
    }

    /// Waits for the head of the next request.
    pub(super) async fn head(&mut self, stream: &mut TcpStream) -> Result<Head, NoRequest> {
        loop {
            if let Some((head, length)) = parse_head(&self.buffer)? {
                self.buffer.drain(..length);
                return Ok(head);
            }
            if self.buffer.len() > HEAD_MAX_BYTES {
                return Err(NoRequest::Bad(431));
            }
            let within = !self.buffer.is_empty();
            match stream.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return Err(NoRequest::Gone { within }),
                Ok(_) => {}
            }
        }
    }

    /// Reads the body that belongs to the head.
    pub(super) async fn body(
        &mut self,
        stream: &mut TcpStream,
        head: &Head,
        max_bytes: usize,
    ) -> Result<Vec<u8>, NoRequest> {
        if head
            .header("expect")
            .is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
        {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let chunked = head
            .header("transfer-encoding")
            .is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        if chunked {
            return self.chunks(stream, max_bytes).await;
        }
        let length: usize = match head.header("content-length") {
            None => 0,
            Some(text) => text.trim().parse().map_err(|_| NoRequest::Bad(400))?,
        };
        if length > max_bytes {
            return Err(NoRequest::Bad(413));
        }
        self.fill(stream, length).await?;
        Ok(self.buffer.drain(..length).collect())
    }

    async fn chunks(&mut self, stream: &mut TcpStream, max_bytes: usize) -> Result<Vec<u8>, NoRequest> {
        let mut body = Vec::new();
        loop {
            let line = self.line(stream).await?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| NoRequest::Bad(400))?;
            if size > max_bytes || body.len() + size > max_bytes {
                return Err(NoRequest::Bad(413));
            }
            if size == 0 {
                while !self.line(stream).await?.is_empty() {}
                return Ok(body);
            }
            self.fill(stream, size + 2).await?;
            body.extend(self.buffer.drain(..size));
            self.buffer.drain(..2);
        }
    }

    async fn line(&mut self, stream: &mut TcpStream) -> Result<String, NoRequest> {
        let mut looked_at = 0;
        loop {
            let fresh = self.buffer.get(looked_at..).unwrap_or_default();
            if let Some(end) = fresh.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=looked_at + end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            looked_at = self.buffer.len();
            if looked_at > HEAD_MAX_BYTES {
                return Err(NoRequest::Bad(400));
            }
            self.fill(stream, looked_at + 1).await?;
        }
    }

    /// Reads until so many bytes are there.
    async fn fill(&mut self, stream: &mut TcpStream, length: usize) -> Result<(), NoRequest> {
        while self.buffer.len() < length {
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(NoRequest::Gone { within: true });
            }
        }
        Ok(())
    }
}

fn parse_head(buffer: &[u8]) -> Result<Option<(Head, usize)>, NoRequest> {
    if buffer.is_empty() {
        return Ok(None);
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let length = match parsed.parse(buffer) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(NoRequest::Bad(431)),
        Err(_) => return Err(NoRequest::Bad(400)),
    };
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let head = Head {
        method: parsed.method.unwrap_or_default().to_owned(),
        target: parsed.path.unwrap_or_default().to_owned(),
        http_1_0: parsed.version == Some(0),
        headers: parsed
            .headers
            .iter()
            .map(|header| (header.name.to_owned(), text(header.value)))
            .collect(),
    };
    Ok(Some((head, length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_forms_are_decoded_member_by_member() {
        let text = b"POST /optty/orders/a%2Fb%C3%A9/capture?x=1&name=a%20b+c HTTP/1.1\r\nHOST: h\r\n\r\nrest";
        let (head, length) = parse_head(text).unwrap().unwrap();
        assert_eq!(head.segments(), ["optty", "orders", "a/b\u{e9}", "capture"]);
        assert_eq!(head.query("name").as_deref(), Some("a b c"));
        assert_eq!(head.header("host"), Some("h"));
        assert!(head.keeps_alive());
        assert_eq!(&text[length..], b"rest");
    }
}
