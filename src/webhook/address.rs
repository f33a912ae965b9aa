//! Where a webhook may go. Whoever names an endpoint makes our machine open a connection; without this it could open them to
//! what only our machine reaches (the database, a cloud's metadata, other people's admin pages).
//!
//! Two looks, and none in between: the URL's form, once it is read into its parts; and each address that its host name
//! resolves to, in the resolver that the HTTP client itself uses, so that the connection goes to the very address that was
//! looked at and a second answer of the DNS is never asked for. A host that is written as an address asks no resolver: it is
//! looked at with the URL, as the URL parser reads it (decimal, octal and hexadecimal forms are such addresses).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use ipnet::IpNet;
use url::{Host, Url};

/// Why nothing is sent there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressFault {
    /// Not an absolute URL with a host.
    #[error("is no URL like https://host/path")]
    NotAUrl,
    /// Neither https nor, in a network that the settings allow, http.
    #[error("must begin with https://")]
    Unprotected,
    /// A user or a password.
    #[error("must have no user and no password in it")]
    Credentials,
    /// A fragment, which is never sent.
    #[error("must have no fragment (#…) in it")]
    Fragment,
    /// An address that is not for everybody.
    #[error("{address} is {kind}, and webhooks go to public addresses only; webhooks.allow_networks opens others")]
    Forbidden {
        /// Which.
        address: IpAddr,
        /// What it is.
        kind: &'static str,
    },
    /// The name has no address.
    #[error("the host name has no address")]
    NoAddress,
}

/// Networks that are allowed although they are not public.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(pub Vec<IpNet>);

impl Networks {
    fn allow(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// May a message go to this address?
    pub fn check(&self, address: IpAddr) -> Result<(), AddressFault> {
        match forbidden(address) {
            Some(kind) if !self.allow(address) => Err(AddressFault::Forbidden { address, kind }),
            Some(_) | None => Ok(()),
        }
    }

    /// Reads a URL, and looks at everything about it that needs no resolver.
    pub fn check_url(&self, text: &str) -> Result<Url, AddressFault> {
        let url = Url::parse(text.trim()).map_err(|_| AddressFault::NotAUrl)?;
        let literal = match url.host() {
            None => return Err(AddressFault::NotAUrl),
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) => None,
        };
        // Credentials before anything else: what stands before the @ looks like the host to who reads quickly.
        if !url.username().is_empty() || url.password().is_some() {
            return Err(AddressFault::Credentials);
        }
        if url.fragment().is_some() {
            return Err(AddressFault::Fragment);
        }
        if let Some(address) = literal {
            self.check(address)?;
        }
        match url.scheme() {
            "https" => Ok(url),
            // In a network of one's own, and by its address: what a name stands for may change.
            "http" if literal.is_some_and(|address| self.allow(address)) => Ok(url),
            _ => Err(AddressFault::Unprotected),
        }
    }
}

/// What kind of address this is, if it is not one of a public host.
fn forbidden(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => forbidden_v4(address),
        IpAddr::V6(address) => forbidden_v6(address),
    }
}

fn forbidden_v4(address: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        (0, ..) => Some("of this very network (0.0.0.0/8)"),
        (127, ..) => Some("a loopback address"),
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => Some("a private address"),
        (169, 254, _) => Some("a link-local address, where clouds keep their metadata"),
        (100, 64..=127, _) => Some("an address of a carrier's network (100.64.0.0/10)"),
        (192, 0, 0) => Some("reserved by the IETF (192.0.0.0/24)"),
        (192, 0, 2) | (198, 51, 100) | (203, 0, 113) => Some("an address for documents"),
        (192, 88, 99) => Some("a 6to4 relay"),
        (198, 18..=19, _) => Some("an address for measurements (198.18.0.0/15)"),
        (224..=239, ..) => Some("a multicast address"),
        (240..=255, ..) => Some("a reserved address"),
        _ => None,
    }
}

/// IPv6 is the other way round: only global unicast (2000::/3) is public, and within it not what carries an IPv4 address.
fn forbidden_v6(address: Ipv6Addr) -> Option<&'static str> {
    let s = address.segments();
    let last = Ipv4Addr::from((u32::from(s[6]) << 16) | u32::from(s[7]));
    match s {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("the unspecified address"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("a loopback address"),
        [0, 0, 0, 0, 0, 0xffff, ..] => Some("an IPv4 address in disguise (::ffff:0:0/96)"),
        // Where such a gateway stands, what is behind it is reached as IPv4: it is judged as that, and the local prefix never.
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
            forbidden_v4(last).map(|_| "an IPv4 address that is not public, behind NAT64")
        }
        [0x64, 0xff9b, ..] => Some("an address of a local NAT64"),
        [0xfe80..=0xfebf, ..] => Some("a link-local address"),
        [0xfec0..=0xfeff, ..] => Some("a site-local address"),
        [0xfc00..=0xfdff, ..] => Some("a private address (fc00::/7)"),
        [0xff00..=0xffff, ..] => Some("a multicast address"),
        [0x2001, 0x0..=0x1ff, ..] => Some("reserved by the IETF (2001::/23, Teredo among them)"),
        [0x2001, 0xdb8, ..] | [0x3fff, 0x0..=0xfff, ..] => Some("an address for documents"),
        [0x2002, ..] => Some("an IPv4 address in disguise (6to4)"),
        [0x2000..=0x3fff, ..] => None,
        _ => Some("no public address"),
    }
}

/// Host names and their addresses.
#[async_trait]
pub trait Names: Send + Sync {
    /// All addresses of that name.
    async fn addresses(&self, name: &str) -> std::io::Result<Vec<IpAddr>>;
}

/// Those that the system knows.
#[derive(Debug, Clone, Copy)]
pub struct SystemNames;

#[async_trait]
impl Names for SystemNames {
    async fn addresses(&self, name: &str) -> std::io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((name, 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    }
}

/// The addresses of a name, if all of them may be connected to. One that may not spoils the name: whoever mixes them means
/// no good, or does not know it.
pub async fn resolve(
    names: &Arc<dyn Names>,
    networks: &Networks,
    name: &str,
) -> Result<Vec<SocketAddr>, Box<dyn std::error::Error + Send + Sync>> {
    let addresses = names.addresses(name).await?;
    if addresses.is_empty() {
        return Err(AddressFault::NoAddress.into());
    }
    for address in &addresses {
        networks.check(*address)?;
    }
    Ok(addresses
        .into_iter()
        .map(|address| SocketAddr::new(address, 0))
        .collect())
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
