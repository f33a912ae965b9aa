//! An answer as it came off the wire, and what every provider's answers have in common.
//!
//! Only few headers are kept, and the body only until it is classed. What a status says about the money without a look
//! at the body is decided here once; what needs the provider's own words is decided by its adapter. One rule stands
//! above both: **only the provider's own form of an answer may end an intent.** A page of HTML, an empty body or a text
//! that breaks off speaks for whatever stands between, and such an answer ends nothing.

use std::time::Duration;

use chrono::{DateTime, Datelike, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::json;
use crate::outcome::{Class, Code, Evidence, Failure, printable, printable_id};

/// The headers that are looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Headers {
    pub(super) content_type: Option<String>,
    pub(super) date: Option<String>,
    pub(super) retry_after: Option<String>,
    pub(super) ratelimit_reset: Option<String>,
    pub(super) ratelimit_remaining: Option<String>,
    pub(super) correlation_id: Option<String>,
    pub(super) cf_ray: Option<String>,
}

/// A whole answer: its body ended where it said it would.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Headers,
    pub(super) body: Vec<u8>,
    /// Was the token that went with the request minted for it?
    pub(super) new_token: bool,
}

/// How the account sends, as far as the classes depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Manner {
    /// The provider recognises a repeat by its key, so "never reached the provider" may simply be sent again.
    pub(super) keyed: bool,
    /// A token is sent that may have run out, rather than a password that is wrong.
    pub(super) bearer: bool,
}

/// A class with the code that goes with it.
pub(super) type Verdict = (Class, Code);

/// The code of a failed TLS handshake or certificate. Transient the first times; whoever sees it again and again with
/// one account has a wrong address or certificate to mend.
pub const TLS: &str = "tls";

/// The code of a bearer token that was taken before and is no longer. The next call of this process mints a new one; other
/// processes may still hold the old one, and find out each for itself.
pub const TOKEN_EXPIRED: &str = "token_expired";

/// The code of a bearer token that was not taken although it had just been minted: twice, and the credentials are wrong.
pub const TOKEN_NOT_TAKEN: &str = "token_not_taken";

impl Answer {
    /// The body as JSON of that shape. The whole of it has to be text: the parser itself would pass over broken bytes in
    /// members that nobody asks for, and where bytes were broken on the way, those that are read are not trusted either.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(std::str::from_utf8(&self.body).ok()?).ok()
    }

    /// Is this a page for people, as a proxy or a firewall shows it?
    pub(super) fn is_page(&self) -> bool {
        let html = |kind: &String| kind.to_ascii_lowercase().contains("text/html");
        self.headers.content_type.as_ref().is_some_and(html) || self.body.trim_ascii_start().starts_with(b"<")
    }

    /// Did the provider itself speak, rather than something in front of it?
    pub(super) fn is_from_provider(&self) -> bool {
        let json = self.body.trim_ascii_start().starts_with(b"{");
        json || (self.status < 500 && !self.is_page())
    }

    /// The code of a 401 to a bearer token.
    fn refused_token(&self) -> Code {
        Code::new(if self.new_token { TOKEN_NOT_TAKEN } else { TOKEN_EXPIRED })
    }

    /// When the answer was given, by the provider's clock, else by ours.
    pub(super) fn given_at(&self) -> DateTime<Utc> {
        self.provider_time().unwrap_or_else(Utc::now)
    }

    fn provider_time(&self) -> Option<DateTime<Utc>> {
        self.headers.date.as_deref().and_then(http_date)
    }

    /// How long the provider asks to wait: `Retry-After` in seconds or as a date, else, for a rate limit, the end of
    /// its window in unix seconds. Unclamped; both dates are taken against the provider's own clock if it tells it.
    fn retry_after(&self) -> Option<Duration> {
        let until = |then: DateTime<Utc>| (then - self.given_at()).to_std().unwrap_or(Duration::ZERO);
        let asked = self.headers.retry_after.as_deref().map(str::trim).and_then(|text| {
            let seconds = text.parse::<u64>().ok().map(Duration::from_secs);
            seconds.or_else(|| http_date(text).map(until))
        });
        let window_ends = || {
            let reset = self.headers.ratelimit_reset.as_deref()?.trim().parse::<i64>().ok()?;
            DateTime::from_timestamp(reset, 0).map(until)
        };
        match self.status {
            429 => asked.or_else(window_ends),
            _ => asked,
        }
    }

    /// A failure that this answer means.
    pub(super) fn failure(&self, (class, code): Verdict, evidence: Evidence) -> Failure {
        Failure {
            class,
            code,
            http_status: Some(self.status),
            retry_after: self.retry_after(),
            answered: self.is_from_provider(),
            evidence,
        }
    }

    /// Facts about this answer as evidence: its status, the ids by which the provider finds it again, its time, and
    /// what the adapter adds.
    pub(super) fn evidence<T: Serialize>(&self, facts: &T) -> Evidence {
        #[derive(Serialize)]
        struct Seen<'a, T> {
            http_status: u16,
            #[serde(skip_serializing_if = "Option::is_none")]
            date: Option<DateTime<Utc>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            correlation_id: Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            cf_ray: Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            ratelimit_remaining: Option<String>,
            #[serde(flatten)]
            facts: &'a T,
        }
        json::evidence(&Seen {
            http_status: self.status,
            date: self.provider_time(),
            correlation_id: self.headers.correlation_id.as_deref().map(printable_id),
            cf_ray: self.headers.cf_ray.as_deref().map(printable_id),
            ratelimit_remaining: self.headers.ratelimit_remaining.as_deref().map(word),
            facts,
        })
    }

    /// What the status alone says, where it does, about a capture. `None`: the body has the say (2xx, most 4xx).
    /// `said` is the provider's own code, if the body has one.
    pub(super) fn verdict_by_status(&self, manner: Manner, said: Option<&str>) -> Option<Verdict> {
        let code = said.map_or_else(|| http_code(self.status), Code::new);
        let ambiguous = (Class::Ambiguous, code.clone());
        let verdict = match self.status {
            200..=299 => return None,
            300..=399 => (Class::Misconfigured, Code::new("redirect")),
            401 if manner.bearer => (Class::Transient, self.refused_token()),
            403 if self.is_page() => (Class::Misconfigured, Code::new("firewall")),
            401 | 403 => (Class::Misconfigured, code),
            // 425 is not in the providers' documents; like 408 and 499 it is the word of something in front.
            408 | 425 | 499 => ambiguous,
            429 => (Class::RateLimited, code),
            400..=499 => return None,
            // The front could not reach the provider: with a key, simply again; without one, who knows what it reached.
            503 | 521 | 523 | 525 | 526 if manner.keyed => (Class::Transient, code),
            500..=599 => ambiguous,
            0..=199 | 600..=u16::MAX => ambiguous,
        };
        Some(verdict)
    }

    /// What the answer to a read or to a marker says when it is not the thing asked for. Neither moves money, so nothing
    /// here is ambiguous: what is not for us to mend may pass later.
    pub(super) fn read_verdict(&self, manner: Manner) -> Verdict {
        match self.status {
            300..=399 => (Class::Misconfigured, Code::new("redirect")),
            401 if manner.bearer => (Class::Transient, self.refused_token()),
            403 if self.is_page() => (Class::Misconfigured, Code::new("firewall")),
            401 | 403 => (Class::Misconfigured, http_code(self.status)),
            429 => (Class::RateLimited, http_code(429)),
            200..=299 => (Class::Transient, unreadable(self)),
            0..=199 | 400..=u16::MAX => (Class::Transient, http_code(self.status)),
        }
    }

    /// What came of telling shipping data. It moves no money, so nothing here is ambiguous; the provider's own word that
    /// it does not take this is its last.
    pub(super) fn told(&self, manner: Manner) -> Result<(), Failure> {
        let verdict = match self.status {
            200..=299 => return Ok(()),
            408 | 409 | 425 | 499 => (Class::Transient, http_code(self.status)),
            401 | 403 | 429 => self.read_verdict(manner),
            400..=498 if self.is_from_provider() => (Class::Rejected, http_code(self.status)),
            0..=199 | 300..=u16::MAX => self.read_verdict(manner),
        };
        Err(self.failure(verdict, Evidence::default()))
    }
}

// The body holds names and addresses: it is never shown.
impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Answer({}, {} bytes)", self.status, self.body.len())
    }
}

/// The code of a status that has no better name.
pub(super) fn http_code(status: u16) -> Code {
    Code::new(&format!("http_{status}"))
}

/// A word of the provider's for evidence: printable and short.
pub(super) fn word(text: &str) -> String {
    printable(text, 40)
}

/// A time in the form that all providers use.
pub(super) fn time(text: &str) -> Option<DateTime<Utc>> {
    let time = DateTime::parse_from_rfc3339(text).ok()?.with_timezone(&Utc);
    // A time that is no time (the year 0 of an unset field) must not keep a capture from being recorded: the database
    // has no year 0.
    (2000..2200).contains(&time.year()).then_some(time)
}

/// A time that is only advice: whatever stands there instead, the rest of the answer counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct AdvisedTime(pub(super) Option<DateTime<Utc>>);

impl<'de> Deserialize<'de> for AdvisedTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let text = serde_json::from_str::<String>(raw.get()).ok();
        Ok(AdvisedTime(text.as_deref().and_then(time)))
    }
}

/// The code of a body that is not what the provider documents for its status: not JSON, or JSON of another shape.
pub(super) fn unreadable(answer: &Answer) -> Code {
    let json = answer.read::<serde::de::IgnoredAny>().is_some();
    Code::new(if json { "unexpected_shape" } else { "not_json" })
}

fn http_date(text: &str) -> Option<DateTime<Utc>> {
    let date = DateTime::parse_from_rfc2822(text.trim()).ok()?;
    Some(date.with_timezone(&Utc))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::samples::{KEYED, answer, page};

    fn wait(status: u16, headers: Headers) -> Option<u64> {
        let mut answer = answer(status, "");
        answer.headers = headers;
        answer.retry_after().map(|wait| wait.as_secs())
    }

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn a_time_that_no_database_takes_is_none() {
        assert!(time("2026-10-07T08:09:10.123Z").is_some());
        for unset in [
            "0000-01-01T00:00:00Z",
            "0001-01-01T00:00:00Z",
            "9999-12-31T23:59:59Z",
            "yesterday",
        ] {
            assert_eq!(time(unset), None, "{unset}");
        }
    }

    #[test]
    fn an_answer_with_a_broken_byte_anywhere_is_not_json() {
        #[derive(serde::Deserialize)]
        struct Asked {
            #[serde(rename = "asked")]
            _asked: String,
        }
        let good = br#"{"asked":"yes","not asked":"no"}"#;
        let mut told = answer(200, "");
        told.body = good.to_vec();
        assert!(told.read::<Asked>().is_some());
        for at in 0..good.len() {
            told.body = good.to_vec();
            told.body[at] = 0xa4;
            assert!(told.read::<Asked>().is_none(), "{at}");
            assert_eq!(unreadable(&told).as_str(), "not_json", "{at}");
        }
    }

    #[test]
    fn a_wait_is_read_from_seconds_dates_and_the_end_of_a_window() {
        let noon = text("Wed, 21 Oct 2015 12:00:00 GMT");
        let reset = text("1445428830");
        for (status, retry_after, ratelimit_reset, seconds) in [
            (429, text("7"), None, Some(7)),
            (429, text(" 7 "), reset.clone(), Some(7)),
            (503, text("Wed, 21 Oct 2015 12:01:00 GMT"), None, Some(60)),
            (429, text("Wed, 21 Oct 2015 11:00:00 GMT"), None, Some(0)),
            (429, None, reset.clone(), Some(30)),
            (429, text("soon"), reset.clone(), Some(30)),
            (500, None, reset, None),
            (429, text("-1"), None, None),
            (429, text("99999999999999999999999"), None, None),
            (429, None, text("99999999999999999"), None),
            (429, None, None, None),
        ] {
            let headers = Headers {
                date: noon.clone(),
                retry_after: retry_after.clone(),
                ratelimit_reset: ratelimit_reset.clone(),
                ..Headers::default()
            };
            assert_eq!(
                wait(status, headers),
                seconds,
                "{status} {retry_after:?} {ratelimit_reset:?}"
            );
        }
    }

    #[test]
    fn shipping_data_is_told_by_any_2xx_and_refused_only_by_the_providers_own_4xx() {
        let class = |answer: Answer| answer.told(KEYED).map_err(|failure| failure.class);
        for status in [200, 201, 204] {
            assert_eq!(class(answer(status, "")), Ok(()), "{status}");
        }
        for (status, told) in [
            (302, Class::Misconfigured),
            (400, Class::Rejected),
            (401, Class::Misconfigured),
            (403, Class::Misconfigured),
            (404, Class::Rejected),
            (408, Class::Transient),
            (409, Class::Transient),
            (412, Class::Rejected),
            (422, Class::Rejected),
            (429, Class::RateLimited),
            (500, Class::Transient),
            (504, Class::Transient),
        ] {
            assert_eq!(class(answer(status, "{}")), Err(told), "{status}");
        }
        assert_eq!(class(page(404)), Err(Class::Transient), "somebody in front said it");
    }

    #[test]
    fn a_page_or_an_empty_error_is_not_the_providers_voice() {
        for (answer, spoke) in [
            (answer(200, "{}"), true),
            (answer(500, " {\"error\":1}"), true),
            (answer(500, ""), false),
            (answer(502, "Bad Gateway"), false),
            (answer(429, ""), true),
            (answer(401, ""), true),
            (page(403), false),
            (page(200), false),
            (page(502), false),
        ] {
            let verdict = (Class::Ambiguous, http_code(answer.status));
            let failure = answer.failure(verdict, Evidence::default());
            assert_eq!(failure.answered, spoke, "{answer:?}");
        }
    }

    #[test]
    fn evidence_is_one_json_object_of_printable_words() {
        let mut told = answer(418, "{}");
        told.headers.correlation_id = text("abc\u{1}\u{e9} d");
        told.headers.date = text("Wed, 21 Oct 2015 12:00:00 GMT");
        let evidence = told.evidence(&serde_json::json!({"id": word("a\nb")}));
        assert_eq!(
            String::from_utf8_lossy(evidence.bytes()),
            r#"{"http_status":418,"date":"2015-10-21T12:00:00Z","correlation_id":"abcd","id":"ab"}"#
        );
    }

    #[test]
    fn every_status_says_something_or_leaves_it_to_the_body() {
        for status in 0..=u16::MAX {
            let answer = answer(status, "");
            let left = matches!(status, 200..=299 | 400 | 402 | 404..=407 | 409..=424 | 426..=428 | 430..=498);
            assert_eq!(answer.verdict_by_status(KEYED, None).is_none(), left, "{status}");
            let (class, _) = answer.read_verdict(KEYED);
            assert!(
                matches!(class, Class::Transient | Class::Misconfigured | Class::RateLimited),
                "{status}"
            );
        }
    }
}
