//! HTTP/1.1 as far as the proxy must understand it: where a request ends, what it is for, and where its answer ends.

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errand {
    /// A capture POST. `keyed`: the provider knows a repeat by its key and answers as before.
    Capture {
        keyed: bool,
    },
    Read,
    Other,
}

/// A whole request at the front of a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Of all of it.
    pub length: usize,
    pub path: String,
    pub errand: Errand,
}

/// What a buffer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<T> {
    Whole(T),
    /// Read on.
    Partial,
    /// Not HTTP.
    Nonsense,
}

/// The request at the front of `bytes`.
pub fn request(bytes: &[u8]) -> Found<Request> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    let head = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Found::Partial,
        Err(_) => return Found::Nonsense,
    };
    let method = parsed.method.unwrap_or_default();
    let path = parsed.path.unwrap_or_default().to_owned();
    let body = bytes.get(head..).unwrap_or_default();
    let length = match body_of(parsed.headers) {
        Body::Length(length) => head + length,
        Body::Chunked => match chunks(body) {
            Some(length) => head + length,
            None => return Found::Partial,
        },
        Body::None | Body::ToTheEnd => head,
    };
    if bytes.len() < length {
        return Found::Partial;
    }
    let errand = errand(method, &path);
    Found::Whole(Request { length, path, errand })
}

fn errand(method: &str, path: &str) -> Errand {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match (method, parts.as_slice()) {
        ("POST", ["afterpay", .., "capture"]) | ("POST", ["resolve", "orders", _, "capture"]) => {
            Errand::Capture { keyed: true }
        }
        ("POST", [.., "capture"]) => Errand::Capture { keyed: false },
        ("GET", _) | ("POST", [.., "details"]) => Errand::Read,
        _ => Errand::Other,
    }
}

enum Body {
    None,
    Length(usize),
    Chunked,
    ToTheEnd,
}

fn body_of(headers: &[httparse::Header<'_>]) -> Body {
    let value = |name: &str| {
        let found = headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.and_then(|header| std::str::from_utf8(header.value).ok())
    };
    if value("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        return Body::Chunked;
    }
    match value("content-length") {
        Some(length) => length.trim().parse().map_or(Body::ToTheEnd, Body::Length),
        None => Body::None,
    }
}

/// How long a chunked body is, if all of it is there.
fn chunks(body: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match httparse::parse_chunk_size(body.get(at..)?) {
            Ok(httparse::Status::Complete((start, size))) => {
                let size = usize::try_from(size).ok()?;
                // Behind each chunk stands an empty line, and behind the last one no trailers of ours.
                at = at.checked_add(start)?.checked_add(size)?.checked_add(2)?;
                if at > body.len() {
                    return None;
                }
                if size == 0 {
                    return Some(at);
                }
            }
            _ => return None,
        }
    }
}

/// The head of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerHead {
    pub status: u16,
    /// Of the head alone.
    pub head: usize,
    /// Of all of it; `None`: it ends with the connection.
    pub length: Option<usize>,
}

/// The head of the answer at the front of `bytes`.
pub fn answer(bytes: &[u8]) -> Found<AnswerHead> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Response::new(&mut headers);
    match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => Found::Whole(AnswerHead {
            status: parsed.code.unwrap_or(0),
            head,
            length: match body_of(parsed.headers) {
                Body::Length(length) => head.checked_add(length),
                // No answer of the simulator is chunked but one that is cut.
                Body::Chunked | Body::ToTheEnd | Body::None => None,
            },
        }),
        Ok(httparse::Status::Partial) => Found::Partial,
        Err(_) => Found::Nonsense,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_is_told_from_a_read_and_a_keyed_one_from_the_others() {
        assert_eq!(
            errand("POST", "/afterpay/v2/payments/7/capture"),
            Errand::Capture { keyed: true }
        );
        assert_eq!(
            errand("POST", "/resolve/orders/o/capture"),
            Errand::Capture { keyed: true }
        );
        assert_eq!(
            errand("POST", "/resolve/charges/c/capture"),
            Errand::Capture { keyed: false }
        );
        assert_eq!(errand("POST", "/optty/orders/r/details"), Errand::Read);
        assert_eq!(errand("PUT", "/resolve/charges/c"), Errand::Other);
    }

    #[test]
    fn a_request_is_whole_with_the_last_byte_of_its_body() {
        let text = b"POST /optty/orders/r/capture HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}GET";
        let Found::Whole(found) = request(text) else {
            panic!("not whole")
        };
        assert_eq!(
            (found.length, found.path.as_str()),
            (text.len() - 3, "/optty/orders/r/capture")
        );
        assert_eq!(request(&text[..text.len() - 4]), Found::Partial);
    }

    #[test]
    fn a_chunked_request_ends_with_its_empty_chunk() {
        let text = b"POST /x HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
        let Found::Whole(found) = request(text) else {
            panic!("not whole")
        };
        assert_eq!(found.length, text.len());
        assert_eq!(request(&text[..text.len() - 3]), Found::Partial);
    }
}
