//! The kinds of values: how each is read, and what is said when it cannot be.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use super::file::Raw;

/// Why a value cannot be taken: what is wrong, and what to do.
pub(super) struct Refusal {
    pub(super) wrong: String,
    pub(super) fix: String,
}

impl Refusal {
    pub(super) fn new(wrong: impl Into<String>, fix: impl Into<String>) -> Refusal {
        Refusal {
            wrong: wrong.into(),
            fix: fix.into(),
        }
    }
}

/// A duration as one would write it: `2m`, `10ms`, and `40d` rather than a month and the rest of it.
pub(super) fn written_duration(value: Duration) -> String {
    const DAY: u64 = 24 * 3600;
    if value.as_secs() > DAY && value.as_secs().is_multiple_of(DAY) && value.subsec_nanos() == 0 {
        return format!("{}d", value.as_secs() / DAY);
    }
    humantime::format_duration(value).to_string()
}

fn out_of_bounds(raw: &Raw, least: impl Display, most: impl Display) -> Refusal {
    Refusal::new(
        format!("{} is out of bounds", raw.quoted()),
        format!("choose between {least} and {most}"),
    )
}

pub(super) fn duration(raw: &Raw, bounds: &RangeInclusive<Duration>) -> Result<Duration, Refusal> {
    let parsed = match raw {
        Raw::Untyped(text) | Raw::Text(text) => humantime::parse_duration(text.trim()).ok(),
        Raw::Integer(_) | Raw::Decimal(_) | Raw::Boolean(_) | Raw::Other(_) => None,
    };
    let Some(value) = parsed else {
        return Err(Refusal::new(
            format!("{} is no duration", raw.quoted()),
            "write a number and its unit in quotes, such as \"200ms\", \"15s\" or \"10m\"",
        ));
    };
    if bounds.contains(&value) {
        Ok(value)
    } else {
        let (least, most) = (written_duration(*bounds.start()), written_duration(*bounds.end()));
        Err(out_of_bounds(raw, least, most))
    }
}

pub(super) fn integer(raw: &Raw, bounds: &RangeInclusive<u32>) -> Result<u32, Refusal> {
    let parsed = match raw {
        Raw::Untyped(text) => text.trim().parse::<i128>().ok(),
        Raw::Integer(number) => Some(*number),
        Raw::Text(_) | Raw::Decimal(_) | Raw::Boolean(_) | Raw::Other(_) => None,
    };
    let Some(number) = parsed else {
        return Err(Refusal::new(
            format!("{} is no whole number", raw.quoted()),
            format!(
                "write one between {} and {}, without quotes",
                bounds.start(),
                bounds.end()
            ),
        ));
    };
    match u32::try_from(number) {
        Ok(number) if bounds.contains(&number) => Ok(number),
        _ => Err(out_of_bounds(raw, bounds.start(), bounds.end())),
    }
}

pub(super) fn boolean(raw: &Raw) -> Result<bool, Refusal> {
    match raw {
        Raw::Boolean(value) => Ok(*value),
        Raw::Untyped(text) if text == "true" => Ok(true),
        Raw::Untyped(text) if text == "false" => Ok(false),
        Raw::Untyped(_) | Raw::Text(_) | Raw::Integer(_) | Raw::Decimal(_) | Raw::Other(_) => Err(Refusal::new(
            format!("{} is neither true nor false", raw.quoted()),
            "write true or false, without quotes",
        )),
    }
}

pub(super) fn thousandths(raw: &Raw, bounds: &RangeInclusive<u32>) -> Result<u32, Refusal> {
    let digits = match raw {
        Raw::Untyped(text) => Some(text.trim().to_owned()),
        Raw::Integer(number) => Some(number.to_string()),
        Raw::Decimal(digits) => Some(digits.clone()),
        Raw::Text(_) | Raw::Boolean(_) | Raw::Other(_) => None,
    };
    let parsed = digits.as_deref().and_then(|digits| {
        let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
        let plain = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        let readable = !whole.is_empty() && plain(whole) && plain(decimals) && decimals.len() <= 3;
        readable.then(|| format!("{whole}{decimals:0<3}").parse::<u128>().ok())?
    });
    let Some(value) = parsed else {
        return Err(Refusal::new(
            format!("{} is no number with at most three decimals", raw.quoted()),
            "write one such as 2 or 1.5, without quotes",
        ));
    };
    match u32::try_from(value) {
        Ok(value) if bounds.contains(&value) => Ok(value),
        _ => Err(out_of_bounds(
            raw,
            written_thousandths(*bounds.start()),
            written_thousandths(*bounds.end()),
        )),
    }
}

pub(super) fn written_thousandths(value: u32) -> String {
    let (whole, decimals) = (value / 1000, format!("{:03}", value % 1000));
    match decimals.trim_end_matches('0') {
        "" => whole.to_string(),
        decimals => format!("{whole}.{decimals}"),
    }
}

pub(super) fn choice<T: Copy>(raw: &Raw, choices: &[(&'static str, T)]) -> Result<T, Refusal> {
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let chosen = match raw {
        Raw::Untyped(text) | Raw::Text(text) => choices.iter().find(|(name, _)| name == text),
        Raw::Integer(_) | Raw::Decimal(_) | Raw::Boolean(_) | Raw::Other(_) => None,
    };
    chosen.map(|(_, value)| *value).ok_or_else(|| {
        Refusal::new(
            format!("{} is none of the choices", raw.quoted()),
            format!("write one of {}", names.join(", ")),
        )
    })
}

pub(super) fn text(raw: &Raw) -> Result<String, Refusal> {
    match raw {
        Raw::Untyped(text) | Raw::Text(text) if text.trim().is_empty() => {
            Err(Refusal::new("is empty", "write it or leave the line out"))
        }
        Raw::Untyped(text) | Raw::Text(text) if text.contains(char::is_control) => Err(Refusal::new(
            "holds a control character",
            "write plain text in one line",
        )),
        Raw::Untyped(text) | Raw::Text(text) => Ok(text.clone()),
        Raw::Integer(_) | Raw::Decimal(_) | Raw::Boolean(_) | Raw::Other(_) => Err(Refusal::new(
            format!("{} is no text", raw.quoted()),
            "write it in quotes",
        )),
    }
}

/// An address that a provider is called at: https, or http to this very machine, where no credential can be overheard.
pub(super) fn provider_url(raw: &Raw) -> Result<Url, Refusal> {
    let text = text(raw)?;
    let no_address = |why: String| Refusal::new(why, "write it like \"https://host/path\"");
    // Where a password or a key may stand, the text is not repeated.
    let shown = match text.contains(['@', '?', '#']) {
        true => "this".to_owned(),
        false => raw.quoted(),
    };
    let url = Url::parse(&text).map_err(|error| no_address(format!("{shown} is no address: {error}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(no_address("holds a user or a password".to_owned()));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(no_address("holds a query or a fragment".to_owned()));
    }
    let loopback = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    match url.scheme() {
        "https" if url.has_host() => Ok(url),
        "http" if loopback => Ok(url),
        "http" => Err(Refusal::new(
            format!("{} would send the credentials unencrypted", raw.quoted()),
            "write https; http is taken for a loopback address only",
        )),
        _ => Err(no_address(format!("{} is neither https nor http", raw.quoted()))),
    }
}

/// An address to listen on.
pub(super) fn listen_address(raw: &Raw) -> Result<SocketAddr, Refusal> {
    text(raw)?.parse().map_err(|_| {
        Refusal::new(
            format!("{} is no address to listen on", raw.quoted()),
            "write address and port, such as \"127.0.0.1:9464\"; port 0 takes a free one",
        )
    })
}

/// IP addresses, with commas between.
pub(super) fn ip_addresses(raw: &Raw) -> Result<Vec<IpAddr>, Refusal> {
    let text = text(raw)?;
    let parsed: Result<Vec<IpAddr>, _> = text.split(',').map(|address| address.trim().parse()).collect();
    parsed.map_err(|_| {
        Refusal::new(
            format!("{} is no list of IP addresses", raw.quoted()),
            "write them with commas between, such as \"10.0.0.5, 10.0.0.6\"",
        )
    })
}

/// Networks, with commas between.
pub(super) fn networks(raw: &Raw) -> Result<Vec<IpNet>, Refusal> {
    let text = text(raw)?;
    let network = |text: &str| -> Result<IpNet, ()> {
        let one = || text.parse::<IpAddr>().map(IpNet::from).map_err(drop);
        text.parse().or_else(|_| one())
    };
    let parsed: Result<Vec<IpNet>, ()> = text.split(',').map(|each| network(each.trim())).collect();
    parsed.map_err(|()| {
        Refusal::new(
            format!("{} is no list of networks", raw.quoted()),
            "write them with commas between, such as \"10.0.0.0/8, fd00::/8\"",
        )
    })
}

/// What may stand as the source of an event: a URI reference, in a header.
pub(super) fn source_uri(raw: &Raw) -> Result<String, Refusal> {
    let uri = text(raw)?;
    match uri.len() <= 255
        && uri
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte))
    {
        true => Ok(uri),
        false => Err(Refusal::new(
            format!("{} is no URI", raw.quoted()),
            "write it like \"urn:capture:shop\" or \"https://shop.example/capture\", at most 255 characters",
        )),
    }
}

/// The name of a header, in lower case.
pub(super) fn header_name(raw: &Raw) -> Result<String, Refusal> {
    let name = text(raw)?.trim().to_ascii_lowercase();
    match name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        true => Ok(name),
        false => Err(Refusal::new(
            format!("{} is no name of a header", raw.quoted()),
            "write it like \"X-Forwarded-User\"",
        )),
    }
}
