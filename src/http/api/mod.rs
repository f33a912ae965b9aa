//! The API under `/v1`: one file per thing that it is about.

mod audit;
mod captures;
mod codes;
mod conditions;
mod dead_letters;
mod deliveries;
mod enqueue;
mod events;
mod lanes;
mod operations;
mod orders;
mod releases;
mod shipments;
mod status;
mod webhooks;

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::problem::Problem;
use super::query::Parameters;
use super::serve::Office;

/// The most rows of a page, and how many it has unless asked otherwise.
const MOST_ROWS: u32 = 200;
const USUAL_ROWS: u32 = 50;

/// All routes of the API.
pub fn routes() -> OpenApiRouter<Arc<Office>> {
    OpenApiRouter::new()
        .routes(routes!(captures::list, enqueue::create))
        .routes(routes!(captures::get))
        .routes(routes!(captures::timeline))
        .routes(routes!(captures::attempts))
        .routes(routes!(captures::cancel))
        .routes(routes!(releases::create))
        .routes(routes!(shipments::create))
        .routes(routes!(shipments::create_of_source))
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::groups))
        .routes(routes!(dead_letters::safety))
        .routes(routes!(operations::list, operations::create))
        .routes(routes!(operations::get))
        .routes(routes!(operations::items))
        .routes(routes!(operations::pause))
        .routes(routes!(operations::resume))
        .routes(routes!(operations::cancel))
        .routes(routes!(orders::get))
        .routes(routes!(orders::risk))
        .routes(routes!(orders::forecast))
        .routes(routes!(codes::list))
        .routes(routes!(lanes::list))
        .routes(routes!(lanes::pause))
        .routes(routes!(lanes::resume))
        .routes(routes!(events::list))
        .routes(routes!(audit::list))
        .routes(routes!(audit::verify))
        .routes(routes!(webhooks::list, webhooks::create))
        .routes(routes!(webhooks::get))
        .routes(routes!(webhooks::set))
        .routes(routes!(webhooks::enable))
        .routes(routes!(webhooks::disable))
        .routes(routes!(webhooks::rotate))
        .routes(routes!(webhooks::remove))
        .routes(routes!(deliveries::list))
        .routes(routes!(deliveries::get))
        .routes(routes!(deliveries::redeliver))
        .routes(routes!(status::status))
        .routes(routes!(status::version))
}

/// The `{id}` of a path.
#[derive(Debug, Clone, Copy)]
pub struct Id(pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Id, Problem> {
        let text = Path::<String>::from_request_parts(parts, state).await;
        let id = text.ok().and_then(|Path(text)| hyphenated(&text));
        id.map(Id).ok_or_else(|| {
            Problem::bad_request("id_not_readable", "the id in the path is no uuid")
                .hint("take the id as it was given, such as 018f2f60-7a3c-7cc4-9a3e-1f0a6b1d2c3e")
        })
    }
}

/// A uuid in the one form in which we write them.
fn hyphenated(text: &str) -> Option<Uuid> {
    Uuid::parse_str(text).ok().filter(|_| text.len() == 36)
}

/// Names in a path: those that the database can keep.
#[derive(Debug)]
pub struct Names<T>(pub T);

impl<T: serde::de::DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Names<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Names<T>, Problem> {
        let encoded_nul = parts.uri.path().contains("%00");
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(names)) if !encoded_nul => Ok(Names(names)),
            Ok(_) | Err(_) => Err(
                Problem::bad_request("path_not_readable", "the path is no UTF-8 without NUL")
                    .hint("percent-encode the names in it as UTF-8"),
            ),
        }
    }
}

/// Why somebody acts.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Why {
    /// In a few words; kept with the act.
    #[schema(min_length = 1, pattern = r"\S")]
    pub reason: String,
}

/// `limit`.
fn rows(parameters: &mut Parameters) -> Result<u32, Problem> {
    Ok(parameters.number("limit", 1, MOST_ROWS)?.unwrap_or(USUAL_ROWS))
}
