//! The four ways of capturing, each under a lane of its own.

use std::sync::Arc;
use std::time::Duration;

use capture::intent::Lane;
use capture::provider::{self, AccountSettings, Model, Provider};
use capture::simulator::{ProviderName, Simulator};
use secrecy::SecretString;

/// The four models under their lanes: `afterpay/default`, `optty/default`, `resolve/charges`, `resolve/orders`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Afterpay,
    Optty,
    ResolveCharge,
    ResolveOrder,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Afterpay, Kind::Optty, Kind::ResolveCharge, Kind::ResolveOrder];

    pub fn lane(self) -> Lane {
        let (provider, account) = match self {
            Kind::Afterpay => ("afterpay", "default"),
            Kind::Optty => ("optty", "default"),
            Kind::ResolveCharge => ("resolve", "charges"),
            Kind::ResolveOrder => ("resolve", "orders"),
        };
        Lane {
            provider: provider.to_owned(),
            account: account.to_owned(),
        }
    }

    pub fn provider_name(self) -> ProviderName {
        match self {
            Kind::Afterpay => ProviderName::Afterpay,
            Kind::Optty => ProviderName::Optty,
            Kind::ResolveCharge | Kind::ResolveOrder => ProviderName::Resolve,
        }
    }

    /// A payment id in the provider's form.
    pub fn payment(self, n: u32) -> String {
        match self {
            Kind::Afterpay => format!("1001{n:04}"),
            Kind::Optty => format!("order-ref-{n}"),
            Kind::ResolveCharge => format!("ch_{n:04}"),
            Kind::ResolveOrder => format!("ord_{n:04}"),
        }
    }

    /// An account at the simulator.
    pub fn account(self, simulator: &Simulator) -> AccountSettings {
        let (model, base_url, auth_url) = match self {
            Kind::Afterpay => (Model::Afterpay, simulator.base_url("afterpay"), None),
            Kind::Optty => (
                Model::Optty,
                simulator.base_url("optty"),
                Some(simulator.optty_auth_url()),
            ),
            Kind::ResolveCharge => (Model::ResolveCharge, simulator.base_url("resolve"), None),
            Kind::ResolveOrder => (Model::ResolveOrder, simulator.base_url("resolve"), None),
        };
        AccountSettings {
            lane: self.lane(),
            model,
            base_url,
            auth_url,
            merchant_id: "merchant".to_owned(),
            secret: SecretString::from("secret"),
            bearer: false,
            api_version: None,
            require_shipping: false,
            adopt_equal_captures: false,
            other_writers: false,
            platform_url: None,
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_millis(1500),
        }
    }

    pub fn adapter(self, simulator: &Simulator) -> Arc<dyn Provider> {
        provider::build(self.account(simulator)).unwrap()
    }
}
