//! The console: pages for people, under the same server as the API.
//!
//! Every page is whole without script; the one script adds live updates, local times, sums and keys. Nothing is loaded from
//! elsewhere, and nothing that a page shows can run: templates escape, and the policy allows no script but ours. A page is
//! read in panels, each with its time; one that is too slow says so, and the rest stands.

mod assets;
mod audit;
mod capture;
mod captures;
mod fault;
mod filters;
mod frame;
mod lanes;
mod login;
mod operations;
mod order;
mod overview;
mod preview;
mod risk;
mod rows;
mod shown;
mod visitor;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};

use super::problem::Problem;
use super::serve::Office;
pub use visitor::{Peer, ProxySettings, peer};

/// What a page may load and do.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// All pages and what they load.
pub fn routes() -> Router<Arc<Office>> {
    Router::new()
        .route("/", get(overview::page))
        .route("/login", get(login::page).post(login::enter))
        .route("/logout", post(login::leave))
        .route("/captures", get(captures::list))
        .route("/captures/{id}", get(capture::page))
        .route("/captures/{id}/release", post(capture::release))
        .route("/dead", get(captures::dead))
        .route("/captures/{id}/ask", get(capture::back).post(capture::ask))
        .route("/orders/{id}", get(order::page))
        .route("/orders/{id}/ask", get(order::back).post(order::ask))
        .route("/risk", get(risk::page))
        .route("/operations", get(operations::list).post(preview::begin))
        // A preview is asked for with a list; who opens its address alone chooses first.
        .route(
            "/operations/new",
            get(async || Redirect::to("/dead")).post(preview::preview),
        )
        .route("/operations/{id}", get(operations::page))
        .route("/operations/{id}/{change}", post(operations::change))
        .route("/lanes/{id}/{change}", post(lanes::change))
        .route("/audit", get(audit::page))
        .layer(from_fn(page_headers))
        .route("/assets/{hash}/{name}", get(assets::asset))
}

async fn page_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for_people(&mut response);
    response
}

fn for_people(response: &mut Response) {
    // Strict enough for addresses that name orders, and a browser still says from which page of ours a form comes.
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
}

/// A refusal as a page.
pub fn page_of(problem: Problem) -> Response {
    let mut response = fault::Fault::from(problem).into_response();
    for_people(&mut response);
    response
}
