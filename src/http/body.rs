//! A request's JSON, read strictly: its type, its size, its time, and every field of it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use super::problem::Problem;
use super::serve::Office;

/// The most bytes of a body: 64 KiB, as many as the database takes of a document.
pub const MOST_BYTES: usize = 64 << 10;

/// The most bytes of a body that lists ids: 1 MiB, some 26,000 of them.
pub const MOST_BYTES_WITH_IDS: usize = 1 << 20;

/// The most ids that such a list holds; shorter ids would fit in more often.
pub const MOST_IDS: usize = 25_000;

/// Refuses a list of more than so many; `field`: its pointer, such as `/ids`.
pub fn at_most<T>(list: &[T], most: usize, code: &'static str, field: &str) -> Result<(), Problem> {
    match list.len() > most {
        true => Err(
            Problem::unfit(code, format!("{} are given, more than {most}", list.len()))
                .hint(format!("give at most {most} at once"))
                .at(field),
        ),
        false => Ok(()),
    }
}

/// A JSON document of at most `MOST` bytes.
#[derive(Debug)]
pub struct Document<T, const MOST: usize = MOST_BYTES>(pub T);

impl<T: DeserializeOwned, const MOST: usize> FromRequest<Arc<Office>> for Document<T, MOST> {
    type Rejection = Problem;

    async fn from_request(request: Request, office: &Arc<Office>) -> Result<Document<T, MOST>, Problem> {
        let bytes = json_bytes(request, MOST, office.patience).await?;
        Ok(Document(parse(&bytes)?))
    }
}

/// The bytes of a JSON body, as they came. A client that takes longer to send them is holding on to us.
pub async fn json_bytes(request: Request, most: usize, patience: Duration) -> Result<Bytes, Problem> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let media = kind.split(';').next().unwrap_or_default().trim();
    if !media.eq_ignore_ascii_case("application/json") {
        let detail = match media {
            "" => "the body has no Content-Type".to_owned(),
            _ => "the body is not application/json".to_owned(),
        };
        return Err(
            Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "body_not_json", detail)
                .hint("send JSON and the header Content-Type: application/json")
                .at("Content-Type:"),
        );
    }
    bytes(request, most, patience).await
}

/// The bytes of a form of a page.
pub async fn form_bytes(request: Request, most: usize, patience: Duration) -> Result<Bytes, Problem> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let media = kind.split(';').next().unwrap_or_default().trim();
    if !media.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        let detail = "the form is not application/x-www-form-urlencoded";
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "form_not_readable",
            detail,
        ));
    }
    bytes(request, most, patience).await
}

/// The bytes of any body.
pub async fn bytes(request: Request, most: usize, patience: Duration) -> Result<Bytes, Problem> {
    match tokio::time::timeout(patience, collected(request.into_body(), most)).await {
        Ok(read) => read,
        Err(_) => {
            let detail = format!("the body did not arrive within {patience:?}");
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", detail)
                .with_header(header::CONNECTION, header::HeaderValue::from_static("close")))
        }
    }
}

async fn collected(body: Body, most: usize) -> Result<Bytes, Problem> {
    let mut chunks = body.into_data_stream();
    let mut read = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Problem::bad_request("body_broken", "the body ended before it was whole"))?;
        if read.len().saturating_add(chunk.len()) > most {
            let detail = format!("the body has more than {} KiB", most >> 10);
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
                .hint("send it in parts, or choose by a filter instead of by ids")
                .with_header(header::CONNECTION, header::HeaderValue::from_static("close")));
        }
        read.extend_from_slice(&chunk);
    }
    Ok(read.into())
}

/// Reads JSON; what is wrong is told with its place.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let pointer = pointer(error.path());
        let error = error.into_inner();
        match error.classify() {
            serde_json::error::Category::Data => Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "document_not_understood",
                plain(&error),
            )
            .at(pointer),
            serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof
            | serde_json::error::Category::Io => not_json(&error),
        }
    })?;
    // A document and something after it: two were sent, or half of one.
    reader.end().map_err(|error| not_json(&error))?;
    Ok(read)
}

fn not_json(error: &serde_json::Error) -> Problem {
    Problem::bad_request("document_readable", format!("this is no JSON: {error}"))
}

/// What serde says, without the place in bytes: the pointer tells it better.
fn plain(error: &serde_json::Error) -> String {
    let said = error.to_string();
    match said.rfind(" at line ") {
        Some(end) => said.get(..end).unwrap_or(&said).to_owned(),
        None => said,
    }
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        let name = match segment {
            Segment::Seq { index } => index.to_string(),
            Segment::Map { key } => key.replace('~', "~0").replace('/', "~1"),
            Segment::Enum { .. } | Segment::Unknown => continue,
        };
        pointer.push('/');
        pointer.push_str(&name);
    }
    pointer
}
