//! From an account's settings to its adapter.
//!
//! Everything that can be wrong with the settings is refused here, at the start, in words that name the account and the
//! setting and never repeat a value that could be secret.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use secrecy::{ExposeSecret, SecretString};

use super::Provider;
use super::afterpay::Afterpay;
use super::channel::{Channel, Credentials};
use super::optty::Optty;
use super::resolve_charge::ResolveCharge;
use super::resolve_order::ResolveOrder;
use super::token::{Client, Grant, Tokens};
pub use super::transport::AddressError;
use super::transport::{self, Address, Transport};
use crate::intent::Lane;

/// A way of capturing. Resolve has two, and the merchant's contract says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Model {
    /// `POST /v2/payments/{id}/capture`, keyed.
    Afterpay,
    /// `POST /orders/{reference}/capture`, unique reference.
    Optty,
    /// `POST /charges/{id}/capture`, nothing stands between a repeat and a second capture.
    ResolveCharge,
    /// `POST /orders/{id}/capture`, keyed. To be preferred where the merchant has opted in.
    ResolveOrder,
}

/// One merchant account at one provider.
#[derive(Debug, Clone)]
pub struct AccountSettings {
    /// Provider and account, as intents name them.
    pub lane: Lane,
    /// How to capture.
    pub model: Model,
    /// Where, `https` (or `http` to a loopback address).
    pub base_url: String,
    /// Where tokens are minted, the whole address. Needed for Optty; Resolve's default is `/access-keys/token`.
    pub auth_url: Option<String>,
    /// Merchant id, or client id where tokens are minted.
    pub merchant_id: String,
    /// The secret that goes with it.
    pub secret: SecretString,
    /// Resolve: mint bearer tokens instead of sending the secret with each call. Optty always does.
    pub bearer: bool,
    /// Resolve: pins the version of the API, which otherwise is a setting in the merchant's dashboard.
    pub api_version: Option<String>,
    /// Optty: the payment method behind it wants shipping data with each capture.
    pub require_shipping: bool,
    /// Resolve charge: take a capture of the same amount that was there before our first send as ours.
    pub adopt_equal_captures: bool,
    /// Resolve charge: others (dashboard, shop plugins) capture too, so amount and time alone prove nothing.
    pub other_writers: bool,
    /// The shop's address, for Afterpay's `User-Agent`.
    pub platform_url: Option<String>,
    /// For name, TCP and TLS.
    pub connect_timeout: Duration,
    /// From the sent request to the answer.
    pub read_timeout: Duration,
}

/// Why an account cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Of `base_url`.
    #[error("account {0}: base_url {1}")]
    BaseUrl(Lane, AddressError),
    /// Of `auth_url`.
    #[error("account {0}: auth_url {1}")]
    AuthUrl(Lane, AddressError),
    /// A model that mints tokens has no place to do so.
    #[error("account {0}: auth_url is missing; it is where tokens are minted, like https://auth.example.com/token")]
    AuthUrlMissing(Lane),
    /// Of `merchant_id`.
    #[error("account {0}: merchant_id must be printable ASCII, not empty, and have no colon and no space")]
    MerchantId(Lane),
    /// Of `secret`.
    #[error("account {0}: the secret is empty")]
    SecretEmpty(Lane),
    /// Of `api_version`.
    #[error("account {0}: api_version must be printable ASCII without spaces")]
    ApiVersion(Lane),
    /// Of `platform_url`.
    #[error("account {0}: platform_url must be printable ASCII without spaces")]
    PlatformUrl(Lane),
    /// Of the time-outs.
    #[error("account {0}: connect_timeout and read_timeout must be more than nothing and less than an hour")]
    Timeouts(Lane),
    /// The HTTP client would not start.
    #[error("account {0}: no HTTPS client: this machine has no usable root certificates")]
    NoClient(Lane),
}

/// The adapter of an account.
pub fn build(settings: AccountSettings) -> Result<Arc<dyn Provider>, SettingsError> {
    let channel = channel(&settings)?;
    Ok(match settings.model {
        Model::Afterpay => Arc::new(Afterpay::new(channel)),
        Model::Optty => Arc::new(Optty::new(channel, settings.require_shipping)),
        Model::ResolveCharge => Arc::new(ResolveCharge::new(
            channel,
            settings.adopt_equal_captures,
            settings.other_writers,
        )),
        Model::ResolveOrder => Arc::new(ResolveOrder::new(channel)),
    })
}

fn channel(settings: &AccountSettings) -> Result<Channel, SettingsError> {
    let lane = || settings.lane.clone();
    let base = Address::parse(&settings.base_url).map_err(|reason| SettingsError::BaseUrl(lane(), reason))?;
    if !is_word(&settings.merchant_id) || settings.merchant_id.contains(':') {
        return Err(SettingsError::MerchantId(lane()));
    }
    if settings.secret.expose_secret().is_empty() {
        return Err(SettingsError::SecretEmpty(lane()));
    }
    if settings.api_version.as_deref().is_some_and(|version| !is_word(version)) {
        return Err(SettingsError::ApiVersion(lane()));
    }
    if settings.platform_url.as_deref().is_some_and(|url| !is_word(url)) {
        return Err(SettingsError::PlatformUrl(lane()));
    }
    let sane = |span: Duration| span > Duration::ZERO && span < Duration::from_secs(3600);
    if !sane(settings.connect_timeout) || !sane(settings.read_timeout) {
        return Err(SettingsError::Timeouts(lane()));
    }
    let transport = Transport::new(transport::Settings {
        user_agent: user_agent(settings, &base),
        pooled: settings.model != Model::ResolveCharge,
        connect_timeout: settings.connect_timeout,
        read_timeout: settings.read_timeout,
    })
    .ok_or_else(|| SettingsError::NoClient(lane()))?;
    let version = settings
        .api_version
        .clone()
        .map(|version| ("resolve-api-version", version));
    Ok(Channel {
        transport,
        host: base.host(),
        credentials: credentials(settings, &base)?,
        headers: match settings.model {
            Model::ResolveCharge | Model::ResolveOrder => version.into_iter().collect(),
            Model::Afterpay | Model::Optty => Vec::new(),
        },
        keyed: match settings.model {
            Model::Afterpay | Model::ResolveOrder => true,
            Model::Optty | Model::ResolveCharge => false,
        },
        base,
    })
}

fn credentials(settings: &AccountSettings, base: &Address) -> Result<Credentials, SettingsError> {
    let lane = || settings.lane.clone();
    let set = match &settings.auth_url {
        Some(url) => Some(Address::parse(url).map_err(|reason| SettingsError::AuthUrl(lane(), reason))?),
        None => None,
    };
    let (grant, address) = match settings.model {
        Model::Optty => (Grant::Form, set.ok_or_else(|| SettingsError::AuthUrlMissing(lane()))?),
        Model::ResolveCharge | Model::ResolveOrder if settings.bearer => {
            let own = || base.of(&["access-keys", "token"]).ok();
            (
                Grant::Json,
                set.or_else(own).ok_or_else(|| SettingsError::AuthUrlMissing(lane()))?,
            )
        }
        Model::Afterpay | Model::ResolveCharge | Model::ResolveOrder => {
            return Ok(Credentials::Basic(Arc::new(basic(
                &settings.merchant_id,
                &settings.secret,
            ))));
        }
    };
    Ok(Credentials::Bearer(Box::new(Tokens::new(Client {
        grant,
        address,
        id: settings.merchant_id.clone(),
        secret: settings.secret.clone(),
    }))))
}

fn basic(user: &str, secret: &SecretString) -> SecretString {
    let pair = format!("{user}:{}", secret.expose_secret());
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    SecretString::from(format!("Basic {encoded}"))
}

/// Afterpay requires the form `Name/1.0 (Platform/1.0; Rust/1.x; Merchant/ID) https://shop` (documentation) and turns
/// away calls without one (plugins). Without a shop's address the one that is called stands in. The others take anything.
fn user_agent(settings: &AccountSettings, base: &Address) -> String {
    let name = concat!("capture/", env!("CARGO_PKG_VERSION"));
    let rust = env!("CARGO_PKG_RUST_VERSION");
    match settings.model {
        Model::Optty | Model::ResolveCharge | Model::ResolveOrder => name.to_owned(),
        Model::Afterpay => {
            let shop = settings.platform_url.clone().unwrap_or_else(|| base.to_string());
            format!("{name} ({name}; Rust/{rust}; Merchant/{}) {shop}", settings.merchant_id)
        }
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}
