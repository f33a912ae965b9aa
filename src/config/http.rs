//! `[http]`: the HTTP API.

use std::net::SocketAddr;

use super::reader::{Key, Reader};
use super::values::listen_address;

/// `[http]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where `serve` listens. Default `127.0.0.1:8080`: this machine only, until somebody decides otherwise.
    pub listen: SocketAddr,
}

/// Reads it.
pub(super) fn read(reader: &mut Reader<'_>) -> HttpConfig {
    let default = SocketAddr::from(([127, 0, 0, 1], 8080));
    HttpConfig {
        listen: reader.defaulted(&Key::of("http.listen"), default, listen_address, SocketAddr::to_string),
    }
}
