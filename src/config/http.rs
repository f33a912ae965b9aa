//! `[http]`: the HTTP API and the console.

use std::net::{IpAddr, SocketAddr};

use super::reader::{Key, Reader};
use super::values::{Refusal, header_name, ip_addresses, listen_address};

/// `[http]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where `serve` listens. Default `127.0.0.1:8080`: this machine only, until somebody decides otherwise.
    pub listen: SocketAddr,
    /// Listen to other machines even while no key exists. Default false.
    pub allow_open: bool,
    /// Requests a second that one key may make, twice as many at once. Default 50: a person's pages and a program's polling
    /// stay far below, and a loop without a pause is found.
    pub rate_per_second: u32,
    /// Reverse proxies whose headers are believed: `X-Forwarded-Proto`, `X-Forwarded-Host`, and the two below. Default none.
    pub proxy_addresses: Vec<IpAddr>,
    /// The header in which such a proxy says who is there; then the console asks for no key. Default none.
    pub proxy_user_header: Option<String>,
    /// The header in which it says what they are: `viewer` or `operator`.
    pub proxy_roles_header: Option<String>,
}

/// Reads it.
pub(super) fn read(reader: &mut Reader<'_>) -> HttpConfig {
    let default = SocketAddr::from(([127, 0, 0, 1], 8080));
    let config = HttpConfig {
        listen: reader.defaulted(&Key::of("http.listen"), default, listen_address, SocketAddr::to_string),
        allow_open: reader.boolean(&Key::of("http.allow_open"), false),
        rate_per_second: reader.integer(&Key::of("http.rate_per_second"), 50, 1..=10_000),
        proxy_addresses: reader
            .optional(&Key::of("http.proxy_addresses"), ip_addresses, |list| {
                list.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
            })
            .unwrap_or_default(),
        proxy_user_header: reader.optional(&Key::of("http.proxy_user_header"), header_name, String::clone),
        proxy_roles_header: reader.optional(&Key::of("http.proxy_roles_header"), header_name, String::clone),
    };
    let keys = ["http.proxy_user_header", "http.proxy_roles_header"];
    if reader.sound(&keys) && config.proxy_user_header.is_some() != config.proxy_roles_header.is_some() {
        let refusal = Refusal::new(
            "one of the two headers of the proxy is set",
            "set http.proxy_user_header and http.proxy_roles_header, or neither",
        );
        reader.fault(reader.place_of(&keys), "http.proxy_user_header", refusal);
    } else if config.proxy_user_header.is_some()
        && config.proxy_addresses.is_empty()
        && reader.sound(&["http.proxy_addresses"])
    {
        let refusal = Refusal::new(
            "nobody is believed this header",
            "set http.proxy_addresses to the proxy's addresses",
        );
        reader.fault(reader.place_of(&keys), "http.proxy_user_header", refusal);
    }
    config
}
