//! The API under `/v1`: one file per thing that it is about.

mod captures;

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::problem::Problem;
use super::serve::Office;

/// All routes of the API.
pub fn routes() -> OpenApiRouter<Arc<Office>> {
    OpenApiRouter::new()
        .routes(routes!(captures::list))
        .routes(routes!(captures::get))
}

/// The `{id}` of a path.
#[derive(Debug, Clone, Copy)]
pub struct Id(pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Id, Problem> {
        let text = Path::<String>::from_request_parts(parts, state).await;
        let id = text.ok().and_then(|Path(text)| Uuid::parse_str(&text).ok());
        id.map(Id).ok_or_else(|| {
            Problem::bad_request("id_not_readable", "the id in the path is no uuid")
                .hint("take the id as it was given, such as 018f2f60-7a3c-7cc4-9a3e-1f0a6b1d2c3e")
        })
    }
}
