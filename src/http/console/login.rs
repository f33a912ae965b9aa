//! Logging in with a key, and out.

use std::sync::Arc;

use askama::Template;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};

use super::assets;
use super::fault::Fault;
use super::visitor::{
    FORM, LIFETIME, SESSION, Sent, Visitor, check_token, cookie, fields, form_token, fresh_secret, peer,
    refuse_foreign, set_cookie,
};
use crate::api_key::{KeyDigest, ShownKey};
use crate::http::problem::Problem;
use crate::http::query::Parameters;
use crate::http::serve::Office;

/// What the token of the log-in's form is for: nobody is known yet.
const NOBODY: &str = "log in";

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    css: String,
    icon: String,
    form_token: String,
    then: String,
    wrong: Option<String>,
}

/// Asks for a key. Who is logged in goes on.
pub async fn page(State(office): State<Arc<Office>>, request: Request) -> Result<Response, Fault> {
    let (mut parts, _) = request.into_parts();
    let then = wanted(parts.uri.query().unwrap_or_default());
    match Visitor::from_request_parts(&mut parts, &office).await {
        Ok(_) => return Ok(Redirect::to(&then).into_response()),
        Err(Fault::LogIn { .. }) => {}
        Err(fault) => return Err(fault),
    }
    show(&parts, &office, then, None)
}

fn show(parts: &Parts, office: &Office, then: String, wrong: Option<String>) -> Result<Response, Fault> {
    let (secret, new_cookie) = match cookie(&parts.headers, FORM) {
        Some(secret) => (secret, None),
        None => {
            let secret = fresh_secret()?;
            let set = set_cookie(parts, office, FORM, &secret, LIFETIME.as_secs());
            (secret, Some(set))
        }
    };
    let status = match wrong {
        Some(_) => StatusCode::UNAUTHORIZED,
        None => StatusCode::OK,
    };
    let page = LoginPage {
        css: assets::address("console.css"),
        icon: assets::address("icon.svg"),
        form_token: form_token(&secret, NOBODY),
        then,
        wrong,
    };
    let text = page.render().map_err(|_| Problem::internal())?;
    let mut response = (status, Html(text)).into_response();
    add_cookie(&mut response, new_cookie.as_deref());
    Ok(response)
}

/// Adds a cookie to an answer.
pub fn add_cookie(response: &mut Response, cookie: Option<&str>) {
    if let Some(value) = cookie.and_then(|cookie| HeaderValue::from_str(cookie).ok()) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

/// Where to go on: a path of ours, else the first page.
fn wanted(query: &str) -> String {
    let given = Parameters::read(query)
        .ok()
        .and_then(|mut pairs| pairs.take("to").ok().flatten());
    given.filter(|path| is_ours(path)).unwrap_or_else(|| "/".to_owned())
}

/// Two strokes, or a stroke and a backslash, would name another host.
fn is_ours(path: &str) -> bool {
    let mut letters = path.chars();
    letters.next() == Some('/')
        && !matches!(letters.next(), Some('/' | '\\'))
        && path.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Begins a session.
pub async fn enter(State(office): State<Arc<Office>>, request: Request) -> Result<Response, Fault> {
    let (parts, content) = request.into_parts();
    refuse_foreign(&parts, &office)?;
    let head = parts.clone();
    let mut fields = fields(Request::from_parts(parts, content), &office).await?;
    // Without the cookie nothing ties the form to this browser; what follows from no secret, anybody can reckon.
    let Some(secret) = cookie(&head.headers, FORM) else {
        let wrong = "This form is old, or your browser keeps no cookies; send it again.".to_owned();
        return show(&head, &office, "/".to_owned(), Some(wrong));
    };
    check_token(&mut fields, &form_token(&secret, NOBODY))?;
    let then = fields
        .take("to")?
        .filter(|path| is_ours(path))
        .unwrap_or_else(|| "/".to_owned());
    let key = fields.take("key")?.unwrap_or_default();
    let key = key.trim();
    let caller = match office.caller_of_key(key, peer(&head, &office)).await {
        Ok(caller) => caller,
        Err(problem) if problem.status() == 401 => {
            let wrong = "This key opens nothing: it is unknown, over or revoked.".to_owned();
            return show(&head, &office, then, Some(wrong));
        }
        Err(problem) => return Err(problem.into()),
    };
    let Some(shown) = ShownKey::parse(key) else {
        return Err(Problem::internal().into());
    };
    let secret = fresh_secret()?;
    let digest = KeyDigest::of(&secret);
    office.acts.begin_session(&digest, &shown.prefix, LIFETIME).await?;
    tracing::info!(
        key = shown.prefix,
        name = caller.name,
        "somebody logged in to the console"
    );
    let mut response = Redirect::to(&then).into_response();
    let cookie = set_cookie(&head, &office, SESSION, &secret, LIFETIME.as_secs());
    add_cookie(&mut response, Some(&cookie));
    Ok(response)
}

/// Ends the session.
pub async fn leave(State(office): State<Arc<Office>>, sent: Sent) -> Result<Response, Fault> {
    if let Some(digest) = &sent.visitor.session {
        office.acts.end_session(digest).await?;
    }
    let mut response = Redirect::to("/login").into_response();
    let gone = format!("{SESSION}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    add_cookie(&mut response, Some(&gone));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_the_log_in_one_stays_here() {
        assert_eq!(wanted("to=%2Fdead%3Fclass%3Drejected"), "/dead?class=rejected");
        for elsewhere in [
            "to=https://evil.example",
            "to=//evil.example",
            "to=/%5Cevil.example",
            "to=%2F%0Aevil",
            "",
        ] {
            assert_eq!(wanted(elsewhere), "/", "{elsewhere}");
        }
    }
}
