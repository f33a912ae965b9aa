//! `[http]`: the HTTP API.

use std::net::SocketAddr;

use super::reader::{Key, Reader};
use super::values::listen_address;

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
}

/// Reads it.
pub(super) fn read(reader: &mut Reader<'_>) -> HttpConfig {
    let default = SocketAddr::from(([127, 0, 0, 1], 8080));
    HttpConfig {
        listen: reader.defaulted(&Key::of("http.listen"), default, listen_address, SocketAddr::to_string),
        allow_open: reader.boolean(&Key::of("http.allow_open"), false),
        rate_per_second: reader.integer(&Key::of("http.rate_per_second"), 50, 1..=10_000),
    }
}
